"""Augmentation against a NumPy version given the same draws, and by its properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax.data.augment import (
  Augmentation,
  augment,
  augmented,
  mixed,
  mixed_labels,
  own_share,
)
from apprentice_jax.training.program import normalise

COUNT, HEIGHT, WIDTH, CHANNELS = 256, 6, 5, 2


@pytest.fixture(scope="module")
def images():
  # No zeros, so that the filling shows, and no two pixels of an image alike.
  r = np.random.default_rng(0)
  return (
    np.stack([r.permutation(255)[: HEIGHT * WIDTH * CHANNELS] + 1 for _ in range(COUNT)])
    .reshape(COUNT, HEIGHT, WIDTH, CHANNELS)
    .astype(np.uint8)
  )


def keys(seed=0, count=COUNT):
  return jax.random.split(jax.random.key(seed), count)


def shifted(image, y, x, mirrored):
  """The window of the zero-padded image that starts y, x pixels from the image's own corner."""
  out = np.zeros_like(image)
  for i in range(HEIGHT):
    for j in range(WIDTH):
      if 0 <= i + y < HEIGHT and 0 <= j + x < WIDTH:
        out[i, j] = image[i + y, j + x]
  return out[:, ::-1] if mirrored else out


def recover(image, found, pad):
  """Which shift and flip made found of image; None if none did."""
  for y in range(-pad, pad + 1):
    for x in range(-pad, pad + 1):
      for mirrored in (False, True):
        if np.array_equal(found, shifted(image, y, x, mirrored)):
          return y, x, mirrored
  return None


@pytest.mark.parametrize("pad, flip", [(2, True), (1, False), (0, True)])
def test_each_image_is_a_shifted_window_and_all_of_them_occur(images, pad, flip):
  out = np.asarray(augment(images, keys(), Augmentation(pad, flip)))
  assert out.dtype == np.uint8 and out.shape == images.shape
  found = [recover(a, b, pad) for a, b in zip(images, out)]
  assert None not in found
  shifts = [f[:2] for f in found]
  assert len(set(shifts)) == (2 * pad + 1) ** 2
  for axis in (0, 1):
    drawn = [s[axis] for s in shifts]
    for value in range(-pad, pad + 1):  # each about equally often, to 5 standard deviations
      p = 1 / (2 * pad + 1)
      assert abs(np.mean(np.equal(drawn, value)) - p) <= 5 * np.sqrt(p * (1 - p) / COUNT)
  flipped = np.mean([f[2] for f in found])
  assert abs(flipped - 0.5) < 5 * 0.5 / np.sqrt(COUNT) if flip else flipped == 0


def test_equals_numpy_given_the_same_draws(images):
  pad = 2
  out = np.asarray(augment(images, keys(7), Augmentation(pad, True)))
  for image, key, found in zip(images[:32], keys(7), out):
    y, x, mirrored = (int(d) for d in jax.random.randint(key, (3,), 0, jnp.array([5, 5, 2])))
    np.testing.assert_array_equal(found, shifted(image, y - pad, x - pad, mirrored))


def test_nothing_to_do_leaves_images_alone(images):
  assert augment(images, keys(), Augmentation()) is images


@pytest.fixture(scope="module")
def pick(images):
  labels = jnp.arange(COUNT, dtype=jnp.int32) % 10

  def pick(index, epoch, seed=0):
    index = jnp.asarray(index, jnp.int32)
    epoch = jnp.broadcast_to(jnp.asarray(epoch, jnp.int32), index.shape)
    key, augmentation = jax.random.key(seed), Augmentation(2, True)
    picked = augmented(jnp.asarray(images), index, epoch, key, augmentation)
    return normalise(picked, (0.3,), (0.2,), jnp.float32), labels[index]

  return pick


def test_an_examples_augmentation_does_not_depend_on_its_batch(pick):
  index = np.arange(16)
  images, labels = pick(index, 3)
  np.testing.assert_array_equal(labels, index % 10)
  # Another order, another batch size, a neighbour twice.
  for other in (index[::-1], index[4:7], [5, 5, 9]):
    again, its_labels = pick(other, 3)
    np.testing.assert_array_equal(again, images[np.asarray(other)])
    np.testing.assert_array_equal(its_labels, np.asarray(other) % 10)
  # Epoch by epoch within one batch, as where a batch runs over the end of an epoch.
  mixed, _ = pick([1, 1, 2], [3, 4, 3])
  np.testing.assert_array_equal(mixed[0], images[1])
  np.testing.assert_array_equal(mixed[1], pick([1], 4)[0][0])
  np.testing.assert_array_equal(mixed[2], images[2])


