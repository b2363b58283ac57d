"""The pixels of an image that Pillow has opened, as 8 bits of red, green and blue.

A whole number keeps the upper eight of the bits that its file says it has. An image is refused
where its file does not tell the range of its values. So is one whose values fill so little of it
that it would be black.
"""

import cv2
import numpy as np
from PIL import Image

from apprentice_jax.errors import UnreadableImage

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # TIFF's tags
_WHITE_IS_ZERO, _SIGNED = 0, 2
_USED = 12  # bits of 16 that are too few


FLOATS = "its values are floats, whose range is not known: save it with 8 or 16 bits"
WIDE = "its values are 32-bit integers, whose range is not known: save it with 8 or 16 bits"
SIGNED = "its values are signed integers, whose range is not known: save it with 8 or 16 bits"
DARK = (
  "its 16-bit values use no more than 12 bits and would come out black: stretch them to 0..65535"
)


def rgb(image: Image.Image, encoded: bytes) -> Image.Image:
  """Converts a loaded image to mode RGB; transparency is dropped.

  Args:
    image: of any of Pillow's modes.
    encoded: its file, whose header says how many bits a value has.

  Raises:
    UnreadableImage: the range of its values is not known.
  """
  if image.mode == "F":
    raise UnreadableImage(FLOATS)
  if _tag(image, _SAMPLE_FORMAT, 1) == _SIGNED:
    raise UnreadableImage(WIDE if _tag(image, _BITS, 1) == 32 else SIGNED)
  # Pillow stretches a PGM's values to 16 bits, and has opened 16-bit PNGs in this mode, too.
  if image.mode == "I" and image.format not in ("PNG", "PPM"):
    raise UnreadableImage(WIDE)
  if image.mode.startswith("I"):
    return Image.fromarray(_upper(image)).convert("RGB")
  result = _converted(image)
  # Inks are dark where their values are large.
  bits = encoded[24] if image.format == "PNG" else _tag(image, _BITS, 8)
  if image.mode != "CMYK" and bits == 16 and _dark(result, encoded):
    raise UnreadableImage(DARK)
  return result


def grey(pixels: np.ndarray) -> np.ndarray:
  """The luma (ITU-R BT.601) of RGB pixels; a grey image's own values.

  Args:
    pixels: uint8 (..., 3).

  Returns:
    uint8 (..., 1).
  """
  weights = np.array([19595, 38470, 7471])  # of 65536
  return (pixels @ weights + 32768 >> 16).astype(np.uint8)[..., None]


def _upper(image: Image.Image) -> np.ndarray:
  """Returns the upper eight bits of grey values of more: uint8 (height, width)."""
  values, bits = np.asarray(image).astype(np.int64), _tag(image, _BITS, 16)
  # Values outside the stated range: the header is not to be trusted.
  if values.min() < 0 or values.max() >> bits:
    raise UnreadableImage(WIDE)
  if bits == 16 and 0 < values.max() < 1 << _USED:
    raise UnreadableImage(DARK)
  upper = (values >> bits - 8).astype(np.uint8)
  # Pillow turns white-is-zero images of up to eight bits, and leaves those of more as they are.
  return ~upper if _tag(image, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO else upper


def _dark(image: Image.Image, encoded: bytes) -> bool:
  """Whether 16-bit colours use no more than 12 bits; colours that are all 0 are black, not dark.

  Args:
    image: RGB, the upper eight bits of the values.
    encoded: its file.
  """
  if largest := np.max(np.asarray(image), initial=0):
    return bool(largest < 1 << _USED - 8)
  # The lower eight bits, which Pillow drops, tell black from dark. OpenCV keeps all 16.
  values = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
  return values is None or bool(np.atleast_3d(values)[..., :3].any())


def _converted(image: Image.Image) -> Image.Image:
  # By way of RGBA, as Pillow asks for it where a palette has transparent colours.
  if image.mode in ("P", "PA"):
    return image.convert("RGBA").convert("RGB")
  if image.mode in ("La", "RGBa"):  # multiplied by their opacity
    image = image.convert(image.mode.upper())
  return image if image.mode == "RGB" else image.convert("RGB")


def _tag(image: Image.Image, tag: int, default: int) -> int:
  """Returns a TIFF's tag, of the first channel; the default of any other image."""
  value = getattr(image, "tag_v2", {}).get(tag, default) if image.format == "TIFF" else default
  return value[0] if isinstance(value, tuple) else value
