"""ONNX Runtime on two threads: our 8-bit exports beside float32, beside its own static int8, and
beside PyTorch.

    python results/deploy/onnx_speed.py make FOLDER      # writes the files
    python results/deploy/onnx_speed.py time FOLDER OUT  # OUT.json and OUT.md, on a machine that
    does nothing else;
                                                         # OUT_no_vnni.* on a processor without VNNI

Networks of random weights, whose batch norms have the statistics of random images. The float32
network is our export at 32A,32W; the static int8 ones are what onnxruntime.quantization makes of
that file, QDQ, per channel, uint8 activations and int8 weights, with and without the first and the
last layer. Contestants take turns; what is compared are medians.
"""

import json
import pathlib
import statistics
import sys
import time

import numpy as np

THREADS, ROUNDS = 2, 15
WARM_UP, TURN = 0.05, 0.2  # seconds; the first also lets other contestants' threads go to sleep
NETWORKS = {"resnet18": (224, 1000), "resnet20": (32, 10)}  # side, classes
BATCHES = (1, 16)
ENDS = {
  "float": "float",
  "8bit": "8bit",
  "7bit": "8bit",
}  # of ours, and of the static int8 network beside it


def networks(name: str, precision: str, *ends: str, **quantization):
  """Lowered networks of random weights, with each of the ends."""
  import jax

  from apprentice_jax.deploy import lower
  from apprentice_jax.models import resnet

  side, classes = NETWORKS[name]
  model = resnet(name, classes, precision, **quantization)
  images = jax.random.normal(jax.random.key(1), (8, min(side, 96), min(side, 96), 3))
  start = lambda key: model.apply(
    {}, images, True, rngs={"params": key}, mutable=["params", "batch_stats"]
  )[1]
  made = jax.device_get(jax.jit(start)(jax.random.key(0)))
  # The running statistics have moved a tenth of the way from 0 and 1 to those of the images.
  stats = jax.tree_util.tree_map_with_path(
    lambda path, leaf: (leaf - 0.9 * (path[-1].key == "var")) * 10, made["batch_stats"]
  )
  about = dict(
    image_shape=(side, side, 3),
    architecture=name,
    class_names=[f"class {i}" for i in range(classes)],
    mean=(0.5,) * 3,
    std=(0.25,) * 3,
  )
  return [lower.lower(model, made["params"], stats, ends=kind, **about) for kind in ends]


def make(folder):
  from apprentice_jax.deploy import onnx, packed

  for name in NETWORKS:
    file = lambda kind: str(folder / f"{name} {kind}.onnx")
    for precision, kind in (("32A,32W", "float32"), ("32A,2W", "32A,2W")):
      onnx.write(*networks(name, precision, "float"), file(kind))
    for ends, student in zip(ENDS, networks(name, "8A,2W", *ENDS, residual=True)):
      onnx.write(student, file(f"8A,2W fast, {ends} ends"), "fast")
      onnx.write(student, file(f"8A,2W exact, {ends} ends"), "exact")
      packed.write(student, folder / f"{name} 8A,2W {ends} ends.packed")
    for ends in set(ENDS.values()):
      static_int8(file("float32"), file(f"static int8, {ends} ends"), NETWORKS[name][0], ends)


def static_int8(source, target, side, ends):
  """ONNX Runtime's quantization of a float32 file; what normalises the images is left as it is."""
  import onnx
  from onnxruntime import quantization
  from onnxruntime.quantization.shape_inference import quant_pre_process

  class Images(quantization.CalibrationDataReader):
    seeds = iter(range(4))

    def get_next(self):
      seed = next(self.seeds, None)
      if seed is not None:
        return {
          "images": np.random.default_rng(seed).integers(0, 256, (1, side, side, 3), np.uint8)
        }

  prepared = f"{target}.prepared"
  quant_pre_process(source, prepared)
  nodes = onnx.load(prepared).graph.node
  convolutions = [n.name for n in nodes if n.op_type == "Conv"]
  first = [n.op_type for n in nodes].index("Conv")
  excluded = [n.name for n in nodes[:first]]
  if ends == "float":
    excluded += [convolutions[0]] + [
      n.name for n in nodes if n.op_type in ("GlobalAveragePool", "Gemm")
    ]
  quantization.quantize_static(
    prepared,
    target,
    Images(),
    quant_format=quantization.QuantFormat.QDQ,
    per_channel=True,
    activation_type=quantization.QuantType.QUInt8,
    weight_type=quantization.QuantType.QInt8,
    nodes_to_exclude=excluded,
  )
  pathlib.Path(prepared).unlink()


