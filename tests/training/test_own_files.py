"""The StableHLO file of a user's own network: its constants, its size, its logits."""

import importlib
import math
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import plain_networks
import pytest

from apprentice_jax.deploy import cost, stablehlo
from apprentice_jax.deploy.unlowered import unlowered
from apprentice_jax.errors import ConfigError
from apprentice_jax.models.imported import imported_network
from apprentice_jax.models.precision import WEIGHT_QUANTIZERS, Precision, Quantization

SHAPE = (8, 8, 1)
MEAN, STD = (0.3,), (0.4,)
ABOUT = dict(image_shape=SHAPE, class_names=tuple("abcdefghij"), mean=MEAN, std=STD)
# The kernels in the file: of the quantized layer, and of the others.
KERNELS = {
  "net": ("3x3x4x8", {"3x3x1x4", "8x10"}),
  "loop": ("3x6x6", {"64x6", "6x10"}),
}


def drawn(model):
  """Variables as training could have left them."""
  normal = np.random.default_rng(0).standard_normal
  images = jax.ShapeDtypeStruct((2, *SHAPE), jnp.float32)
  shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, False), images)

  def one(path, leaf):
    value = 0.3 * normal(leaf.shape)
    above_zero = {"quantization", "var"} & {key.key for key in path}
    return np.float32(np.abs(value) + 0.1 if above_zero else value)

  return {
    name: jax.tree_util.tree_map_with_path(one, shapes[name]) for name in ("params", "batch_stats")
  }


def constants(program: str) -> set[str]:
  """The types of the arrays that a program's text holds number by number, such as 3x6x6xi8."""
  found = re.findall(r"stablehlo\.constant dense<(.)[^>]*> : tensor<(\S+?)>", program)
  return {kind for begins, kind in found if begins in '["'}


def check(model, tolerance=0):
  variables = drawn(model)
  network = unlowered(model, **variables, **ABOUT)
  exported = stablehlo.export(network)
  images = np.random.default_rng(1).integers(0, 256, (16, *SHAPE), np.uint8)

  @jax.jit
  def expected(variables, images):
    scale, shift = 1 / (255 * jnp.float32(STD)), jnp.float32(MEAN) / jnp.float32(STD)
    return model.apply(variables, images.astype(jnp.float32) * scale - shift, False)

  np.testing.assert_allclose(
    exported.call(images), expected(variables, images), rtol=tolerance, atol=tolerance
  )
  return variables, network, exported


@pytest.mark.parametrize("name", KERNELS)
def test_the_file_holds_levels(name):
  model = imported_network(f"plain_networks:{name}", 10, Quantization(Precision(8, 2)))
  variables, network, exported = check(model)
  kernel, others = KERNELS[name]
  program = exported.mlir_module()
  held = constants(program)
  assert f"{kernel}xi8" in held and f"{kernel}xf32" not in held
  assert {f"{other}xf32" for other in others} <= held
  # Nothing of a weight quantizer is left: TWN alone asks for signs.
  assert "stablehlo.sign" not in program
  # As written by hand, with the kernels as they are trained.
  other = stablehlo.export(network._replace(params=variables["params"]))
  assert "stablehlo.sign" in other.mlir_module()
  saved = 3 * math.prod(map(int, kernel.split("x")))
  assert len(exported.serialize()) < len(other.serialize()) - saved
  assert "stores a weight in int8" in cost.table(network)


@pytest.mark.parametrize("name", ["tied", "tied_by_a_convolution"])
def test_a_kernel_that_is_read_a_second_time_stays(name):
  model = imported_network(f"plain_networks:{name}", 10, Quantization(Precision(8, 2)))
  with pytest.warns(UserWarning, match="its file keeps float weights"):
    variables, network, _ = check(model)
  assert network.params is variables["params"]


def test_a_network_that_counts_its_batch():
  network = unlowered(imported_network("plain_networks:counting", 10, Quantization()), **ABOUT)
  network = network._replace(**drawn(network.model))
  with pytest.raises(ConfigError) as error:
    stablehlo.export(network)
  assert str(error.value) == (
    "plain_networks:counting is no program for any number of images (TypeError: '_DimExpr' object "
    "cannot be interpreted as an integer): write x.shape[0] in the place of len(x), or -1 in a "
    "reshape."
  )


BITS = [
  (name, n) for name, possible in WEIGHT_QUANTIZERS.items() for n in (2, 4, 8) if n in possible
]


@pytest.mark.slow
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("weights, bits", BITS)
@pytest.mark.parametrize("name", KERNELS)
def test_every_quantizer(name, weights, bits, per_channel):
  q = Quantization(Precision(8, bits), weights, per_channel=per_channel)
  # XLA multiplies the constants of these two grids in another order.
  tolerance = 1e-5 if weights in ("wrpn", "dorefa") else 0
  *_, exported = check(imported_network(f"plain_networks:{name}", 10, q), tolerance)
  kind = "i16" if (weights, bits) == ("dorefa", 8) else "i8"
  held, kernel = constants(exported.mlir_module()), KERNELS[name][0]
  assert f"{kernel}x{kind}" in held and f"{kernel}xf32" not in held


@pytest.mark.slow
@pytest.mark.parametrize("weights, bits", [("twn", 2), ("ttq", 2), ("lsq", 4), ("lsq", 8)])
@pytest.mark.parametrize("name", ["resnet", "cnn", "mobilenet", "vit"])
def test_the_four_networks(name, weights, bits, monkeypatch):
  monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[2] / "results" / "own_networks")
  make = importlib.import_module("plain_flax").NETWORKS[name]
  # A function that takes the classes alone: what ViT calls its width is another thing.
  monkeypatch.setattr(plain_networks, "one_of_four", lambda n: make(n), raising=False)
  q = Quantization(Precision(8, bits), weights)
  variables, network, exported = check(imported_network("plain_networks:one_of_four", 10, q))
  levels = [a for a in jax.tree.leaves(network.params) if a.dtype == jnp.int8]
  assert len(levels) == len(network.model.quantized(SHAPE))
  other = stablehlo.export(network._replace(params=variables["params"]))
  saved = 3 * sum(a.size for a in levels)
  assert len(exported.serialize()) < len(other.serialize()) - saved
