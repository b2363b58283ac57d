"""Cases small enough to work out on paper, with every expected number written out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax import quantizers as Q

f32 = functools.partial(np.asarray, dtype=np.float32)
THIRD = 1 / 3


@pytest.mark.parametrize(
  "quantize,x,expected",
  [
    # Ties go to the even neighbour.
    (Q.ste_round, [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.6], [-2, -2, 0, 0, 2, 2, 3]),
    (lambda x: Q.ste_clip(x, -1, 0.5), [-3.0, -1.0, 0.2, 0.5, 0.6], [-1, -1, 0.2, 0.5, 0.5]),
    (Q.ste_sign, [-2.0, -0.1, 0.0, 0.1, 3.0], [-1, -1, 1, 1, 1]),
    # 2 bits: -1, 0, 1; 0.5 is a tie. 3 bits: thirds; 3 * 0.5 = 1.5 is one.
    (lambda w: Q.wrpn_weights(w, 2), [-9.0, -0.5, 0.5, 0.51, 9.0], [-1, 0, 0, 1, 1]),
    (lambda w: Q.wrpn_weights(w, 3), [-1.0, -0.5, 0.1, 0.4, 0.9], [-1, -2 * THIRD, 0, THIRD, 1]),
    (lambda w: Q.wrpn_weights(w, 2, 4.0), [-5.0, -2.5, 1.0, 3.0], [-4, -4, 0, 4]),
    (
      lambda w: Q.wrpn_weights(w, 2, jnp.array([1.0, 4.0])),
      [[0.6, 0.6], [-3.0, -3.0]],
      [[1, 0], [-1, -4]],
    ),
    # A scale at zero or below acts as 1e-12, here and in the rows of ttq and lsq.
    (lambda w: Q.wrpn_weights(w, 2, 0.0), [-5.0, 0.0, 3.0], [-1e-12, 0, 1e-12]),
    (lambda w: Q.wrpn_weights(w, 2, -1.0), [-5.0, 0.0, 3.0], [-1e-12, 0, 1e-12]),
    # 1 bit: 0 and 1; 2 bits: thirds; 255 * 0.3 = 76.5 is a tie, of which float32's 0.3 is above.
    (lambda x: Q.wrpn_activations(x, 1), [-1.0, 0.4, 0.5, 0.6, 7.0], [0, 0, 0, 1, 1]),
    (lambda x: Q.wrpn_activations(x, 2), [-1.0, 0.3, 0.5, 0.9, 7.0], [0, THIRD, 2 * THIRD, 1, 1]),
    (lambda x: Q.dorefa_activations(x, 2), [-1.0, 0.3, 0.5, 0.9], [0, THIRD, 2 * THIRD, 1]),
    # mean|w| = 0.5, delta = 0.35; the mean of 0.4, 0.6 and 0.8 is 0.6.
    (Q.twn, [0.2, -0.4, 0.6, -0.8], [0, -0.6, 0.6, -0.6]),
    # A weight exactly at the threshold, here the mean, is zero.
    (lambda w: Q.twn(w, threshold=1.0), [1.0, -2.0, 3.0], [0, 0, 3]),
    # By column: means 2 and 1, deltas 1.4 and 0.7; by row: means 2 and 1 again.
    (lambda w: Q.twn(w, axis=-1), [[1.0, 0.5], [-3.0, 1.5]], [[0, 0], [-3, 1.5]]),
    (lambda w: Q.twn(w, axis=0), [[1.0, 3.0], [-0.5, 1.5]], [[0, 3], [0, 1.5]]),
    (lambda w: Q.twn(w, axis=(0, 1)), [[1.0, -3.0]], [[1, -3]]),
    # max|w| = 4, delta = 1: a weight at the threshold is zero.
    (
      lambda w: Q.ttq(w, 0.5, 0.25, 0.25),
      [-4.0, -1.1, -1.0, 0.0, 1.0, 1.1],
      [-0.25, -0.25, 0, 0, 0, 0.5],
    ),
    (lambda w: Q.ttq(w, -0.5, 0.25), [-1.0, 0.0, 1.0], [-0.25, 0, 1e-12]),
    (lambda w: Q.ttq(w, 0.5, -0.25), [-1.0, 0.0, 1.0], [-1e-12, 0, 0.5]),
    # 1 bit: mean|w| = 1.5. 2 bits: tanh w / max = 1, -1, and 0.1305 -> x = 0.565 -> 2/3 -> 1/3.
    (lambda w: Q.dorefa_weights(w, 1), [-1.0, 0.0, 3.5], [-1.5, 1.5, 1.5]),
    (lambda w: Q.dorefa_weights(w, 2), [1.0, -1.0, 0.1], [1, -1, THIRD]),
    # 15 x = 7.5 at zero, a tie that goes to 8: zero becomes 1/15.
    (lambda w: Q.dorefa_weights(w, 4), [0.0, -2.0], [1 / 15, -1]),
    # Steps of 2.
    (lambda x: Q.pact(x, 6.0, 2), [-1.0, 0.9, 1.0, 1.1, 3.0, 9.0], [0, 0, 0, 2, 4, 6]),
    (lambda x: Q.pact(x, 0.0, 2), [-1.0, 0.0, 1.0], [0, 0, 1e-6]),
    (lambda x: Q.pact(x, -1.0, 2), [-1.0, 0.0, 1.0], [0, 0, 1e-6]),
    # 2 bits, steps of a half: levels -2 to 1; symmetric -1 to 1; unsigned 0 to 3.
    (lambda x: Q.lsq(x, 0.5, 2), [-9.0, -0.75, -0.25, 0.2, 0.3, 9.0], [-1, -1, 0, 0, 0.5, 0.5]),
    (lambda x: Q.lsq(x, 0.5, 2, symmetric=True), [-9.0, -0.2, 9.0], [-0.5, 0, 0.5]),
    (lambda x: Q.lsq(x, 0.5, 2, signed=False), [-9.0, 0.25, 0.8, 9.0], [0, 0, 1, 1.5]),
    (lambda x: Q.lsq(x, 0.0, 2), [-9.0, 0.0, 9.0], [-2e-12, 0, 1e-12]),
    (lambda x: Q.lsq(x, -0.5, 2, signed=False), [-9.0, 0.0, 9.0], [0, 0, 3e-12]),
  ],
)
def test_values(quantize, x, expected):
  np.testing.assert_allclose(jax.jit(quantize)(f32(x)), f32(expected), rtol=3e-7, atol=0)


def test_float32_ties_of_the_8_bit_grid():
  # 255 * 0.5 = 127.5 exactly: 128, the even one. One float below: 127.
  x = f32([0.5, np.nextafter(np.float32(0.5), np.float32(0))])
  np.testing.assert_array_equal(Q.encode(Q.wrpn_activations, x, 8).levels, [128, 127])


@pytest.mark.parametrize(
  "bits,options,expected",
  [
    (2, {}, (2, 1)),
    (2, dict(symmetric=True), (1, 1)),
    (2, dict(signed=False), (0, 3)),
    (1, dict(signed=False), (0, 1)),
    (8, {}, (128, 127)),
    (8, dict(signed=False), (0, 255)),
  ],
)
def test_lsq_range(bits, options, expected):
  assert Q.lsq_range(bits, **options) == expected


def test_lsq_init():
  x = f32([[1.0, -2.0], [3.0, -6.0]])  # mean|x| = 3
  assert float(Q.lsq_init(x, 2)) == 6.0
  assert float(Q.lsq_init(x, 2, symmetric=True)) == 6.0
  assert float(Q.lsq_init(x, 2, signed=False)) == pytest.approx(6 / 3**0.5)
  assert float(Q.lsq_init(x, 8)) == pytest.approx(6 / 127**0.5)


def test_wrpn_weights_have_two_to_the_bits_minus_one_levels():
  w = np.linspace(-2, 2, 4001, dtype=np.float32)
  for bits in range(2, 9):
    values = np.unique(Q.wrpn_weights(w, bits))
    assert len(values) == 2**bits - 1 and values.min() == -1 and values.max() == 1
