"""Images that are decoded at a fraction of their size."""

import pytest
from pictures import ORIENTATION, boxes, decode, exif, near, noise, psnr, save, smooth, stored
from PIL import Image

from apprentice_jax.data import crops, images


@pytest.mark.parametrize("size", [(48, 64), (41, 63), (17, 8), (9, 100)], ids=str)
@pytest.mark.parametrize("reduction", images.REDUCTIONS)
def test_reduction_averages_squares(size, reduction):
  original = smooth(*size)
  near(decode(save(original, "PNG"), reduction), boxes(original, reduction), 1)
  encoded = save(original, quality=95, subsampling=0)
  reduced, whole = decode(encoded, reduction), boxes(decode(encoded), reduction)
  assert images.inspect(encoded).pillow is None
  # Pixels that are cut at the edge stand for what lies outside as well, and vary.
  inner = tuple(slice(n // reduction) for n in size)
  assert psnr(reduced[inner], whole[inner]) > 30
  near(reduced[inner].mean((0, 1)), whole[inner].mean((0, 1)), 2)


@pytest.mark.parametrize("reduction", images.REDUCTIONS)
@pytest.mark.parametrize(
  "size", [(1, 1), (1, 50), (50, 1), (2, 3), (7, 9), (8, 16), (15, 17)], ids=str
)
@pytest.mark.parametrize(
  "options",
  [dict(subsampling=0), dict(subsampling=2), dict(exif=exif(6)), dict(progressive=True)],
  ids=str,
)
def test_reduction_of_any_size(size, reduction, options):
  decode(save(noise(*size), **options), reduction)  # It checks the shape.


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("size", [(41, 63), (48, 64)], ids=str)
def test_margins_say_where_the_squares_of_a_turned_image_begin(size, file_format, orientation):
  upright, tags = smooth(*size), Image.Exif()
  tags[ORIENTATION] = orientation
  options = {"JPEG": dict(quality=98, subsampling=0), "WEBP": dict(lossless=True)}.get(
    file_format, {}
  )
  encoded = save(stored(upright, orientation), file_format, exif=tags, **options)
  for reduction in images.REDUCTIONS:
    top, left = images.margins(images.inspect(encoded), reduction)
    assert 0 <= top < reduction and 0 <= left < reduction
    # Without the squares that are cut, here or at the other end.
    begin = [-(-margin // reduction) for margin in (top, left)]
    inner = upright[begin[0] * reduction - top :, begin[1] * reduction - left :]
    inner = inner[: len(inner) // reduction * reduction, : inner.shape[1] // reduction * reduction]
    expected = boxes(inner, reduction)
    reduced = decode(encoded, reduction)[begin[0] :, begin[1] :][
      : len(expected), : expected.shape[1]
    ]
    assert psnr(reduced, expected) > 33


def test_largest_reduction():
  found = [
    images.largest_reduction(side, 100) for side in (50, 100, 199, 200, 399, 400, 799, 800, 10000)
  ]
  assert found == [1, 1, 1, 2, 2, 4, 4, 8, 8]


def test_reduction_of_training_windows():
  found = [crops.reduction(ratio) for ratio in (0.1, 1, 4.9, 5, 8, 11.9, 12, 100)]
  assert found == [1, 1, 1, 2, 2, 2, 4, 4]
