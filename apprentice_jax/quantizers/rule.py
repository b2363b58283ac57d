"""The parts of every quantizer: a code (levels and scale) and a straight-through pullback.

Each quantizer is written once, as two formulas:

* ``code(x, *params) -> (levels, scale)``: the forward pass, in float32. ``levels`` are whole
  numbers, ``levels * scale`` is the value on the grid.
* ``pullback(g, x, *params) -> cotangents``: the straight-through backward pass, with ``g`` the
  cotangent of that value.

`make_rule` derives two functions with ``custom_vjp`` from them, which share every number.
``value`` gives ``levels * scale``, the result of the public quantizers. ``levels`` gives the pair,
for layers that multiply whole numbers first and scale afterwards.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from apprentice_jax.quantizers.quantized import Quantized, decode, split_sides

Array = jax.Array

# A scale below this acts as this, so that none is zero or negative; far below any scale in use.
SMALLEST_SCALE = 1e-12


class Rule(NamedTuple):
  """A quantizer with its static settings fixed; see the module's docstring."""

  value: Callable[..., Array]
  levels: Callable[..., Quantized]
  code: Callable[..., tuple[Array, Any]]
  low: int  # the smallest level
  high: int  # the largest level


def make_rule(code, pullback, low: int, high: int, kept=None) -> Rule:
  """Derives the differentiable ``value`` and ``levels`` functions of a quantizer.

  Args:
    code, pullback: see the module's docstring.
    low, high: the smallest and the largest level.
    kept: of x in its own dtype and the parameters, what ``pullback`` takes in the place of x: less
      than x, or what it would have to compute again; kept for the backward pass.
  """

  def encoded(x, *params):
    return code(float32(x), *map(float32, params))

  def keep(x, *params):
    kept_of_x = x if kept is None else kept(x, *map(float32, params))
    return unforwarded((kept_of_x, params)), Like.of(x)

  def pull(residuals, g):
    (x, params), of_x = residuals
    x = jax.tree.map(lambda a: float32(a) if jnp.issubdtype(a.dtype, jnp.floating) else a, x)
    g_x, *rest = pullback(g, x, *map(float32, params))
    return of_x(g_x), *(Like.of(param)(g_param) for g_param, param in zip(rest, params))

  @jax.custom_vjp
  def value(x, *params):
    return decode(encoded(x, *params), x.dtype)

  value.defvjp(
    lambda *primals: (value(*primals), keep(*primals)),
    lambda residuals, g: pull(residuals, float32(g)),
  )

  @jax.custom_vjp
  def levels(x, *params):
    whole, scale = encoded(x, *params)
    sides = split_sides(whole) if isinstance(scale, tuple) else whole
    return Quantized(jax.tree.map(lambda s: s.astype(x.dtype), sides), scale)

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


def float32(x) -> Array:
  return jnp.asarray(x).astype(jnp.float32)


def nonzero(x: Array) -> Array:
  """x, with 1 in place of 0: a divisor that leaves all-zero tensors finite and NaN visible."""
  return jnp.where(x == 0, 1, x)


def positive(scale: Array) -> Array:
  """scale, at least SMALLEST_SCALE; NaN stays NaN."""
  return jnp.maximum(scale, SMALLEST_SCALE)


def mean(x: Array, axes=None, keepdims=False) -> Array:
  """The mean; 0 where there is nothing to take it of."""
  return (jnp.mean if x.size else jnp.sum)(x, axes, keepdims=keepdims)


def largest(magnitudes: Array) -> Array:
  """The largest of some magnitudes, NaN if one is; 0 of none."""
  return (jnp.max if magnitudes.size else jnp.sum)(magnitudes)


def _value_cotangent(g_levels, scale) -> Array:
  """The cotangent of ``levels * scale``, from that of the levels.

  A function of ``levels * scale`` alone has dL/dlevels = dL/dvalue * scale, so the division undoes
  it. The scale's own cotangent adds nothing. A pair of scales has two cotangents, dL/dvalue times
  +positive and -negative. Least squares combines them, and stays defined when one is zero.
  """
  if isinstance(scale, tuple):
    positive, negative = scale
    weighted = float32(g_levels[0]) * positive - float32(g_levels[1]) * negative
    return weighted / nonzero(positive**2 + negative**2)
  return float32(g_levels) / nonzero(scale)


def unforwarded(residuals):
  """Residuals for the backward pass of a ``custom_vjp``, none of which is an argument itself.

  A gradient may be differentiated again through `jax.lax.scan`. In this case jax 0.8 to 0.12
  mistake a residual that is an argument for a constant of the loop. XLA drops the multiplication.
  """
  is_float = lambda a: jnp.issubdtype(jnp.result_type(a), jnp.floating)
  return jax.tree.map(lambda a: a * 1 if is_float(a) else a, residuals)


@jax.tree_util.register_static
class Like:
  """Gives a cotangent its primal's shape (summing what was broadcast), dtype and mesh axes.

  It is a residual without arrays: all that it knows of the primal is its type.
  """

  def __init__(self, kind):
    self._kind = kind

  @classmethod
  def of(cls, primal: Array) -> "Like":
    return cls(jax.typeof(primal))

  def __eq__(self, other):
    return isinstance(other, Like) and self._kind == other._kind

  def __hash__(self):
    return hash(self._kind)

  def __call__(self, cotangent: Array | None) -> Array | None:
    """A cotangent, of any shape that the primal's broadcasts to; None, of a constant, stays
    None."""
    if cotangent is None:
      return None
    # What the forward pass broadcast, the backward pass sums.
    kind = self._kind
    extra = cotangent.ndim - len(kind.shape)
    ones = [i for i, n in enumerate(kind.shape) if n == 1 and cotangent.shape[extra + i] != 1]
    summed = jnp.sum(cotangent, (*range(extra), *(extra + i for i in ones)))
    cotangent = jax.lax.expand_dims(summed, ones).astype(kind.dtype)
    # Inside shard_map a parameter that is the same on every device gets the sum over devices, as
    # the transposes of jax's own operations do.
    if missing := _varying(jax.typeof(cotangent)) - _varying(kind):
      cotangent = jax.lax.psum(cotangent, tuple(sorted(missing)))
    # On a mesh of explicit axes it lies where the primal lies.
    if jax.typeof(cotangent).sharding.spec != kind.sharding.spec:
      cotangent = jax.sharding.reshard(cotangent, kind.sharding)
    return cotangent


def _varying(kind) -> frozenset:
  """The mesh axes over which an array differs from device to device, in a checked shard_map."""
  if hasattr(kind, "manual_axis_type"):
    return frozenset(kind.manual_axis_type.varying)
  return frozenset(getattr(kind, "vma", ()))  # before jax 0.10
