"""One thread of exported C code beside ONNX Runtime's int8 and float32 on one thread.

    python benchmarks/c_beside_onnxruntime.py --out=results/mcu/c_beside_onnxruntime.json

The networks have random weights, and batch norms with the statistics of random images. ONNX Runtime
runs our float32 file, and that file as its own quantizer changes it. This is QDQ with one scale a
channel, uint8 activations and int8 weights, calibrated on random images. The C code is
compiled with -O3 -march=native. All compute one image at a time, and take turns; the table has
medians, and the median ratio of neighbouring timings.
"""

import argparse
import ctypes
import importlib.util
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import command
import jax
import numpy as np

from apprentice_jax import document
from apprentice_jax.bench.machine import processor
from apprentice_jax.bench.step import in_turns
from apprentice_jax.deploy import c, cost, interpret, lower, onnx, packed
from apprentice_jax.errors import ConfigError
from apprentice_jax.models import resnet

NETWORKS = {"resnet8": (32, 10), "resnet20": (32, 10), "resnet18": (224, 1000)}  # side, classes
PRECISIONS = ("8A,2W", "8A,4W")
FLAGS = ("-std=c99", "-O3", "-march=native", "-ffp-contract=off")
INT8, FLOAT32 = "ONNX Runtime int8", "ONNX Runtime float32"
TURN = 0.2  # seconds


def random_network(name: str, precision: str, ends: str, **options):
  """A lowered network of random weights, of images as in `NETWORKS`; options: see `resnet`."""
  side, classes = NETWORKS[name]
  model = resnet(name, classes, precision, **options)
  # Statistics need fewer pixels than ImageNet's images have.
  images = jax.random.normal(jax.random.key(1), (8, min(side, 96), min(side, 96), 3))
  start = lambda key: model.apply(
    {}, images, True, rngs={"params": key}, mutable=["params", "batch_stats"]
  )[1]
  made = jax.device_get(jax.jit(start)(jax.random.key(0)))
  # The running statistics have moved a tenth of the way from 0 and 1 to those of the images.
  stats = jax.tree_util.tree_map_with_path(
    lambda path, leaf: (leaf - 0.9 * (path[-1].key == "var")) * 10, made["batch_stats"]
  )
  return lower.lower(
    model,
    made["params"],
    stats,
    image_shape=(side, side, 3),
    class_names=[f"class {i}" for i in range(classes)],
    mean=(0.5,) * 3,
    std=(0.25,) * 3,
    architecture=name,
    ends=ends,
  )


def random_images(count: int, side: int, seed: int) -> np.ndarray:
  return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def compiled(network, folder: pathlib.Path):
  """A function that computes one image's logits by the network's C code, on one thread."""
  folder.mkdir()
  c.write(network, folder, "net")
  library = folder / "net.so"
  build = [*c.compiler(), *FLAGS, "-fPIC", "-shared", folder / "net.c", "-o", library, "-lm"]
  subprocess.run(build, check=True)
  about = json.loads((folder / "net.json").read_text())
  code, (image,) = ctypes.CDLL(str(library)), random_images(1, network.image_shape[0], seed=0)
  logits, arena = (
    np.empty(len(network.class_names), np.float32),
    ctypes.create_string_buffer(about["arena_bytes"] + 8),
  )
  pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (image, logits)]
  code.net_logits(*pointers, arena)
  if not np.array_equal(logits, interpret.logits(network, image[None])[0]):
    raise ConfigError(f"the C code of {network.architecture} computes other logits.")

  def call(kept=(image, logits)):  # the arrays live as long as the function does
    code.net_logits(*pointers, arena)

  return call


def static_int8(source: pathlib.Path, target: pathlib.Path, side: int):
  """Writes ONNX Runtime's quantization of a float32 file; the images' normalisation stays float."""
  import onnx as format
  from onnxruntime import quantization
  from onnxruntime.quantization.shape_inference import quant_pre_process

  class Images(quantization.CalibrationDataReader):
    seeds = iter(range(1, 5))

    def get_next(self):
      seed = next(self.seeds, None)
      return None if seed is None else {"images": random_images(1, side, seed)}

  prepared = target.with_suffix(".prepared")
  quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
  nodes = format.load(str(prepared)).graph.node
  first = [node.op_type for node in nodes].index("Conv")
  quantization.quantize_static(
    str(prepared),
    str(target),
    Images(),
    quant_format=quantization.QuantFormat.QDQ,
    per_channel=True,
    activation_type=quantization.QuantType.QUInt8,
    weight_type=quantization.QuantType.QInt8,
    nodes_to_exclude=[node.name for node in nodes[:first]],
  )


def session(file: pathlib.Path, side: int):
  """A function that computes one image's logits by ONNX Runtime, on one thread."""
  import onnxruntime

  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = options.inter_op_num_threads = 1
  options.log_severity_level = 3
  runs = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
  images = {"images": random_images(1, side, seed=0)}
  return lambda: runs.run(["logits"], images)


