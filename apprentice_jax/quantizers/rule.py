"""What every quantizer is made of: a code (levels and scale) and a straight-through pullback.

Each quantizer is written once, as two formulas:

* ``code(x, *params) -> (levels, scale)``: the forward pass, in float32. ``levels`` are whole
  numbers, ``levels * scale`` is the value on the grid.
* ``pullback(g, x, *params) -> cotangents``: the straight-through backward pass, with ``g`` the
  cotangent of that value.

`make_rule` derives two functions with ``custom_vjp`` from them, which share every number:
``value`` gives ``levels * scale`` (what the public quantizers return), ``levels`` gives the pair,
for layers that multiply whole numbers first and scale afterwards.
"""

import functools
import operator
from typing import Any, Callable, NamedTuple, Union

import jax
import jax.numpy as jnp

Array = jax.Array


class Quantized(NamedTuple):
  """A quantized tensor: whole-number levels and the scale that makes values of them.

  Attributes:
    levels: array of whole numbers, of an integer dtype from `encode` and of a float dtype from
      `encode_ste`.
    scale: float32, broadcastable against ``levels``; the value is ``levels * scale``. For `ttq` a
      pair ``(positive, negative)``: the value is ``positive`` where the level is 1 and
      ``-negative`` where it is -1.
  """
  levels: Any
  scale: Any


class Rule(NamedTuple):
  """A quantizer with its static settings fixed; see the module's docstring."""
  value: Callable[..., Array]
  levels: Callable[..., Quantized]
  code: Callable[..., tuple[Array, Any]]
  low: int   # the smallest level
  high: int  # the largest level


def decode(quantized: Quantized, dtype=jnp.float32) -> Array:
  """Returns the values of a quantized tensor: ``levels * scale`` in float32, cast once to dtype."""
  levels, scale = quantized
  if isinstance(scale, tuple):
    positive, negative = scale
    levels = levels if isinstance(levels, tuple) else _sides(levels)
    return (float32(levels[0]) * positive - float32(levels[1]) * negative).astype(dtype)
  return (float32(levels) * scale).astype(dtype)


def make_rule(code, pullback, low: int, high: int, kept=None) -> Rule:
  """Derives the differentiable ``value`` and ``levels`` functions of a quantizer.

  Args:
    code, pullback: see the module's docstring.
    low, high: the smallest and the largest level.
    kept: of x and the parameters, what ``pullback`` takes in the place of x: less than x, or what it would have
      to compute again; kept for the backward pass.
  """

  def encoded(x, *params):
    return Quantized(*code(float32(x), *map(float32, params)))

  def keep(x, *params):
    of_x = x.ravel()[:0]  # an empty array that tells x's dtype and mesh axes
    return x if kept is None else kept(float32(x), *map(float32, params)), of_x, params

  def pull(residuals, g):
    x, of_x, params = residuals
    x = jax.tree.map(lambda a: float32(a) if jnp.issubdtype(a.dtype, jnp.floating) else a, x)
    g_x, *rest = pullback(g, x, *map(float32, params))
    return like_primal(g_x, of_x, g_x.shape), *map(like_primal, rest, params)

  @jax.custom_vjp
  def value(x, *params):
    return decode(encoded(x, *params), x.dtype)

  value.defvjp(lambda *primals: (value(*primals), keep(*primals)),
               lambda residuals, g: pull(residuals, float32(g)))

  @jax.custom_vjp
  def levels(x, *params):
    q = encoded(x, *params)
    sides = _sides(q.levels) if isinstance(q.scale, tuple) else q.levels
    return Quantized(jax.tree.map(lambda s: s.astype(x.dtype), sides), q.scale)

  def levels_fwd(*primals):
    q = levels(*primals)
    return q, (keep(*primals), q.scale)

  def levels_bwd(residuals, g):
    primals, scale = residuals
    return pull(primals, _value_cotangent(g.levels, scale))

  levels.defvjp(levels_fwd, levels_bwd)
  return Rule(value, levels, encoded, low, high)