def in_torch(file):
  """images -> logits of a float32 file, by PyTorch, channels last, batch norms folded as they are
  there."""
  import onnx
  import torch
  from onnx import numpy_helper
  from torch.nn import functional as F

  graph = onnx.load(file).graph
  constants = {c.name: torch.from_numpy(numpy_helper.to_array(c).copy()) for c in graph.initializer}
  last = {"memory_format": torch.channels_last}
  constants = {k: v.to(**last) if v.ndim == 4 else v for k, v in constants.items()}
  nodes = [
    (
      n.op_type,
      list(n.input),
      n.output[0],
      {a.name: onnx.helper.get_attribute_value(a) for a in n.attribute},
    )
    for n in graph.node
  ]
  rules = {
    "Reshape": lambda a, x, to: x.reshape([int(n) or x.shape[i] for i, n in enumerate(to)]),
    "Transpose": lambda a, x: x.permute(a["perm"]),
    "Cast": lambda a, x: x.to(torch.float32),
    "Mul": lambda a, x, y: x * y,
    "Add": lambda a, x, y: x + y,
    "Relu": lambda a, x: F.relu(x),
    "Conv": lambda a, x, w, b: F.conv2d(x, w, b, a["strides"], a["pads"][:2]),
    "MaxPool": lambda a, x: F.max_pool2d(x, 3, 2, 1),
    "GlobalAveragePool": lambda a, x: x.mean((2, 3), keepdim=True),
    "Flatten": lambda a, x: x.flatten(1),
    "Gemm": lambda a, x, w, b: torch.addmm(b, x, w),
    "Slice": lambda a, x, start, end, axes, steps: x[:, :, :: int(steps[0]), :: int(steps[0])],
    "Pad": lambda a, x, pads, value: F.pad(x, (0, 0, 0, 0, int(pads[1]), int(pads[5]))),
    "Identity": lambda a, x: x,
  }
  torch.set_num_threads(THREADS)

  def run(images):
    with torch.inference_mode():
      values = dict(constants, images=torch.from_numpy(images))
      for op, inputs, output, attributes in nodes:
        values[output] = rules[op](attributes, *(values[i] for i in inputs))
      return values["logits"].numpy()

  return run


def in_onnx_runtime(file):
  """(images -> logits, seconds that loading takes)."""
  import onnxruntime

  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads, options.log_severity_level = THREADS, 3
  start = time.perf_counter()
  session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
  return lambda images: session.run(["logits"], {"images": images})[0], time.perf_counter() - start


def timed(contestants, images):
  """Median milliseconds of each, who take turns."""
  found = {name: [] for name in contestants}
  for _ in range(ROUNDS):
    for name, run in contestants.items():
      for seconds, keep in ((WARM_UP, False), (TURN, True)):
        end = time.perf_counter() + seconds
        while True:
          start = time.perf_counter()
          run(images)
          now = time.perf_counter()
          if keep:
            found[name].append(1000 * (now - start))
          if now > end:
            break
  return {name: statistics.median(values) for name, values in found.items()}


def measure(folder):
  import onnxruntime
  import torch

  from apprentice_jax.bench.machine import processor

  result = {
    "processor": processor(),
    "vnni": "vnni" in pathlib.Path("/proc/cpuinfo").read_text(),
    "threads": THREADS,
    "onnxruntime": onnxruntime.__version__,
    "torch": torch.__version__,
    "networks": {},
  }
  for name, (side, _) in NETWORKS.items():
    files = {p.stem.removeprefix(f"{name} "): p for p in sorted(folder.glob(f"{name} *.onnx"))}
    loaded = {kind: in_onnx_runtime(str(file)) for kind, file in files.items()}
    contestants = {kind: run for kind, (run, _) in loaded.items()}
    contestants["PyTorch float32"] = in_torch(str(files["float32"]))
    images = np.random.default_rng(0).integers(0, 256, (max(BATCHES), side, side, 3), np.uint8)
    wanted = contestants["float32"](images[:2])
    np.testing.assert_allclose(
      contestants["PyTorch float32"](images[:2]), wanted, atol=1e-4 * np.abs(wanted).max()
    )
    result["networks"][name] = {
      "bytes": {kind: file.stat().st_size for kind, file in files.items()}
      | {
        p.stem.removeprefix(f"{name} ") + ", packed": p.stat().st_size
        for p in folder.glob(f"{name} *.packed")
      },
      "seconds to load": {kind: seconds for kind, (_, seconds) in loaded.items()},
      "milliseconds": {str(batch): timed(contestants, images[:batch]) for batch in BATCHES},
    }
  return result


def table(result) -> str:
  lines = []
  for name, found in result["networks"].items():
    lines += [
      f"## {name}, {NETWORKS[name][0]} x {NETWORKS[name][0]}",
      "",
      "| | MB | "
      + " | ".join(f"batch {b}, ms | float32's / its" for b in BATCHES)
      + " | load, s |",
      "|---|" + "---:|" * (2 + 2 * len(BATCHES)),
    ]
    for kind in found["milliseconds"]["1"]:
      cells = []
      for batch in map(str, BATCHES):
        times = found["milliseconds"][batch]
        cells += [f"{times[kind]:.2f}", f"{times['float32'] / times[kind]:.2f}"]
      size, load = found["bytes"].get(kind), found["seconds to load"].get(kind)
      lines.append(f"| {kind} | {size / 1e6:.3f} | " if size else f"| {kind} | | ")
      lines[-1] += " | ".join(cells) + (f" | {load:.2f} |" if load else " | |")
    lines += (
      [""]
      + [
        f"Of ONNX Runtime's static int8, {theirs} ends: the fast export, {ends} ends, takes "
        + ", ".join(
          "{:.2f} of the time at batch {}".format(
            times[f"8A,2W fast, {ends} ends"] / times[f"static int8, {theirs} ends"], batch
          )
          for batch, times in found["milliseconds"].items()
        )
        + "."
        for ends, theirs in ENDS.items()
      ]
      + [""]
    )
  return "\n".join(lines)


if __name__ == "__main__":
  command, place = sys.argv[1], pathlib.Path(sys.argv[2])
  if command == "make":
    place.mkdir(parents=True, exist_ok=True)
    make(place)
  else:
    report = measure(place)
    out = sys.argv[3] + "_no_vnni" * (not report["vnni"])
    pathlib.Path(out + ".json").write_text(json.dumps(report, indent=1) + "\n")
    pathlib.Path(out + ".md").write_text(table(report) + "\n")
    print(table(report))
