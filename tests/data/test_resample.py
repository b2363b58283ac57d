"""The resize against Pillow's own, on all pixels of the image."""

import io

import numpy as np
import pytest
from pictures import noise, save, smooth
from PIL import Image

from apprentice_jax.data import crops as cropping
from apprentice_jax.data.crops import Crops, Span


def black_and_white(height, width):
  """Noise as strong as 8 bits allow, so that a large reduction leaves some of it."""
  return 255 * (noise(height, width) >> 7)


def checks(height, width):
  y, x = np.mgrid[:height, :width]
  return np.repeat((20 + 215 * ((x // 5 + y // 5) % 2)).astype(np.uint8)[..., None], 3, axis=-1)


def whole(size):
  """Crops whose window is all of a square image, so that training and evaluation see the same."""
  return Crops(size, size, (1.0, 1.0), (1.0, 1.0), flip=False)


def seen(encoded, size):
  """What training, evaluation and Pillow make of an image."""
  found = np.zeros((2, size, size, 3), np.uint8)
  cropping.training_image(encoded, whole(size), 0, 0, 0, found[0])
  cropping.evaluation_image(encoded, whole(size), found[1])
  image = Image.open(io.BytesIO(encoded)).convert("RGB")
  return *found, np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


RATIOS = (0.3, 0.9, 1, 1.02, 1.5, 2, 2.3, 3, 4, 4.9, 5, 5.5, 6.1, 7.9, 9, 11.9, 12, 13.5, 19, 40)


LEAST = 2  # levels of deviation, of which rounding is no part that counts


# Without the weights' compensation, checks lose 14% and more, and smooth images 3% and more.
@pytest.mark.parametrize(
  "kind, tolerance",
  [(black_and_white, 0.05), (checks, 0.05), (smooth, 0.015)],
  ids=["noise", "checks", "smooth"],
)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [15, 32])
def test_training_and_evaluation_see_what_pillow_makes_of_a_window(
  kind, tolerance, file_format, size
):
  compared = 0
  for ratio in RATIOS:
    side = round(ratio * size)
    options = {"quality": 95, "subsampling": 0} if file_format == "JPEG" else {}
    image = kind(side, side)
    training, evaluation, expected = seen(save(image, file_format, **options), size)
    if expected.std() >= LEAST:  # Detail as strong as the filter leaves it.
      compared += 1
      for found in (training, evaluation):
        assert found.std() == pytest.approx(expected.std(), rel=tolerance, abs=0), ratio
    if side < 5 * size:  # In full.
      np.testing.assert_array_equal(evaluation, expected)
      np.testing.assert_allclose(training.astype(int), expected, rtol=0, atol=1)
  assert compared > len(RATIOS) / 2


@pytest.mark.parametrize("size", [1, 2, 7, 33])
@pytest.mark.parametrize(
  "height, width",
  [(1, 1), (1, 9), (9, 1), (2, 3), (8, 33), (33, 8), (40, 64), (64, 40), (5, 131), (131, 131)],
)
def test_any_part_of_any_image(size, height, width):
  image, random = noise(height, width), np.random.default_rng(size)
  out = np.empty((size, size, 3), np.uint8)
  for _ in range(5):
    top, bottom = sorted(random.integers(0, height + 1, 2))
    left, right = sorted(random.integers(0, width + 1, 2))
    if top == bottom or left == right:
      continue
    cropping.resample(image, 1, Span(top, bottom), Span(left, right), out)
    part = Image.fromarray(image[top:bottom, left:right])
    expected = part.resize((size, size), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(out.astype(int), np.asarray(expected), rtol=0, atol=1)


@pytest.mark.parametrize("reduced", [1, 2, 4])
def test_pixels_outside_have_no_weight(reduced):
  image = np.full((64, 64, 3), 255, np.uint8)
  image[16:48, 16:48] = smooth(32, 32) // 2  # On the borders of the squares.
  out = np.empty((4, 4, 3), np.uint8)
  span = Span(16, 48)
  averages = np.asarray(Image.fromarray(image).reduce(reduced))
  cropping.resample(averages, reduced, span, span, out)
  assert out.max() < 128


@pytest.mark.parametrize("reduced", [1, 2, 4])
@pytest.mark.parametrize("value", [0, 1, 128, 254, 255])
def test_one_colour_stays_what_it_is(reduced, value):
  out = np.empty((5, 5, 3), np.uint8)
  image = np.full((-(-61 // reduced), -(-77 // reduced), 3), value, np.uint8)
  cropping.resample(image, reduced, Span(3, 57), Span(1, 76), out)
  assert np.all(out == value)


def test_sharp_edges_stay_between_black_and_white():
  # Weights of reduced images reach below zero.
  image = np.zeros((64, 64, 3), np.uint8)
  image[:, 31:] = 255
  out = np.empty((8, 8, 3), np.uint8)
  cropping.resample(np.asarray(Image.fromarray(image).reduce(2)), 2, Span(0, 64), Span(0, 64), out)
  expected = np.asarray(Image.fromarray(image).resize((8, 8), Image.Resampling.BILINEAR))
  np.testing.assert_allclose(out.astype(int), expected, rtol=0, atol=6)