def quantizer(bind):
  """Makes a public quantizer of ``bind(x, ...) -> (rule, x, params)``.

  ``bind`` checks the arguments and picks the rule; the result, with the same signature and
  docstring, applies it. `encode` reaches the rule through the attribute ``bind``.
  """

  @functools.wraps(bind)
  def quantize(*args, **kwargs):
    rule, x, params = bind(*args, **kwargs)
    return rule.value(x, *params)

  quantize.bind = bind
  return quantize


def float_array(x) -> Array:
  """Returns x as an array; raises TypeError unless it holds floats."""
  x = jnp.asarray(x)
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise TypeError(f"A quantizer takes float arrays, not {x.dtype}: convert it with .astype first.")
  return x


def check_bits(bits, low: int, high: int, what: str) -> int:
  """Returns bits as an int; raises ValueError, naming the range, if it is outside low..high."""
  try:
    value = operator.index(bits)
  except Exception:  # Floats, strings, and traced values, whose error is a jax one.
    value = None
  if value is None or isinstance(bits, bool) or not low <= value <= high:
    raise ValueError(f"{what} takes a whole number of bits from {low} to {high}, not {bits!r}.")
  return value


def float32(x) -> Array:
  return jnp.asarray(x).astype(jnp.float32)


def nonzero(x: Array) -> Array:
  """x, with 1 in place of 0: a divisor that leaves all-zero tensors finite and NaN visible."""
  return jnp.where(x == 0, 1, x)


def _sides(levels: Array) -> tuple[Array, Array]:
  """Splits ternary levels into 0/1 indicators of the positive and the negative ones."""
  return jnp.maximum(levels, 0), jnp.maximum(-levels, 0)


def _value_cotangent(g_levels, scale) -> Array:
  """The cotangent of ``levels * scale``, from that of the levels.

  Whatever is computed from ``levels * scale`` alone has dL/dlevels = dL/dvalue * scale, so the
  division undoes it. (The scale's own cotangent holds nothing that is not also in here.) For a
  pair of scales the two sides' cotangents, dL/dvalue times +positive and -negative, are combined
  by least squares, which stays defined when one of them is zero.
  """
  if isinstance(scale, tuple):
    positive, negative = scale
    weighted = float32(g_levels[0]) * positive - float32(g_levels[1]) * negative
    return weighted / nonzero(positive**2 + negative**2)
  return float32(g_levels) / nonzero(scale)


def like_primal(cotangent: Union[Array, None], primal: Array, shape=None):
  """Gives a cotangent its primal's shape (summing what was broadcast), dtype and mesh axes.

  Args:
    cotangent: of any shape that the primal's broadcasts to; None, of a constant, stays None.
    primal: the primal.
    shape: its shape, if it stands here for a larger one.
  """
  if cotangent is None:
    return None
  primal = jnp.asarray(primal)
  shape = primal.shape if shape is None else shape
  extra = cotangent.ndim - len(shape)
  summed = tuple(range(extra)) + tuple(
      i for i in range(extra, cotangent.ndim)
      if shape[i - extra] == 1 and cotangent.shape[i] != 1)
  cotangent = jnp.sum(cotangent, summed).reshape(shape).astype(primal.dtype)
  # Inside shard_map a parameter that is the same on every device gets the sum over devices, as
  # the transposes of jax's own operations do.
  missing = _varying(cotangent) - _varying(primal)
  return jax.lax.psum(cotangent, tuple(sorted(missing))) if missing else cotangent


def _varying(x) -> frozenset:
  """The mesh axes over which x differs from device to device, inside a checked shard_map."""
  kind = jax.typeof(x)
  if hasattr(kind, "manual_axis_type"):
    return frozenset(kind.manual_axis_type.varying)
  return frozenset(getattr(kind, "vma", ()))  # before jax 0.10
