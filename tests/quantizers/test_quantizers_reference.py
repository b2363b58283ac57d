"""Every quantizer's forward pass against the NumPy reference, eagerly and under jit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quantizers_reference as reference
from quantizers_cases import Case, each_case, each_dtype, float32, samples, ulps

from apprentice_jax import quantizers as Q

jitted = pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
# Scales that are a mean add up the tensor in some order: a few ulp. The others are one operation.
SCALE_ULPS = {"twn": 4, "dorefa_weights": 4, "lsq_init": 4}
ALL_BITS = [Case("", "dorefa_weights", dict(bits=b), {}) for b in range(1, 9)]
ALL_BITS += [Case("", "wrpn_activations", dict(bits=b), {}) for b in range(1, 9)]
ALL_BITS += [Case("", "wrpn_weights", dict(bits=b), dict(scale=0.9)) for b in range(2, 9)]
ALL_BITS += [Case("", "pact", dict(bits=b), dict(clip=1.1)) for b in range(1, 9)]
ALL_BITS += [
  Case("", "lsq", dict(bits=b, symmetric=s), dict(step=0.11))
  for b in range(2, 9)
  for s in (False, True)
]
ALL_BITS += [Case("", "lsq", dict(bits=b, signed=False), dict(step=0.11)) for b in range(1, 9)]


def _check(case, dtype, transform=lambda f: f):
  x = samples(dtype)

  def run(x, params):
    return case.quantize(x, **params), Q.encode(case.quantize, x, **params)

  value, encoded = transform(run)(x, case.params)
  levels, scale = case.reference(float32(x), **case.params)
  assert value.shape == x.shape and value.dtype == x.dtype
  np.testing.assert_array_equal(encoded.levels, levels)
  allowed = SCALE_ULPS.get(case.function, 1)
  for ours, theirs in zip(jax.tree.leaves(encoded.scale), jax.tree.leaves(scale), strict=True):
    assert ours.dtype == jnp.float32
    assert ulps(ours, theirs).max() <= allowed
  # One ulp of the scale is at most two of the product, which is rounded once more.
  expected = reference.value(levels, scale).astype(value.dtype)
  assert ulps(value, expected).max() <= (2 * allowed + 1 if dtype == jnp.float32 else 1)


@each_case()
@each_dtype
@jitted
def test_levels_scale_and_value(case, dtype, jitted):
  _check(case, dtype, jax.jit if jitted else lambda f: f)


@pytest.mark.parametrize("case", ALL_BITS, ids=lambda c: f"{c.function}-{c.static}")
def test_every_width(case):
  _check(case, jnp.float32)


@pytest.mark.parametrize(
  "bits,signed,symmetric", [(2, True, False), (4, True, True), (8, False, False)]
)
@each_dtype
@jitted
def test_lsq_init(bits, signed, symmetric, dtype, jitted):
  x = samples(dtype)
  init = lambda x: Q.lsq_init(x, bits, signed, symmetric)
  step = (jax.jit(init) if jitted else init)(x)
  assert step.dtype == jnp.float32 and step.shape == ()
  expected = reference.lsq_init(float32(x), bits, signed, symmetric)
  assert ulps(step, expected) <= SCALE_ULPS["lsq_init"]


@each_dtype
@jitted
def test_straight_through_blocks(dtype, jitted):
  transform = jax.jit if jitted else lambda f: f
  x = samples(dtype) * 3  # Brings 1.5 and 4.5, ties to even numbers both.
  low, high = np.linspace(-2, 0, 8, dtype=np.float32), np.float32(1.5)
  rounded, clipped = transform(lambda x: (Q.ste_round(x), Q.ste_clip(x, low, high)))(x)
  assert rounded.dtype == clipped.dtype == x.dtype
  np.testing.assert_array_equal(float32(rounded), np.round(float32(x)))
  bounds = float32(jnp.asarray(low, dtype)), float32(jnp.asarray(high, dtype))
  np.testing.assert_array_equal(float32(clipped), np.clip(float32(x), *bounds))
