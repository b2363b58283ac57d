"""How an image file becomes a network's pixels, in words for people and for programs.

`predict.prepared` does it. docs/onnxruntime.md does it with Pillow alone, to the same numbers.
"""

from apprentice_jax.data.crops import JPEG_SIDES
from apprentice_jax.deploy.network import Lowered


def short_side(image_shape, resize: int) -> int:
  """The short side to which an image is resized before its centre is cut out."""
  return resize or min(image_shape[:2])


def steps(network: Lowered) -> dict:
  """The preparation, for programs.

  Returns:
    "orientation": "exif".
    "jpeg_short_side": a JPEG is decoded at the smallest of 1, 1/2, 1/4 and 1/8 of its size whose
      short side is not below this one, as Pillow's ``Image.draft`` does.
    "short_side", "long_side": pixels after the resize, and how the other side is rounded.
    "filter", "antialias": of the resize.
    "size", "crop", "crop_rounding": (height, width) that are cut out, where, and how half a pixel
      is rounded.
    "mode": "RGB", or "L" for grey by Rec. 601, converted after the resize.
    "dtype", "layout": of the input.
  """
  side = short_side(network.image_shape, network.resize)
  return {
    "orientation": "exif",
    "jpeg_short_side": JPEG_SIDES * side,
    "short_side": side,
    "long_side": "floor",
    "filter": "bilinear",
    "antialias": True,
    "size": network.image_shape[:2],
    "crop": "center",
    "crop_rounding": "half_to_even",
    "mode": "L" if network.image_shape[-1] == 1 else "RGB",
    "dtype": "uint8",
    "layout": "NHWC",
    "normalisation": "in the graph",
  }


def sentences(network: Lowered) -> list[str]:
  """The preparation, for people."""
  height, width, channels = network.image_shape
  side = short_side(network.image_shape, network.resize)
  colours = "grey (Rec. 601)" if channels == 1 else "RGB"
  result = [
    f"Input: uint8, {colours}, (batch, {height}, {width}, {channels}), not normalised: "
    "the graph does ((pixel / 255) - mean) / std.",
    "Decode a JPEG at the smallest of 1, 1/2, 1/4 and 1/8 of its size "
    f"whose short side is at least {JPEG_SIDES * side} pixels, as Pillow's Image.draft does.",
    "Turn a photo upright by its EXIF orientation.",
    f"Resize its short side to {side} pixels, bilinear with antialiasing.",
    "Keep its proportions, the long side rounded down.",
    f"Cut {width}x{height} pixels out of the centre; half a pixel rounds to the even side.",
  ]
  # A larger short side than the network's own would enlarge such an image.
  if side == min(height, width):
    result.append(f"An image of {width}x{height} pixels stays as it is.")
  return result