def timed(call):
  """A function that calls ``call`` for about `TURN` seconds, and returns the seconds of a call."""
  start = time.perf_counter()
  call()
  count = max(1, round(TURN / (time.perf_counter() - start)))

  def step() -> float:
    start = time.perf_counter()
    for _ in range(count):
      call()
    return (time.perf_counter() - start) / count

  return step


def measured(name: str, folder: pathlib.Path, rounds: int) -> dict:
  """Milliseconds an image, bytes, and ratios of a network's contestants, by their names."""
  side, (float32, int8) = NETWORKS[name][0], (folder / "float32.onnx", folder / "int8.onnx")
  onnx.write(random_network(name, "32A,32W", "float"), float32)
  static_int8(float32, int8, side)
  calls = {FLOAT32: session(float32, side), INT8: session(int8, side)}
  sizes, zeros = {FLOAT32: float32.stat().st_size, INT8: int8.stat().st_size}, {}
  for precision in PRECISIONS:
    network, kind = random_network(name, precision, "8bit"), f"C {precision}"
    calls[kind] = compiled(network, folder / precision)
    sizes[kind] = len(packed.encode(network))
    zeros[kind] = cost.total(network).sparsity
  for call in calls.values():
    call()  # ONNX Runtime's first is slower
  seconds = in_turns({kind: timed(call) for kind, call in calls.items()}, rounds)
  ratio = lambda one, two: statistics.median(a / b for a, b in zip(seconds[one], seconds[two]))
  return {
    "milliseconds": {kind: 1000 * statistics.median(seconds[kind]) for kind in calls},
    "bytes": sizes,
    "zeros": zeros,
    "int8's time / its": {kind: ratio(INT8, kind) for kind in calls},
    "float32's time / its": {kind: ratio(FLOAT32, kind) for kind in calls},
  }


def run(names, rounds: int = 0) -> dict:
  """Times these networks.

  Args:
    names: of `NETWORKS`.
    rounds: turns of each contestant; 0: as many as other benchmarks.
  """
  if not importlib.util.find_spec("onnxruntime"):
    raise ConfigError("this benchmark takes ONNX Runtime: pip install 'apprentice-jax[export]'")
  import onnxruntime

  said = subprocess.run([*c.compiler(), "--version"], capture_output=True, text=True, check=True)
  report = {
    "processor": processor(),
    "vnni": "vnni" in pathlib.Path("/proc/cpuinfo").read_text(),
    "compiler": said.stdout.splitlines()[0],
    "flags": " ".join(FLAGS),
    "onnxruntime": onnxruntime.__version__,
    "networks": {},
  }
  for name in names:
    with tempfile.TemporaryDirectory() as folder:
      report["networks"][name] = measured(name, pathlib.Path(folder), rounds)
  return report


def table(report: dict) -> str:
  """The report as Markdown."""
  columns = ["network", "side", "by", "bytes", "zeros", "ms"]
  columns += ["int8's time / its", "float32's time / its"]
  rows = []
  for name, network in report["networks"].items():
    for kind, milliseconds in network["milliseconds"].items():
      zeros = network["zeros"].get(kind)
      rows.append(
        [name, NETWORKS[name][0], kind, f"{network['bytes'][kind]:,}"]
        + ["" if zeros is None else f"{zeros:.0%}", f"{milliseconds:.3f}"]
        + [f"{network[column][kind]:.2f}" for column in columns[-2:]]
      )
  vnni = "with VNNI" if report["vnni"] else "without VNNI"
  return (
    f"One thread, one image at a time, on {report['processor']} ({vnni}); C by "
    f"{report['compiler']} with `{report['flags']}`; ONNX Runtime {report['onnxruntime']}. Bytes "
    "of C are those of the packed file.\n\n"
  ) + document.table(columns, [[str(cell) for cell in row] for row in rows])


def measure(arguments: list[str]) -> tuple[dict, str]:
  """The report for a command's arguments, and where to write it; the table lies beside it."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--networks", default=",".join(NETWORKS), help="their names, with commas")
  parser.add_argument("--rounds", type=int, default=0, help="turns of each; default: 15")
  parser.add_argument("--out", default="", help="a file for the whole report, as JSON")
  flags = parser.parse_args(arguments)
  names = flags.networks.split(",")
  if wrong := [name for name in names if name not in NETWORKS]:
    raise ConfigError(f"--networks: {wrong[0]} is none of {', '.join(NETWORKS)}.")
  command.check_folder(flags.out)
  report = run(names, flags.rounds)
  if flags.out:
    pathlib.Path(flags.out).with_suffix(".md").write_text(table(report) + "\n")
  return report, flags.out


if __name__ == "__main__":
  command.main(measure, table)
