"""A trained network that stays a Flax module: a user's own, whose layers no lowering knows."""

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from apprentice_jax.models.imported import ImportedNetwork
from apprentice_jax.models.table import Row, rows
from apprentice_jax.models.wrap import QuantizedModule, with_levels

# Of the largest logit. wrpn and dorefa round a kernel's last digit otherwise, and an input can then
# have the next level.
TOLERANCE = 1e-3


class Unlowered(NamedTuple):
  """A network of the user's own that can be written to a StableHLO file, as our ResNets are by
  `Lowered`.

  Attributes:
    model: the network.
    params, batch_stats: its variables; None where it is not trained. Quantized kernels are integer
      levels (see `wrap.with_levels`) unless its logits would be others.
    zeros: how many weights of each quantized layer have the level zero, by path; {} where it is not
      trained.
    image_shape, class_names, architecture, precision, mean, std, resize: see `Lowered`.
  """

  model: ImportedNetwork
  params: Any
  batch_stats: Any
  zeros: dict[str, int]
  image_shape: tuple[int, int, int]
  class_names: tuple[str, ...]
  architecture: str
  precision: str
  mean: tuple[float, ...]
  std: tuple[float, ...]
  resize: int

  def logits(self, images: jax.Array) -> jax.Array:
    """uint8 images (batch, height, width, channels) -> float32 (batch, classes)."""
    scale = 1 / (255 * jnp.asarray(self.std, jnp.float32))
    shift = jnp.asarray(self.mean, jnp.float32) / jnp.asarray(self.std, jnp.float32)
    # As training normalises.
    images = (images.astype(jnp.float32) * scale - shift).astype(self.model.dtype)
    variables = {"params": self.params, "batch_stats": self.batch_stats}
    # The barrier hides the constants from XLA, which would fold them. The program that scores a run
    # has them as arguments, and rounds otherwise.
    return self.model.apply(jax.lax.optimization_barrier(variables), images, False)

  def rows(self) -> list[Row]:
    """Its layers, and its other modules with parameters."""
    images = jax.ShapeDtypeStruct((1, *self.image_shape), self.model.dtype)
    return rows(self.model.module, (images,), {"train": True})


def unlowered(
  model: ImportedNetwork,
  params=None,
  batch_stats=None,
  *,
  image_shape,
  class_names,
  mean,
  std,
  resize: int = 0,
  architecture: str = "",
) -> Unlowered:
  """A user's network on its way out; the arguments are those of `lower.lower`."""
  zeros = {}
  if params is not None:
    found = model.weight_levels(params, tuple(image_shape))
    zeros = {path: int(np.sum(_one(levels) == 0)) for path, (_, levels) in found.items()}
  network = Unlowered(
    model,
    params,
    batch_stats,
    zeros,
    tuple(image_shape),
    tuple(class_names),
    architecture or model.name,
    str(model.quantization.precision),
    tuple(map(float, mean)),
    tuple(map(float, std)),
    resize,
  )
  trained = params is not None and isinstance(model.module, QuantizedModule)
  return _with_levels(network) if trained else network


def _with_levels(network: Unlowered) -> Unlowered:
  """A trained network with levels in the place of kernels, if its logits stay the same."""
  variables = {"params": network.params, "batch_stats": network.batch_stats}
  blank = jnp.zeros((1, *network.image_shape), network.model.dtype)
  levels = with_levels(network.model.module, variables, blank, train=False)["params"]
  logits = jax.jit(lambda params, images: network._replace(params=params).logits(images))
  images = np.random.default_rng(0).integers(0, 256, (4, *network.image_shape), np.uint8)
  expected = logits(network.params, images)
  try:
    error = np.max(np.abs(logits(levels, images) - expected))
  # What jax raises where code of the module's own multiplies floats and levels.
  except TypeError:
    error = np.inf
  if error <= TOLERANCE * np.max(np.abs(expected)):
    return network._replace(params=levels)
  warnings.warn(
    f"{network.model.name} has other logits with integer levels in the place of its kernels, as "
    "where tied weights read a kernel a second time: its file keeps float weights."
  )
  return network


def _one(levels) -> np.ndarray:
  """TTQ's two sides as one array."""
  return np.asarray(levels[0] - levels[1] if isinstance(levels, tuple) else levels)
