"""Every kind of image becomes RGB.

What is expected is either the array that the image was made of or Pillow's own decoding.
"""

import struct

import cv2
import numpy as np
import pytest
from pictures import decode, exif, grey, near, noise, pillow, png, psnr, save, segment, smooth
from PIL import Image

from apprentice_jax.data import images

# JPEG.


@pytest.mark.parametrize(
  "options",
  [
    dict(subsampling=0),
    dict(subsampling=1),
    dict(subsampling=2),
    dict(progressive=True),
    dict(quality=40),
    dict(quality=100, optimize=True),
    dict(restart_marker_rows=1),
    dict(keep_rgb=True),
  ],
  ids=str,
)
@pytest.mark.parametrize("size", [(48, 64), (33, 51), (1, 1), (7, 90)], ids=str)
def test_jpeg_of_colours(options, size):
  original = smooth(*size)
  encoded = save(original, **{"quality": 92, **options})
  decoded = decode(encoded)
  near(decoded, pillow(encoded), 2)
  if size == (48, 64):
    assert psnr(decoded, original) > 25
  assert images.inspect(encoded).pillow is None  # It goes the fast way.


def test_progressive_jpeg_holds_the_same_as_a_baseline_one():
  original = smooth(40, 72)
  np.testing.assert_array_equal(decode(save(original, progressive=True)), decode(save(original)))


def test_jpeg_of_grey():
  original = smooth(48, 64, channels=1)[..., 0]
  encoded = save(original, quality=95)
  decoded = decode(encoded)
  assert images.inspect(encoded).pillow is None
  np.testing.assert_array_equal(decoded, grey(decoded[..., 0]))
  near(decoded, grey(original), 8)
  near(decoded, pillow(encoded), 1)


PATCHES = np.array(
  [
    [0, 0, 0, 0],
    [255, 0, 0, 0],
    [0, 255, 0, 0],
    [0, 0, 255, 0],
    [0, 0, 0, 255],
    [40, 90, 160, 30],
    [200, 10, 100, 120],
    [0, 0, 0, 128],
  ],
  np.uint8,
)  # C, M, Y, K


