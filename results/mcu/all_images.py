"""All test images through a network's C code and through its definition, compared bit for bit.

    python results/mcu/all_images.py --model=student.packed --data_dir=DIR --out=FILE.json
    python results/mcu/all_images.py --model=student.packed --data_dir=DIR --format=web

The packed file is exported as C code, which this machine's C compiler compiles, or as a page, whose
WebAssembly wasmtime runs. Each image's logits are those of `deploy.interpret` if every bit is. The
command prints how many images are equal, and ends with status 1 unless all are.
"""

import argparse
import hashlib
import importlib.metadata
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

import apprentice_jax
from apprentice_jax.data import sources
from apprentice_jax.data.class_names import difference, same_classes
from apprentice_jax.deploy import c, interpret, registry, web
from apprentice_jax.errors import ApprenticeError, ConfigError

BATCH = 100  # images at a time


def measure(model: str, dataset: str, data_dir: str | None, form: str, limit: int = 0) -> dict:
  """Compares the logits of a dataset's test images.

  Args:
    model: a packed file, or the name of a network of the zoo.
    dataset: a name of tensorflow-datasets.
    data_dir: where it is prepared.
    form: "c" or "web": what is compared.
    limit: so many of the first images; 0: all.

  Returns:
    The number of images, how many have equal logits, and the accuracy, with what was measured.
  """
  file, data = registry.find(model), sources.load(dataset, "test", data_dir)
  network = registry.network(file.path)
  same_data = bool(file.card) and file.card.data["data.name"] == dataset
  if not same_classes(network.class_names, data.class_names, same_data):
    raise ConfigError(
      f"{model} knows other classes than {dataset}: "
      f"{difference(network.class_names, data.class_names)}."
    )
  count = min(limit or len(data.labels), len(data.labels))
  equal = right = 0
  with tempfile.TemporaryDirectory() as folder:
    place = pathlib.Path(folder) / "student"
    registry.write(network, form, place)
    predictor = registry.load(place)
    for start in range(0, count, BATCH):
      part = slice(start, min(start + BATCH, count))
      mine, wanted = (
        predictor.logits(data.images[part]),
        interpret.logits(network, data.images[part]),
      )
      equal += int(np.sum(np.all(mine.view(np.uint32) == wanted.view(np.uint32), -1)))
      right += int(np.sum(np.argmax(mine, -1) == data.labels[part]))
  return {
    "model": pathlib.Path(file.path).name,
    "sha256": hashlib.sha256(pathlib.Path(file.path).read_bytes()).hexdigest(),
    "architecture": network.architecture,
    "precision": network.precision,
    "version": apprentice_jax.__version__,
    **_tools(form),
    "dataset": dataset,
    "images": count,
    "equal": equal,
    "accuracy": right / count,
  }


def _tools(form: str) -> dict:
  """What compiled the code, and what ran it."""
  if form == "web":
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("ziglang", "wasmtime")]
    return dict(zip(("compiler", "engine"), versions)) | {"flags": " ".join(web.FLAGS)}
  said = subprocess.run([*c.compiler(), "--version"], capture_output=True, text=True, check=True)
  return {"compiler": said.stdout.splitlines()[0], "flags": " ".join(c.FLAGS)}


def main(arguments=None) -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--model", required=True, help="a packed file, or a name of the zoo")
  parser.add_argument("--dataset", default="cifar10", help="its name; default: cifar10")
  parser.add_argument("--data_dir", help="the folder of prepared datasets")
  parser.add_argument("--format", choices=("c", "web"), default="c", help="default: c")
  parser.add_argument("--limit", type=int, default=0, help="so many of the first images")
  parser.add_argument("--out", type=pathlib.Path, help="a file for the result, as JSON")
  flags = parser.parse_args(arguments)
  try:
    result = measure(flags.model, flags.dataset, flags.data_dir, flags.format, flags.limit)
  except ApprenticeError as error:
    print(f"{pathlib.Path(__file__).name}: {error}", file=sys.stderr)
    return error.exit_code
  print("{equal:,} of {images:,} images: the same logits to the bit".format(**result))
  code = "page" if flags.format == "web" else "C code"
  print(f"accuracy of the {code}: {result['accuracy']:.2%}")
  if flags.out:
    flags.out.write_text(json.dumps(result, indent=1) + "\n")
  return int(result["equal"] < result["images"])


if __name__ == "__main__":
  sys.exit(main())
