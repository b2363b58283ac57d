"""`quantize`: plain Flax modules compute what our own layers compute, whatever holds the layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from wrapped import IMAGES, KEY, Behind, Net, Points, apply, draw, init, moved, shapes

import apprentice_jax
from apprentice_jax import quantizers
from apprentice_jax.models.layers import QuantActivation, QuantConv, QuantDense
from apprentice_jax.models.precision import Precision, Quantization
from apprentice_jax.models.wrap import quantize


class Ours(nn.Module):
  """The same in our layers."""

  layer: nn.Module
  quantization: Quantization
  relu: bool = True

  @nn.compact
  def __call__(self, x):
    act = QuantActivation(self.quantization, signed=not self.relu, name="act")
    return self.layer(act(x) if self.quantization.precision.activations < 32 or self.relu else x)


def in_our_layers(params):
  """A wrapped `Behind`'s parameters for `Ours`."""
  steps = dict(params["quantization"]["layer"]) if "quantization" in params else {}
  act = {name: steps.pop(name) for name in ("clip", "activation_step") if name in steps}
  return {"layer": {**params["layer"], **steps}, **({"act": act} if act else {})}


def check_alike(plain, ours, x, precision, relu=True, **names):
  """A wrapped layer's value and gradients equal those of our layers."""
  bits = Precision.parse(precision)
  q = Quantization(bits, **names, full_precision=())
  wrapped = quantize(Behind(plain, relu), precision, full_precision=(), **names)
  params = moved(init(wrapped, x))
  other = Ours(ours(q), q, relu)
  weigh = lambda y: jnp.sum(jnp.sin(jnp.arange(y.size).reshape(y.shape)) * y)

  def both(params, x):
    y, back = jax.vjp(lambda p, x: wrapped.apply({"params": p}, x), params, x)
    z, back_ours = jax.vjp(lambda p, x: other.apply({"params": in_our_layers(p)}, x), params, x)
    g = jax.grad(weigh)(z)
    return (y, back(g)), (z, back_ours(g))

  mine, theirs = jax.jit(both)(params, x)
  for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(mine), jax.tree.leaves(theirs)):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=str(path))
  np.testing.assert_array_equal(mine[0], theirs[0])


CONVOLUTIONS = [
  ("8A,2W", dict(weights="twn"), {}),
  ("8A,2W", dict(weights="ttq"), dict(feature_group_count=4)),
  ("4A,4W", dict(weights="wrpn", activations="wrpn"), dict(strides=2)),
  ("3A,1W", dict(weights="dorefa", activations="dorefa"), dict(kernel_dilation=2)),
  ("4A,4W", dict(weights="lsq", activations="lsq"), dict(feature_group_count=2, padding="VALID")),
  ("32A,2W", dict(weights="ttq"), dict(use_bias=False)),
  ("8A,32W", dict(), dict(padding=((1, 0), (2, 1)))),
]


@pytest.mark.parametrize("precision, names, options", CONVOLUTIONS)
def test_a_convolution_is_ours(precision, names, options):
  ours = lambda q: QuantConv(
    8, q, kernel_size=(3, 3), **{"padding": "SAME", "use_bias": True, **options}
  )
  check_alike(nn.Conv(8, (3, 3), **options), ours, draw(2, 7, 7, 4), precision, **names)


def test_a_convolution_of_values_below_zero_has_a_signed_grid():
  ours = lambda q: QuantConv(8, q, kernel_size=(1, 1), use_bias=True)
  check_alike(nn.Conv(8, (1, 1)), ours, draw(2, 4, 4, 4), "8A,4W", relu=False)


def test_a_convolution_in_bfloat16_is_ours():
  ours = lambda q: QuantConv(
    8, q, kernel_size=(3, 3), padding="SAME", use_bias=True, dtype=jnp.bfloat16
  )
  check_alike(nn.Conv(8, (3, 3), dtype=jnp.bfloat16), ours, draw(2, 5, 5, 4), "8A,2W")


@pytest.mark.parametrize("weights, bits", [("twn", 2), ("ttq", 2), ("dorefa", 3), ("lsq", 4)])
def test_a_dense_layer_is_ours(weights, bits):
  ours = lambda q: QuantDense(6, q)
  check_alike(nn.Dense(6), ours, draw(5, 8), f"8A,{bits}W", weights=weights, per_channel=bits != 4)


def test_a_projection_of_several_axes_is_our_dense_layer():
  wrapped = quantize(nn.DenseGeneral((2, 3), axis=(1, -1)), "8A,4W", full_precision=())
  x = draw(5, 4, 3, 6)
  params = moved(init(wrapped, x))
  steps = params["quantization"]
  q = Quantization(Precision(8, 4), full_precision=())
  flat = jnp.moveaxis(x, 1, 2).reshape(15, 24)
  # LSQ's gradient scale aside, which values do not have.
  levels = QuantActivation(q, signed=True).apply(
    {"params": {"activation_step": steps["activation_step"]}}, flat
  )
  layer = {
    "kernel": params["kernel"].reshape(24, 6),
    "bias": params["bias"].reshape(6),
    "weight_step": steps["weight_step"],
  }
  expected = QuantDense(6, q).apply({"params": layer}, levels)
  np.testing.assert_array_equal(apply(wrapped, params, x), expected.reshape(5, 3, 2, 3))


