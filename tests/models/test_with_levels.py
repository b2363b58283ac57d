"""Integer levels in the place of kernels: which they are, and what the module computes of them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from wrapped import apply, draw, start

from apprentice_jax import quantizers
from apprentice_jax.models import magnitudes
from apprentice_jax.models.precision import WEIGHT_QUANTIZERS
from apprentice_jax.models.wrap import quantize, with_levels

FAST = {("twn", 2, False), ("ttq", 2, True), ("dorefa", 8, False)}
CASES = [
  pytest.param(*case, marks=() if case in FAST else pytest.mark.slow)
  for name, possible in WEIGHT_QUANTIZERS.items()
  for bits in possible
  for case in ((name, bits, True), (name, bits, False))
]


class Two(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(4, (3, 3), name="conv")(nn.relu(x)))
    return nn.DenseGeneral((2, 3), axis=(1, 3), name="dense")(x)


def trained(module, x):
  """Parameters as training could have left them, drawn without an initialisation."""
  normal = np.random.default_rng(0).standard_normal
  positive = lambda path: path[0].key == "quantization"
  one = lambda path, leaf: np.abs(leaf) + 0.05 if positive(path) else leaf
  tree = jax.tree.map(lambda leaf: 0.3 * normal(leaf.shape), start(module, x)["params"])
  return jax.tree.map(np.float32, jax.tree_util.tree_map_with_path(one, tree))


def values(name, bits, per_channel, w, trained):
  """A kernel (..., features) on its grid, by the public quantizers."""
  if name == "twn":
    return quantizers.twn(w, axis=-1 if per_channel else None)
  if name == "ttq":
    return quantizers.ttq(w, *(jnp.maximum(trained[s], magnitudes.FLOOR) for s in magnitudes.SIDES))
  if name == "dorefa":
    return quantizers.dorefa_weights(w, bits)
  if name == "wrpn":
    axes = tuple(range(w.ndim - 1)) if per_channel else None
    return quantizers.wrpn_weights(w, bits, jnp.max(jnp.abs(w), axes))
  return quantizers.lsq(w, trained["weight_step"], bits, symmetric=True)


def decoded(levels, scale):
  """A layer's weights from its levels (..., features) and scale."""
  levels = np.asarray(levels, np.float32)
  if "positive" in scale:
    return levels * np.where(levels > 0, scale["positive"], scale["negative"])
  return levels * scale["weight_step"]


@pytest.mark.parametrize("name, bits, per_channel", CASES)
def test_levels_times_scale_are_the_quantizers_values(name, bits, per_channel):
  options = dict(weights=name, per_channel=per_channel, full_precision=())
  module, x = quantize(Two(), f"8A,{bits}W", **options), draw(3, 4, 4, 2)
  params = trained(module, x)
  found = with_levels(module, {"params": params}, x)["params"]
  for path, features in (("conv", 4), ("dense", 6)):
    kernel, levels = params[path]["kernel"], found[path]["kernel"]
    assert levels.shape == kernel.shape
    assert levels.dtype == ("int16" if (name, bits) == ("dorefa", 8) else "int8")
    # A layer of two axes of features quantizes them as one.
    flat = lambda w: w.reshape(-1, features) if path == "dense" else w
    own = params.get("quantization", {}).get(path, {})
    expected = jax.jit(lambda w, own: values(name, bits, per_channel, w, own))(flat(kernel), own)
    weights = decoded(flat(levels), found["quantization"][path])
    np.testing.assert_array_equal(weights, expected)
    np.testing.assert_array_equal(found[path]["bias"], params[path]["bias"])
  # XLA multiplies the constants of these two grids in another order.
  tolerance = 1e-5 if name in ("wrpn", "dorefa") else 0
  y, z = apply(module, found, x), apply(module, params, x)
  np.testing.assert_allclose(y, z, rtol=tolerance, atol=tolerance)


class Shared(nn.Module):
  """Four layers: one that is called twice, a loop whose turns share one, and two that read other
  arrays than their parameters."""

  @nn.compact
  def __call__(self, x):
    twice = nn.Dense(4, name="twice")
    x = twice(nn.relu(twice(nn.relu(x))))
    lift = nn.scan(Turn, variable_broadcast="params", split_rngs={"params": False}, length=2)
    x, _ = lift(name="turns")(x, None)
    x = Centred(4, name="centred")(nn.relu(x))
    mask = jnp.tril(jnp.ones((1, 4, 4)))
    return nn.Conv(4, (1,), mask=mask, name="masked")(nn.relu(x))