def test_epochs_examples_and_seeds_are_augmented_differently(pick, images):
  raw = lambda out: np.round((np.asarray(out) * 0.2 + 0.3) * 255).astype(np.uint8)
  index = np.arange(64)
  draws = lambda epoch, seed: [
    recover(images[i], o, 2) for i, o in zip(index, raw(pick(index, epoch, seed)[0]))
  ]
  first, next_epoch, next_seed = draws(0, 0), draws(1, 0), draws(0, 1)
  assert None not in first
  same = lambda a, b: np.mean([x == y for x, y in zip(a, b)])
  assert len(set(first)) > 15  # of 50
  assert same(first, next_epoch) < 0.2 and same(first, next_seed) < 0.2


@pytest.mark.parametrize("mean, std", [((0.5,), (0.25,)), ((0.1, 0.9), (0.2, 0.7))])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_normalise_equals_numpy(images, mean, std, dtype):
  out = normalise(jnp.asarray(images), mean, std, dtype)
  expected = (images.astype(np.float64) / 255 - np.array(mean)) / np.array(std)
  assert out.dtype == dtype
  # Half an ulp of bfloat16 is 2**-9 of the value.
  np.testing.assert_allclose(
    np.float64(out), expected, atol=2e-6, rtol=0 if dtype == jnp.float32 else 2**-8
  )


# Mixtures.


def test_mixup_by_hand():
  own = own_share("mixup", jax.random.key(0), (4, 2, 2))
  assert own.shape == (4, 1, 1, 1) and len(set(own.ravel().tolist())) == 4
  own = jnp.array([1.0, 0.25, 0.5, 0.0]).reshape(4, 1, 1, 1)
  images = jnp.array([0.0, 8.0, 4.0, 2.0]).reshape(4, 1, 1, 1) * jnp.ones((4, 2, 2, 3))
  # Of images 0 and 3 the first keeps all, the last takes all; 1 and 2 share.
  np.testing.assert_array_equal(mixed(images, own)[:, 1, 1, 2], [0.0, 5.0, 6.0, 0.0])
  np.testing.assert_array_equal(mixed(jnp.uint8(images) + 1, own)[:, 0, 0, 0], [1, 6, 7, 1])
  labels = mixed_labels(jnp.array([0, 1, 2, 0]), own, 3)
  np.testing.assert_array_equal(labels, [[1, 0, 0], [0, 0.25, 0.75], [0, 0.5, 0.5], [1, 0, 0]])


def test_cutmix_takes_a_rectangle_of_the_others_share():
  count, height, width = 200, 12, 8
  own = np.asarray(own_share("cutmix", jax.random.key(3), (count, height, width)))
  assert own.shape == (count, height, width, 1) and set(np.unique(own)) == {0.0, 1.0}
  for each in own[..., 0] == 0:
    rows, columns = np.flatnonzero(each.any(1)), np.flatnonzero(each.any(0))
    # Its rows and columns are without a gap, and all of their pixels are the other image's.
    assert each.sum() == len(rows) * len(columns)
    for found in (rows, columns):
      np.testing.assert_array_equal(np.diff(found), 1)
  # The area is uniform before borders cut it: for the whole image it is 1/2, so less here.
  taken = 1 - own.mean((1, 2, 3))
  assert 0.2 < taken.mean() < 0.45 and taken.max() > 0.5
  # Centres are everywhere: every pixel is taken by some.
  assert (own.min(0) == 0).all()
  images = np.arange(count, dtype=np.float32).reshape(-1, 1, 1, 1) * np.ones((1, height, width, 1))
  found = np.asarray(mixed(jnp.asarray(images), own))
  np.testing.assert_array_equal(found, np.where(own == 1, images, images[::-1]))
  labels = mixed_labels(jnp.arange(count) % 2, own, 2)
  np.testing.assert_allclose(labels[np.arange(count), np.arange(count) % 2], 1 - taken, atol=1e-6)
