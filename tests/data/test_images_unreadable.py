"""Whatever is no image is an UnreadableImage."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import decode, exif, noise, save, smooth
from PIL import Image

from apprentice_jax.data import images
from apprentice_jax.errors import UnreadableImage


def unreadable(encoded, reduction=1):
  """The message; nothing but an UnreadableImage may come."""
  with pytest.raises(UnreadableImage) as raised:
    images.pixels(images.inspect(encoded), reduction)
  message = str(raised.value)
  assert message and "0x" not in message and "\n" not in message
  return message


@pytest.mark.parametrize(
  "encoded",
  [
    b"",
    b"\xff",
    b"\xff\xd8",
    b"\xff\xd8\xff",
    b"\xff\xd8\xff\xd9",
    b"\xff\xd8" + bytes(100),
    b"<html>Not found</html>",
    bytes(1000),
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"BM",
    b"RIFF\x10\0\0\0WEBPVP8 ",
    b"II*\0",
    np.random.default_rng(0).bytes(5000),
    b"\xff\xd8" + np.random.default_rng(0).bytes(5000),
  ],
  ids=range(15),
)
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
@pytest.mark.parametrize(
  "options",
  [{}, dict(progressive=True), dict(exif=exif(6))],
  ids=["baseline", "progressive", "turned"],
)
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
  with pytest.raises(UnreadableImage):
    images.inspect(encoded.replace(header, header[:5] + struct.pack(">HH", 60000, 60000)))


BASES = [
  save(smooth(24, 40), quality=90),
  save(smooth(24, 40), progressive=True),
  save(smooth(24, 40), exif=exif(6)),
  save(smooth(24, 40, channels=1)[..., 0]),
  save(Image.fromarray(noise(24, 40, 4), "CMYK")),
]


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
      del damaged[at : at + r.integers(1, 6)]
    elif at < len(damaged):
      damaged[at] = r.integers(0, 256)
  try:
    picture = images.inspect(bytes(damaged))
    if picture.height * picture.width < 10**7:  # For the sake of the time it takes.
      decode(bytes(damaged), reduction)
  except UnreadableImage as error:
    assert str(error)
