"""Fixed uniform grids: WRPN and DoReFa, for weights and activations."""

import functools

import jax.numpy as jnp
import numpy as np

from apprentice_jax.quantizers.checks import check_bits, float_array, parameters
from apprentice_jax.quantizers.rule import (
  float32,
  largest,
  make_rule,
  mean,
  nonzero,
  positive,
  quantizer,
)

SQUARED = 1e-15  # float32 holds the squares of larger numbers, to all digits


@functools.cache
def _wrpn_weights_rule(bits):
  n = 2 ** (bits - 1) - 1

  def code(w, scale):
    scale = positive(scale)
    levels = jnp.round(n * jnp.clip(w / scale, -1, 1))
    # Not / n, which jit computes otherwise than eager execution.
    return levels, scale * np.float32(1 / n)

  def pullback(g, w, scale):
    u = w / positive(scale)
    inside = jnp.abs(u) <= 1
    g_scale = g * jnp.where(inside, jnp.round(n * u) / n - u, jnp.sign(u))
    return jnp.where(inside, g, 0), g_scale

  return make_rule(code, pullback, -n, n)


@quantizer
def wrpn_weights(w, bits, scale=1.0):
  """WRPN weights: the sign and ``bits - 1`` bits of magnitude, uniform on [-scale, scale].

  With ``n = 2**(bits-1) - 1``: ``w_q = scale * round(n * clip(w / scale, -1, 1)) / n``. There are
  ``2**bits - 1`` levels: -1, 0 and 1 at 2 bits. Mishra et al., "WRPN: Wide Reduced-Precision
  Networks", 2017, https://arxiv.org/abs/1709.01134, eq. 1, has a scale of 1. On [-1, 1] most
  weights of the usual initialisation round to zero, so the scale is an argument here.

  Gradient: ``dL/dw = dL/dw_q`` where ``|w| <= scale``, else 0. The rounding is passed straight
  through for the scale as well: ``dw_q/dscale = w_q/scale - w/scale`` inside, ``sign(w)`` outside.
  A scale computed from w, as ``max|w|``, is usually wrapped in ``jax.lax.stop_gradient``.

  >>> wrpn_weights(jnp.array([-2.0, 0.4, 0.6]), bits=2)
  Array([-1.,  0.,  1.], dtype=float32)
  >>> jax.grad(lambda w: wrpn_weights(w, bits=2).sum())(jnp.array([-2.0, 0.4, 0.6]))
  Array([0., 1., 1.], dtype=float32)

  Args:
    w: float array of any shape.
    bits: 2 to 8, a Python integer.
    scale: the largest magnitude of the grid, positive (below 1e-12 it acts as 1e-12, from where
      training can raise it again); a float or an array that broadcasts to w's shape, one scale per
      output channel for instance.

  Returns:
    An array of w's shape and dtype. NaN stays NaN.

  Raises:
    ValueError: bits is outside 2 to 8, or scale's shape does not broadcast to w's.
    TypeError: w is not of a float dtype.
  """
  rule, w = _wrpn_weights_rule(check_bits(bits, 2, 8, "wrpn_weights")), float_array(w)
  return rule, w, parameters("wrpn_weights", w, scale=scale)


@functools.cache
def _unit_interval_rule(bits):
  n = 2**bits - 1

  def code(x):
    return jnp.round(n * jnp.clip(x, 0, 1)), jnp.float32(1 / n)

  def pullback(g, x):
    return (jnp.where((x >= 0) & (x <= 1), g, 0),)

  return make_rule(code, pullback, 0, n)


@quantizer
def wrpn_activations(x, bits):
  """WRPN activations: ``2**bits`` uniform levels on [0, 1].

  With ``n = 2**bits - 1``: ``x_q = round(n * clip(x, 0, 1)) / n``. Mishra et al., 2017,
  https://arxiv.org/abs/1709.01134, eq. 2. The clip at 0 is a ReLU.

  Gradient: ``dL/dx = dL/dx_q`` where ``0 <= x <= 1``, else 0.

  >>> jax.vmap(jax.grad(lambda x: wrpn_activations(x, 8)))(jnp.array([-0.5, 0.5, 1.5]))
  Array([0., 1., 0.], dtype=float32)

  Args:
    x: float array of any shape.
    bits: 1 to 8, a Python integer.

  Returns:
    An array of x's shape and dtype. NaN stays NaN.

  Raises:
    ValueError: bits is outside 1 to 8.
    TypeError: x is not of a float dtype.
  """
  return _unit_interval_rule(check_bits(bits, 1, 8, "wrpn_activations")), float_array(x), ()


