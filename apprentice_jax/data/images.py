"""Encoded images to RGB pixels: any common format, upright, and no more of them than are needed.

libjpeg-turbo (simplejpeg) decodes JPEGs and lets go of the interpreter's lock. It can decode at a
half, a quarter or an eighth of the resolution in less time. A pixel is then the average of a
square. Pillow decodes everything else, and whatever that decoder does not take.
"""

import contextlib
import io
import warnings
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from apprentice_jax.data import channels, formats
from apprentice_jax.errors import UnreadableImage

# Pillow warns, without a name, of images between the number of pixels that it allows and twice
# that.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
REDUCTIONS = (8, 4, 2)  # those that libjpeg-turbo has fast code for: it averages squares
_ORIENTATION = 0x0112  # the EXIF tag


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
  pillow: Image.Image | None = None


def inspect(encoded: bytes) -> Picture:
  """Reads the header of an image file of any common format.

  Raises:
    UnreadableImage: it has none.
  """
  if encoded[:2] == b"\xff\xd8":
    try:
      height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
    # A KeyError, for one, where colours are sampled in a way that it has no name for.
    except Exception:
      height = width = colours = None
    # Pillow takes the others; and refuses a size that is no photo's but a damaged header's.
    if colours in ("YCbCr", "Gray", "RGB") and height * width <= 2 * Image.MAX_IMAGE_PIXELS:
      orientation = 1
      # To read it takes a hundred times as long, and few photos have it.
      if _has_exif(encoded):
        # What Pillow finds wrong may be no matter here.
        with contextlib.suppress(Exception):
          orientation = _orientation(Image.open(io.BytesIO(encoded)))
      sides = (width, height) if orientation >= 5 else (height, width)
      return Picture(encoded, *sides, orientation)
  return _inspect_with_pillow(encoded)


def pixels(picture: Picture, reduction: int = 1) -> np.ndarray:
  """Decodes an image: greyscale, CMYK, palette and 16-bit ones become RGB, see `channels.rgb`.

  It decodes the first picture of a file that moves or has several pages.

  Args:
    picture: from `inspect`.
    reduction: 1 or one of REDUCTIONS: how many pixels, in each direction, one pixel stands for.

  Returns:
    uint8 (ceil(height / reduction), ceil(width / reduction), 3), upright.

  Raises:
    UnreadableImage: the image is damaged, or the range of its values is not known.
  """
  if picture.pillow is None:
    # Of the stored image, which may lie on its side.
    height, width = picture.height, picture.width
    if picture.orientation >= 5:
      height, width = width, height
    try:
      decoded = simplejpeg.decode_jpeg(
        picture.encoded,
        "RGB",
        min_height=-(-height // reduction),
        min_width=-(-width // reduction),
        min_factor=reduction,
      )
      return _UPRIGHT[picture.orientation](decoded)
    # It is strict about harmless flaws, too: Pillow decides.
    except ValueError:
      picture = picture._replace(pillow=_inspect_with_pillow(picture.encoded).pillow)
  try:
    reduced = reduction > 1 and is_jpeg(picture)
    image = _reduced_jpeg(picture.encoded, reduction) if reduced else picture.pillow
    image.load()
    image = channels.rgb(image, picture.encoded)
  except UnreadableImage:
    raise
  # A damaged file makes Pillow raise anything.
  except Exception as error:
    raise UnreadableImage(_sentence(error)) from None
  # Not yet reduced: another format than JPEG, or one that Pillow decodes in full.
  if reduction > 1 and max(image.size) == max(picture.height, picture.width):
    image = image.reduce(reduction)
  return _UPRIGHT[picture.orientation](np.asarray(image))


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


def whole(encoded: bytes, count: int) -> np.ndarray:
  """Decodes an image into the channels that a set of images has.

  Args:
    encoded: the image's file.
    count: 1 (grey, see `channels.grey`), 3 (RGB) or 4 (RGBA).

  Returns:
    uint8 (height, width, channels), upright.

  Raises:
    UnreadableImage: see `pixels`.
  """
  picture = inspect(encoded)
  decoded = pixels(picture)
  if count == 4:
    opacity = np.full((*decoded.shape[:2], 1), 255, np.uint8)
    if picture.pillow is not None and picture.pillow.has_transparency_data:
      opacity = _UPRIGHT[picture.orientation](np.asarray(picture.pillow.convert("RGBA"))[..., 3:])
    return np.concatenate([decoded, opacity], axis=-1)
  return channels.grey(decoded) if count == 1 else decoded


def margins(picture: Picture, reduction: int) -> tuple[int, int]:
  """How many pixels above and left of the image its first reduced row and column stand for as well.

  Squares are counted from the corner of the stored image, which may be turned.
  """
  return (
    -picture.height % reduction if picture.orientation in (3, 4, 7, 8) else 0,
    -picture.width % reduction if picture.orientation in (2, 3, 6, 7) else 0,
  )


def _has_exif(encoded: bytes) -> bool:
  """Whether a JPEG has an EXIF segment among the application and comment segments it begins
  with."""
  # Segment by segment: none of them is parsed, and the search ends at the first of pixels.
  i = 2
  while (
    i + 4 <= len(encoded)
    and encoded[i] == 0xFF
    and (0xE0 <= encoded[i + 1] <= 0xEF or encoded[i + 1] == 0xFE)
  ):
    if encoded[i + 4 : i + 10] == b"Exif\0\0":
      return True
    i += 2 + int.from_bytes(encoded[i + 2 : i + 4], "big")
  return False


def _inspect_with_pillow(encoded: bytes) -> Picture:
  if (kind := formats.container(encoded[:64])) and (lacking := formats.lacking(kind)):
    raise UnreadableImage(lacking)
  try:
    image = Image.open(io.BytesIO(encoded))
    # A PNG's EXIF may follow its pixels; TIFFs are turned by Pillow as it loads them.
    if image.format in ("PNG", "TIFF"):
      image.load()
  except Image.DecompressionBombError:
    raise UnreadableImage(
      f"it has more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels: reduce it"
    ) from None
  except Exception as error:  # see `pixels`
    raise UnreadableImage(_sentence(error)) from None
  orientation = _orientation(image)
  width, height = image.size[::-1] if orientation >= 5 else image.size
  return Picture(encoded, height, width, orientation, image)


def _orientation(image: Image.Image) -> int:
  # Damaged EXIF is no reason to give up the image.
  with contextlib.suppress(Exception):
    orientation = image.getexif().get(_ORIENTATION, 1)
    return orientation if orientation in _UPRIGHT else 1
  return 1


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
