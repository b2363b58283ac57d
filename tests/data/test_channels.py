"""Values of other kinds than 8 bits a channel: right ones, or a sentence.

The files are made by hand, so that the expected values are the ones written into them.
"""

import io
import struct

import numpy as np
import pytest
from pictures import decode, grey, noise, png, save
from PIL import Image

from apprentice_jax.data import channels, images
from apprentice_jax.errors import UnreadableImage

BITS, COMPRESSION, PHOTOMETRIC, SAMPLE_FORMAT, EXTRA = 258, 259, 262, 339, 338


def tiff(values, bits, photometric=1, order="<", sample_format=1, extra=()):
  """An uncompressed TIFF of (height, width) or (height, width, channels), with the bytes of
  `values`."""
  height, width, *rest = values.shape
  samples, data = (rest or [1])[0], packed(values.reshape(height, -1), bits, order)
  entries = [
    (256, 4, [width]),
    (257, 4, [height]),
    (BITS, 3, [bits] * samples),
    (COMPRESSION, 3, [1]),
    (PHOTOMETRIC, 3, [photometric]),
    (273, 4, [8]),
    (277, 3, [samples]),
    (278, 4, [height]),
    (279, 4, [len(data)]),
  ]
  entries += [(EXTRA, 3, list(extra))] if extra else []
  entries += [(SAMPLE_FORMAT, 3, [sample_format] * samples)]
  directory = 8 + len(data) + len(data) % 2
  far, later = directory + 2 + 12 * len(entries) + 4, b""
  lines = struct.pack(order + "H", len(entries))
  for tag, kind, numbers in entries:
    content = struct.pack(order + "HI"[kind == 4] * len(numbers), *numbers)
    if len(content) > 4:
      content, later = struct.pack(order + "I", far + len(later)), later + content
    lines += struct.pack(order + "HHI", tag, kind, len(numbers)) + content.ljust(4, b"\0")
  head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, directory)
  return head + data + bytes(len(data) % 2) + lines + bytes(4) + later


def packed(rows, bits, order):
  if bits >= 8 and bits != 12:
    kind = rows.dtype.kind
    return rows.astype(f"{order}{kind}{bits // 8}").tobytes()
  digits = (rows[..., None] >> np.arange(bits)[::-1]) & 1  # Each row begins with a byte of its own.
  return np.packbits(digits.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


def numbers(bits, *shape, seed=0):
  return np.random.default_rng(seed).integers(0, 1 << bits, shape)


def message(encoded):
  with pytest.raises(UnreadableImage) as raised:
    images.pixels(images.inspect(encoded))
  return str(raised.value)


@pytest.mark.parametrize("photometric", [0, 1], ids=["white is zero", "black is zero"])
@pytest.mark.parametrize(
  "bits, order", [(1, "<"), (2, "<"), (4, ">"), (8, "<"), (8, ">"), (12, "<"), (16, "<"), (16, ">")]
)
def test_grey_tiffs(bits, order, photometric):
  values = numbers(bits, 6, 10)
  encoded = tiff(values, bits, photometric, order)
  try:
    found = decode(encoded)
  except UnreadableImage:
    # Pillow does not open these two.
    assert photometric == 0 and (bits == 12 or (bits, order) == (16, ">"))
    return
  whole = (values >> bits - 8) if bits >= 8 else values * (255 // ((1 << bits) - 1))
  np.testing.assert_array_equal(
    found, grey((whole if photometric else 255 - whole).astype(np.uint8))
  )


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [8, 16])
def test_compressed_grey_tiffs(bits, photometric, compression):
  values = numbers(bits, 6, 10).astype(np.uint8 if bits == 8 else np.uint16)
  # Pillow turns what it writes as white-is-zero in 8 bits, and not in 16.
  encoded = save(
    Image.fromarray(values), "TIFF", compression=compression, tiffinfo={262: photometric}
  )
  expected = (values >> bits - 8).astype(np.uint8)
  stored = np.asarray(Image.open(io.BytesIO(encoded)))
  if bits == 16 and photometric == 0:
    np.testing.assert_array_equal(stored, values)
    expected = 255 - expected
  np.testing.assert_array_equal(decode(encoded), grey(expected))


@pytest.mark.parametrize("order", "<>")
def test_colour_tiffs_of_16_bits(order):
  values = numbers(16, 6, 10, 3)
  expected = (values >> 8).astype(np.uint8)
  np.testing.assert_array_equal(decode(tiff(values, 16, 2, order)), expected)
  values = numbers(16, 6, 10, 4)
  encoded = tiff(values, 16, 2, order, extra=(2,))
  np.testing.assert_array_equal(decode(encoded), (values[..., :3] >> 8).astype(np.uint8))


@pytest.mark.parametrize("order", "<>")
def test_inks_of_tiffs(order):
  inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255]]])
  expected = [[[255, 255, 255], [0, 255, 255], [255, 0, 255], [255, 255, 0], [0, 0, 0]]]
  np.testing.assert_array_equal(decode(tiff(inks, 8, 5, order)), expected)


