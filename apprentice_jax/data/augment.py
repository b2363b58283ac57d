"""What happens to images on the device: gather, pad-crop, flip; mixtures of two."""

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


def own_share(mix: str, key: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
  """How much of its own image every pixel keeps, where each image is mixed with another.

  mixup blends two images (Zhang et al., ICLR 2018, https://arxiv.org/abs/1710.09412). cutmix takes
  a rectangle from the other image (Yun et al., ICCV 2019, https://arxiv.org/abs/1905.04899). Shares
  are uniform, as both have them on CIFAR-10. Distillation on mixtures that teacher and student both
  see is Beyer et al.'s ("Knowledge distillation: A good teacher is patient and consistent", CVPR
  2022, https://arxiv.org/abs/2106.05237).

  Args:
    mix: "mixup" or "cutmix".
    key: random key.
    shape: (batch, height, width).

  Returns:
    float32 (batch, 1, 1, 1) of mixup, (batch, height, width, 1) of cutmix, whose pixels keep all or
    nothing.
  """
  batch, *sides = shape
  share_key, place_key = jax.random.split(key)
  share = jax.random.uniform(share_key, (batch, 1, 1, 1))
  if mix == "mixup":
    return share
  # A rectangle of the image's own proportions around a uniform point, cut at the borders.
  inside = True
  for axis, (side, side_key) in enumerate(zip(sides, jax.random.split(place_key)), start=1):
    half = (jnp.sqrt(1 - share) * side).astype(jnp.int32) // 2
    centre = jax.random.randint(side_key, share.shape, 0, side)
    pixel = jnp.arange(side).reshape([-1 if i == axis else 1 for i in range(4)])
    inside &= (pixel >= centre - half) & (pixel < centre + half)
  return 1 - inside.astype(jnp.float32)


def mixed(images: jax.Array, own: jax.Array) -> jax.Array:
  """Each image mixed with the one at its place from the end of the batch; ``own``: see
  `own_share`."""
  result = own * images + (1 - own) * images[::-1]
  if jnp.issubdtype(images.dtype, jnp.integer):
    result = jnp.round(result)
  return result.astype(images.dtype)


def mixed_labels(labels: jax.Array, own: jax.Array, classes: int) -> jax.Array:
  """The share of each class in the images of `mixed`: float32 (batch, classes), from integer labels
  (batch,)."""
  share = jnp.mean(own, (1, 2))
  one_hot = jax.nn.one_hot(labels, classes)
  return share * one_hot + (1 - share) * one_hot[::-1]