def test_accumulators_are_those_of_integers():
  wrapped = quantize(Behind(nn.Dense(6)), "8A,4W", full_precision=())
  x = draw(5, 8)
  params = moved(init(wrapped, x))
  _, sown = jax.jit(lambda p: wrapped.apply({"params": p}, x, mutable=["accumulators"]))(params)
  steps = params["quantization"]["layer"]
  a = quantizers.encode(quantizers.pact, nn.relu(x), steps["clip"], 8).levels
  w = quantizers.encode(
    quantizers.lsq, params["layer"]["kernel"], steps["weight_step"], 4, symmetric=True
  ).levels
  sums = np.asarray(a).astype(np.int64) @ np.asarray(w).astype(np.int64)
  np.testing.assert_array_equal(sown["accumulators"]["layer"]["value"][0], sums)


def test_a_plain_tree_goes_in_and_comes_out():
  plain, wrapped = Net(), quantize(Net(), "8A,4W")
  own, variables = (jax.jit(module.init)(KEY, IMAGES) for module in (plain, wrapped))
  assert list(variables) == list(own)
  params = dict(variables["params"])
  steps = params.pop("quantization")
  close = lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6)
  jax.tree.map(close, params, own["params"])
  # "short" reads what "deep" has quantized; first and last are left alone.
  assert jax.tree.map(jnp.shape, steps) == {
    "deep": {"clip": (), "weight_step": (8,)},
    "short": {"weight_step": (8,)},
    "wide": {"clip": (), "weight_step": (8,)},
    "narrow": {"activation_step": (), "weight_step": (8,)},
  }
  run = lambda module, variables: jax.jit(module.apply)(variables, IMAGES)
  value = run(wrapped, variables)
  np.testing.assert_allclose(run(wrapped, own), value, 1e-5, 1e-5)
  _, filled = jax.jit(lambda v: wrapped.apply(v, IMAGES, mutable=["params"]))(own)
  jax.tree.map(close, filled["params"], variables["params"])
  expected = run(plain, own)
  assert not np.allclose(value, expected, atol=1e-3)
  np.testing.assert_array_equal(run(quantize(Net(), "32A,32W"), own), expected)


def test_training_updates_statistics_and_every_parameter():
  wrapped = quantize(Net(), "8A,4W")
  variables = jax.jit(wrapped.init)(KEY, IMAGES)

  def loss(params, x):
    y, new = wrapped.apply(
      {**variables, "params": params}, x, train=True, mutable=["batch_stats"], rngs={"dropout": KEY}
    )
    return jnp.sum(jnp.sin(y)), new

  each = jax.pmap(jax.value_and_grad(loss, has_aux=True), in_axes=(None, 0))
  one = jax.tree.map(lambda a: a[0], each(variables["params"], IMAGES[None]))
  (_, new), gradients = one
  assert np.any(new["batch_stats"]["BatchNorm_0"]["mean"])
  for path, g in jax.tree_util.tree_leaves_with_path(gradients):
    # A clip of 6 is beyond all values here, and a bias before batch norm is subtracted again.
    if path[-1].key != "clip" and path[-2].key not in ("deep", "short"):
      assert np.any(g), path


@pytest.mark.parametrize(
  "names, left",
  [
    (None, {"stem", "head"}),
    ((), set()),
    (("head", "*e*p"), {"head", "deep"}),
    ("wide", {"wide"}),
  ],
)
def test_which_layers_stay(names, left):
  layers = shapes(quantize(Net(), "8A,4W", full_precision=names), IMAGES)
  assert {"stem", "deep", "short", "wide", "narrow", "head"} - set(layers) == left


def test_a_point_is_quantized_once_and_nothing_outside():
  x = draw(5, 4)
  wrapped = quantize(Points(), "4A,4W", full_precision=())
  params = moved(init(wrapped, x))
  assert jax.tree.map(jnp.shape, params["quantization"]) == {
    "a": {"weight_step": (4,)},
    "b": {"weight_step": (3,)},
    "activation_0": {"clip": ()},
    "activation_1": {"activation_step": ()},
  }
  steps = params["quantization"]
  dense = lambda name, x: (
    x @ quantizers.lsq(params[name]["kernel"], steps[name]["weight_step"], 4, symmetric=True)
    + params[name]["bias"]
  )

  @jax.jit
  def expected():
    h = quantizers.pact(x, steps["activation_0"]["clip"], 4)
    h = quantizers.lsq(dense("a", h) + h, steps["activation_1"]["activation_step"], 4)
    return dense("b", h)

  np.testing.assert_allclose(apply(wrapped, params, x), expected(), 1e-5, 1e-5)
  plain = {name: params[name] for name in "ab"}
  both = lambda name, x: x @ params[name]["kernel"] + params[name]["bias"]
  expected = both("b", both("a", nn.relu(x)) + nn.relu(x))
  for outside in (Points(), quantize(Points(), "32A,32W")):
    np.testing.assert_allclose(apply(outside, plain, x), expected, 1e-5, 1e-5)
  with pytest.raises(ValueError, match="leave out signed or relu"):
    apprentice_jax.activation(x, signed=True, relu=True)


def test_summary():
  lines = apprentice_jax.summary(quantize(Net(), "8A,2W"), IMAGES[:1]).splitlines()
  rows = {line.split()[0]: line.split()[1:] for line in lines if "--" not in line}
  assert list(rows)[1:7] == ["stem", "deep", "short", "wide", "narrow", "head"]
  assert rows["stem"] == ["3x3x3x8", "1x6x6x8", "32A,32W", "224", "896", "7,776"]
  # 72 weights at 2 bits, eight scales and eight biases.
  assert rows["deep"] == ["3x3x1x8", "1x6x6x8", "8A,2W", "80", "82", "2,592"]
  assert rows["head"] == ["8x3", "1x3", "32A,32W", "27", "108", "24"]
  assert rows["BatchNorm_0"] == ["16", "64", "0"]
  assert rows["total"][:1] == [str(224 + 80 + 72 + 72 + 72 + 27 + 16)]