class Turn(nn.Module):
  @nn.compact
  def __call__(self, x, _):
    return nn.Dense(4, name="dense")(nn.relu(x)), None


class Centred(nn.Dense):
  def param(self, name, *args, **kwargs):
    value = super().param(name, *args, **kwargs)
    return value - jnp.mean(value) if name == "kernel" else value


class TimesOne(nn.Dense):
  def param(self, name, *args, **kwargs):
    return super().param(name, *args, **kwargs) * 1.0


PRUNED = np.tril(np.ones((1, 4, 4), np.float32))
SAME_VALUES = {
  "mask of ones": nn.Conv(4, (1,), mask=np.ones_like(PRUNED)),
  "pruned": nn.Conv(4, (1,), mask=PRUNED),
  "pruned, bool": nn.Conv(4, (1,), mask=PRUNED > 0),
  "times one": TimesOne(4),
}


@pytest.mark.parametrize("layer", SAME_VALUES.values(), ids=SAME_VALUES)
def test_another_array_of_the_same_values_stays(layer):
  module, x = quantize(layer, "8A,2W", full_precision=()), draw(2, 3, 4)
  params = trained(module, x)
  if getattr(layer, "mask", None) is not None:
    params["kernel"] *= layer.mask
  found = with_levels(module, {"params": params}, x)["params"]
  assert found["kernel"] is params["kernel"]
  np.testing.assert_array_equal(apply(module, found, x), apply(module, params, x))


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("twn", "ttq")]


@pytest.mark.parametrize("weights", ["lsq", *SLOW])
def test_layers_that_are_shared_or_read_another_kernel(weights):
  options = dict(weights=weights, activations="wrpn", per_channel=False, full_precision=())
  module, x = quantize(Shared(), "8A,2W", **options), draw(2, 3, 4)
  params = trained(module, x)
  found = with_levels(module, {"params": params}, x)["params"]
  layers = {**found, "turns": found["turns"]["dense"]}
  kinds = {path: str(layers[path]["kernel"].dtype) for path in layers if path != "quantization"}
  assert kinds == {"twice": "int8", "turns": "int8", "centred": "float32", "masked": "float32"}
  assert set(found.get("quantization", {})) >= {"twice", "turns"}
  np.testing.assert_array_equal(apply(module, found, x), apply(module, params, x))


def test_levels_of_a_loop_and_of_vmap_lie_as_their_kernels():
  stack = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
  turns = nn.scan(Turn, **stack, length=3)
  side = nn.vmap(nn.Dense, **stack, in_axes=None, axis_size=2)

  class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
      return side(4, name="side")(nn.relu(turns(name="turns")(x, None)[0]))

  module, x = quantize(Net(), "8A,2W", full_precision=()), draw(5, 4)
  params = trained(module, x)
  found = with_levels(module, {"params": params}, x)["params"]
  for layer, own, scale in (
    (found["turns"]["dense"], params["turns"]["dense"], found["quantization"]["turns"]["dense"]),
    (found["side"], params["side"], found["quantization"]["side"]),
  ):
    for i, kernel in enumerate(own["kernel"]):
      weights = decoded(layer["kernel"][i], {"weight_step": scale["weight_step"][i]})
      np.testing.assert_array_equal(weights, quantizers.twn(kernel, axis=-1))
  np.testing.assert_array_equal(apply(module, found, x), apply(module, params, x))


def test_levels_stand_for_a_float32_kernel():
  # Of bfloat16 and float32 a layer without a dtype makes float32, and of bfloat16 alone bfloat16.
  module = quantize(nn.Dense(4, use_bias=False), "8A,2W", full_precision=())
  x = draw(3, 4).astype(jnp.bfloat16)
  params = trained(module, x)
  found = with_levels(module, {"params": params}, x)["params"]
  y, z = apply(module, found, x), apply(module, params, x)
  assert y.dtype == z.dtype == jnp.float32
  np.testing.assert_array_equal(y, z)
