"""Crops against a plain version of each: decode everything, cut, resize."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from apprentice_jax.data import crops as cropping
from apprentice_jax.data import images
from apprentice_jax.data.crops import Crops
from apprentice_jax.errors import UnreadableImage

ORIENTATION = 0x0112


def smooth(height, width, seed=0, grain=16):
  """Blurred noise with one colour over another, so that any shift, turn or mirroring shows."""
  r = np.random.default_rng(seed)
  coarse = r.integers(0, 256, (height // grain + 3, width // grain + 3, 3)).astype(np.float32)
  fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
  return fine.clip(0, 255).round().astype(np.uint8)


def noise(height, width, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def save(array, file_format="PNG", **options):
  encoded = io.BytesIO()
  Image.fromarray(array).save(encoded, file_format, **options)
  return encoded.getvalue()


def turned(array, orientation, file_format):
  """A file that says it is to be turned."""
  tags = Image.Exif()
  tags[ORIENTATION] = orientation
  options = {} if file_format == "PNG" else {"quality": 97, "subsampling": 0}
  return save(array, file_format, exif=tags, **options)


def upright(encoded):
  return ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB")


def psnr(a, b):
  assert a.shape == b.shape
  return 10 * np.log10(255**2 / max(np.mean((np.float64(a) - b) ** 2), 1e-9))


def decoded(monkeypatch):
  """The reductions that images are decoded at from now on, and what that makes of them."""
  found, pixels = [], images.pixels

  def spy(picture, reduction=1):
    found.append((reduction, pixels(picture, reduction)))
    return found[-1][1]

  monkeypatch.setattr(images, "pixels", spy)
  return found


# Training.


def plain_training_image(encoded, crops, seed, epoch, index):
  """torchvision's RandomResizedCrop of the same window, with its antialiasing."""
  image = upright(encoded)
  draws = cropping.uniforms(seed, epoch, index)
  top, left, height, width = cropping.random_window(image.height, image.width, crops, draws)
  part = image.crop((left, top, left + width, top + height))
  resized = np.asarray(part.resize((crops.size, crops.size), Image.Resampling.BILINEAR))
  mirrored = crops.flip and draws[10, 0] < 0.5
  return resized[:, ::-1] if mirrored else resized


def training_image(encoded, crops, seed, epoch, index):
  """Made twice, over different fillings: they tell if not all of it is written."""
  outs = [np.full((crops.size, crops.size, 3), filling, np.uint8) for filling in (0, 255)]
  for out in outs:
    assert cropping.training_image(encoded, crops, seed, epoch, index, out) is None
  np.testing.assert_array_equal(*outs)
  return outs[0]


@pytest.mark.parametrize(
  "size",
  [(60, 90), (90, 60), (33, 47), (64, 64), (3, 70), (70, 3), (1, 1), (5, 4), (160, 170)],
  ids=str,
)
@pytest.mark.parametrize(
  "crops",
  [
    Crops(size=48),
    Crops(size=48, flip=False),
    Crops(size=51, flip=False),
    Crops(size=46, area=(0.5, 1.0), ratio=(1.0, 1.0)),
  ],
  ids=str,
)
def test_training_image_equals_torchvisions(size, crops, monkeypatch):
  encoded, found = save(noise(*size)), decoded(monkeypatch)
  for index in range(6):
    image = training_image(encoded, crops, 7, 2, index)
    expected = plain_training_image(encoded, crops, 7, 2, index)
    np.testing.assert_allclose(image.astype(int), expected, rtol=0, atol=1)  # Pillow rounds twice.
  assert {reduction for reduction, _ in found} == {1}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_training_image_is_upright(orientation, file_format):
  encoded, crops = turned(smooth(60, 90), orientation, file_format), Crops(size=48)
  for index in range(4):
    expected = plain_training_image(encoded, crops, 0, 0, index)
    np.testing.assert_allclose(
      training_image(encoded, crops, 0, 0, index).astype(int), expected, rtol=0, atol=2
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
  "file_format, size", [("JPEG", (328, 496)), ("PNG", (331, 493)), ("JPEG", (331, 493))]
)
def test_training_image_at_a_reduction(orientation, file_format, size, monkeypatch):
  # Windows lie anywhere in the squares that are averaged, which a turned image begins with a part
  # of.
  encoded, crops = turned(smooth(*size, grain=40), orientation, file_format), Crops(size=24)
  found = decoded(monkeypatch)
  for index in range(9):
    image = training_image(encoded, crops, 0, 0, index)
    assert psnr(image, plain_training_image(encoded, crops, 0, 0, index)) > 45
  assert {reduction for reduction, _ in found} == ({2, 4} if file_format == "JPEG" else {1, 4})


