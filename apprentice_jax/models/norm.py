"""Batch normalisation as one multiplication and one addition, after max-pooling where there is
any."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from apprentice_jax.quantizers.rule import unforwarded

MOMENTUM = 0.9  # of the running statistics
EPSILON = 1e-5


class BatchNorm(nn.Module):
  """Batch normalisation of the last axis (Ioffe & Szegedy, 2015, https://arxiv.org/abs/1502.03167).

  Parameters and statistics have the names and meaning of `flax.linen.BatchNorm`. This class takes
  its place for two reasons:

  * It computes ``x * multiplier + addend`` with a float32 pair per channel. Inference folds this
    form into a layer's scale. Flax subtracts the mean first, which costs more.
  * It can max-pool its input instead of its output, with the same numbers: the map is monotone. The
    sign of a negative multiplier is given to the input. The normalised values before pooling, the
    largest array of a network with an ImageNet stem, then need not exist.

  Attributes:
    train: normalise by the batch's moments and update the running ones; else by the running ones.
    dtype: of the result.
    axis_name: mesh axis over which the moments are averaged (synchronised batch norm), or None.
    paired_sums: sum over pixels two arrays at a time, forward and backward. XLA takes two kernels
      on a GPU for such a sum, and as many for two that are one reduction; a small network's
      training step there is hundreds of kernels of a few microseconds, whatever they do.
    pool: a max-pooling to apply, or None.
  """

  train: bool
  dtype: Any = jnp.float32
  axis_name: str | None = None
  paired_sums: bool = False
  pool: Callable[[jax.Array], jax.Array] | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """(..., features), float -> the same, of self.dtype; smaller where it is pooled."""
    shape = (x.shape[-1],)
    scale = self.param("scale", nn.initializers.ones, shape)
    bias = self.param("bias", nn.initializers.zeros, shape)
    running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
    running_var = self.variable("batch_stats", "var", jnp.ones, shape)
    sign = 1.0
    if self.pool is not None:
      sign = jax.lax.stop_gradient(jnp.where(scale < 0, -1.0, 1.0))
      # Before all else: the compiler makes it part of the convolution.
      x = x * sign.astype(x.dtype)
    if self.train:
      mean, var = self._moments(x)
      mean = mean * sign
      # Initialisation leaves the statistics at 0 and 1.
      if not self.is_initializing():
        for running, new in ((running_mean, mean), (running_var, var)):
          running.value = MOMENTUM * running.value + (1 - MOMENTUM) * new
    else:
      mean, var = running_mean.value, running_var.value
    multiplier = scale * jax.lax.rsqrt(var + EPSILON)
    addend = bias - mean * multiplier
    if self.pool is not None:
      x = self.pool(x)
    if self.paired_sums:
      return _affine(x, multiplier * sign, addend).astype(self.dtype)
    return (x.astype(jnp.float32) * (multiplier * sign) + addend).astype(self.dtype)

  def _moments(self, x):
    """Mean and (biased) variance of each feature, float32."""
    x = x.astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    if self.paired_sums:
      moments = jnp.stack(_pair_of_sums(x, jnp.square(x))) / (x.size // x.shape[-1])
    else:
      moments = jnp.stack([jnp.mean(x, axes), jnp.mean(jnp.square(x), axes)])
    # Means of squares and not variances: only the former average over replicas.
    if self.axis_name is not None and not self.is_initializing():
      moments = jax.lax.pmean(moments, self.axis_name)
    return moments[0], jnp.maximum(moments[1] - jnp.square(moments[0]), 0)


@jax.custom_vjp
def _affine(x, multiplier, addend):
  """x * multiplier + addend, float32; x: (..., features), the others (features,)."""
  return x.astype(jnp.float32) * multiplier + addend


def _affine_bwd(residuals, g):
  x, multiplier = residuals
  return ((g * multiplier).astype(x.dtype), *_pair_of_sums(g * x.astype(jnp.float32), g))


_affine.defvjp(
  lambda x, multiplier, addend: (_affine(x, multiplier, addend), unforwarded((x, multiplier))),
  _affine_bwd,
)


@jax.custom_vjp
def _pair_of_sums(a, b):
  """The sums of two float32 (..., features) over all axes but the last."""
  zero = jnp.zeros((), a.dtype)
  add = lambda x, y: (x[0] + y[0], x[1] + y[1])
  return tuple(jax.lax.reduce((a, b), (zero, zero), add, tuple(range(a.ndim - 1))))


_pair_of_sums.defvjp(
  lambda a, b: (_pair_of_sums(a, b), a.shape),
  lambda shape, g: tuple(jnp.broadcast_to(part, shape) for part in g),
)
