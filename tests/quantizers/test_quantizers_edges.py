"""Zero, NaN and infinite tensors, tiny ones, and arguments that are refused."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quantizers_reference as reference
from quantizers_cases import SHAPE, each_case, each_dtype, float32, samples, value_and_pullback

from apprentice_jax import quantizers as Q

BITS = {  # and the range of bits each takes
  "wrpn_weights": (lambda x, b: Q.wrpn_weights(x, b), 2),
  "wrpn_activations": (lambda x, b: Q.wrpn_activations(x, b), 1),
  "dorefa_weights": (lambda x, b: Q.dorefa_weights(x, b), 1),
  "dorefa_activations": (lambda x, b: Q.dorefa_activations(x, b), 1),
  "pact": (lambda x, b: Q.pact(x, 1.0, b), 1),
  "lsq_signed": (lambda x, b: Q.lsq(x, 1.0, b), 2),
  "lsq_unsigned": (lambda x, b: Q.lsq(x, 1.0, b, signed=False), 1),
  "lsq_init": (lambda x, b: Q.lsq_init(x, b), 2),
  "lsq_init_unsigned": (lambda x, b: Q.lsq_init(x, b, signed=False), 1),
  "lsq_range": (lambda x, b: Q.lsq_range(b), 2),
}
each_bits = pytest.mark.parametrize("function,low", BITS.values(), ids=BITS)
GROUPED = ("twn", "ttq", "dorefa_weights")  # one NaN spreads to all that share a scale with it


@each_case()
@each_dtype
def test_zeros_stay_finite_in_values_and_gradients(case, dtype):
  x = jnp.zeros(SHAPE, dtype)
  value, gradients = value_and_pullback(case, x, case.params, jnp.ones_like(x))
  assert all(np.isfinite(float32(v)).all() for v in (value, *gradients.values()))
  if case.function == "ste_sign":
    assert np.all(value == 1)
  elif case.function == "dorefa_weights" and case.static["bits"] > 1:
    # No level is zero: the one next to it, on the side to which the tie rounds.
    n = 2 ** case.static["bits"] - 1
    np.testing.assert_array_equal(np.abs(value), jnp.full(SHAPE, 1 / n, dtype))
  else:
    assert not np.any(value)
  q = Q.encode_ste(case.quantize, x, **case.params)
  assert all(np.isfinite(float32(leaf)).all() for leaf in jax.tree.leaves(q))


@pytest.mark.parametrize(
  "quantize",
  [
    lambda x, p: Q.wrpn_weights(x, 4, p),
    lambda x, p: Q.ttq(x, p, p),
    lambda x, p: Q.pact(x, p, 4),
    lambda x, p: Q.lsq(x, p, 4),
  ],
  ids=["wrpn_weights", "ttq", "pact", "lsq"],
)
@pytest.mark.parametrize("zeros", [False, True], ids=["x", "zeros"])
def test_a_zero_parameter_gives_zeros_and_stays_finite(quantize, zeros):
  x = jnp.zeros(SHAPE) if zeros else samples()
  value, vjp = jax.vjp(quantize, x, jnp.float32(0))
  np.testing.assert_allclose(value, 0, atol=1.1e-6)  # the smallest clip of pact is 1e-6
  assert all(np.isfinite(g).all() for g in vjp(jnp.ones(SHAPE)))


def test_lsq_init_of_zeros_is_a_usable_step():
  step = Q.lsq_init(jnp.zeros(3), 4)
  assert step == 1 and not Q.lsq(jnp.zeros(3), step, 4).any()


@each_case()
@each_dtype
def test_nan_stays_visible(case, dtype):
  x = samples(dtype).at[1, 2, 3].set(jnp.nan)
  for value in (
    case.quantize(x, **case.params),
    Q.decode(Q.encode_ste(case.quantize, x, **case.params), dtype),
  ):
    nan = np.isnan(float32(value))
    expected = np.zeros(SHAPE, bool)
    axis = case.static.get("axis", ())
    if case.function not in GROUPED:
      expected[1, 2, 3] = True
    elif axis == -1:
      expected[..., 3] = True
    elif axis == (0, -1):
      expected[1, :, 3] = True
    else:  # A mean or a maximum of the whole tensor.
      expected[:] = True
    np.testing.assert_array_equal(nan, expected)


def test_nan_stays_visible_in_the_blocks_and_in_lsq_init():
  x = jnp.array([jnp.nan, 1.0])
  for value in (Q.ste_round(x), Q.ste_clip(x, 0, 1)):
    assert np.isnan(value).tolist() == [True, False]
  assert np.isnan(Q.lsq_init(x, 4))


@pytest.mark.parametrize(
  "quantize",
  [
    lambda x, p: Q.wrpn_weights(x, 4, p),
    lambda x, p: Q.ttq(x, p, p),
    lambda x, p: Q.pact(x, p, 4),
    lambda x, p: Q.lsq(x, p, 4),
  ],
  ids=["wrpn_weights", "ttq", "pact", "lsq"],
)
def test_a_nan_parameter_stays_visible(quantize):
  assert np.isnan(quantize(jnp.array([-3.0, 0.0, 3.0]), jnp.nan)).all()


@each_case()
def test_infinities_do_not_crash_and_saturate_what_clips(case):
  x = samples().at[0, 0, 0].set(jnp.inf).at[0, 0, 1].set(-jnp.inf)
  value, gradients = value_and_pullback(case, x, case.params, jnp.ones(SHAPE))
  assert value.shape == SHAPE
  if case.function not in ("twn", "dorefa_weights"):  # whose scale, a mean, is infinite
    large = case.quantize(samples().at[0, 0, 0].set(1e30).at[0, 0, 1].set(-1e30), **case.params)
    if case.function == "ttq":  # whose threshold is: nothing is above it
      assert not np.any(value)
    else:
      np.testing.assert_array_equal(value, large)
      assert all(np.isfinite(g).all() for g in gradients.values())


@each_case(
  "ste_sign",
  "wrpn_weights_4_scale",
  "wrpn_activations_8",
  "twn",
  "ttq",
  "dorefa_weights_1",
  "dorefa_weights_2",
  "pact_8",
  "lsq_4",
)
def test_scalars_and_single_elements(case):
  levels, scale = case.reference(np.float32(0.75)[None], **case.params)
  for shape in ((), (1,)):
    x = jnp.full(shape, 0.75)
    value, gradients = jax.jit(functools.partial(value_and_pullback, case))(x, case.params, x)
    assert value.shape == gradients["x"].shape == shape
    np.testing.assert_allclose(value, reference.value(levels, scale).reshape(shape), rtol=1e-6)


@each_case()
@pytest.mark.parametrize("shape", [(0, 5, 8), (3, 0, 8)])
def test_empty_arrays(case, shape):
  x = jnp.zeros(shape)
  with jax.debug_nans(True):  # a mean or a maximum of nothing is none
    value, gradients = value_and_pullback(case, x, case.params, x)
    encoded = Q.encode(case.quantize, x, **case.params)
  assert value.shape == gradients["x"].shape == encoded.levels.shape == shape
  assert all(not g.any() for name, g in gradients.items())
  assert all(np.isfinite(s).all() for s in jax.tree.leaves(encoded.scale))
  np.testing.assert_array_equal(Q.decode(encoded), value)


def test_empty_arrays_elsewhere():
  x = jnp.zeros((0, 8))
  with jax.debug_nans(True):
    assert Q.ste_round(x).shape == Q.ste_clip(x, -1, 1).shape == (0, 8)
    assert Q.lsq_init(x, 4) == 1
    assert jax.vmap(Q.twn)(x).shape == (0, 8)


WITH_PARAMETERS = {
  "lsq": (lambda x, s: Q.lsq(x, s, 4), "step"),
  "pact": (lambda x, s: Q.pact(x, s, 4), "clip"),
  "lsq_grad_scale": (lambda x, s: Q.lsq(x, 1.0, 4, grad_scale=s), "grad_scale"),
  "wrpn_weights": (lambda x, s: Q.wrpn_weights(x, 4, s), "scale"),
  "ttq_positive": (lambda x, s: Q.ttq(x, s, 1.0), "positive"),
  "ttq_negative": (lambda x, s: Q.ttq(x, 1.0, s), "negative"),
  "ttq_threshold": (lambda x, s: Q.ttq(x, 1.0, 1.0, s), "threshold"),
  "twn": (lambda x, s: Q.twn(x, s), "threshold"),
  "twn_axis": (lambda x, s: Q.twn(x, s, axis=() if jnp.ndim(x) == 0 else -1), "threshold"),
  "ste_clip_low": (lambda x, s: Q.ste_clip(x, s, 1.0), "low"),
  "ste_clip_high": (lambda x, s: Q.ste_clip(x, -1.0, s), "high"),
  "encode": (lambda x, s: Q.encode(Q.lsq, x, s, 4), "step"),
  "encode_ste": (lambda x, s: Q.encode_ste(Q.ttq, x, s, 1.0), "positive"),
  "decode": (lambda x, s: Q.decode(Q.Quantized(x, s)), "scale"),
  "decode_pair": (lambda x, s: Q.decode(Q.Quantized(x, (jnp.float32(1), s))), "scale"),
  "decode_sides": (lambda x, s: Q.decode(Q.Quantized((x, x), (s, s))), "scale"),
}
each_with_parameters = pytest.mark.parametrize(
  "function, name", WITH_PARAMETERS.values(), ids=WITH_PARAMETERS
)


@each_with_parameters
@pytest.mark.parametrize(
  "x, scale",
  [
    ((8,), (8, 1)),
    ((3, 3, 4, 8), (8, 1, 1, 1)),
    ((), (8,)),
    ((), (1,)),
    ((1, 8), (3, 8)),
    ((8,), (9,)),
    ((8,), (1, 1, 8)),
    ((8,), (0,)),
    ((0, 4), (2, 4)),
  ],
)
def test_a_shape_that_would_grow_the_result_is_refused_by_both_names(function, name, x, scale):
  message = f"{name} of shape {re.escape(str(scale))} for an array of shape {re.escape(str(x))}"
  with pytest.raises(ValueError, match=message):
    function(jnp.zeros(x), jnp.ones(scale))
  with pytest.raises(ValueError, match=message):  # and while a gradient is traced
    jax.eval_shape(
      jax.grad(lambda x, s: jnp.sum(jax.tree.leaves(function(x, s))[0]), (0, 1)),
      jnp.zeros(x),
      jnp.ones(scale),
    )


@each_with_parameters
@pytest.mark.parametrize("shape", [(8,), (1, 4, 1)])
def test_a_shape_that_broadcasts_is_taken(function, name, shape):
  del name
  for leaf in jax.tree.leaves(function(jnp.ones((2, 4, 8)), jnp.full(shape, 0.5)))[:1]:
    assert leaf.shape == (2, 4, 8)


@pytest.mark.parametrize("bad", [None, "0.1", 1j, True, [0.1, [0.2]]])
def test_a_parameter_that_is_no_number(bad):
  with pytest.raises(TypeError, match="lsq takes a number or an array of numbers as its step"):
    Q.lsq(samples(), bad, 4)


def test_a_parameter_may_be_a_list():
  steps = [0.1 * i for i in range(1, 9)]
  np.testing.assert_array_equal(Q.lsq(samples(), steps, 4), Q.lsq(samples(), np.float32(steps), 4))


def test_python_floats_and_numpy_arrays_are_arrays_too():
  for x in (0.75, np.float32(0.75), np.full((2,), 0.75, np.float32)):
    for value in (
      Q.ste_round(x),
      Q.ste_clip(x, 0, 1),
      Q.ste_sign(x),
      Q.wrpn_weights(x, 2),
      Q.twn(x),
      Q.ttq(x, 1.0, 1.0),
      Q.pact(x, 1.0, 1),
      Q.lsq(x, 1.0, 2),
    ):
      assert isinstance(value, jax.Array) and value.shape == np.shape(x)


@each_bits
@pytest.mark.parametrize("bits", [0, 9, -1, 2.5, "4", True, None, np.float32(4), 2**40])
def test_bad_bits(function, low, bits):
  with pytest.raises(ValueError, match=f"from {low} to 8"):
    function(np.float32([0.5]), bits)


@each_bits
def test_one_bit_is_refused_where_the_sign_takes_it(function, low):
  if low == 2:
    with pytest.raises(ValueError, match="from 2 to 8"):
      function(np.float32([0.5]), 1)
  else:
    function(np.float32([0.5]), 1)


@each_bits
def test_traced_bits(function, low):
  with pytest.raises(ValueError, match=f"from {low} to 8"):
    jax.jit(function)(np.float32([0.5]), 4)


def test_bits_of_numpy_are_whole_numbers_too():
  np.testing.assert_array_equal(
    Q.wrpn_weights(samples(), np.int64(4)), Q.wrpn_weights(samples(), 4)
  )


@each_case()
@pytest.mark.parametrize("dtype", [np.int8, np.int32, bool, np.complex64], ids=lambda d: d.__name__)
def test_only_float_arrays(case, dtype):
  with pytest.raises(TypeError, match="float arrays"):
    case.quantize(np.ones((3, 5, 8), dtype), **case.params)


@pytest.mark.parametrize(
  "function",
  [
    Q.ste_round,
    functools.partial(Q.ste_clip, low=0, high=1),
    functools.partial(Q.lsq_init, bits=4),
    functools.partial(Q.encode, Q.twn),
    functools.partial(Q.encode_ste, Q.twn),
  ],
)
def test_only_float_arrays_elsewhere(function):
  with pytest.raises(TypeError, match="float arrays"):
    function(np.arange(3))


@pytest.mark.parametrize("axis", [3, -4, (0, 3)])
def test_twn_axis_out_of_range(axis):
  with pytest.raises(ValueError, match="3 dimensions"):
    Q.twn(samples(), axis=axis)


@pytest.mark.parametrize(
  "axis",
  [
    1.0,
    "x",
    "1",
    "",
    True,
    np.True_,
    (0, None),
    (1.0,),
    [True, 2],
    np.float32(2),
    np.array([0.5]),
    np.array(True),
    [[2]],
    {2: 1.5}.values(),
  ],
)
def test_twn_axis_of_another_type(axis):
  with pytest.raises(TypeError, match="twn takes a whole number or a tuple of them as its axis"):
    Q.twn(samples(), axis=axis)


def test_twn_axis_that_is_traced():
  with pytest.raises(TypeError, match="whole number"):
    jax.jit(lambda axis: Q.twn(samples(), axis=axis))(2)


def test_twn_of_no_axes_keeps_none():
  np.testing.assert_array_equal(Q.twn(samples(), axis=()), Q.twn(samples()))
  assert Q.encode(Q.twn, samples(), axis=()).scale.shape == (1, 1, 1)


@pytest.mark.parametrize(
  "axis",
  [
    2,
    (-1,),
    [2],
    (2, -1),
    np.int64(2),
    np.uint8(2),
    np.array(2),
    np.array([2]),
    jnp.int32(2),
    range(2, 3),
    {2},
  ],
)
def test_twn_axis_spellings(axis):
  np.testing.assert_array_equal(Q.twn(samples(), axis=axis), Q.twn(samples(), axis=-1))


def test_twn_axes_that_keep_all_reproduce_the_weights():
  np.testing.assert_array_equal(Q.twn(samples(), axis=(0, 1, 2)), samples())