def test_training_image_is_decoded_at_the_reduction_that_its_ratio_allows(monkeypatch):
  encoded, crops = save(smooth(400, 500), "JPEG"), Crops(size=30)
  found, out = decoded(monkeypatch), np.empty((30, 30, 3), np.uint8)
  for index in range(50):
    window = cropping.random_window(400, 500, crops, cropping.uniforms(0, 0, index))
    cropping.training_image(encoded, crops, 0, 0, index, out)
    reduction, whole = found[-1]
    assert whole.shape == (-(-400 // reduction), -(-500 // reduction), 3)
    ratio = min(window.height, window.width) / 30
    assert reduction == (4 if ratio >= 12 else 2 if ratio >= 5 else 1)
  assert {reduction for reduction, _ in found} == {1, 2, 4}


def test_training_image_depends_on_seed_epoch_and_index_alone():
  encoded, crops = save(smooth(60, 90)), Crops(size=16)
  first = training_image(encoded, crops, 1, 2, 3)
  others = [training_image(encoded, crops, *which) for which in ((2, 2, 3), (1, 3, 3), (1, 2, 4))]
  assert all(psnr(other, first) < 30 for other in others)
  np.random.seed(3)
  np.testing.assert_array_equal(training_image(encoded, crops, 1, 2, 3), first)


def test_every_other_image_is_mirrored():
  ramp = np.tile(np.arange(90, dtype=np.uint8)[None, :, None] * 2, (60, 1, 3))
  encoded, count = save(ramp), 400
  rising = lambda crops, i: np.all(
    np.diff(training_image(encoded, crops, 0, 0, i)[4, :, 0].astype(int)) >= 0
  )
  share = np.mean([rising(Crops(size=8), i) for i in range(count)])
  assert abs(share - 0.5) < 5 * 0.5 / np.sqrt(count)
  assert all(rising(Crops(size=8, flip=False), i) for i in range(40))


# Evaluation.


def plain_evaluation_image(encoded, crops):
  """torchvision's Resize(crops.resize) and CenterCrop(crops.size)."""
  image = upright(encoded)
  width, height = image.size
  short, long = min(image.size), max(image.size)
  sides = crops.resize, int(crops.resize * long / short)
  image = image.resize(sides if width <= height else sides[::-1], Image.Resampling.BILINEAR)
  left = int(round((image.width - crops.size) / 2))
  top = int(round((image.height - crops.size) / 2))
  return np.asarray(image.crop((left, top, left + crops.size, top + crops.size)))


def evaluation_image(encoded, crops):
  outs = [np.full((crops.size, crops.size, 3), filling, np.uint8) for filling in (0, 255)]
  for out in outs:
    assert cropping.evaluation_image(encoded, crops, out) is None
  np.testing.assert_array_equal(*outs)
  return outs[0]


@pytest.mark.parametrize(
  "height, width",
  [
    (70, 110),
    (110, 70),
    (64, 64),
    (65, 64),
    (64, 65),
    (100, 101),
    (40, 40),
    (40, 90),
    (90, 40),
    (20, 31),
    (7, 5),
    (1, 1),
    (1, 3),
    (3, 200),
    (159, 201),
    (159, 159),
  ],
)
@pytest.mark.parametrize(
  "crops",
  [
    Crops(size=56, resize=64),
    Crops(size=41, resize=64),
    Crops(size=64, resize=64),
    Crops(size=31, resize=40),
  ],
  ids=str,
)
def test_evaluation_image_equals_torchvisions(height, width, crops, monkeypatch):
  encoded, found = save(noise(height, width)), decoded(monkeypatch)
  expected = plain_evaluation_image(encoded, crops)
  np.testing.assert_allclose(evaluation_image(encoded, crops).astype(int), expected, rtol=0, atol=2)
  assert {reduction for reduction, _ in found} == {1}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
@pytest.mark.parametrize(
  "size, quality",
  [
    ((60, 90), 38),
    ((424, 632), 38),  # Below and at a reduction.
    # Pixels that are cut by the edge come to lie at the other one, and shift the rest by a part.
    ((421, 633), 27),
  ],
  ids=str,
)
def test_evaluation_image_is_upright(orientation, file_format, size, quality):
  grain = min(size) // 6
  encoded = turned(smooth(*size, grain=grain), orientation, file_format)
  crops = Crops(size=42, resize=50)
  found, expected = evaluation_image(encoded, crops), plain_evaluation_image(encoded, crops)
  assert psnr(found, expected) > quality
  for wrong in (expected[::-1], expected[:, ::-1], expected.swapaxes(0, 1)):
    assert psnr(found, wrong) < 25


@pytest.mark.parametrize(
  "height, width, reduction",
  [
    (159, 200, 1),
    (160, 240, 2),
    (241, 160, 2),
    (319, 400, 2),
    (320, 320, 4),
    (321, 454, 4),
    (639, 667, 4),
    (641, 700, 8),
    (900, 643, 8),
  ],
)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_evaluation_image_of_large_photos(height, width, reduction, file_format, monkeypatch):
  crops, photo = Crops(size=18, resize=20), smooth(height, width, grain=max(height, width) // 8)
  encoded = save(
    photo, file_format, **({"quality": 97, "subsampling": 0} if file_format == "JPEG" else {})
  )
  expected = plain_evaluation_image(encoded, crops)
  found = decoded(monkeypatch)
  image = evaluation_image(encoded, crops)
  assert psnr(image, expected) > 46
  assert {r for r, _ in found} == {reduction if file_format == "JPEG" else 1}
  if file_format == "PNG":  # which no decoder reduces: torchvision's numbers
    np.testing.assert_allclose(image.astype(int), expected, rtol=0, atol=2)


@pytest.mark.parametrize(
  "file",
  [b"", b"no image", save(noise(90, 90), "JPEG")[:2000]],
  ids=["empty", "garbage", "truncated"],
)
def test_unreadable_images_leave_the_output_alone(file):
  out = np.full((8, 8, 3), 77, np.uint8)
  with pytest.raises(UnreadableImage):
    cropping.evaluation_image(file, Crops(size=8, resize=10), out)
  with pytest.raises(UnreadableImage):
    cropping.training_image(file, Crops(size=8), 0, 0, 0, out)
  assert np.all(out == 77)
