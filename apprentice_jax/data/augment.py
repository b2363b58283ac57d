"""What happens to images on the device: gather, pad-crop, flip."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Augmentation(NamedTuple):
  """Training augmentation: shift by up to ``pad`` pixels (zero filling), flip left-right; the same
  again after ``epochs`` epochs, unless that is 0."""

  pad: int = 0
  flip: bool = False
  epochs: int = 0


def augment(images: jax.Array, keys: jax.Array, augmentation: Augmentation) -> jax.Array:
  """Shifts and flips each image by its own random key.

  Args:
    images: uint8 (batch, height, width, channels).
    keys: (batch,) random keys.
    augmentation: what to do.

  Returns:
    uint8, the same shape.
  """
  pad, flip, _ = augmentation
  if not pad and not flip:
    return images
  height, width = images.shape[1:3]

  def one(image, key):
    y, x, mirrored = jax.random.randint(key, (3,), 0, jnp.array([2 * pad + 1, 2 * pad + 1, 2]))
    image = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    image = jax.lax.dynamic_slice(image, (y, x, 0), (height, width, image.shape[-1]))
    return jnp.where(mirrored == 1, image[:, ::-1], image) if flip else image

  return jax.vmap(one)(images, keys)


def augmented(images, index, epoch, key, augmentation) -> jax.Array:
  """Gathers and augments a batch of a set that lives on the device.

  The augmentation of example i in epoch e depends on (key, e, i) alone, not on the batch or replica
  it falls into.

  Args:
    images: the whole set, uint8 (size, height, width, channels).
    index, epoch: int32 (batch,): which examples, and in which epoch.
    key: random key of the run.
    augmentation: see `augment`.

  Returns:
    uint8 (batch, height, width, channels).
  """
  # Repeated augmentations make a teacher's logits finite in number, so that they can be kept.
  if augmentation.epochs:
    epoch = epoch % augmentation.epochs
  keys = jax.vmap(lambda e, i: jax.random.fold_in(jax.random.fold_in(key, e), i))(epoch, index)
  return augment(jnp.take(images, index, axis=0), keys, augmentation)
