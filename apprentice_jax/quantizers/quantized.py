"""The pair of levels and scale that a quantized tensor travels as."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from apprentice_jax.quantizers.checks import check_broadcasts

Array = jax.Array


class Quantized(NamedTuple):
  """A quantized tensor: whole-number levels and the scale that makes values of them.

  It is no array: where it is used as one, a TypeError or AttributeError says how to get one.
  ``x.values`` is the array of values. ``x._replace(levels=f(x.levels))`` keeps the levels where f
  only moves or max-pools them.

  Attributes:
    levels: array of whole numbers, of an integer dtype from `encode` and of a float dtype from
      `encode_ste`.
    scale: float32, broadcastable against ``levels``; the value is ``levels * scale``. For `ttq` a
      pair ``(positive, negative)``: the value is ``positive`` where the level is 1 and
      ``-negative`` where it is -1.
  """

  levels: Any
  scale: Any

  @property
  def values(self) -> Array:
    """``levels * scale``, of the levels' dtype where it is a float, else float32."""
    dtype = jax.tree.leaves(self.levels)[0].dtype
    return decode(self, dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.float32)

  def __getattr__(self, name):
    # Python's own questions, such as whether a copy is special.
    if name.startswith("_"):
      raise AttributeError(f"'Quantized' object has no attribute {name!r}")
    raise AttributeError(_sentence(f"has no {name!r}"))


def _sentence(what: str) -> str:
  return (
    f"Quantized holds levels and a scale and {what}: take x.values, or "
    "x._replace(levels=f(x.levels)) if f only moves or max-pools."
  )


def _refused(operation: str):
  def refuse(self, *_, **__):
    raise TypeError(_sentence(f"cannot be used in {operation}"))

  return refuse


# A tuple's own answers to these would be silently wrong: its concatenation, repetition and items.
for _operation, _names in {
  "an addition": "add radd",
  "a subtraction": "sub rsub",
  "a multiplication": "mul rmul",
  "a matrix product": "matmul rmatmul",
  "a division": "truediv rtruediv floordiv rfloordiv mod rmod",
  "a power": "pow rpow",
  "a negation": "neg",
  "an absolute value": "abs",
  "a comparison": "lt le gt ge",
  "an index": "getitem",
  "a function of arrays": "array jax_array",
}.items():
  for _name in _names.split():
    setattr(Quantized, f"__{_name}__", _refused(_operation))


def decode(quantized: Quantized, dtype=jnp.float32) -> Array:
  """Returns the values of a quantized tensor: ``levels * scale`` in float32, cast once to dtype.

  Raises:
    ValueError: a scale's shape does not broadcast to that of the levels.
  """
  levels, scale = quantized
  float32 = lambda x: jnp.asarray(x).astype(jnp.float32)
  # `encode_ste` gives TTQ's two sides apart, `encode` one array of -1, 0 and 1.
  sides = levels if isinstance(levels, tuple) else None
  for each in scale if isinstance(scale, tuple) else (scale,):
    check_broadcasts("decode", "scale", jnp.shape(each), jnp.shape(sides[0] if sides else levels))
  if isinstance(scale, tuple):
    positive, negative = scale
    above, below = sides or split_sides(levels)
    return (float32(above) * positive - float32(below) * negative).astype(dtype)
  return (float32(levels) * scale).astype(dtype)


def split_sides(levels: Array) -> tuple[Array, Array]:
  """Splits ternary levels into 0/1 indicators of the positive and the negative ones."""
  return jnp.maximum(levels, 0), jnp.maximum(-levels, 0)
