"""TTQ in a layer: its magnitudes' start, floor and steps, against NumPy and by hand."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax import quantizers
from apprentice_jax.models import health, magnitudes, resnet
from apprentice_jax.models.layers import QuantConv, QuantDense
from apprentice_jax.models.precision import Precision, Quantization
from apprentice_jax.training.records import HealthWatch


def quantization(per_channel=True):
  return Quantization(Precision(8, 2), "ttq", per_channel=per_channel)


def layer(per_channel, kernel, **params):
  """A dense layer of this kernel, as a function of an input and the parameters."""
  dense = QuantDense(kernel.shape[1], quantization(per_channel), use_bias=False)
  given = {
    "kernel": jnp.asarray(kernel, jnp.float32),
    **{k: jnp.float32(v) for k, v in params.items()},
  }
  unit = jnp.eye(len(kernel))
  return given, lambda p, x=unit: dense.apply({"params": p}, x)


# The threshold is 0.05 of 6 in both channels.
KERNEL = np.float32([[1.0, -4.0], [-2.0, 0.5], [0.25, 2.0], [0.0, 6.0]])


def test_levels_and_values_by_hand():
  params, apply = layer(True, KERNEL, positive=[0.5, 3.0], negative=[0.25, 2.0])
  np.testing.assert_array_equal(apply(params), [[0.5, -2], [-0.25, 3], [0, 3], [0, 3]])
  params, apply = layer(False, KERNEL, positive=[0.5], negative=[0.25])
  np.testing.assert_array_equal(apply(params), [[0.5, -0.25], [-0.25, 0.5], [0, 0.5], [0, 0.5]])


@pytest.mark.parametrize("per_channel", [True, False])
def test_gradients_by_hand(per_channel):
  """Of the sum of all values times g: a magnitude's times 0.1 / sqrt(N), a weight's straight
  through."""
  g = np.arange(1.0, 9.0).reshape(4, 2)
  positive, negative = ([0.5, 3.0], [0.25, 2.0]) if per_channel else ([0.5], [0.25])
  params, apply = layer(per_channel, KERNEL, positive=positive, negative=negative)
  found = jax.grad(lambda p: jnp.sum(apply(p) * g))(params)
  if per_channel:  # four weights share a magnitude
    np.testing.assert_allclose(found["positive"], np.multiply([1, 4 + 6 + 8], 0.05), rtol=1e-6)
    np.testing.assert_allclose(found["negative"], np.multiply([-3, -2], 0.05), rtol=1e-6)
  else:
    np.testing.assert_allclose(found["positive"], [0.1 * (1 + 4 + 6 + 8) / np.sqrt(8)], rtol=1e-6)
    np.testing.assert_allclose(found["negative"], [-0.1 * (2 + 3) / np.sqrt(8)], rtol=1e-6)
  np.testing.assert_allclose(found["kernel"], g, rtol=1e-6)


def test_magnitudes_start_as_the_mean_of_what_they_stand_for():
  found = magnitudes.start(jnp.asarray(KERNEL), True)
  np.testing.assert_allclose(found["positive"], [1.0, 8.5 / 3])
  np.testing.assert_allclose(found["negative"], [2.0, 4.0])
  found = magnitudes.start(jnp.asarray(KERNEL), False)
  np.testing.assert_allclose(found["positive"], [9.5 / 4])
  np.testing.assert_allclose(found["negative"], [3.0])
  # A side without weights: TWN's, the mean of all that are above the threshold.
  found = magnitudes.start(jnp.abs(KERNEL), True)
  np.testing.assert_allclose(found["positive"], [3 / 2, 12.5 / 4])
  np.testing.assert_allclose(found["negative"], [3 / 2, 12.5 / 4])
  found = magnitudes.start(jnp.zeros((3, 2)), True)
  assert np.all(found["positive"] == 0) and np.all(found["negative"] == 0)


def test_below_the_floor_a_magnitude_acts_as_the_floor_and_comes_back():
  params, apply = layer(True, KERNEL, positive=[-0.2, 3.0], negative=[0.25, -1.0])
  values = np.asarray(apply(params))
  assert values[0, 0] == np.float32(1e-6) and values[0, 1] == -np.float32(1e-6)
  # A loss that wants them at 0.5 and 2: descent raises both, by the gradient that has them at the
  # floor.
  target = np.float32([[0.5, -2], [-0.25, 3], [0, 3], [0, 3]])

  def step(_, params):
    gradient = jax.grad(lambda p: jnp.sum((apply(p) - target) ** 2))(params)
    return {**params, **{k: params[k] - 0.1 * gradient[k] for k in magnitudes.SIDES}}

  params = jax.lax.fori_loop(0, 2000, step, params)
  np.testing.assert_allclose(params["positive"], [0.5, 3], rtol=1e-3)
  np.testing.assert_allclose(params["negative"], [0.25, 2], rtol=1e-3)


def test_an_empty_layer_and_a_layer_of_zeros_are_finite():
  for per_channel in (True, False):
    params, apply = layer(
      per_channel, np.zeros((3, 2)), **magnitudes.start(jnp.zeros((3, 2)), per_channel)
    )
    value, gradient = jax.value_and_grad(lambda p: jnp.sum(apply(p) ** 2))(params)
    assert value == 0 and all(np.all(np.isfinite(g)) for g in jax.tree.leaves(gradient))


def test_ternary_networks_learn_with_positive_magnitudes_at_a_high_rate():
  """A regression at which unscaled gradients drive magnitudes below zero and the loss up."""
  r = np.random.default_rng(0)
  x, teacher = (
    r.standard_normal((256, 64)).astype(np.float32),
    r.standard_normal((64, 8)).astype(np.float32),
  )
  y = x @ (0.3 * np.sign(teacher) * (np.abs(teacher) > 0.2))
  for per_channel in (True, False):
    params, apply = layer(per_channel, 0.1 * r.standard_normal((64, 8)))
    params.update(magnitudes.start(params["kernel"], per_channel))
    loss = lambda p: jnp.mean((apply(p, x) - y) ** 2)
    step = jax.jit(lambda p: jax.tree.map(lambda a, g: a - 0.1 * g, p, jax.grad(loss)(p)))
    before = loss(params)
    for _ in range(300):
      params = step(params)
    assert loss(params) < 0.1 * before
    assert all(np.all(params[side] > 0.1) for side in magnitudes.SIDES)


def test_health_has_the_magnitudes_at_their_floor():
  model = resnet("resnet8", 10, "8A,2W", width=0.25, weights="ttq")
  names = health.names(model, (8, 8, 3))
  assert names.columns == (("zeros", "flips", "floor"), ("zeros", "saturation"))
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), True))[
    "params"
  ]
  random = np.random.default_rng(0)
  before = jax.tree.map(lambda a: jnp.asarray(random.uniform(0.1, 1, a.shape), jnp.float32), shapes)
  after = jax.tree.map(jnp.array, before)
  conv = after["stage1_block1"]["conv2"]  # four channels
  conv["negative"] = conv["negative"].at[0].set(-0.3).at[1].set(magnitudes.FLOOR)
  found = health.weights(model, before, after)
  wanted = [2 / 8 * (name == "stage1_block1/conv2") for name in names.weights]
  np.testing.assert_allclose(found[:, 2], wanted)
  np.testing.assert_array_equal(found[:, 1], 0)


def test_a_magnitude_at_its_floor_is_said_once():
  watch = HealthWatch("run", 10)
  with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    watch.look(5, {"floor/a": 0.0, "zeros/a": 0.5}, True)
    watch.look(6, {"floor/a": 0.125}, True)
    watch.look(7, {"floor/a": 0.25}, True)
  assert [str(w.message).partition(":")[2].strip() for w in said] == [
    "a magnitude of a is at its floor at step 6: its weights of that sign count for nothing; lower "
    "the learning "
    "rate, or set config.quantization.per_channel=False."
  ]


def test_scalar_magnitudes_of_earlier_versions_become_arrays():
  old = {
    "conv": {"kernel": KERNEL, "positive": np.float32(0.5), "negative": np.float32(0.25)},
    "norm": {"scale": np.ones(2, np.float32)},
  }
  for per_channel, size in ((True, 2), (False, 1)):
    found = magnitudes.with_axes(old, per_channel)
    np.testing.assert_array_equal(found["conv"]["positive"], [0.5] * size)
    np.testing.assert_array_equal(found["conv"]["negative"], [0.25] * size)
    assert found["conv"]["kernel"] is KERNEL and found["norm"].keys() == {"scale"}
    again = magnitudes.with_axes(found, per_channel)
    assert jax.tree.all(jax.tree.map(np.array_equal, again, found))
    params, apply = layer(per_channel, **found["conv"])  # the network that it was
    np.testing.assert_array_equal(apply(params), quantizers.ttq(KERNEL, 0.5, 0.25))
  old["conv"]["negative"] = np.float32(-0.25)
  with pytest.raises(ValueError, match="an earlier TTQ with a magnitude below 0"):
    magnitudes.with_axes(old, True)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_without_levels_the_values_are_ttqs(dtype):
  kernel = jax.random.normal(jax.random.key(0), (3, 3, 2, 4))
  q = Quantization(Precision(32, 2), "ttq")
  conv = QuantConv(4, q, dtype=dtype)
  x = jax.random.normal(jax.random.key(1), (2, 5, 5, 2))
  params = {"kernel": kernel, **magnitudes.start(kernel, True)}
  size = np.abs(kernel)
  kept = size > 0.05 * size.max()
  values = np.where(kept, np.where(kernel > 0, params["positive"], -params["negative"]), 0)
  wanted = jax.lax.conv(
    jnp.moveaxis(x, -1, 1).astype(dtype),
    jnp.transpose(values, (3, 2, 0, 1)).astype(dtype),
    (1, 1),
    "SAME",
  )
  np.testing.assert_allclose(
    np.float32(conv.apply({"params": params}, x)),
    np.moveaxis(np.float32(wanted), 1, -1),
    rtol=2e-2 if dtype == jnp.bfloat16 else 1e-5,
    atol=2e-2 if dtype == jnp.bfloat16 else 1e-5,
  )
