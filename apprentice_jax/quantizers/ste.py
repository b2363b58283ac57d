"""Straight-through building blocks: rounding, clipping and sign with gradients that pass.

Bengio, Leonard & Courville, "Estimating or Propagating Gradients Through Stochastic Neurons for
Conditional Computation", 2013, https://arxiv.org/abs/1308.3432.
"""

import functools

import jax
import jax.numpy as jnp

from apprentice_jax.quantizers.checks import float_array, parameters
from apprentice_jax.quantizers.rule import Like, make_rule, quantizer


@jax.custom_vjp
def _round(x):
  return jnp.round(x)


_round.defvjp(lambda x: (_round(x), None), lambda _, g: (g,))


def ste_round(x):
  """Rounds half to even; the gradient is that of the identity.

  ``y = round(x)``, ``dL/dx = dL/dy``.

  >>> float(ste_round(2.5)), float(jax.grad(ste_round)(0.2))
  (2.0, 1.0)

  Args:
    x: float array of any shape.

  Returns:
    An array of x's shape and dtype.

  Raises:
    TypeError: x is not of a float dtype.
  """
  return _round(float_array(x))


@jax.custom_vjp
def _clip(x, low, high):
  return jnp.clip(x, low, high)


_clip.defvjp(
  lambda x, low, high: (_clip(x, low, high), ((x >= low) & (x <= high), Like.of(x))),
  lambda residuals, g: (residuals[1](jnp.where(residuals[0], g, 0)), None, None),
)


def ste_clip(x, low, high):
  """Clips to [low, high]; the gradient passes inside, ends included.

  ``y = min(max(x, low), high)``, ``dL/dx = dL/dy`` where ``low <= x <= high``, else 0. The bounds
  are constants: their gradient is zero (`pact` has a learned one).

  >>> jax.vmap(jax.grad(lambda x: ste_clip(x, 0., 1.)))(jnp.array([-0.1, 0.0, 1.0, 1.1]))
  Array([0., 1., 1., 0.], dtype=float32)

  Args:
    x: float array of any shape.
    low: the lower bound; a float or an array that broadcasts to x's shape.
    high: the upper bound, likewise.

  Returns:
    An array of x's shape and dtype.

  Raises:
    TypeError: x is not of a float dtype.
    ValueError: a bound's shape does not broadcast to x's.
  """
  x = float_array(x)
  bounds = parameters("ste_clip", x, low=low, high=high)
  return _clip(x, *(bound.astype(x.dtype) for bound in bounds))


@functools.cache
def _sign_rule():
  def code(x):
    return jnp.where(jnp.isnan(x), x, jnp.where(x >= 0, 1.0, -1.0)), jnp.float32(1)

  def pullback(g, x):
    return (jnp.where(jnp.abs(x) <= 1, g, 0),)

  return make_rule(code, pullback, -1, 1)


@quantizer
def ste_sign(x):
  """The sign of x, +1 at 0; the gradient passes where ``|x| <= 1``.

  ``y = 1`` where ``x >= 0``, else -1; ``dL/dx = dL/dy`` where ``|x| <= 1``, else 0 (Courbariaux et
  al., "Binarized Neural Networks", 2016, https://arxiv.org/abs/1602.02830).

  >>> float(ste_sign(0.0)), float(jax.grad(ste_sign)(0.5)), float(jax.grad(ste_sign)(1.5))
  (1.0, 1.0, 0.0)

  Args:
    x: float array of any shape.

  Returns:
    An array of x's shape and dtype. NaN stays NaN.

  Raises:
    TypeError: x is not of a float dtype.
  """
  return _sign_rule(), float_array(x), ()
