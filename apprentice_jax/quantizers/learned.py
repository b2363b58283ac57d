"""Uniform grids with a learned size: PACT (the clip) and LSQ (the step)."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from apprentice_jax.quantizers.checks import check_bits, float_array, parameters
from apprentice_jax.quantizers.rule import float32, make_rule, mean, nonzero, positive, quantizer

SMALLEST_CLIP = 1e-6


@functools.cache
def _pact_rule(bits):
  n = 2**bits - 1

  def code(x, clip):
    clip = jnp.maximum(clip, SMALLEST_CLIP)
    # Not clip / n, which jit computes otherwise than eager execution.
    return jnp.round(n * jnp.clip(x / clip, 0, 1)), clip * np.float32(1 / n)

  def kept(x, clip):
    # TPU's compiler makes the faster backward pass from x itself in bfloat16, and in float32 from
    # the side of the grid's range that x is on.
    if x.dtype.itemsize == 2:
      return x
    x, clip = float32(x), jnp.maximum(clip, SMALLEST_CLIP)
    return jnp.where(x >= clip, 1, jnp.where(x >= 0, 0, -1)).astype(jnp.int8)

  def pullback(g, kept, clip):
    if kept.dtype == jnp.int8:
      inside, above = kept == 0, kept > 0
    else:
      clip = jnp.maximum(clip, SMALLEST_CLIP)
      inside, above = (kept >= 0) & (kept < clip), kept >= clip
    return jnp.where(inside, g, 0), jnp.where(above, g, 0)

  return make_rule(code, pullback, 0, n, kept)


@quantizer
def pact(x, clip, bits):
  """PACT activations: ``2**bits`` uniform levels on [0, clip], with a trained clip.

  With ``n = 2**bits - 1``: ``x_q = round(n * min(max(x, 0), clip) / clip) * clip / n``. Choi et
  al., "PACT: Parameterized Clipping Activation", 2018, https://arxiv.org/abs/1805.06085, eq. 1-3.
  The clip at 0 is a ReLU. A clip below 1e-6 acts as 1e-6, from where training can raise it again.

  Gradient, with ``g = dL/dx_q``: ``dL/dx = g`` where ``0 <= x < clip``, else 0; ``dL/dclip`` is the
  sum of g over ``x >= clip``.

  >>> x = jnp.array([-1.0, 1.0, 2.0, 7.0])
  >>> jax.grad(lambda x, clip: pact(x, clip, 8).sum(), (0, 1))(x, 6.0)[0]
  Array([0., 1., 1., 0.], dtype=float32)
  >>> float(jax.grad(lambda x, clip: pact(x, clip, 8).sum(), 1)(x, 6.0))
  1.0

  Args:
    x: float array of any shape.
    clip: the largest value; a float, or an array that broadcasts to x's shape.
    bits: 1 to 8, a Python integer.

  Returns:
    An array of x's shape and dtype. NaN stays NaN.

  Raises:
    ValueError: bits is outside 1 to 8, or clip's shape does not broadcast to x's.
    TypeError: x is not of a float dtype.
  """
  rule, x = _pact_rule(check_bits(bits, 1, 8, "pact")), float_array(x)
  return rule, x, parameters("pact", x, clip=clip)


def lsq_range(bits, signed=True, symmetric=False) -> tuple[int, int]:
  """Returns (Q_N, Q_P): the levels of `lsq` run from -Q_N to Q_P.

  A signed grid has ``2**(bits-1)`` and ``2**(bits-1) - 1``. A symmetric one has ``2**(bits-1) - 1``
  twice, so that 2 bits are ternary. An unsigned one has 0 and ``2**bits - 1``.

  Raises:
    ValueError: bits is outside 2 to 8 (signed) or 1 to 8 (unsigned).
  """
  if not signed:
    return 0, 2 ** check_bits(bits, 1, 8, "lsq (unsigned)") - 1
  top = 2 ** (check_bits(bits, 2, 8, "lsq (signed)") - 1)
  return (top - 1 if symmetric else top), top - 1


@functools.cache
def _lsq_rule(q_n, q_p):
  # On a symmetric grid a step and its negative are the same grid, and training may pass through 0.
  # On another grid a negative step would turn the range around.
  either_sign = q_n == q_p
  divisor = nonzero if either_sign else positive

  def code(v, step, grad_scale):
    scale = step if either_sign else positive(step)
    return jnp.round(jnp.clip(v / divisor(step), -q_n, q_p)), scale

  def pullback(g, v, step, grad_scale):
    u = v / divisor(step)
    inside = (u > -q_n) & (u < q_p)
    d_step = jnp.where(inside, jnp.round(u) - u, jnp.clip(u, -q_n, q_p))
    return jnp.where(inside, g, 0), g * d_step * grad_scale, None

  return make_rule(code, pullback, -q_n, q_p)


@quantizer
def lsq(x, step, bits, signed=True, symmetric=False, grad_scale=1.0):
  """Learned step size quantization: whole multiples of a trained step, from -Q_N to Q_P of them.

  ``x_q = round(clip(x / step, -Q_N, Q_P)) * step``, with Q_N and Q_P from `lsq_range`. Esser et
  al., "Learned Step Size Quantization", 2019, https://arxiv.org/abs/1902.08153, eq. 1-5.

  Gradient, with ``g = dL/dx_q``: ``dL/dx = g`` where ``-Q_N < x/step < Q_P``, else 0. In that range
  ``dx_q/dstep = round(x/step) - x/step``; outside it is -Q_N or Q_P. ``grad_scale`` multiplies it.

  >>> x = jnp.array([-0.3, 0.2, 9.0])
  >>> lsq(x, 0.5, bits=2)
  Array([-0.5,  0. ,  0.5], dtype=float32)
  >>> g_x, g_step = jax.grad(lambda x, s: lsq(x, s, bits=2).sum(), (0, 1))(x, 0.5)
  >>> g_x, round(float(g_step), 3)  # (-1 + 0.6) + (0 - 0.4) + 1
  (Array([1., 1., 0.], dtype=float32), 0.2)

  Args:
    x: float array of any shape.
    step: the step, positive (below 1e-12 it acts as 1e-12, from where training can raise it again;
      on a symmetric grid, where its sign changes nothing, it may be negative, and 0 gives zeros); a
      float, or an array that broadcasts to x's shape.
    bits: 2 to 8 signed, 1 to 8 unsigned, a Python integer.
    signed: whether levels below zero exist.
    symmetric: (signed only) leave out the lowest level, so that 2 bits are ternary.
    grad_scale: factor of the step's gradient; the paper's is ``1 / sqrt(N * Q_P)`` with N the
      number of elements that share the step, for activations features and not batch. A constant.

  Returns:
    An array of x's shape and dtype. NaN stays NaN.

  Raises:
    ValueError: bits is out of range, or step's shape does not broadcast to x's.
    TypeError: x is not of a float dtype.
  """
  rule, x = _lsq_rule(*lsq_range(bits, signed, symmetric)), float_array(x)
  return rule, x, parameters("lsq", x, step=step, grad_scale=grad_scale)


def lsq_init(x, bits, signed=True, symmetric=False) -> jax.Array:
  """The step to start `lsq` from: ``2 * mean|x| / sqrt(Q_P)`` (Esser et al., 2019, section 2.1).

  >>> float(lsq_init(jnp.array([-1.0, 1.0]), bits=2))
  2.0

  Args:
    x: float array of any shape: the weights, or a first batch of activations.
    bits, signed, symmetric: as for `lsq`.

  Returns:
    A float32 scalar; 1 for an all-zero or empty x, which any positive step represents exactly.

  Raises:
    ValueError: bits is out of range.
    TypeError: x is not of a float dtype.
  """
  _, q_p = lsq_range(bits, signed, symmetric)
  return nonzero(2 * mean(jnp.abs(float32(float_array(x)))) / math.sqrt(q_p))
