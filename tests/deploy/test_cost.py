"""Costs: by hand, against published numbers, and the sizes that are promised."""

import pathlib

import numpy as np
import pytest
from networks import lowered

from apprentice_jax.config import checked
from apprentice_jax.deploy import bits, cost, packed
from apprentice_jax.deploy.network import Conv
from apprentice_jax.models import resnet
from apprentice_jax.training import export

ROOT = pathlib.Path(__file__).parents[2]
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def test_a_small_network_by_hand():
  """ResNet-8 of 4, 8 and 16 channels on 13x16 pixels, which become 7x8 and 4x4."""
  network = lowered(precision="8A,2W")
  found = {layer.path: layer for layer in cost.layers(network)}
  stem, conv, head = found["stem"], found["stage2_block1/conv1"], found["head"]
  assert stem[1:6] == (3 * 3 * 3 * 4, 32, 32, 4, 108 * 13 * 16) and stem.zeros is None
  assert conv[1:6] == (3 * 3 * 4 * 8, 2, 8, 8, 288 * 7 * 8) and conv.bops == 288 * 56 * 16
  assert head[1:6] == (160, 32, 32, 10, 160)
  total = cost.total(network)
  assert total.parameters == sum(l.weights + 2 * l.channels for l in found.values())
  assert total.macs == {
    "32A,32W": 108 * 208 + 160,
    "8A,2W": sum(l.macs for l in found.values()) - 108 * 208 - 160,
  }
  assert total.bops == sum(l.bops for l in found.values())
  levels = np.concatenate(
    [n.weights.levels.ravel() for n in network.nodes if isinstance(n, Conv) and n.weights.bits == 2]
  )
  assert total.sparsity == np.mean(levels == 0)
  # In the first block: its input, which is also the shortcut, what is between its convolutions, and
  # its result.
  assert total.peak_bytes == 3 * 4 * 13 * 16
  floats = lowered(precision="32A,2W")
  assert cost.total(floats).peak_bytes == 4 * 3 * 4 * 13 * 16


@pytest.mark.parametrize("packing", ["bits", "base3"])
@pytest.mark.parametrize("ends", ["float", "8bit"])
def test_the_reported_size_is_that_of_the_file(packing, ends, tmp_path):
  network = lowered(ends)
  packed.write(network, tmp_path / "file", packing)
  assert (tmp_path / "file").stat().st_size == cost.total(network, packing).bytes
  assert f"{cost.total(network, packing).bytes:,} bytes" in cost.table(network, packing)


def test_an_untrained_network_has_the_size_of_a_trained_one():
  network, model = lowered(), resnet("resnet8", 10, "8A,2W", width=0.25)
  blank = cost.blank(
    model, network.image_shape, class_names=network.class_names, mean=network.mean, std=network.std
  )
  for a, b in zip(cost.total(network)[:-1], cost.total(blank)[:-1], strict=True):
    assert a == b


def config_of(file, argument=""):
  scope = {}
  exec((ROOT / "configs" / file).read_text(), scope)  # pylint: disable=exec-used
  return checked(scope["get_config"](argument))


@pytest.mark.parametrize("precision, limit", [("8A2W", 32_000), ("8A4W", 48_000)])
def test_mlperf_tinys_network(precision, limit):
  config = config_of("mlperf_tiny.py", f"precision={precision}")

  class Data:
    image_shape, class_names = (32, 32, 3), CLASSES

  network = export.blank(config, Data)
  layers = {layer.path: layer.weights for layer in cost.layers(network)}
  # Weights of convolutions and classifier as the benchmark's own model has them.
  assert sum(layers.values()) == 77_360
  assert layers["stage2_block1/shortcut"] == 16 * 32 and layers["stage3_block1/shortcut"] == 32 * 64
  assert cost.total(network).bytes < limit


def test_ternary_resnet18_is_as_small_as_promised():
  network = cost.blank(resnet("resnet18", 1000, "8A,2W"), (224, 224, 3))
  ternary = [n for n in network.nodes if isinstance(n, Conv) and n.weights.bits == 2]
  floats = 4 * sum(n.weights.levels.size for n in ternary)
  assert floats == 4 * (
    11_689_512 - 9_408 - 513_000 - 9_600
  )  # without stem, classifier and batch norms
  scales = sum(n.multiplier.nbytes + n.addend.nbytes for n in ternary)
  for packing, ratio in (("2bit", 15.5), ("base3", 19)):
    assert (
      floats / (sum(bits.packed_size(n.weights.levels.size, packing) for n in ternary) + scales)
      > ratio
    )
