"""Exported files of earlier versions, and the logits that they had, in the folder `kept`.

`python tests/deploy/test_kept.py` writes the folder anew, by the package as it is.
"""

import pathlib
import tempfile
import warnings

import numpy as np
import pytest
from networks import lowered, made

from apprentice_jax.deploy import interpret, packed, registry

KEPT = pathlib.Path(__file__).parent / "kept"
# The ends and the network of each file, by its name.
KINDS = {
  "ternary": ("8bit", dict(residual=True)),
  "ttq": ("7bit", dict(residual=True, weights="ttq", shortcut="conv")),
  "ttq-layer": ("float", dict(weights="ttq", per_channel=False)),
  "binary": ("float", dict(precision="1A,1W")),
  "3A5W": ("8bit", dict(precision="3A,5W")),
  "dorefa": ("8bit", dict(precision="4A,8W", weights="dorefa")),
  "32A2W": ("float", dict(precision="32A,2W")),
  "resnet18": ("8bit", dict(name="resnet18", width=0.0625, precision="8A,4W")),
}
ONNX = ("ternary", "ttq")  # whose ONNX files of both forms are kept too
FORMATS = {
  "packed": ("packed", {}),
  "base3": ("packed", {"packing": "base3"}),
  "stablehlo": ("stablehlo", {}),
  "exact": ("onnx", {"form": "exact"}),
  "fast": ("onnx", {"form": "fast"}),
}


def write():
  """Writes the folder."""
  KEPT.mkdir(exist_ok=True)
  images = made()[3]
  arrays = {"images": images}
  for name, (ends, kind) in KINDS.items():
    network = lowered(ends, **kind)
    packed.write(network, KEPT / f"{name}.packed")
    arrays[f"{name}/interpreted"] = interpret.logits(network, images)
    for what, (form, options) in FORMATS.items():
      if what != "fast" or "residual" in kind:
        path = KEPT / f"{name}.{what}"
        if what == "packed" or what in ("exact", "fast") and name in ONNX:
          registry.write(network, form, path, **options)
          arrays[f"{name}/{what}"] = registry.load(path).logits(images)
        else:
          arrays[f"{name}/{what}"] = exported(network, form, options, images)
  np.savez_compressed(KEPT / "logits.npz", **arrays)


def exported(network, form: str, options: dict, images: np.ndarray) -> np.ndarray:
  """The logits of a network that is written to a file and read again."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "student"
    registry.write(network, form, path, **options)
    return registry.load(path).logits(images)


@pytest.fixture(scope="module")
def kept():
  return dict(np.load(KEPT / "logits.npz"))


def assert_equal(found, wanted, network):
  """Whole sums are equal on every machine; the order of float sums is each machine's own."""
  integers = all(n.weights.bits != 32 for n in network.nodes if hasattr(n, "weights"))
  if integers:
    np.testing.assert_array_equal(found, wanted)
  else:
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("name", KINDS)
def test_a_kept_file_is_read_and_written_as_it_was(name, kept):
  data = (KEPT / f"{name}.packed").read_bytes()
  network = packed.decode(data)
  assert packed.encode(network) == data
  assert_equal(interpret.logits(network, kept["images"]), kept[f"{name}/interpreted"], network)


@pytest.mark.parametrize("name", KINDS)
def test_a_network_is_lowered_as_it_was(name):
  ends, kind = KINDS[name]
  network, wanted = lowered(ends, **kind), packed.read(KEPT / f"{name}.packed")
  for node, before in zip(network.nodes, wanted.nodes, strict=True):
    assert (type(node), node.name) == (type(before), before.name)
    if hasattr(node, "weights"):
      np.testing.assert_array_equal(node.weights.levels, before.weights.levels)
    if hasattr(node, "multiplier"):
      np.testing.assert_allclose(node.multiplier, before.multiplier, rtol=1e-6)
    if hasattr(node, "addend"):
      np.testing.assert_allclose(node.addend, before.addend, rtol=1e-6, atol=1)


@pytest.mark.filterwarnings("ignore:on x86 processors without VNNI")
@pytest.mark.parametrize(
  "name, what",
  [(n, w) for n, (_, kind) in KINDS.items() for w in FORMATS if w != "fast" or "residual" in kind],
)
def test_every_format_computes_what_it_did(name, what, kept):
  wanted, (form, options) = kept[f"{name}/{what}"], FORMATS[what]
  network = packed.read(KEPT / f"{name}.packed")
  found = exported(network, form, options, kept["images"])
  np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
  if what in ("exact", "fast") and name in ONNX:
    before = registry.load(KEPT / f"{name}.{what}").logits(kept["images"])
    np.testing.assert_array_equal(before, found)


if __name__ == "__main__":
  warnings.simplefilter("ignore")
  write()
