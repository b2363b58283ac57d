"""Every kind of image becomes upright RGB; whatever is no image is an UnreadableImage.

What is expected is either the array that the image was made of or Pillow's own decoding.
"""

import io
import struct
import zlib

import cv2
from hypothesis import given, settings, strategies as st
import numpy as np
from PIL import Image, ImageOps
import pytest

from apprentice_jax.data import images

ORIENTATION = 0x0112


def smooth(height, width, seed=0, channels=3):
  """Blurred noise: it survives JPEG, and no two parts of it and no two of its turns are alike."""
  r = np.random.default_rng(seed)
  coarse = r.integers(0, 256, (height // 8 + 3, width // 8 + 3, channels)).astype(np.float32)
  fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
  return fine.reshape(height, width, channels).clip(0, 255).round().astype(np.uint8)


def noise(height, width, channels=3, seed=0):
  r = np.random.default_rng(seed)
  shape = (height, width, channels) if channels else (height, width)
  return r.integers(0, 256, shape).astype(np.uint8)


def save(image, file_format="JPEG", **options):
  """The file of an image or array."""
  encoded = io.BytesIO()
  image = image if isinstance(image, Image.Image) else Image.fromarray(image)
  image.save(encoded, file_format, **options)
  return encoded.getvalue()


def decode(encoded, reduction=1):
  """Decodes, and checks what holds for every image: its type, and that the header told its size."""
  picture = images.inspect(encoded)
  decoded = images.pixels(picture, reduction)
  assert decoded.dtype == np.uint8
  expected = (-(-picture.height // reduction), -(-picture.width // reduction), 3)
  assert decoded.shape == expected
  return decoded


def pillow(encoded):
  return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB"))


def psnr(a, b):
  assert a.shape == b.shape
  return 10 * np.log10(255**2 / max(np.mean((np.float64(a) - b)**2), 1e-9))


def grey(values):
  return np.repeat(values[..., None], 3, axis=-1)


def near(a, b, tolerance):
  np.testing.assert_allclose(a.astype(int), b.astype(int), rtol=0, atol=tolerance)


def png(rows, depth, kind, chunks=b""):
  """A PNG of these rows of bytes, for what Pillow does not write; `kind` is the colour type."""
  def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

  rows = [bytes(row) for row in rows]
  channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
  width = len(rows[0]) * 8 // (depth * channels)
  header = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
  data = zlib.compress(b"".join(b"\0" + row for row in rows))
  return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunks + chunk(b"IDAT", data)
          + chunk(b"IEND", b""))


def segment(jpeg, marker, payload):
  """The JPEG with one more segment, right behind its start."""
  return jpeg[:2] + bytes([0xff, marker]) + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def exif(value, order="<", kind=3):
  """An EXIF block that holds nothing but an orientation."""
  content = struct.pack(order + ("HH" if kind == 3 else "I"), value, *([0] if kind == 3 else []))
  return (b"Exif\0\0" + (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
          + struct.pack(order + "HHHI", 1, ORIENTATION, kind, 1) + content + bytes(4))


def stored(upright, orientation):
  """How a camera that says `orientation` stores an image, by the words of the EXIF standard."""
  row_0, column_0 = {1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"),
                     4: ("bottom", "left"), 5: ("left", "top"), 6: ("right", "top"),
                     7: ("right", "bottom"), 8: ("left", "bottom")}[orientation]
  if "bottom" in (row_0, column_0):
    upright = upright[::-1]
  if "right" in (row_0, column_0):
    upright = upright[:, ::-1]
  transposed = row_0 in ("left", "right")
  return np.ascontiguousarray(upright.swapaxes(0, 1) if transposed else upright)


# JPEG.


@pytest.mark.parametrize("options", [
    dict(subsampling=0), dict(subsampling=1), dict(subsampling=2), dict(progressive=True),
    dict(quality=40), dict(quality=100, optimize=True), dict(restart_marker_rows=1),
    dict(keep_rgb=True)], ids=str)
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


PATCHES = np.array([[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255],
                    [40, 90, 160, 30], [200, 10, 100, 120], [0, 0, 0, 128]], np.uint8)  # C, M, Y, K


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
  encoded = encoded[:at] + b"\2" + encoded[at + 1:]
  near(decode(encoded), printed(patches(PATCHES)), 5)


def test_jpeg_of_uncommon_subsampling():
  # One colour sample for four rows: what turning a 4:1:1 image without decoding it leads to. A
  # row of blocks becomes such a column by another header.
  original = smooth(8, 96)
  original = grey(original[..., 0])
  ok, encoded = cv2.imencode(".jpg", original, [
      cv2.IMWRITE_JPEG_QUALITY, 95,
      cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411])
  encoded = encoded.tobytes()
  header = b"\xff\xc0\0\x11\x08" + struct.pack(">HH", 8, 96) + b"\3\1\x41"
  assert ok and encoded.count(header) == 1
  changed = encoded.replace(header, header[:5] + struct.pack(">HH", 96, 8) + b"\3\1\x14")
  column = original.reshape(8, 12, 8, 3).swapaxes(0, 1).reshape(96, 8, 3)
  near(decode(changed), column, 12)


@pytest.mark.parametrize("spoil", [
    lambda jpeg: jpeg + b"\0",
    lambda jpeg: jpeg + b"What an editor left behind. " * 100,
    lambda jpeg: jpeg + jpeg,
    lambda jpeg: jpeg[:-2] + b"abc" + jpeg[-2:],
    # Bytes where none belong, before the scan and before a table: "extraneous" to libjpeg.
    lambda jpeg: jpeg.replace(b"\xff\xda", b"\0\0\xff\xda", 1),
    lambda jpeg: jpeg.replace(b"\xff\xc4", b"\0\0\0\xff\xc4", 1),
    # And between two rows of the scan, which only decoding comes upon.
    lambda jpeg: jpeg.replace(b"\xff\xd0", b"abc\xff\xd0", 1),
], ids=["a byte", "text", "another image", "before the end", "before the scan", "before a table",
        "inside the scan"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_harmless_flaws_of_a_jpeg(spoil, orientation):
  encoded = save(smooth(48, 64), quality=95, restart_marker_rows=1)
  encoded = segment(encoded, 0xe1, exif(orientation))
  spoilt = spoil(encoded)
  assert spoilt != encoded
  near(decode(spoilt), decode(encoded), 2)
  assert psnr(decode(spoilt, 2), decode(encoded, 2)) > 30


def test_a_flaw_does_not_change_which_side_is_up():
  # XMP may hold an orientation as well. Whether or not it is followed, it has to be so however the
  # image is decoded: crops are chosen by the size that the header tells.
  xmp = (b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'>"
         b'<rdf:Description tiff:Orientation="6"/></x:xmpmeta>')
  encoded = segment(save(smooth(48, 64), quality=95, restart_marker_rows=1), 0xe1, xmp)
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
  for name, transparency in (("", None), (" and clear colour", 2),
                             (" and clearness", bytes([0, 255, 128, 7]))):
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
  yield "png 4 bits", png([[0x0f, 0x3a]], 4, 0), grey(np.array([[0, 255, 51, 170]], np.uint8))
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
  yield "tiff 32 bits of which 16 are used", save(wide.astype(np.int32), "TIFF"), grey(one)
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


@pytest.mark.parametrize("array, sentence", [
    (np.linspace(0, 1, 60, dtype=np.float32).reshape(6, 10),
     "its values are floats, whose range is not known"),
    (np.arange(60, dtype=np.int32).reshape(6, 10) * 10000,
     "its values are 32-bit integers, whose range is not known"),
    (np.arange(60, dtype=np.int32).reshape(6, 10) - 1,
     "its values are 32-bit integers, whose range is not known")])
def test_values_of_unknown_range_are_refused(array, sentence):
  picture = images.inspect(save(array, "TIFF"))
  with pytest.raises(images.UnreadableImage) as raised:
    images.pixels(picture)
  assert str(raised.value) == sentence


# Upright.


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format, options", [
    ("JPEG", dict(quality=95)), ("PNG", {}), ("TIFF", {}), ("WEBP", dict(lossless=True))])
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
  encoded = segment(save(Image.fromarray(stored(inks, orientation), "CMYK"), quality=98), 0xe1,
                    exif(orientation))
  assert psnr(decode(encoded), 255 - inks[..., :3]) > 27


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [3, 4])  # Whole numbers of 16 and of 32 bits.
def test_orientation_in_either_byte_order(order, kind):
  upright = smooth(40, 72)
  encoded = segment(save(stored(upright, 8), quality=98), 0xe1, exif(8, order, kind))
  assert psnr(decode(encoded), upright) > 27


DAMAGED = [b"", b"\0", b"II*\0", b"II*\0\x08\0\0\0", b"II*\0\x08\0\0\0\xff\xff",
           b"MM\0*\xff\xff\xff\xff", b"garbage here", exif(0)[6:], exif(9)[6:], exif(6)[6:-12],
           bytes(range(200))]


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
    decoded = decode(segment(whole, 0xe1, tags))
  assert psnr(decoded, original) > 27


# Less of them.


def boxes(array, reduction):
  """Averages squares; those at the right and bottom may be cut."""
  height, width = (-(-n // reduction) for n in array.shape[:2])
  out = np.empty((height, width, 3))
  for y in range(height):
    for x in range(width):
      box = array[y * reduction:(y + 1) * reduction, x * reduction:(x + 1) * reduction]
      out[y, x] = box.mean((0, 1))
  return out


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


# What is no image.


def unreadable(encoded, reduction=1):
  """The message; nothing but an UnreadableImage may come."""
  with pytest.raises(images.UnreadableImage) as raised:
    images.pixels(images.inspect(encoded), reduction)
  message = str(raised.value)
  assert message and "0x" not in message and "\n" not in message
  return message


@pytest.mark.parametrize("encoded", [
    b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", b"\xff\xd8" + bytes(100),
    b"<html>Not found</html>", bytes(1000), b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM",
    b"RIFF\x10\0\0\0WEBPVP8 ", b"II*\0", np.random.default_rng(0).bytes(5000),
    b"\xff\xd8" + np.random.default_rng(0).bytes(5000)], ids=range(15))
def test_garbage(encoded):
  unreadable(encoded)


def test_message_of_what_pillow_cannot_identify():
  assert unreadable(b"<html>") == "cannot identify image file"


@pytest.mark.parametrize("error", [EOFError(), MemoryError(), KeyError(3), OSError("Broken.")])
def test_message_of_whatever_pillow_raises(error, monkeypatch):
  def fail(*args):
    raise error

  monkeypatch.setattr(Image, "open", fail)
  expected = {KeyError: "3", OSError: "Broken"}.get(type(error), type(error).__name__)
  assert unreadable(b"no image") == expected


@pytest.mark.parametrize("reduction", [1, 4])
@pytest.mark.parametrize("options", [{}, dict(progressive=True), dict(exif=exif(6))],
                         ids=["baseline", "progressive", "turned"])
def test_truncated_jpeg(options, reduction):
  encoded = save(smooth(64, 96), quality=90, **options)
  lengths = {*range(0, len(encoded) - 1, 37), *range(len(encoded) - 20, len(encoded) - 1)}
  for length in sorted(lengths):
    unreadable(encoded[:length], reduction)


@pytest.mark.filterwarnings("ignore:Truncated File Read:UserWarning")
@pytest.mark.parametrize("file_format", ["PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP"])
def test_truncated_others(file_format):
  encoded = save(smooth(24, 40), file_format)
  for length in range(0, len(encoded) * 9 // 10, max(len(encoded) // 40, 1)):
    unreadable(encoded[:length])


def test_size_that_no_memory_holds_is_refused_before_decoding():
  # Two damaged bytes of a small file may ask for gigabytes.
  encoded = save(smooth(24, 40))
  header = b"\xff\xc0\0\x11\x08" + struct.pack(">HH", 24, 40)
  assert encoded.count(header) == 1
  with pytest.raises(images.UnreadableImage):
    images.inspect(encoded.replace(header, header[:5] + struct.pack(">HH", 60000, 60000)))


BASES = [save(smooth(24, 40), quality=90), save(smooth(24, 40), progressive=True),
         save(smooth(24, 40), exif=exif(6)), save(smooth(24, 40, channels=1)[..., 0]),
         save(Image.fromarray(noise(24, 40, 4), "CMYK"))]


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=600, deadline=None, derandomize=True)
@given(st.sampled_from(BASES), st.integers(0, 2**30), st.sampled_from([1, 2, 8]))
def test_damaged_bytes_raise_nothing_else(base, seed, reduction):
  r = np.random.default_rng(seed)  # Of even spread, where hypothesis would prefer the first bytes.
  damaged = bytearray(base)
  frame = max(base.find(b"\xff\xc0"), base.find(b"\xff\xc2"))
  for _ in range(r.integers(1, 4)):
    # The few bytes that say how the image is coded are worth as much as all others.
    at = frame + r.integers(2, 19) if r.random() < 0.3 else r.integers(0, len(damaged))
    if r.random() < 0.2:
      del damaged[at:at + r.integers(1, 6)]
    elif at < len(damaged):
      damaged[at] = r.integers(0, 256)
  try:
    picture = images.inspect(bytes(damaged))
    if picture.height * picture.width < 10**7:  # For the sake of the time it takes.
      decode(bytes(damaged), reduction)
  except images.UnreadableImage as error:
    assert str(error)
