"""Ternary weights: TWN (one magnitude, computed) and TTQ (two magnitudes, trained)."""

import functools

import jax.numpy as jnp

from apprentice_jax.quantizers.checks import check_axes, float_array, parameters
from apprentice_jax.quantizers.rule import float32, largest, make_rule, mean, positive, quantizer


@functools.cache
def _twn_rule(reduced, keepdims):
  def code(w, threshold):
    magnitude = jnp.abs(w)
    delta = threshold * mean(magnitude, reduced, keepdims)
    # "Not below" rather than "above": a NaN passes and makes its group's scale NaN.
    kept = ~(magnitude <= delta)
    count = jnp.sum(kept, reduced, dtype=jnp.float32, keepdims=keepdims)
    total = jnp.sum(jnp.where(kept, magnitude, 0), reduced, keepdims=keepdims)
    return jnp.where(kept, jnp.sign(w), 0), total / jnp.maximum(count, 1)

  return make_rule(code, lambda g, w, threshold: (g, None), -1, 1)


@quantizer
def twn(w, threshold=0.7, axis=None):
  """Ternary weight networks: 0 below a threshold, one shared magnitude above it.

  With ``delta = threshold * mean|w|``: ``w_q = alpha * sign(w)`` where ``|w| > delta``, else 0.
  ``alpha`` is the mean of ``|w|`` over ``|w| > delta``. Li, Zhang & Liu, "Ternary Weight Networks",
  2016, https://arxiv.org/abs/1605.04711, eq. 5-6.

  Gradient: the identity, ``dL/dw = dL/dw_q``; the threshold is a constant.

  >>> w = jnp.array([1.0, 0.1, -2.0])
  >>> twn(w)
  Array([ 1.5,  0. , -1.5], dtype=float32)
  >>> jax.grad(lambda w: (twn(w) * jnp.array([1.0, 2.0, 3.0])).sum())(w)
  Array([1., 2., 3.], dtype=float32)

  Args:
    w: float array of any shape.
    threshold: the factor of the mean; 0.7 is the paper's optimum for normal weights.
    axis: the axis or axes that keep a threshold and a magnitude of their own (-1: one per output
      channel of a Flax kernel); None: one of each for the whole tensor.

  Returns:
    An array of w's shape and dtype. A NaN makes all of its group NaN.

  Raises:
    ValueError: axis is not an axis of w, or threshold's shape does not broadcast to w's.
    TypeError: w is not of a float dtype, or axis is not of whole numbers.
  """
  w = float_array(w)
  params = parameters("twn", w, threshold=threshold)
  if axis is None:
    return _twn_rule(None, False), w, params
  # With dimensions kept, so that the scale broadcasts against the levels.
  kept = check_axes("twn", axis, w.ndim)
  return _twn_rule(tuple(a for a in range(w.ndim) if a not in kept), True), w, params


@functools.cache
def _ttq_rule():
  def code(w, above, below, threshold):
    return ternary_levels(w, threshold), (positive(above), positive(below))

  # Without it the backward pass would look for the maximum again.
  def kept(w, above, below, threshold):
    levels = ternary_levels(float32(w), threshold)
    return (levels > 0).astype(jnp.int8) - (levels < 0).astype(jnp.int8)

  def pullback(g, levels, above, below, threshold):
    g_w = g * jnp.where(levels > 0, positive(above), jnp.where(levels < 0, positive(below), 1.0))
    return g_w, jnp.where(levels > 0, g, 0), jnp.where(levels < 0, -g, 0), None

  return make_rule(code, pullback, -1, 1, kept)


def ternary_levels(w, threshold):
  """-1, 0 or 1 for each weight against ``threshold * max|w|``; NaN throughout if w has one."""
  delta = threshold * largest(jnp.abs(w))
  levels = jnp.where(jnp.abs(w) > delta, jnp.sign(w), 0)
  return jnp.where(jnp.isnan(delta), delta, levels)


@quantizer
def ttq(w, positive, negative, threshold=0.05):
  """Trained ternary quantization: 0 below a threshold, a trained magnitude on either side.

  ``delta = threshold * max|w|``; ``w_q = positive`` where ``w > delta``, ``-negative`` where
  ``w < -delta``, else 0. Zhu et al., "Trained Ternary Quantization", 2016,
  https://arxiv.org/abs/1612.01064, eq. 6-9. A magnitude below 1e-12 acts as 1e-12, from where
  training can raise it again.

  Gradient, with ``g = dL/dw_q``: ``dL/dw`` is ``positive * g`` above the threshold, ``g`` between,
  and ``negative * g`` below. ``dL/dpositive`` is the sum of g over ``w > delta``. ``dL/dnegative``
  is minus the sum over ``w < -delta``. The threshold is a constant.

  >>> w = jnp.array([1.0, 0.01, -2.0])
  >>> ttq(w, 0.5, 0.25)
  Array([ 0.5 ,  0.  , -0.25], dtype=float32)
  >>> g_w, g_p, g_n = jax.grad(lambda w, p, n: ttq(w, p, n).sum(), (0, 1, 2))(w, 0.5, 0.25)
  >>> g_w, float(g_p), float(g_n)
  (Array([0.5 , 1.  , 0.25], dtype=float32), 1.0, -1.0)

  Args:
    w: float array of any shape.
    positive: the magnitude above the threshold; a float, or an array that broadcasts to w.
    negative: the magnitude below minus the threshold, likewise; positive for negative weights.
    threshold: the factor of the largest magnitude.

  Returns:
    An array of w's shape and dtype. A NaN makes all of it NaN.

  Raises:
    TypeError: w is not of a float dtype.
    ValueError: the shape of a magnitude or of threshold does not broadcast to w's.
  """
  w = float_array(w)
  params = parameters("ttq", w, positive=positive, negative=negative, threshold=threshold)
  return _ttq_rule(), w, params