def printed(inks):
  """RGB of C, M, Y, K on white paper."""
  inks = inks.astype(np.float64)
  return ((255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255).round().astype(int)


def patches(colours):
  """A strip of squares, one JPEG block each or more, so that each keeps its colour."""
  return np.repeat(np.repeat(colours[None], 16, axis=0), 16, axis=1)


def test_jpeg_of_inks():
  encoded = save(Image.fromarray(patches(PATCHES), "CMYK"), quality=100)
  assert b"Adobe" in encoded  # Which stores 255 for no ink.
  near(decode(encoded), printed(patches(PATCHES)), 3)


def test_jpeg_of_inks_stored_as_brightness_and_colour():
  # Pillow does not write these (YCCK): give it the planes as if they were inks, then change the
  # Adobe segment's last byte, which says how they are to be read.
  planes = np.asarray(Image.fromarray(patches(PATCHES[:, :3])).convert("YCbCr"))
  inks = np.concatenate([255 - planes, patches(PATCHES[:, 3:])], axis=-1)
  encoded = save(Image.fromarray(inks, "CMYK"), quality=100)
  at = encoded.index(b"Adobe") + 11
  assert encoded[at] == 0
  encoded = encoded[:at] + b"\2" + encoded[at + 1 :]
  near(decode(encoded), printed(patches(PATCHES)), 5)


def test_jpeg_of_uncommon_subsampling():
  # One colour sample for four rows: what turning a 4:1:1 image without decoding it leads to. A
  # row of blocks becomes such a column by another header.
  original = smooth(8, 96)
  original = grey(original[..., 0])
  ok, encoded = cv2.imencode(
    ".jpg",
    original,
    [
      cv2.IMWRITE_JPEG_QUALITY,
      95,
      cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
      cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
    ],
  )
  encoded = encoded.tobytes()
  header = b"\xff\xc0\0\x11\x08" + struct.pack(">HH", 8, 96) + b"\3\1\x41"
  assert ok and encoded.count(header) == 1
  changed = encoded.replace(header, header[:5] + struct.pack(">HH", 96, 8) + b"\3\1\x14")
  column = original.reshape(8, 12, 8, 3).swapaxes(0, 1).reshape(96, 8, 3)
  near(decode(changed), column, 12)


@pytest.mark.parametrize(
  "spoil",
  [
    lambda jpeg: jpeg + b"\0",
    lambda jpeg: jpeg + b"What an editor left behind. " * 100,
    lambda jpeg: jpeg + jpeg,
    lambda jpeg: jpeg[:-2] + b"abc" + jpeg[-2:],
    # Bytes where none belong, before the scan and before a table: "extraneous" to libjpeg.
    lambda jpeg: jpeg.replace(b"\xff\xda", b"\0\0\xff\xda", 1),
    lambda jpeg: jpeg.replace(b"\xff\xc4", b"\0\0\0\xff\xc4", 1),
    # And between two rows of the scan, which only decoding comes upon.
    lambda jpeg: jpeg.replace(b"\xff\xd0", b"abc\xff\xd0", 1),
  ],
  ids=[
    "a byte",
    "text",
    "another image",
    "before the end",
    "before the scan",
    "before a table",
    "inside the scan",
  ],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_harmless_flaws_of_a_jpeg(spoil, orientation):
  encoded = save(smooth(48, 64), quality=95, restart_marker_rows=1)
  encoded = segment(encoded, 0xE1, exif(orientation))
  spoilt = spoil(encoded)
  assert spoilt != encoded
  near(decode(spoilt), decode(encoded), 2)
  assert psnr(decode(spoilt, 2), decode(encoded, 2)) > 30


def test_a_flaw_does_not_change_which_side_is_up():
  # XMP may hold an orientation as well. Whether or not it is followed, it has to be so however the
  # image is decoded: crops are chosen by the size that the header tells.
  xmp = (
    b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'>"
    b'<rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
  )
  encoded = segment(save(smooth(48, 64), quality=95, restart_marker_rows=1), 0xE1, xmp)
  near(decode(encoded.replace(b"\xff\xd0", b"abc\xff\xd0", 1)), decode(encoded), 2)


# Other formats, pixel for pixel.


def _palette(transparency=None):
  image = Image.fromarray(noise(6, 10, 0) % 7)
  image = Image.frombytes("P", image.size, image.tobytes())
  colours = noise(1, 7, 3, seed=1)
  image.putpalette(colours.tobytes())
  options = {} if transparency is None else {"transparency": transparency}
  return image, options, colours[0][np.asarray(image)]


def _exact():
  """(name, file, expected) of everything without loss."""
  rgb, one, other, alpha = noise(6, 10), noise(6, 10, 0, 1), noise(6, 10, 0, 2), noise(6, 10, 0, 3)
  wide = one.astype(np.uint16) << 8 | other
  rgba = np.dstack([rgb, alpha])
  yield "png grey", save(one, "PNG"), grey(one)
  yield "png rgb", save(rgb, "PNG"), rgb
  for name, transparency in (
    ("", None),
    (" and clear colour", 2),
    (" and clearness", bytes([0, 255, 128, 7])),
  ):
    image, options, expected = _palette(transparency)
    yield f"png palette{name}", save(image, "PNG", **options), expected
  yield "png rgba", save(rgba, "PNG"), rgb
  yield "png rgb clear colour", save(rgb, "PNG", transparency=tuple(rgb[2, 3].tolist())), rgb
  yield "png grey clear colour", save(one, "PNG", transparency=int(one[2, 3])), grey(one)
  la = np.stack([one, alpha], axis=-1)
  yield "png grey and alpha", save(Image.fromarray(la, "LA"), "PNG"), grey(one)
  bits = one > 127
  yield "png 1 bit", save(Image.fromarray(bits), "PNG"), grey(bits.astype(np.uint8) * 255)
  yield "png 2 bits", png([[0b00011011]], 2, 0), grey(np.array([[0, 85, 170, 255]], np.uint8))
  yield "png 4 bits", png([[0x0F, 0x3A]], 4, 0), grey(np.array([[0, 255, 51, 170]], np.uint8))
  yield "png 16 bits", save(wide, "PNG"), grey(one)
  yield "png 16 bits by hand", png(wide.astype(">u2").view(np.uint8), 16, 0), grey(one)
  rgb_16 = rgb.astype(">u2") << 8 | other[..., None]
  yield "png rgb 16 bits", png(rgb_16.astype(">u2").reshape(6, -1).view(np.uint8), 16, 2), rgb
  la_16 = np.stack([wide, np.full_like(wide, 999)], axis=-1).astype(">u2").reshape(6, -1)
  yield "png grey and alpha 16 bits", png(la_16.view(np.uint8), 16, 4), grey(one)
  little = save(Image.frombytes("I;16", (10, 6), wide.astype("<u2").tobytes()), "TIFF")
  big = save(Image.frombytes("I;16B", (10, 6), wide.astype(">u2").tobytes()), "TIFF")
  assert (little[:2], big[:2]) == (b"II", b"MM")
  yield "tiff 16 bits little-endian", little, grey(one)
  yield "tiff 16 bits big-endian", big, grey(one)
  yield "tiff rgb", save(rgb, "TIFF"), rgb
  yield "tiff rgb lzw", save(rgb, "TIFF", compression="tiff_lzw"), rgb
  yield "tiff rgba", save(rgba, "TIFF"), rgb
  yield "tiff grey", save(one, "TIFF"), grey(one)
  image, _, expected = _palette()
  yield "tiff palette", save(image, "TIFF"), expected
  yield "webp", save(rgb, "WEBP", lossless=True), rgb
  yield "webp rgba", save(rgba, "WEBP", lossless=True, exact=True), rgb
  yield "bmp rgb", save(rgb, "BMP"), rgb
  yield "bmp grey", save(one, "BMP"), grey(one)
  yield "bmp palette", save(image, "BMP"), expected
  yield "bmp 1 bit", save(Image.fromarray(bits), "BMP"), grey(bits.astype(np.uint8) * 255)
  yield "gif palette", save(image, "GIF"), expected
  yield "gif grey", save(one, "GIF"), grey(one)
  yield "gif clear colour", save(image, "GIF", transparency=2), expected
  others = [Image.fromarray(noise(6, 10, 0, seed)) for seed in (7, 8)]
  yield "gif that moves", save(image, "GIF", save_all=True, append_images=others), expected
  yield "ppm", save(rgb, "PPM"), rgb
  yield "pgm", save(one, "PPM"), grey(one)
  yield "pgm 16 bits", b"P5 10 6 65535\n" + wide.astype(">u2").tobytes(), grey(one)


EXACT = list(_exact())


@pytest.mark.parametrize("encoded, expected", [e[1:] for e in EXACT], ids=[e[0] for e in EXACT])
def test_pixel_for_pixel(encoded, expected):
  np.testing.assert_array_equal(decode(encoded), expected)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("encoded", [e[1] for e in EXACT], ids=[e[0] for e in EXACT])
def test_nothing_warns(encoded):
  decode(encoded)


def test_webp_with_loss():
  original = smooth(48, 64)
  assert psnr(decode(save(original, "WEBP", quality=95)), original) > 28