@pytest.mark.parametrize(
  "values, bits, sample_format, sentence",
  [
    (numbers(31, 6, 10), 32, 1, channels.WIDE),
    (numbers(8, 6, 10), 32, 1, channels.WIDE),
    (numbers(16, 6, 10), 32, 1, channels.WIDE),
    (numbers(31, 6, 10), 32, 2, channels.WIDE),
    (numbers(16, 6, 10) - 32768, 16, 2, channels.SIGNED),
    (numbers(15, 6, 10), 16, 2, channels.SIGNED),
    (numbers(8, 6, 10) - 128, 8, 2, channels.SIGNED),
    (np.random.default_rng(0).random((6, 10), np.float32), 32, 3, channels.FLOATS),
  ],
)
def test_values_of_unknown_range_are_refused(values, bits, sample_format, sentence):
  assert message(tiff(values, bits, sample_format=sample_format)) == sentence


def test_floats_and_integers_of_other_formats_are_refused():
  assert message(b"Pf\n2 1\n-1\n" + np.ones(2, "<f4").tobytes()) == channels.FLOATS
  assert message(save(numbers(16, 6, 10).astype(np.int32), "TIFF")) == channels.WIDE


def _of_16_bits(values):
  """Files that say 16 bits, of grey and of colour."""
  colour = np.repeat(values[..., None], 3, axis=-1)
  yield tiff(values, 16)
  yield tiff(values, 16, order=">")
  yield save(values.astype(np.uint16), "PNG")
  yield tiff(colour, 16, 2)
  yield png(colour.reshape(len(values), -1).astype(">u2").view(np.uint8), 16, 2)
  yield b"P5 10 6 65535\n" + values.astype(">u2").tobytes()


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("kind", range(6))
def test_16_bits_that_would_come_out_black_are_refused(bits, kind):
  assert message(list(_of_16_bits(numbers(bits, 6, 10)))[kind]) == channels.DARK
  # One bright pixel, and the file is taken at its word.
  values = numbers(bits, 6, 10)
  values[2, 3] = 4096
  decoded = decode(list(_of_16_bits(values))[kind])
  assert decoded.max() == decoded[2, 3, 0] == 16


def test_black_is_black():
  black = np.zeros((6, 10), np.uint16)
  for encoded in (*_of_16_bits(black), tiff(black, 8), tiff(black, 12)):
    assert not decode(encoded).any()


def _with_opacity(values):
  """Opaque files of 16 bits: of red, green and blue in both orders of bytes, and of grey."""
  opaque = np.full((*values.shape, 1), 65535)
  for count, kind in ((3, 6), (1, 4)):
    channels_of = np.dstack([*[values] * count, opaque])
    rows = channels_of.reshape(len(values), -1).astype(">u2").view(np.uint8)
    yield png(rows, 16, kind)
    if count == 3:
      yield from (tiff(channels_of, 16, 2, order, extra=(2,)) for order in "<>")


