"""Images, their files, and what they are compared with."""

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image, ImageOps

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
  return 10 * np.log10(255**2 / max(np.mean((np.float64(a) - b) ** 2), 1e-9))


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
  return (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", header)
    + chunks
    + chunk(b"IDAT", data)
    + chunk(b"IEND", b"")
  )


def segment(jpeg, marker, payload):
  """The JPEG with one more segment, right behind its start."""
  return jpeg[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def exif(value, order="<", kind=3):
  """An EXIF block that holds nothing but an orientation."""
  content = struct.pack(order + ("HH" if kind == 3 else "I"), value, *([0] if kind == 3 else []))
  return (
    b"Exif\0\0"
    + (b"II" if order == "<" else b"MM")
    + struct.pack(order + "HI", 42, 8)
    + struct.pack(order + "HHHI", 1, ORIENTATION, kind, 1)
    + content
    + bytes(4)
  )


def stored(upright, orientation):
  """How a camera that says `orientation` stores an image, by the words of the EXIF standard."""
  row_0, column_0 = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
  }[orientation]
  if "bottom" in (row_0, column_0):
    upright = upright[::-1]
  if "right" in (row_0, column_0):
    upright = upright[:, ::-1]
  transposed = row_0 in ("left", "right")
  return np.ascontiguousarray(upright.swapaxes(0, 1) if transposed else upright)


def boxes(array, reduction):
  """Averages squares; those at the right and bottom may be cut."""
  height, width = (-(-n // reduction) for n in array.shape[:2])
  out = np.empty((height, width, 3))
  for y in range(height):
    for x in range(width):
      box = array[y * reduction : (y + 1) * reduction, x * reduction : (x + 1) * reduction]
      out[y, x] = box.mean((0, 1))
  return out
