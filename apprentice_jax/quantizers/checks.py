"""Checks of arguments: each refuses a wrong one in one sentence, before anything is computed."""

import operator

import jax
import jax.numpy as jnp

Array = jax.Array


def float_array(x) -> Array:
  """Returns x as an array; raises TypeError unless it holds floats."""
  x = jnp.asarray(x)
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise TypeError(
      f"A quantizer takes float arrays, not {x.dtype}: convert it with .astype first."
    )
  return x


def parameters(what: str, x: Array, **params) -> tuple[Array, ...]:
  """Returns a quantizer's parameters as arrays, in order.

  Args:
    what: the quantizer's name.
    x: the array to quantize.
    **params: numbers, or arrays that broadcast to x's shape, by name.

  Raises:
    TypeError: a parameter holds no real numbers.
    ValueError: a parameter's shape does not broadcast to x's.
  """
  # Refused here, since jax would speak of an operation deep inside the quantizer.
  arrays = []
  for name, param in params.items():
    try:
      array = jnp.asarray(param)
      real = any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer))
    # None, a string, a ragged list.
    except (TypeError, ValueError):
      real = False
    if not real:
      raise TypeError(f"{what} takes a number or an array of numbers as its {name}, not {param!r}.")
    check_broadcasts(what, name, array.shape, x.shape)
    arrays.append(array)
  return tuple(arrays)


def check_broadcasts(what: str, name: str, shape, to):
  """Raises ValueError unless an array of this shape broadcasts to another without growing it."""
  beside = zip(reversed(shape), reversed(to))
  if len(shape) > len(to) or any(n not in (1, m) for n, m in beside):
    raise ValueError(
      f"{what} got {name} of shape {tuple(shape)} for an array of shape "
      f"{tuple(to)}: the first must broadcast to the second."
    )


def check_axes(what: str, axis, ndim: int) -> set[int]:
  """Returns an axis, or a sequence of them, as a set of numbers from 0.

  Raises:
    TypeError: axis is neither a whole number nor a sequence of such numbers.
    ValueError: it is not an axis of an array of ndim dimensions.
  """
  axes = _whole_numbers([axis])
  if axes is None:
    # No sequence; or a traced array, whose error is one of jax's own.
    try:
      axes = _whole_numbers(list(axis))
    except Exception:
      axes = None
  if axes is None or isinstance(axis, str):
    raise TypeError(f"{what} takes a whole number or a tuple of them as its axis, not {axis!r}.")
  if any(not -ndim <= a < ndim for a in axes):
    raise ValueError(f"{what} got axis={axis} for an array of {ndim} dimensions.")
  return {a % ndim for a in axes}


def _whole_numbers(values) -> list[int] | None:
  """The values as ints; None if one is no whole number."""
  # Floats, strings, and traced values, whose error is one of jax's own.
  try:
    whole = [operator.index(v) for v in values]
  except Exception:
    return None
  # True is 1 to Python, but nobody means one bit by it.
  booleans = (isinstance(v, bool) or str(getattr(v, "dtype", "")) == "bool" for v in values)
  return None if any(booleans) else whole


def check_bits(bits, low: int, high: int, what: str) -> int:
  """Returns bits as an int; raises ValueError, naming the range, if it is outside low..high."""
  whole = _whole_numbers([bits])
  if whole is None or not low <= whole[0] <= high:
    raise ValueError(f"{what} takes a whole number of bits from {low} to {high}, not {bits!r}.")
  return whole[0]
