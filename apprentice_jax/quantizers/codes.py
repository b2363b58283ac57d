"""Levels and scale instead of values: `encode` for storage, `encode_ste` for training."""

import functools

import jax.numpy as jnp

from apprentice_jax.quantizers.quantized import Quantized
from apprentice_jax.quantizers.rule import Rule, largest

_INTEGERS = (jnp.int8, jnp.uint8, jnp.int16)


def encode(quantizer, x, *args, **kwargs) -> Quantized:
  """The integer levels and the scale of ``quantizer(x, *args, **kwargs)``.

  ``decode(encode(q, x, ...), x.dtype)`` equals ``q(x, ...)`` exactly: it is ``levels * scale`` in
  float32, cast once. It has no gradient: see `encode_ste`.

  >>> encode(twn, jnp.array([1.0, 0.1, -2.0]))
  Quantized(levels=Array([ 1,  0, -1], dtype=int8), scale=Array(1.5, dtype=float32))

  Args:
    quantizer: one of this package's quantizers (`wrpn_weights`, `twn`, ...), or a
      ``functools.partial`` of one.
    x: float array of any shape.
    *args, **kwargs: the quantizer's further arguments.

  Returns:
    `Quantized`: levels of x's shape, in the smallest of int8, uint8 and int16 that holds the
    quantizer's range; the scale in float32, broadcastable against them (`ttq`: a pair). Integers
    have no NaN: where a level would be one, the scale is NaN, so that it stays visible.

  Raises:
    ValueError: the function is not one of this package's quantizers.
    TypeError, ValueError: its own, as of a parameter's shape that does not broadcast to x's.
  """
  rule, x, params = _bind(quantizer, x, *args, **kwargs)
  levels, scale = rule.code(x, *params)
  # The range is the rule's and not these levels', so that the dtype does not depend on the values.
  bad = jnp.isnan(levels)
  holds = lambda d: jnp.iinfo(d).min <= rule.low and rule.high <= jnp.iinfo(d).max
  dtype = next(filter(holds, _INTEGERS))
  # NaN if one is: integers have none, so the scale says it.
  worst = largest(jnp.abs(levels))
  mark = lambda s: jnp.where(jnp.isnan(worst), worst, s)
  scale = tuple(map(mark, scale)) if isinstance(scale, tuple) else mark(scale)
  return Quantized(jnp.where(bad, 0, levels).astype(dtype), scale)


def encode_ste(quantizer, x, *args, **kwargs) -> Quantized:
  """`encode` for training: float levels, with straight-through gradients.

  It is for a layer that multiplies whole numbers first and scales afterwards, such as
  ``conv(levels) * scale``. A function of ``levels * scale`` alone has the gradients of
  ``quantizer(x, ...)``, for x and the quantizer's parameters.

  >>> w, v = jnp.array([1.0, 0.1, -2.0]), jnp.array([1.0, 2.0, 3.0])
  >>> def f(w):
  ...   q = encode_ste(twn, w)
  ...   return (v @ q.levels) * q.scale
  >>> jax.grad(f)(w)  # the same as that of v @ twn(w)
  Array([1., 2., 3.], dtype=float32)

  Args:
    quantizer, x, *args, **kwargs: as for `encode`.

  Returns:
    `Quantized`: levels of x's shape and dtype (for `ttq` a pair of 0/1 arrays, the positive and
    the negative levels, so that each gets an accumulator of its own) and the scale in float32.
    All levels here are exact in bfloat16. NaN stays NaN. Where a computed scale is 0 (`twn`'s of
    zeros) no gradient comes through, since all that is computed from ``levels * 0`` is constant.

  Raises:
    ValueError: the function is not one of this package's quantizers.
    TypeError, ValueError: its own, as of a parameter's shape that does not broadcast to x's.
  """
  rule, x, params = _bind(quantizer, x, *args, **kwargs)
  return rule.levels(x, *params)


def _bind(quantizer, x, *args, **kwargs) -> tuple[Rule, object, tuple]:
  if isinstance(quantizer, functools.partial):
    return _bind(quantizer.func, *quantizer.args, x, *args, **{**quantizer.keywords, **kwargs})
  bind = getattr(quantizer, "bind", None)
  if bind is None:
    raise ValueError(
      f"{quantizer!r} has no levels to encode: pass a quantizer of "
      "apprentice_jax.quantizers, such as twn or wrpn_weights."
    )
  return bind(x, *args, **kwargs)