@pytest.mark.parametrize("kind", range(4))
def test_opacity_makes_black_no_lighter(kind):
  assert not decode(list(_with_opacity(np.zeros((6, 10), int)))[kind]).any()
  for bits in (8, 12):
    assert message(list(_with_opacity(numbers(bits, 6, 10)))[kind]) == channels.DARK


def test_one_value_above_0_is_dark_and_not_black():
  values = np.zeros((6, 10, 3), int)
  values[4, 5, 2] = 1  # the smallest that there is, of one channel
  assert message(tiff(values, 16, 2)) == channels.DARK


def test_black_ink_of_16_bits_is_black():
  inks = np.dstack([np.zeros((6, 10, 3), int), np.full((6, 10, 1), 65535)])
  assert not decode(tiff(inks, 16, 5)).any()


def test_pgms_are_stretched_by_their_largest_value():
  values = numbers(12, 6, 10)
  np.testing.assert_allclose(
    decode(b"P5 10 6 4095\n" + values.astype(">u2").tobytes()).astype(int),
    grey(values * 255 // 4095),
    rtol=0,
    atol=1,
  )


def test_palette_of_colours_and_opacity():
  colours, places = noise(1, 16, 3)[0], numbers(4, 6, 10).astype(np.uint8)
  image = Image.fromarray(np.stack([places, noise(6, 10, 0)], axis=-1), "LA")
  image = Image.frombytes("PA", (10, 6), image.tobytes())
  image.putpalette(colours.tobytes())
  np.testing.assert_array_equal(np.asarray(channels.rgb(image, b"")), colours[places])


def test_first_of_several_images():
  pictures = [Image.fromarray(noise(6, 10, seed=seed)) for seed in range(3)]
  for file_format, options in (("TIFF", {}), ("WEBP", dict(lossless=True)), ("PNG", {})):
    encoded = save(pictures[0], file_format, save_all=True, append_images=pictures[1:], **options)
    np.testing.assert_array_equal(decode(encoded), np.asarray(pictures[0]))


@pytest.mark.parametrize("orientation", [1, 6])
def test_whole_image_in_each_number_of_channels(orientation):
  colour, opacity = noise(6, 10), noise(6, 10, 0, seed=1)
  tags = Image.Exif()
  tags[0x0112] = orientation
  encoded = save(np.dstack([colour, opacity]), "PNG", exif=tags)
  if orientation == 6:
    colour, opacity = np.rot90(colour, -1), np.rot90(opacity, -1)
  luma = (colour @ [0.299, 0.587, 0.114])[..., None]
  np.testing.assert_array_equal(images.whole(encoded, 3), colour)
  np.testing.assert_allclose(images.whole(encoded, 1).astype(int), luma, rtol=0, atol=0.51)
  np.testing.assert_array_equal(images.whole(encoded, 4), np.dstack([colour, opacity]))
  opaque = images.whole(save(noise(6, 10), "JPEG"), 4)
  assert opaque.shape == (6, 10, 4) and np.all(opaque[..., 3] == 255)
  sixteen = save(numbers(16, 6, 10).astype(np.uint16), "PNG")
  np.testing.assert_array_equal(images.whole(sixteen, 1)[..., 0], numbers(16, 6, 10) >> 8)


@pytest.mark.filterwarnings("ignore:Image size")  # As `images` does, but pytest undoes it.
def test_more_pixels_than_are_read(monkeypatch):
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
  assert images.pixels(images.inspect(save(noise(10, 15), "PNG"))).shape == (10, 15, 3)
  for file_format in ("PNG", "JPEG"):
    assert message(save(noise(20, 15), file_format)) == "it has more than 200 pixels: reduce it"
