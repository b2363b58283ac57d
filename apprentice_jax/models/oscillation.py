"""Latent weights that oscillate between two levels: tracked and frozen, or damped.

At the border of two levels the straight-through estimator drives a weight back and forth. Both
remedies are Nagel et al.'s, "Overcoming Oscillations in Quantization-Aware Training", ICML 2022,
https://arxiv.org/abs/2203.11086.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from apprentice_jax.models.levels import encode_weights, quantized_layers
from apprentice_jax.models.precision import Quantization
from apprentice_jax.quantizers import Quantized, decode

Array = jax.Array

MOMENTUM = 0.01  # of the running means, as in the authors' code


class Tracked(NamedTuple):
  """How the levels of a kernel have moved; each float32, of the kernel's shape.

  Attributes:
    frequency: running mean of oscillations a step; infinite: the weight is frozen.
    direction: of its last change of level, -1 or 1; 0: there was none.
    level: running mean of its level; of a frozen weight, the level that it keeps.
  """

  frequency: Array
  direction: Array
  level: Array


def start(q: Quantization, params: Any) -> Any:
  """`Tracked` of every quantized kernel of some parameters, in a tree like theirs."""
  tracked = {}
  for path, layer in quantized_layers(q, params).items():
    levels, _ = _encoded(q, layer)
    tracked[path] = Tracked(jnp.zeros_like(levels), jnp.zeros_like(levels), levels)
  return unflatten_dict(tracked, sep="/")


def tracked_on(tracked: Tracked, before: Array, after: Array, threshold) -> Tracked:
  """Algorithm 1 of the paper, for one step.

  A change of level in the direction opposite to the last change is an oscillation. A weight whose
  frequency of oscillations is above the threshold freezes at its mean level.

  Args:
    tracked: so far.
    before, after: levels, float32.
    threshold: a frequency.
  """
  change = jnp.sign(after - before)
  oscillated = change * tracked.direction == -1
  # What is infinite stays infinite: frozen weights stay frozen.
  frequency = MOMENTUM * oscillated + (1 - MOMENTUM) * tracked.frequency
  frozen = frequency > threshold
  level = MOMENTUM * after + (1 - MOMENTUM) * tracked.level
  return Tracked(
    jnp.where(frozen, jnp.inf, frequency),
    jnp.where(change != 0, change, tracked.direction),
    jnp.where(frozen, jnp.round(tracked.level), level),
  )


def freeze(
  q: Quantization, before: Any, after: Any, tracked: Any, threshold
) -> tuple[Any, Any, Array]:
  """Takes back an update of frozen weights, and freezes those that oscillate too often.

  A weight that freezes moves to the value of its level, far from every border. It leaves it only
  where the quantizer's scale has moved so far that its level would be another one.

  Args:
    q: the network's.
    before, after: its parameters before and after the update.
    tracked: see `start`.
    threshold: see `tracked_on`.

  Returns:
    The parameters, what is tracked, and the share of weights that are frozen, a float32 scalar.
  """
  flat, known = flatten_dict(after, sep="/"), flatten_dict(tracked, sep="/")
  old, tracked, count = quantized_layers(q, before), {}, 0
  for path, layer in quantized_layers(q, after).items():
    frozen = jnp.isinf(known[path].frequency)
    kernel = jnp.where(frozen, old[path]["kernel"], layer["kernel"])
    levels, scale = _encoded(q, {**layer, "kernel": kernel})
    found = tracked_on(known[path], _encoded(q, old[path])[0], levels, threshold)
    frozen = jnp.isinf(found.frequency)
    astray = frozen & (levels != found.level)
    flat[f"{path}/kernel"] = jnp.where(astray, decode(Quantized(found.level, scale)), kernel)
    tracked[path], count = found, count + jnp.sum(frozen)
  share = count / sum(each.level.size for each in tracked.values())
  return unflatten_dict(flat, sep="/"), unflatten_dict(tracked, sep="/"), share


def damping(q: Quantization, params: Any) -> Array:
  """The paper's damping term: the squared distance of all latent weights from the values of their
  levels; those beyond the last level aside, which cannot oscillate."""
  total = jnp.float32(0)
  for layer in quantized_layers(q, params).values():
    levels, scale = jax.lax.stop_gradient(_encoded(q, layer))
    high, low = scale if isinstance(scale, tuple) else (scale, scale)
    clipped = jnp.clip(layer["kernel"], -q.weight_level * low, q.weight_level * high)
    total += jnp.sum(jnp.square(clipped - decode(Quantized(levels, scale))))
  return total


def _encoded(q: Quantization, layer: dict) -> tuple[Array, Any]:
  """Levels, float32, and scale of a layer's weights."""
  levels, scale = encode_weights(q, layer["kernel"], layer)
  # TTQ's two sides as one array of -1, 0 and 1.
  return levels[0] - levels[1] if isinstance(levels, tuple) else levels, scale
