"""How a quantized network is doing: zeros, flips of weights, saturation of activations.

A layer does not learn if its weights are all zero, or never change their level. An activation says
nothing if it is all zero, or all at the end of its range. Both show long before the accuracy falls.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from apprentice_jax.models import magnitudes
from apprentice_jax.models.imported import ImportedNetwork, random_streams
from apprentice_jax.models.levels import encode_weights, quantized_layers
from apprentice_jax.models.precision import Quantization
from apprentice_jax.models.residual import ResNet, variable_shapes

IMAGES = 4  # of each replica's batch, looked at for the health of activations


class Names(NamedTuple):
  """Whose health the rows of `weights` and `activations` are: paths of layers.

  Attributes:
    columns: what the columns of either are.
  """

  weights: tuple[str, ...]
  activations: tuple[str, ...]
  columns: tuple[tuple[str, ...], tuple[str, ...]]


def weights(model: ResNet | ImportedNetwork, before: Any, after: Any, image_shape=()) -> jax.Array:
  """The health of weights over an update.

  Args:
    model: the network.
    before, after: its parameters.
    image_shape: (height, width, channels); a `ResNet` needs none.

  Returns:
    float32 (layers, 2 or 3): of each quantized layer's weights, the fraction whose level is zero
    after the update, and the fraction whose level the update changed (for ternary weights: the flip
    rate); of TTQ also the fraction of the layer's magnitudes that are at their floor.
  """
  q, rows = model.quantization, []
  layers = zip(*(_levels(model, params, image_shape).values() for params in (before, after)))
  for (_, old), (params, new) in layers:
    row = [_mean(new == 0), _mean(new != old)]
    rows.append(jnp.stack([*row, magnitudes.at_floor(params)] if q.weights == "ttq" else row))
  return jnp.stack(rows) if rows else jnp.zeros((0, len(_weight_columns(q))), jnp.float32)


def _weight_columns(q: Quantization) -> tuple[str, ...]:
  """What the columns of `weights` are."""
  return ("zeros", "flips", "floor") if q.weights == "ttq" else ("zeros", "flips")


def activations_of(
  model: ResNet | ImportedNetwork, params: Any, batch_stats: Any, images: jax.Array
) -> jax.Array:
  """The health of a network's activations on the first few of some images, as it trains on them.

  Args:
    model: the network.
    params, batch_stats: its variables.
    images: normalised, (batch, height, width, channels), of which IMAGES are looked at; batch norm
      takes its moments from these.

  Returns:
    See `activations`.
  """
  # The same random numbers at each look: only the parameters make a difference.
  rngs = random_streams(jax.random.key(0)) if isinstance(model, ImportedNetwork) else None
  # Without synchronised batch norm: nothing waits for other replicas here.
  _, sown = model.clone(norm_axis=None).apply(
    {"params": params, "batch_stats": batch_stats},
    images[:IMAGES],
    True,
    mutable=["batch_stats", "health"],
    rngs=rngs,
  )
  return activations(sown.get("health", {}))


def activations(sown: Any) -> jax.Array:
  """The health of activations, from what `QuantActivation` sows into the collection "health".

  Returns:
    float32 (sites, 2): of each quantized activation, the fraction that is zero, and the fraction at
    the end of the range (saturated).
  """
  # A loop's turns are one row, their mean.
  rows = [r if r.ndim == 1 else r.reshape(-1, 2).mean(0) for r in jax.tree.leaves(sown)]
  return jnp.stack(rows) if rows else jnp.zeros((0, 2), jnp.float32)


def names(model: ResNet | ImportedNetwork, image_shape: tuple[int, int, int]) -> Names:
  """The rows' names of a network for images of (height, width, channels)."""
  found = variable_shapes(model, image_shape)
  sown = jax.tree_util.tree_leaves_with_path(found.get("health", {}))
  # Traced for the names alone: nothing is computed.
  quantized = []
  collect = lambda params: quantized.extend(_levels(model, params, image_shape))
  jax.eval_shape(collect, found["params"])
  sites = ["/".join(k.key for k in path[:-1]) for path, _ in sown]
  # A layer of a user's network quantizes its input under its own name, which its weights have.
  inputs = model.quantized(image_shape) if isinstance(model, ImportedNetwork) else ()
  return Names(
    tuple(quantized),
    tuple(f"{site}/input" if site in inputs else site for site in sites),
    (_weight_columns(model.quantization), ("zeros", "saturation")),
  )


def _levels(
  model: ResNet | ImportedNetwork, params: Any, image_shape
) -> dict[str, tuple[Any, Any]]:
  """Each quantized layer's parameters, and the levels of its weights."""
  found = _encoded(model, params, image_shape)
  # TTQ's two sides as one array of -1, 0 and 1.
  one = lambda levels: levels[0] - levels[1] if isinstance(levels, tuple) else levels
  return {path: (trained, one(levels)) for path, (trained, levels) in found.items()}


def _encoded(model, params, image_shape) -> dict[str, tuple[Any, Any]]:
  if isinstance(model, ImportedNetwork):
    return model.weight_levels(params, image_shape)
  q = model.quantization
  layers = quantized_layers(q, params).items()
  return {path: (own, encode_weights(q, own["kernel"], own).levels) for path, own in layers}


def _mean(condition):
  return jnp.mean(condition, dtype=jnp.float32)
