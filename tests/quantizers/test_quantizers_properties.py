"""Properties that hold for every array, and the smallest counterexample where one does not."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from quantizers_cases import CASE, each_case, float32, ulps

from apprentice_jax import quantizers as Q

SIZE = 8  # one shape, so that each quantizer compiles once; divides into the channels' parameters
_settings = hypothesis.settings(max_examples=30, deadline=None, derandomize=True, database=None)
# Values that hit clips and ties as well as any. Subnormals are flushed to zero by XLA on a CPU.
_element = (
  st.floats(-100, 100, width=32, allow_subnormal=False)
  | st.floats(-2, 2, width=16, allow_subnormal=False)
  | st.sampled_from([0.0, 0.5, -0.5, 1.0, -1.0, 1.5, -1.5])
)
arrays = hypothesis.given(hnp.arrays(np.float32, (SIZE,), elements=_element))
ELEMENTWISE = (
  "ste_sign",
  "wrpn_weights_2",
  "wrpn_weights_4_scale",
  "wrpn_activations_8",
  "dorefa_activations_2",
  "pact_8",
  "lsq_4",
  "lsq_8_unsigned",
)
RANK_ONE = (*ELEMENTWISE, "twn", "ttq", "dorefa_weights_1", "dorefa_weights_2", "dorefa_weights_8")


@functools.cache
def _compiled(name):
  case = CASE[name]

  @jax.jit
  def run(x):
    encoded = Q.encode(case.quantize, x, **case.params)
    return case.quantize(x, **case.params), encoded.levels

  return run


def _value(case, x):
  return np.asarray(_compiled(case.name)(x)[0])


@each_case(*RANK_ONE)
@_settings
@arrays
def test_on_the_grid(case, x):
  value, levels = map(np.asarray, _compiled(case.name)(x))
  rule = case.quantize.func.bind(x, **case.static, **case.params)[0]
  assert rule.low <= levels.min() and levels.max() <= rule.high
  if case.function == "dorefa_weights":
    assert np.all(levels % 2)  # odd numbers only: no level is zero
  assert len(np.unique(value)) == len(np.unique(levels)) or not value.any()
  if case.function in ("wrpn_activations", "dorefa_activations", "pact"):
    assert value.min() >= 0


@each_case(*RANK_ONE)
@_settings
@arrays
def test_monotone(case, x):
  assert np.all(np.diff(_value(case, np.sort(x))) >= 0)


@each_case(*ELEMENTWISE, "twn", "dorefa_weights_1", "dorefa_weights_2")
@_settings
@arrays
def test_idempotent(case, x):
  hypothesis.assume(case.function != "dorefa_weights" or x.any())
  once = _value(case, x)
  # The scale of twn and 1-bit dorefa is a mean of equal numbers, which may round.
  assert ulps(_value(case, once), once).max() <= (
    2 if case.name in ("twn", "dorefa_weights_1") else 0
  )


@each_case("wrpn_weights_2", "wrpn_weights_4_scale", "twn")
@_settings
@arrays
def test_odd(case, x):
  np.testing.assert_array_equal(_value(case, -x), -_value(case, x))


@_settings
@arrays
def test_symmetric_lsq_is_odd(x):
  f = _symmetric_lsq
  np.testing.assert_array_equal(f(-x), -f(x))


_symmetric_lsq = jax.jit(lambda x: Q.lsq(x, 0.3, 4, symmetric=True))
_ttq = jax.jit(Q.ttq)


@_settings
@arrays
def test_ttq_is_odd_when_its_scales_swap(x):
  p, n = np.float32(0.6), np.float32(1.3)
  np.testing.assert_array_equal(_ttq(-x, p, n), -_ttq(x, n, p))


@each_case("twn", "dorefa_weights_1")
@_settings
@arrays
def test_scales_with_its_input(case, x):
  # By a power of two, which is exact.
  np.testing.assert_array_equal(_value(case, 4 * x), 4 * _value(case, x))


@_settings
@arrays
def test_twn_scale_is_the_best_for_its_levels(x):
  # alpha is the least-squares magnitude given the levels: a little more or less is no better.
  value, levels = (np.asarray(v, np.float64) for v in _compiled("twn")(x))
  error = lambda factor: np.sum((x - factor * value) ** 2)
  assert min(error(0.99), error(1.01)) >= error(1) * (1 - 1e-6)
  assert np.all(np.sign(x)[levels != 0] == levels[levels != 0])


@each_case("wrpn_weights_4_scale", "wrpn_activations_8", "pact_8", "lsq_4", "lsq_8_unsigned")
@_settings
@arrays
def test_within_half_a_step_inside_the_grid(case, x):
  rule, _, params = case.quantize.func.bind(x, **case.static, **case.params)
  scale = float(rule.code(x, *params)[1])
  clipped = np.clip(x.astype(np.float64), rule.low * scale, rule.high * scale)
  assert np.abs(_value(case, x) - clipped).max() <= scale / 2 * (1 + 1e-4)


@hypothesis.given(hnp.arrays(np.float32, (SIZE,), elements=_element))
@_settings
def test_channels_are_quantized_apart(x):
  # A channel's values do not depend on the other channels.
  w = np.stack([x, np.linspace(-3, 3, SIZE, dtype=np.float32)], -1)
  both, alone = _twn_channels(w), _twn_channels(np.stack([x, 0 * x], -1))
  np.testing.assert_array_equal(both[:, 0], alone[:, 0])


_twn_channels = jax.jit(functools.partial(Q.twn, axis=-1))


# Where a property does not hold.


def test_sign_and_dorefa_weights_are_not_odd_at_zero():
  assert float(Q.ste_sign(0.0)) == float(Q.ste_sign(-0.0)) == 1
  for bits in (1, 2, 8):
    w = np.float32([0.0, 1.0, -1.0])
    assert Q.dorefa_weights(w, bits)[0] == Q.dorefa_weights(-w, bits)[0] > 0


def test_asymmetric_lsq_is_not_odd():
  assert float(Q.lsq(-9.0, 0.5, 2)) == -1 and float(Q.lsq(9.0, 0.5, 2)) == 0.5


def test_ttq_is_neither_odd_nor_idempotent_with_unequal_scales():
  w = np.float32([1.0, -1.0])
  assert Q.ttq(w, 2.0, 1.0).tolist() == [2, -1] and Q.ttq(-w, 2.0, 1.0).tolist() == [-1, 2]
  # 0.01 is below the threshold that 2 sets.
  once = Q.ttq(w, 2.0, 0.01)
  assert Q.ttq(once, 2.0, 0.01).tolist() == [2, 0] and once[1] < 0


def test_a_negative_ttq_scale_acts_as_the_smallest():
  # As a mirrored one it would not be monotone.
  w = np.float32([0.0, 1.0, -1.0])
  np.testing.assert_array_equal(Q.ttq(w, -0.5, 0.5), np.float32([0, 1e-12, -0.5]))


def test_wide_dorefa_weights_are_not_idempotent():
  # tanh bends the grid: its points do not land on one another.
  w = np.float32([0.5, 1.0])
  once = Q.encode(Q.dorefa_weights, w, 8)
  twice = Q.encode(Q.dorefa_weights, Q.decode(once), 8)
  assert int(once.levels[0]) == 155 and int(twice.levels[0]) != 155


def test_dorefa_weights_of_zeros_are_not_idempotent():
  # Zero goes to the first level, 1/3, which is then the largest magnitude.
  once = Q.dorefa_weights(np.zeros(2, np.float32), 2)
  assert np.allclose(once, 1 / 3) and np.allclose(Q.dorefa_weights(once, 2), 1)


def test_lsq_init_of_a_quantized_tensor_is_another_step():
  x = np.float32([-1.0, 0.2, 0.4, 1.0])
  step = Q.lsq_init(x, 4)
  assert float(Q.lsq_init(Q.lsq(x, step, 4), 4)) != float(step)


def test_bfloat16_values_are_those_of_float32_rounded_once():
  x = jnp.asarray(np.linspace(-2, 2, SIZE), jnp.bfloat16)
  for name in RANK_ONE:
    wide = _compiled(name)(x.astype(jnp.float32))[0]
    np.testing.assert_array_equal(float32(_compiled(name)(x)[0]), float32(wide.astype(x.dtype)))
