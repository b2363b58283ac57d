"""`encode` (levels to store) and `encode_ste` (levels to train with)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quantizers_cases import (
  CASE,
  CASES,
  each_case,
  each_dtype,
  float32,
  samples,
  value_and_pullback,
)

from apprentice_jax import quantizers as Q

# Eager and jitted, and every dtype, but not every pair of them.
RUNS = pytest.mark.parametrize(
  "dtype,jitted",
  [(jnp.float32, False), (jnp.float16, False), (jnp.float32, True), (jnp.bfloat16, True)],
  ids=["eager-float32", "eager-float16", "jit-float32", "jit-bfloat16"],
)


def _value_and_codes(case, x, params):
  return (
    case.quantize(x, **params),
    Q.encode(case.quantize, x, **params),
    Q.encode_ste(case.quantize, x, **params),
  )


def _decode_by_hand(q, dtype):
  """In NumPy, as a reader of an exported file would."""
  levels = np.asarray(q.levels).astype(np.float32)
  if isinstance(q.scale, tuple):
    values = np.where(levels > 0, q.scale[0], np.where(levels < 0, -q.scale[1], np.float32(0)))
  else:
    values = levels * np.asarray(q.scale)
  return values.astype(dtype)


@each_case()
@RUNS
def test_decoded_equals_the_quantizer_bit_for_bit(case, dtype, jitted):
  x = samples(dtype)
  run = functools.partial(_value_and_codes, case)
  value, encoded, trained = (jax.jit(run) if jitted else run)(x, case.params)
  assert value.dtype == dtype and encoded.levels.shape == x.shape
  np.testing.assert_array_equal(Q.decode(encoded, dtype), value)
  np.testing.assert_array_equal(_decode_by_hand(encoded, dtype), value)
  np.testing.assert_array_equal(Q.decode(trained, dtype), value)
  # The two codes are one: the same scales; levels of x's dtype, as a pair where the scales are one.
  for a, b in zip(jax.tree.leaves(encoded.scale), jax.tree.leaves(trained.scale), strict=True):
    assert a.dtype == b.dtype == jnp.float32
    np.testing.assert_array_equal(a, b)
    assert np.broadcast_shapes(a.shape, x.shape) == x.shape
  assert {side.dtype for side in jax.tree.leaves(trained.levels)} == {jnp.dtype(dtype)}
  if isinstance(encoded.scale, tuple):
    assert all(set(np.unique(float32(side))) <= {0, 1} for side in trained.levels)
    np.testing.assert_array_equal(trained.levels[0] - trained.levels[1], encoded.levels)
  else:
    np.testing.assert_array_equal(trained.levels, encoded.levels)


@pytest.mark.parametrize(
  "function,static,dtype",
  [
    (Q.ste_sign, {}, jnp.int8),
    (Q.twn, {}, jnp.int8),
    (functools.partial(Q.ttq, positive=1.0, negative=1.0), {}, jnp.int8),
    (Q.wrpn_weights, dict(bits=8), jnp.int8),
    (Q.wrpn_activations, dict(bits=7), jnp.int8),  # 0 to 127
    (Q.wrpn_activations, dict(bits=8), jnp.uint8),  # 0 to 255
    (Q.dorefa_activations, dict(bits=8), jnp.uint8),
    (Q.dorefa_weights, dict(bits=1), jnp.int8),
    (Q.dorefa_weights, dict(bits=7), jnp.int8),  # odd numbers, -127 to 127
    (Q.dorefa_weights, dict(bits=8), jnp.int16),  # odd numbers, -255 to 255
    (functools.partial(Q.pact, clip=1.0), dict(bits=8), jnp.uint8),
    (functools.partial(Q.pact, clip=1.0), dict(bits=4), jnp.int8),
    (functools.partial(Q.lsq, step=0.01), dict(bits=8), jnp.int8),  # -128 to 127
    (functools.partial(Q.lsq, step=0.01), dict(bits=8, signed=False), jnp.uint8),
    (functools.partial(Q.lsq, step=0.01), dict(bits=7, signed=False), jnp.int8),
  ],
)
def test_smallest_dtype_holds_both_ends(function, static, dtype):
  x = samples() * 100
  encoded = Q.encode(function, x, **static)
  assert encoded.levels.dtype == dtype
  # The ends of the range, which a dtype too small would wrap around.
  np.testing.assert_array_equal(Q.decode(encoded), function(x, **static))
  assert Q.encode_ste(function, x.astype(jnp.bfloat16), **static).scale is not None


def test_partial_positional_and_keyword_arguments_are_one():
  w = samples()
  direct = Q.encode(Q.wrpn_weights, w, 4, 0.7)
  keyword = functools.partial(Q.wrpn_weights, bits=4)
  nested = functools.partial(keyword, scale=0.7)
  overridden = functools.partial(Q.wrpn_weights, bits=2, scale=0.7)
  for other in (
    Q.encode(Q.wrpn_weights, w, bits=4, scale=0.7),
    Q.encode(keyword, w, scale=0.7),
    Q.encode(nested, w),
    Q.encode(overridden, w, bits=4),
  ):
    jax.tree.map(np.testing.assert_array_equal, other, direct)


@each_case()
@each_dtype
def test_nan_makes_the_scale_nan(case, dtype):
  x = samples(dtype).at[1, 2, 3].set(jnp.nan)
  encoded = Q.encode(case.quantize, x, **case.params)
  assert all(np.isnan(s).all() for s in jax.tree.leaves(encoded.scale))
  assert np.isnan(float32(Q.decode(encoded, dtype))).all()
  assert jnp.issubdtype(encoded.levels.dtype, jnp.integer)


@pytest.mark.parametrize("encode", [Q.encode, Q.encode_ste])
@pytest.mark.parametrize(
  "function",
  [
    Q.ste_round,
    Q.lsq_init,
    jnp.tanh,
    lambda x: x,
    functools.partial(Q.ste_clip, low=0.0, high=1.0),
  ],
)
def test_other_functions_are_refused(encode, function):
  with pytest.raises(ValueError, match="pass a quantizer"):
    encode(function, samples())


@pytest.mark.parametrize("encode", [Q.encode, Q.encode_ste])
def test_arguments_are_checked_as_the_quantizer_checks_them(encode):
  with pytest.raises(ValueError, match="from 2 to 8"):
    encode(Q.wrpn_weights, samples(), 9)
  with pytest.raises(TypeError, match="float"):
    encode(Q.twn, np.arange(3))


# encode_ste's gradients. The layer contracts the middle axis of the weights, so that a scale of
# one, per last axis, and per first and last axis all come after the sum.


def _layer(case, x, params, v):
  q = Q.encode_ste(case.quantize, x, **params)
  accumulate = lambda levels: jnp.einsum("mk,akc->amc", v, levels.astype(jnp.float32))
  if isinstance(q.scale, tuple):
    return accumulate(q.levels[0]) * q.scale[0] - accumulate(q.levels[1]) * q.scale[1]
  return accumulate(q.levels) * q.scale


def _check_layer(case, dtype, params):
  x = samples(dtype)
  rng = np.random.default_rng(2)
  v = rng.normal(size=(4, 5)).astype(np.float32)
  h = rng.normal(size=(3, 4, 8)).astype(np.float32)

  @jax.jit
  def both(x, params):
    out, vjp = jax.vjp(lambda x, params: _layer(case, x, params, v), x, params)
    g_x, g_params = vjp(h)
    # The same layer on the quantizer's values, in float32: its cotangent is v^T h.
    value, gradients = value_and_pullback(
      case, x.astype(jnp.float32), params, jnp.einsum("mk,amc->akc", v, h)
    )
    return out, {"x": g_x, **g_params}, jnp.einsum("mk,akc->amc", v, value), gradients

  out, ours, expected_out, expected = both(x, params)
  np.testing.assert_allclose(out, expected_out, 1e-5, 1e-5)
  assert ours["x"].dtype == dtype
  # In bfloat16 the cotangent of the levels is rounded before it reaches the formulas.
  tolerance = 2e-5 if dtype == jnp.float32 else 2e-2
  for name in expected:
    # A sum is as good as its terms, which are of size 1 to 10, not as what cancellation leaves.
    size = max(np.abs(expected[name]).max(), 0 if name == "x" else 10)
    np.testing.assert_allclose(float32(ours[name]), expected[name], tolerance, tolerance * size)


@each_case()
def test_levels_then_scale_has_the_quantizers_gradients(case):
  _check_layer(case, jnp.float32, case.params)


@each_case("wrpn_weights_8_channels", "twn_two_axes", "ttq_channels", "lsq_4")
def test_levels_then_scale_has_the_quantizers_gradients_in_bfloat16(case):
  _check_layer(case, jnp.bfloat16, case.params)


@each_case("ttq_channels")
@pytest.mark.parametrize("gone", ["positive", "negative"])
def test_one_of_ttqs_scales_may_be_zero(case, gone):
  """Its own gradient then still arrives, so that it can leave zero again."""
  params = {**case.params, gone: np.zeros_like(case.params[gone])}
  _check_layer(case, jnp.float32, params)
  x = samples()
  gradients = jax.grad(lambda p: _layer(case, x, p, jnp.ones((1, 5))).sum())(params)
  assert np.all(np.asarray(gradients[gone]) != 0)


def test_one_channel_of_a_scale_may_be_zero():
  # An all-zero output channel: twn's scale is 0 there. What reaches the levels is multiplied by
  # it, so nothing comes back to these weights; the other channels are as ever.
  w = samples().at[..., 2].set(0)
  q = functools.partial(Q.twn, axis=-1)

  def f(w):
    e = Q.encode_ste(q, w)
    return (jnp.einsum("akc->ac", e.levels) * e.scale[:, 0]).sum()

  g = np.asarray(jax.grad(f)(w))
  assert np.isfinite(g).all() and not g[..., 2].any()
  np.testing.assert_allclose(np.delete(g, 2, -1), 1, rtol=1e-6)


@pytest.mark.parametrize("low", [0.0, -0.7])
@pytest.mark.parametrize(
  "name, param",
  [
    ("lsq_4", "step"),
    ("lsq_8_unsigned", "step"),
    ("wrpn_weights_4_scale", "scale"),
    ("pact_8", "clip"),
  ],
)
def test_a_scale_at_zero_or_below_is_raised_by_what_is_too_small(name, param, low):
  """Its gradient is that of a grid all of whose levels are too small: a larger one descends."""
  x, v = jnp.abs(samples()), jnp.ones((1, 5))
  loss = lambda params: -_layer(CASE[name], x, params, v).sum()
  gradient = jax.grad(loss)({param: np.float32(low)})[param]
  case = CASE[name].reference(float32(x), **{param: np.float32(1e-6)})
  # All levels are at their end, so that the layer grows by their sum for each unit of the scale.
  end = case[0].max()
  factor = {"pact_8": 1 / 255, "wrpn_weights_4_scale": 1 / 7, "lsq_4": 0.25}.get(name, 1.0)
  np.testing.assert_allclose(gradient, -end * factor * np.count_nonzero(x), rtol=1e-4)


def test_a_clip_of_zero_comes_back():
  x = jnp.array([-1.0, 0.5, 1.0, 2.0, 3.0])

  def f(clip):
    q = Q.encode_ste(Q.pact, x, clip, 8)
    return q.levels.sum() * q.scale

  # Four of the five lie above it.
  np.testing.assert_allclose(jax.grad(f)(0.0), 4, rtol=1e-5)
  np.testing.assert_allclose(jax.grad(f)(-1.0), 4, rtol=1e-5)


def test_every_quantizer_is_covered():
  quantizers = {name for name in Q.__all__ if hasattr(getattr(Q, name), "bind")}
  assert quantizers == {case.function for case in CASES}
