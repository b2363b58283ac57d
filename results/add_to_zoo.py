"""Puts a trained network into the zoo, `apprentice_jax/zoo`: its packed file, and the card.

    python results/add_to_zoo.py NAME FOLDER/FILE.packed --data_dir=DIR --commit=... \\
      --command=... --chosen=... [--runs FOLDER ...] [--teacher_source=...]

FOLDER has the run's config.json and result.json, as `results/keep.py` leaves them. Further folders
are those of the same training with other seeds. The card's figures come from these files and from
scoring the packed file on the whole test set. The script also writes the logits of drawn pictures
that a test expects, and docs/models.md.
"""

import argparse
import dataclasses
import hashlib
import json
import pathlib
import subprocess
import sys

from apprentice_jax import config as configs
from apprentice_jax import zoo
from apprentice_jax.deploy import cost, packed, program, registry
from apprentice_jax.deploy.network import Lowered
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.errors import ApprenticeError, ConfigError
from apprentice_jax.files import write_whole
from apprentice_jax.training import export
from apprentice_jax.training.workdir import read_config

ROOT = pathlib.Path(__file__).resolve().parents[1]
SOURCES = {
  "cifar10": "CIFAR-10, Alex Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html: its "
  "page asks to cite the report and names no licence"
}
# Names for networks of copies of a dataset without names, which have numbers.
CLASS_NAMES = {
  "cifar10": "airplane automobile bird cat deer dog frog horse ship truck".split(),
}
# The fields that say which images are scored, and how these are made.
DATA = ("name", "train_split", "test_split", "test_share", "validation", "image_size", "resize")
GAP = 0.01  # more between a run's accuracy and its file's: the file is of another run


def add(name: str, file: pathlib.Path, flags: argparse.Namespace) -> zoo.Card:
  """Writes the files of a network; see the module.

  Raises:
    ConfigError: the runs differ in more than their seeds, or the file is not of its run.
  """
  folder = file.parent
  folders = sorted({folder, *flags.runs}, key=lambda each: read_config(each)["seed"])
  _same_but_seeds(folders)
  config, result = configs.restored(read_config(folder)), _result(folder)
  if config.data.name not in SOURCES:
    raise ConfigError(f"the source and licence of {config.data.name} are unknown: add to SOURCES.")
  network, packing = _named(registry.network(file), config), registry.load(file).packing
  if network.precision != config.precision:
    raise ConfigError(f"{file} is {network.precision}, and its run {config.precision}.")
  content = packed.encode(network, packing)
  score = export.evaluate(
    program.predictor(network), config, "test", flags.data_dir, same_data=True
  )
  if abs(score["accuracy"] - result["test_accuracy"]) > GAP:
    raise ConfigError(
      f"{file} scores {score['accuracy']:.2%}, and its run {result['test_accuracy']:.2%}."
    )
  about = {
    "source": SOURCES[config.data.name],
    "score": score,
    "runs": [_run(each) for each in folders],
    "training": _training(config, result, flags) | {"file": _relative(file)},
  }
  card = _card(name, content, network, about | {"data": _data(config)})
  write_whole(zoo.path(name), content)
  text = json.dumps(card._asdict(), indent=1, ensure_ascii=False)
  write_whole(zoo.path(name).with_suffix(".json"), text + "\n")
  return card


def _card(name: str, content: bytes, network: Lowered, about: dict) -> zoo.Card:
  total = cost.total(network)
  return zoo.Card(
    name=name,
    architecture=network.architecture,
    precision=network.precision,
    image_shape=list(network.image_shape),
    classes=len(network.class_names),
    parameters=total.parameters,
    bytes=len(content),
    sha256=hashlib.sha256(content).hexdigest(),
    macs=total.macs,
    **about,
  )


def _same_but_seeds(folders: list[pathlib.Path]):
  # Folders of data differ from machine to machine, and free fields change no result.
  ignored = configs.paths("free") | configs.paths("is_path") | {"seed", "note"}
  first, *others = (configs.flat(configs.restored(read_config(folder))) for folder in folders)
  for folder, other in zip(folders[1:], others):
    differing = [field for field in first if first[field] != other[field] and field not in ignored]
    if differing:
      raise ConfigError(
        f"{folder} and {folders[0]} differ in config.{', config.'.join(differing)}."
      )


def _result(folder: pathlib.Path) -> dict:
  try:
    result = json.loads((folder / "result.json").read_text())
  except (OSError, ValueError) as error:
    raise ConfigError(f"{folder} has no result.json of a finished run: {error}.") from None
  if "test_accuracy" not in result:
    raise ConfigError(f"the run in {folder} has not scored the test set.")
  return result


def _run(folder: pathlib.Path) -> dict:
  return {
    "seed": read_config(folder)["seed"],
    "accuracy": _result(folder)["test_accuracy"],
    "folder": _relative(folder),
  }


def _relative(path: pathlib.Path) -> str:
  return path.resolve().relative_to(ROOT).as_posix()


def _named(network: Lowered, config) -> Lowered:
  """The network with the names of its classes in place of numbers."""
  names = CLASS_NAMES.get(config.data.name, ())
  if network.class_names != tuple(map(str, range(len(names)))):
    return network
  return dataclasses.replace(network, class_names=tuple(names))


def _data(config) -> dict:
  """The fields of DATA that differ from their defaults."""
  flat, usual = configs.flat(config), configs.flat(configs.base())
  fields = [f"data.{name}" for name in DATA]
  return {field: flat[field] for field in fields if flat[field] != usual[field]}


def _training(config, result: dict, flags: argparse.Namespace) -> dict:
  taught = bool(SCHEMES[config.scheme].teacher)
  return {
    "seed": config.seed,
    "chosen": flags.chosen,
    "scheme": config.scheme,
    "epochs": config.recipe.student.epochs,
    "teacher": config.teacher.name if taught else "",
    "teacher_accuracy": result.get("test_teacher_accuracy") if taught else None,
    "teacher_source": flags.teacher_source if taught else "",
    "commit": flags.commit,
    "command": flags.command,
  }


def main(arguments=None) -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  add_argument, path = parser.add_argument, pathlib.Path
  add_argument("name", help="its name in the zoo, such as resnet8-cifar10-8a2w")
  add_argument("file", type=path, help="the packed file, in the folder of its run")
  add_argument("--data_dir", default="", help="the folder of prepared datasets")
  add_argument("--runs", type=path, nargs="*", default=[], help="folders of other seeds")
  add_argument("--commit", required=True, help="the commit that trained it")
  add_argument("--command", required=True, help="the command that trained it")
  add_argument("--chosen", required=True, help="why this seed, without its test accuracy")
  add_argument("--teacher_source", default="", help="where the teacher's weights come from")
  flags = parser.parse_args(arguments)
  try:
    card = add(flags.name, flags.file, flags)
  except ApprenticeError as error:
    print(f"{pathlib.Path(__file__).name}: {error}", file=sys.stderr)
    return error.exit_code
  print(zoo.text(card))
  for script in ("tests/zoo_pictures.py", "docs/write_models_page.py"):
    subprocess.run([sys.executable, ROOT / script], check=True)
  return 0


if __name__ == "__main__":
  sys.exit(main())
