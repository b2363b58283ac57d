"""The two trained magnitudes of TTQ in a layer: their start, their floor, and the sizes of
gradients.

`quantizers.ttq` has the published gradients. They suit weights and magnitudes whose sizes are near
1, as the authors' normalised weights are. A layer's are not, so the layer scales the gradients; the
values stay TTQ's.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from apprentice_jax.quantizers.rule import unforwarded

Array = jax.Array

THRESHOLD = 0.05  # of the layer's largest magnitude, as published
FLOOR = 1e-6  # a magnitude below it acts as this, as PACT's clip does
# of a magnitude's gradient; at 1 magnitudes of single channels fall to the floor (results/ttq)
STEP = 0.1
SIDES = ("positive", "negative")


@jax.custom_vjp
def _with_gradient(x, value, factor):
  """The value; its gradient goes to x (of the same shape), times a factor."""
  return value


_with_gradient.defvjp(
  lambda x, value, factor: (value, unforwarded(factor)), lambda factor, g: (g * factor, None, None)
)


def start(kernel: Array, per_channel: bool) -> dict[str, Array]:
  """The magnitudes to start from, as TWN's: the mean ``|w|`` of the weights that each stands for.

  A side without weights starts from the mean of both sides.

  Args:
    kernel: float (..., features).
    per_channel: a pair for each output channel.

  Returns:
    "positive" and "negative", float32 (features,), or (1,) for one pair.
  """
  axes, size = tuple(range(kernel.ndim - 1)) if per_channel else None, jnp.abs(kernel)
  kept = size > THRESHOLD * jnp.max(size)

  def mean(mask, otherwise):
    count = jnp.sum(mask, axes)
    return jnp.where(
      count > 0, jnp.sum(jnp.where(mask, size, 0), axes) / jnp.maximum(count, 1), otherwise
    )

  both = mean(kept, 0.0)
  sides = mean(kept & (kernel > 0), both), mean(kept & (kernel < 0), both)
  return {name: side.reshape(-1).astype(jnp.float32) for name, side in zip(SIDES, sides)}


def ttq_arguments(kernel: Array, magnitudes: dict[str, Array]) -> tuple[Array, Array, Array, float]:
  """The arguments of `quantizers.ttq` for a layer: kernel, positive, negative, threshold.

  Their values are the layer's own, a magnitude below `FLOOR` aside. Two gradients are scaled:

  * A magnitude's gradient is a sum over the N weights that share it. It is multiplied by ``STEP /
  sqrt(N)``, as the
    gradient of LSQ's step is by ``1 / sqrt(N)``. It passes below the floor: training can raise the
    magnitude again.
  * The gradient of a weight beyond the threshold, published as g times its magnitude, is divided by
  this magnitude.
    Weights then move as TWN's do. Undivided, they would move several times more slowly than those
    between.

  Args:
    kernel: float (..., features).
    magnitudes: "positive" and "negative", float32 (features,) or (1,).
  """
  step = STEP / math.sqrt(kernel.size // magnitudes["positive"].size)
  positive, negative = (
    _with_gradient(magnitudes[s], jnp.maximum(magnitudes[s], FLOOR), step) for s in SIDES
  )
  delta = THRESHOLD * jnp.max(jnp.abs(kernel))
  factor = jnp.where(kernel > delta, 1 / positive, jnp.where(kernel < -delta, 1 / negative, 1))
  return _with_gradient(kernel, kernel, factor.astype(kernel.dtype)), positive, negative, THRESHOLD


def at_floor(params: dict) -> Array:
  """The fraction of a layer's magnitudes that are at their floor, or below: a float32 scalar."""
  return jnp.mean(jnp.stack([params[side] <= FLOOR for side in SIDES]), dtype=jnp.float32)


def with_axes(params: Any, per_channel: bool) -> Any:
  """Parameters whose scalar magnitudes, as earlier versions wrote them, have become arrays of the
  same values.

  Args:
    params: a tree of a network's parameters, as NumPy arrays.
    per_channel: as for `start`.

  Raises:
    ValueError: a scalar magnitude is below 0, which earlier versions allowed, and which is no
      magnitude.
  """
  if not hasattr(params, "items"):
    return params
  result = {key: with_axes(tree, per_channel) for key, tree in params.items()}
  for side in SIDES:
    if side in params and np.ndim(params[side]) == 0:
      if params[side] < 0:
        raise ValueError(
          "holds a network of an earlier TTQ with a magnitude below 0, which TTQ no longer has: "
          "train it anew, or export it with the version that trained it."
        )
      count = params["kernel"].shape[-1] if per_channel else 1
      result[side] = np.full(count, params[side], np.float32)
  return result
