"""How a quantized network is doing: zeros, flips of weights, saturation of activations.

A layer whose weights are all zero, or never change their level, does not learn; an activation that is
all zero or all at the end of its range says nothing. All of them show long before the accuracy does.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from apprentice_jax.models.layers import encode_weights
from apprentice_jax.models.precision import Quantization
from apprentice_jax.models.residual import ResNet, variable_shapes


IMAGES = 4  # of each replica's batch, looked at for the health of activations


class Names(NamedTuple):
  """Whose health the rows of `weights` and `activations` are: paths of layers."""
  weights: tuple[str, ...]
  activations: tuple[str, ...]


def weights(q: Quantization, before: Any, after: Any) -> jax.Array:
  """The health of weights over an update.

  Args:
    q: the network's quantization.
    before, after: its parameters.

  Returns:
    float32 (layers, 2): of each quantized layer's weights, the fraction whose level is zero after the
    update, and the fraction whose level the update changed (for ternary weights: the flip rate).
  """
  rows = []
  for old, new in zip(_levels(q, before).values(), _levels(q, after).values()):
    rows.append(jnp.stack([_mean(new == 0), _mean(new != old)]))
  return jnp.stack(rows) if rows else jnp.zeros((0, 2), jnp.float32)


def activations_of(model: ResNet, params: Any, batch_stats: Any, images: jax.Array) -> jax.Array:
  """The health of a network's activations on the first few of some images, as it trains on them.

  Args:
    model: the network.
    params, batch_stats: its variables.
    images: normalised, (batch, height, width, channels), of which IMAGES are looked at; batch norm
      takes its moments from these.

  Returns:
    See `activations`.
  """
  # Without synchronised batch norm: nothing waits for other replicas here.
  _, sown = model.clone(norm_axis=None).apply(
      {"params": params, "batch_stats": batch_stats}, images[:IMAGES], True,
      mutable=["batch_stats", "health"])
  return activations(sown.get("health", {}))


def activations(sown: Any) -> jax.Array:
  """The health of activations, from what `QuantActivation` sows into the collection "health".

  Returns:
    float32 (sites, 2): of each quantized activation, the fraction that is zero, and the fraction at
    the end of the range (saturated).
  """
  rows = jax.tree.leaves(sown)
  return jnp.stack(rows) if rows else jnp.zeros((0, 2), jnp.float32)


def names(model: ResNet, image_shape: tuple[int, int, int]) -> Names:
  """The rows' names of a network for images of (height, width, channels)."""
  found = variable_shapes(model, image_shape)
  sown = jax.tree_util.tree_leaves_with_path(found.get("health", {}))
  quantized = []
  jax.eval_shape(lambda params: quantized.extend(_levels(model.quantization, params)), found["params"])
  return Names(tuple(quantized),
               tuple("/".join(k.key for k in path[:-1]) for path, _ in sown))


def _levels(q: Quantization, params: Any) -> dict[str, jax.Array]:
  """The levels of each quantized layer's weights."""
  result = {}

  def visit(path, tree):
    for key in sorted(tree):
      if key == "kernel":
        if q.quantizes_weights("/".join(path)):
          levels = encode_weights(q, tree["kernel"], tree).levels
          result["/".join(path)] = levels[0] - levels[1] if isinstance(levels, tuple) else levels
      elif hasattr(tree[key], "items"):
        visit((*path, key), tree[key])

  visit((), params)
  return result


def _mean(condition):
  return jnp.mean(condition, dtype=jnp.float32)