@functools.cache
def _dorefa_weights_rule(bits):
  n = 2**bits - 1

  def top_of(w):
    return nonzero(largest(jnp.abs(jnp.tanh(w))))

  def code(w):
    # 2 * round(n * x) - n with x = tanh(w) / (2 * top) + 1/2: the odd whole numbers from -n to n.
    levels = 2 * jnp.round(n * (jnp.tanh(w) / top_of(w) / 2 + 0.5)) - n
    return levels, jnp.float32(1 / n)

  def pullback(g, kept):
    # Of t / max|t|, t = tanh(w); those that share the maximum share its gradient.
    w, top, largest_w = kept
    t = jnp.tanh(w)
    # By w, since another program's tanh may differ from the maximum's in its last digit.
    at_top = jnp.abs(w) == largest_w
    # What has no square is divided by itself first.
    unit = jnp.where(top < SQUARED, top, 1)
    count = jnp.maximum(jnp.sum(at_top, dtype=jnp.float32), 1)
    shared = jnp.sum(g * (t / unit)) / ((top / unit) * top * count)
    return ((g / top - jnp.where(at_top, jnp.sign(t) * shared, 0)) * (1 - jnp.square(t)),)

  def kept(w):
    w = float32(w)
    return w, top_of(w), largest(jnp.abs(w))

  return make_rule(code, pullback, -n, n, kept)


@functools.cache
def _dorefa_binary_rule():
  def code(w):
    sign = jnp.where(jnp.isnan(w), w, jnp.where(w >= 0, 1.0, -1.0))
    return sign, mean(jnp.abs(w))

  return make_rule(code, lambda g, w: (g,), -1, 1)


@quantizer
def dorefa_weights(w, bits):
  """DoReFa weights: ``2**bits`` uniform levels on [-1, 1] after a tanh; no level is zero.

  With ``n = 2**bits - 1`` and ``x = tanh(w) / (2 max|tanh(w)|) + 1/2``:
  ``w_q = 2 round(n x) / n - 1``; 1 bit is ``sign(w) * mean|w|``, +1 at 0. Zhou et al.,
  "DoReFa-Net", 2016, https://arxiv.org/abs/1606.06160, eq. 7-9.

  Gradient: that of ``tanh(w) / max|tanh(w)|``, with the maximum's, as in the authors' code. For 1
  bit it is the identity, ``dL/dw = dL/dw_q``.

  >>> dorefa_weights(jnp.array([-1.0, 0.1, 1.0]), bits=2)
  Array([-1.        ,  0.33333334,  1.        ], dtype=float32)
  >>> jax.grad(lambda w: dorefa_weights(w, bits=1).sum())(jnp.array([-3.0, 0.1]))
  Array([1., 1.], dtype=float32)

  Args:
    w: float array of any shape.
    bits: 1 to 8, a Python integer.

  Returns:
    An array of w's shape and dtype. A NaN anywhere makes all of it NaN (through the max or mean).

  Raises:
    ValueError: bits is outside 1 to 8.
    TypeError: w is not of a float dtype.
  """
  bits = check_bits(bits, 1, 8, "dorefa_weights")
  rule = _dorefa_binary_rule() if bits == 1 else _dorefa_weights_rule(bits)
  return rule, float_array(w), ()


@quantizer
def dorefa_activations(x, bits):
  """DoReFa activations: ``2**bits`` uniform levels on [0, 1]; the same function as WRPN's.

  With ``n = 2**bits - 1``: ``x_q = round(n * clip(x, 0, 1)) / n``. Zhou et al., 2016,
  https://arxiv.org/abs/1606.06160, eq. 5 and 11.

  Gradient: ``dL/dx = dL/dx_q`` where ``0 <= x <= 1``, else 0.

  >>> jax.vmap(jax.grad(lambda x: dorefa_activations(x, 2)))(jnp.array([-0.5, 0.5, 1.5]))
  Array([0., 1., 0.], dtype=float32)

  Args:
    x: float array of any shape.
    bits: 1 to 8, a Python integer.

  Returns:
    An array of x's shape and dtype. NaN stays NaN.

  Raises:
    ValueError: bits is outside 1 to 8.
    TypeError: x is not of a float dtype.
  """
  return _unit_interval_rule(check_bits(bits, 1, 8, "dorefa_activations")), float_array(x), ()
