"""Every image becomes upright, whatever its EXIF block says."""

import numpy as np
import pytest
from pictures import (
  ORIENTATION,
  boxes,
  decode,
  exif,
  near,
  pillow,
  psnr,
  save,
  segment,
  smooth,
  stored,
)
from PIL import Image

from apprentice_jax.data import images


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
  "file_format, options",
  [("JPEG", dict(quality=95)), ("PNG", {}), ("TIFF", {}), ("WEBP", dict(lossless=True))],
)
def test_upright(orientation, file_format, options):
  upright = smooth(40, 72)
  tags = Image.Exif()
  tags[ORIENTATION] = orientation
  encoded = save(stored(upright, orientation), file_format, exif=tags, **options)
  picture = images.inspect(encoded)
  assert (picture.height, picture.width) == (40, 72)
  decoded = decode(encoded)
  near(decoded, pillow(encoded), 2)
  if file_format == "JPEG":
    assert psnr(decoded, upright) > 27
  else:
    np.testing.assert_array_equal(decoded, upright)
  for reduction in images.REDUCTIONS:  # 40 and 72 are multiples of all of them.
    reduced = decode(encoded, reduction)
    assert psnr(reduced, boxes(upright, reduction)) > 30


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_where_pillow_decodes_a_jpeg(orientation):
  inks = np.concatenate([smooth(40, 72), np.zeros((40, 72, 1), np.uint8)], axis=-1)
  encoded = segment(
    save(Image.fromarray(stored(inks, orientation), "CMYK"), quality=98), 0xE1, exif(orientation)
  )
  assert psnr(decode(encoded), 255 - inks[..., :3]) > 27


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [3, 4])  # Whole numbers of 16 and of 32 bits.
def test_orientation_in_either_byte_order(order, kind):
  upright = smooth(40, 72)
  encoded = segment(save(stored(upright, 8), quality=98), 0xE1, exif(8, order, kind))
  assert psnr(decode(encoded), upright) > 27


DAMAGED = [
  b"",
  b"\0",
  b"II*\0",
  b"II*\0\x08\0\0\0",
  b"II*\0\x08\0\0\0\xff\xff",
  b"MM\0*\xff\xff\xff\xff",
  b"garbage here",
  exif(0)[6:],
  exif(9)[6:],
  exif(6)[6:-12],
  bytes(range(200)),
]


@pytest.mark.filterwarnings("ignore:.*EXIF data:UserWarning")  # Pillow's, and it is right.
@pytest.mark.parametrize("tags", DAMAGED, ids=range(len(DAMAGED)))
@pytest.mark.parametrize("kind", ["JPEG", "JPEG with a flaw", "CMYK", "PNG", "WEBP"])
def test_damaged_exif_costs_no_image(tags, kind):
  original, tags = smooth(40, 72), b"Exif\0\0" + tags
  if kind in ("PNG", "WEBP"):
    decoded = decode(save(original, kind, exif=tags))
  else:
    inks = np.concatenate([255 - original, np.zeros((40, 72, 1), np.uint8)], axis=-1)
    whole = save(Image.fromarray(inks, "CMYK") if kind == "CMYK" else original, quality=98)
    if kind == "JPEG with a flaw":
      whole = whole.replace(b"\xff\xda", b"\0\0\xff\xda", 1)
    decoded = decode(segment(whole, 0xE1, tags))
  assert psnr(decoded, original) > 27
