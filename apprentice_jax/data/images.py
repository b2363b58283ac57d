"""Encoded images to RGB pixels: any common format, upright, and no more of them than are needed.

JPEGs are decoded by libjpeg-turbo (simplejpeg), which releases the interpreter's lock and can decode
at a half, a quarter or an eighth of the resolution (from the low frequencies of each block's discrete
cosine transform alone) in far less time. Everything else, and whatever that decoder does not take,
goes through Pillow.
"""

import contextlib
import io
from typing import NamedTuple, Optional

import numpy as np
from PIL import Image
import simplejpeg

from apprentice_jax.data import formats
from apprentice_jax.data.formats import SUFFIXES, why_not  # pylint: disable=unused-import

REDUCTIONS = (8, 4, 2)  # those that libjpeg-turbo has fast code for
_ORIENTATION = 0x0112  # the EXIF tag


class UnreadableImage(ValueError):
  """The bytes are no image, or only half of one; the message says what the decoder found."""


class Picture(NamedTuple):
  """An encoded image whose header has been read.

  Attributes:
    encoded: the file's bytes.
    height, width: of the upright image.
    orientation: EXIF's, 1 to 8, by which the decoded pixels are to be turned; 1 is upright.
    pillow: the opened image, where Pillow is to decode it.
  """
  encoded: bytes
  height: int
  width: int
  orientation: int = 1
  pillow: Optional[Image.Image] = None


def inspect(encoded: bytes) -> Picture:
  """Reads the header of an image file of any common format.

  Raises:
    UnreadableImage: it has none.
  """
  if encoded[:2] == b"\xff\xd8":
    try:
      height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
    except Exception:  # a KeyError where colours are sampled in a way that it has no name for
      height = width = colours = None
    # Pillow takes the others; and refuses a size that is no photo's but a damaged header's.
    if colours in ("YCbCr", "Gray", "RGB") and height * width <= 2 * Image.MAX_IMAGE_PIXELS:
      orientation = 1
      if _has_exif(encoded):  # to read it takes a hundred times as long, and few photos have it
        with contextlib.suppress(Exception):  # what Pillow finds wrong may be no matter here
          orientation = _orientation(Image.open(io.BytesIO(encoded)))
      return Picture(encoded, *((width, height) if orientation >= 5 else (height, width)), orientation)
  return _inspect_with_pillow(encoded)


def pixels(picture: Picture, reduction: int = 1) -> np.ndarray:
  """Decodes an image: greyscale, CMYK, palette and 16-bit ones become RGB, transparency is dropped.

  Args:
    picture: from `inspect`.
    reduction: 1 or one of REDUCTIONS: how many pixels, in each direction, one pixel stands for.

  Returns:
    uint8 (ceil(height / reduction), ceil(width / reduction), 3), upright.

  Raises:
    UnreadableImage: the image is damaged, or its values have no range (floats).
  """
  if picture.pillow is None:
    height, width = picture.height, picture.width
    if picture.orientation >= 5:
      height, width = width, height
    try:
      decoded = simplejpeg.decode_jpeg(
          picture.encoded, "RGB", min_height=-(-height // reduction),
          min_width=-(-width // reduction), min_factor=reduction)
      return _UPRIGHT[picture.orientation](decoded)
    except ValueError:  # strict about harmless flaws, too: Pillow decides
      picture = picture._replace(pillow=_inspect_with_pillow(picture.encoded).pillow)
  try:
    image = _reduced_jpeg(picture.encoded, reduction) if reduction > 1 and is_jpeg(picture) else picture.pillow
    image.load()
    image = _rgb(image)
  except UnreadableImage:
    raise
  except Exception as error:  # a damaged file makes Pillow raise anything
    raise UnreadableImage(_sentence(error)) from None
  decoded = _UPRIGHT[picture.orientation](np.asarray(image))
  if reduction == 1 or max(decoded.shape[:2]) < max(picture.height, picture.width):
    return decoded
  return np.asarray(Image.fromarray(decoded).reduce(reduction))


def _reduced_jpeg(encoded: bytes, reduction: int) -> Image.Image:
  """A JPEG that Pillow will decode at a reduction, as simplejpeg does: by libjpeg-turbo."""
  image = Image.open(io.BytesIO(encoded))
  image.draft(None, [max(side // reduction, 1) for side in image.size])
  return image


def is_jpeg(picture: Picture) -> bool:
  """Whether a picture is decoded at a reduction in less time than in full."""
  return picture.encoded[:2] == b"\xff\xd8"


def largest_reduction(side: float, needed: float) -> int:
  """The largest reduction that leaves ``needed`` pixels of ``side``; 1 if there is none."""
  return next((r for r in REDUCTIONS if side >= r * needed), 1)


def _has_exif(encoded: bytes) -> bool:
  """Whether a JPEG has an EXIF segment among the application and comment segments it begins with."""
  i = 2
  while i + 4 <= len(encoded) and encoded[i] == 0xFF and (
      0xE0 <= encoded[i + 1] <= 0xEF or encoded[i + 1] == 0xFE):
    if encoded[i + 4:i + 10] == b"Exif\0\0":
      return True
    i += 2 + int.from_bytes(encoded[i + 2:i + 4], "big")
  return False


def _inspect_with_pillow(encoded: bytes) -> Picture:
  if (kind := formats.container(encoded[:64])) and (lacking := formats.lacking(kind)):
    raise UnreadableImage(lacking)
  try:
    image = Image.open(io.BytesIO(encoded))
    if image.format in ("PNG", "TIFF"):
      image.load()  # a PNG's EXIF may follow its pixels; TIFFs are turned by Pillow as it loads them
  except Exception as error:  # see `pixels`
    raise UnreadableImage(_sentence(error)) from None
  orientation = _orientation(image)
  width, height = image.size[::-1] if orientation >= 5 else image.size
  return Picture(encoded, height, width, orientation, image)


def _orientation(image: Image.Image) -> int:
  try:
    found = image.getexif().get(_ORIENTATION, 1)
  except Exception:  # damaged EXIF is no reason to give up the image
    return 1
  return found if found in _UPRIGHT else 1


def _rgb(image: Image.Image) -> Image.Image:
  if image.mode.startswith("I"):  # 16 bits, which Pillow's own conversion would clip to 8
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
      raise UnreadableImage("its values are 32-bit integers, whose range is not known")
    image = Image.fromarray((values >> 8).astype(np.uint8))
  elif image.mode == "F":
    raise UnreadableImage("its values are floats, whose range is not known")
  elif image.mode == "P" and "transparency" in image.info:
    image = image.convert("RGBA")
  return image if image.mode == "RGB" else image.convert("RGB")


# What turns an image of each EXIF orientation upright.
_UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def _sentence(error: Exception) -> str:
  # Pillow's "cannot identify image file <_io.BytesIO object at 0x...>" names an address.
  return str(error).partition(" <")[0].rstrip(".") or type(error).__name__
