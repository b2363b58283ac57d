"""Exported networks of random numbers: python results/unchanged/networks.py OUT

OUT gets a folder for each kind of network: its files, and the logits of one random batch by each.
"""

import functools
import pathlib
import sys
import warnings
import zlib

import internals
import jax
import numpy as np
import onnxruntime
import texts

NAMES = tuple("abcdefghij")
SHAPE = (13, 16, 3)  # an odd and an even side
ABOUT = dict(image_shape=SHAPE, class_names=NAMES, mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3))
SMALL = dict(name="resnet8", width=0.25)
FLOAT, ALL = ("float",), ("float", "8bit", "7bit")
# Kinds by name: the network's fields, and the ends of each file.
KINDS = {
  "8A2W": (dict(), ALL),
  "8A4W": (dict(precision="8A,4W"), FLOAT),
  "8A8W": (dict(precision="8A,8W"), FLOAT),
  "4A4W": (dict(precision="4A,4W"), FLOAT),
  "2A2W": (dict(precision="2A,2W"), FLOAT),
  "1A1W": (dict(precision="1A,1W"), FLOAT),
  "3A5W": (dict(precision="3A,5W"), FLOAT),
  "32A2W": (dict(precision="32A,2W"), FLOAT),
  "8A32W": (dict(precision="8A,32W"), FLOAT),
  "32A32W": (dict(precision="32A,32W"), FLOAT),
  "ttq": (dict(weights="ttq"), ALL),
  "ttq-32A": (dict(weights="ttq", precision="32A,2W"), FLOAT),
  "ttq-layer": (dict(weights="ttq", per_channel=False), FLOAT),
  "lsq": (dict(weights="lsq", activations="lsq"), FLOAT),
  "wrpn": (dict(weights="wrpn", activations="wrpn", precision="8A,3W"), FLOAT),
  "wrpn-unit": (dict(weights="wrpn", activations="wrpn", wrpn_scale="unit"), FLOAT),
  "dorefa": (dict(weights="dorefa", activations="dorefa", precision="4A,8W"), FLOAT),
  "residual": (dict(residual=True), ALL),
  "residual-conv": (dict(residual=True, shortcut="conv"), ALL),
  "residual-conv-ttq": (dict(residual=True, shortcut="conv", weights="ttq"), FLOAT),
  "residual-8A4W": (dict(residual=True, precision="8A,4W"), FLOAT),
  "conv": (dict(shortcut="conv"), FLOAT),
  "all-layers": (dict(full_precision=(), residual=True), FLOAT),
  "resnet14": (dict(name="resnet14"), FLOAT),
  "resnet18": (dict(name="resnet18", width=0.0625), ALL),
  "resnet18-pad": (dict(name="resnet18", width=0.0625, shortcut="pad"), FLOAT),
  "resnet18-residual-8A4W": (
    dict(name="resnet18", width=0.0625, residual=True, precision="8A,4W"),
    FLOAT,
  ),
  "resnet50": (dict(name="resnet50", width=0.0625), FLOAT),
  "resnet50-residual": (dict(name="resnet50", width=0.0625, residual=True), FLOAT),
}
SIZES = {"kernel": 1.0, "scale": 0.5, "bias": 0.5, "mean": 0.3}


def made(precision: str = "8A,2W", **fields):
  """A model, its parameters and its statistics, of random numbers that use levels of all kinds."""
  fields = {**SMALL, **fields}
  model = internals.model(fields.pop("name"), len(NAMES), precision, **fields)
  bits = [int(word[:-1]) for word in precision.split(",")]
  fill = functools.partial(_filled, *bits)
  return model, *(
    jax.tree_util.tree_map_with_path(fill, tree) for tree in internals.shapes(model, SHAPE)
  )


def _filled(activations: int, weights: int, path, leaf):
  name = path[-1].key
  random = np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode()))
  if name in SIZES:
    fan_in = max(np.prod(leaf.shape[:-1]), 1) if name == "kernel" else 2
    spread = SIZES[name] * (2 / fan_in) ** 0.5
    return random.normal(0.5 * (name == "scale"), spread, leaf.shape).astype(np.float32)
  centre = {
    "var": 1.0,
    "clip": 3.0,
    "positive": 0.2,
    "negative": 0.3,
    "activation_step": 2.5 / 2**activations,
    "weight_step": 0.3 / 2**weights,
  }[name]
  return (centre * random.uniform(0.7, 1.5, leaf.shape)).astype(np.float32)


def run_onnx(data: bytes, images: np.ndarray) -> np.ndarray:
  """Logits by ONNX Runtime, on one thread."""
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads, options.log_severity_level = 1, 3
  session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
  return session.run(["logits"], {"images": images})[0]


def write(network, folder: pathlib.Path, images: np.ndarray):
  """Writes a lowered network in every format, and what each file says of the images."""
  folder.mkdir(parents=True)
  packings = ["bits"] + ["base3"] * (",2W" in network.precision)
  logits = {
    "interpreted": internals.interpreted(network, images),
    "compiled": internals.compiled(network, images),
  }
  for packing in packings:
    data = internals.packed_bytes(network, packing)
    (folder / f"{packing}.packed").write_bytes(data)
    (folder / f"{packing}.cost.txt").write_text(internals.costs(network, packing) + "\n")
    logits[f"packed {packing}"] = internals.interpreted(internals.decoded(data), images)
    for form in ["exact"] + ["fast"] * internals.has_fast_form(network):
      data = internals.onnx_bytes(network, form, packing)
      (folder / f"{form}-{packing}.onnx").write_bytes(data)
      logits[f"onnx {form} {packing}"] = run_onnx(data, images)
  exported = internals.exported(network)
  texts.write(folder / "stablehlo.program.gz", exported.mlir_module())
  read = jax.export.deserialize(bytearray(exported.serialize()))
  logits["stablehlo"] = np.asarray(read.call(images))
  np.savez(folder / "logits.npz", **logits)


def main(out: str):
  warnings.filterwarnings("ignore", message="on x86 processors without VNNI")
  images = np.random.default_rng(1).integers(0, 256, (6, *SHAPE), np.uint8)
  for name, (fields, every) in KINDS.items():
    model, params, stats = made(**fields)
    for ends in every:
      network = internals.lowered(model, params, stats, ends=ends, **ABOUT)
      write(network, pathlib.Path(out) / f"{name}-{ends}", images)
    print(name, flush=True)


if __name__ == "__main__":
  main(*sys.argv[1:])
