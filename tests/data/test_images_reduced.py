"""Images that are decoded at a fraction of their size."""

import pytest

from apprentice_jax.data import images
from pictures import boxes, decode, exif, near, noise, psnr, save, smooth


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
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 3), (7, 9), (8, 16), (15, 17)],
                         ids=str)
@pytest.mark.parametrize("options", [dict(subsampling=0), dict(subsampling=2),
                                     dict(exif=exif(6)), dict(progressive=True)], ids=str)
def test_reduction_of_any_size(size, reduction, options):
  decode(save(noise(*size), **options), reduction)  # It checks the shape.


def test_largest_reduction():
  found = [images.largest_reduction(side, 100) for side in (50, 100, 199, 200, 399, 400, 799, 800,
                                                            10000)]
  assert found == [1, 1, 1, 2, 2, 4, 4, 8, 8]
