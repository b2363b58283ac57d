"""From an encoded image to what a network sees: random-resized crops to train, the centre to
evaluate.

A crop is chosen before the image is decoded, so that the decoder can leave out the resolution that
the resize would throw away.

Pillow's antialiased bilinear filter resizes the crop, from full or from reduced resolution. The
filter is a triangle as wide as two pixels of the larger grid. A sparse matrix of a few weights a
row resizes each side, in a third of the time that Pillow takes.

A reduced image's pixels are averages of r x r squares. Each gets the sum of the weights of its
pixels. The average leaves sin(pi f r) / (pi f r) of frequency f, and so does the sum. In all 1 -
(pi f r)^2 / 3 is left, to second order. Subtracting a twelfth of the weights' second difference
makes up for the loss.
"""

import functools
import math
import threading
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from apprentice_jax.data import images

cv2.setNumThreads(1)  # images are spread over threads already
# Evaluation decodes a JPEG at a reduction that leaves so many times the resolution. What the
# reduction averages is then next to nothing of what the resize averages.
JPEG_SIDES = 4
_ATTEMPTS = 10
_SALT = 1 << 63  # keeps the augmentation's random numbers apart from the order's
_EMPTY = np.zeros(4, np.uint64)
_generators = threading.local()  # one for each thread


# From which ratio of input to output sides on an image may be reduced by so much. The deviation of
# noise, checks and photos then stays within 5% of the one that Pillow's filter on all pixels
# leaves, where that is 2 of 255 levels or more.
_LEAST = {4: 12, 2: 5}


class Crops(NamedTuple):
  """How images are cropped; hashable.

  Attributes:
    size: side of the square that comes out.
    resize: evaluation: the short side before the centre is cut out.
    area: training: least and largest fraction of the image's area.
    ratio: training: least and largest width / height.
    flip: training: mirror every other image.
  """

  size: int = 224
  resize: int = 256
  area: tuple[float, float] = (0.08, 1.0)
  ratio: tuple[float, float] = (3 / 4, 4 / 3)
  flip: bool = True


class Span(NamedTuple):
  """The part of a side that is resized, in pixels of the full resolution. Others have no weight."""

  start: int
  stop: int


class Window(NamedTuple):
  """A part of an image, in pixels."""

  top: int
  left: int
  height: int
  width: int


def uniforms(seed: int, epoch: int, index: int) -> np.ndarray:
  """The random numbers of example ``index`` in epoch ``epoch``: float64 (11, 4) in [0, 1).

  They depend on the arguments alone (counter-based: Salmon et al., "Parallel random numbers: as
  easy as 1, 2, 3", SC 2011).
  """
  # To make a generator takes several times as long as to set its state: it asks the system for a
  # seed.
  if not hasattr(_generators, "philox"):
    _generators.philox = np.random.Philox(0)
    _generators.random = np.random.Generator(_generators.philox).random
  _generators.philox.state = {
    "bit_generator": "Philox",
    "buffer": _EMPTY,
    "buffer_pos": 4,
    "has_uint32": 0,
    "uinteger": 0,
    "state": {
      "key": np.array([seed, _SALT], np.uint64),
      "counter": np.array([0, 0, epoch, index], np.uint64),
    },
  }
  return _generators.random((_ATTEMPTS + 1, 4))


def random_window(height: int, width: int, crops: Crops, draws: np.ndarray) -> Window:
  """A window of random area and aspect ratio ("Inception" cropping, Szegedy et al., CVPR 2015).

  Area is uniform in crops.area, and so is the logarithm of the aspect ratio in that of crops.ratio.
  The position is uniform. If none of ten attempts lies inside the image, the window is the largest
  centred one of a ratio in range.

  Args:
    height, width: of the image.
    crops: how to crop.
    draws: from `uniforms`.
  """
  # Twice as wide is to be as likely as half as wide, hence the logarithm.
  low, high = math.log(crops.ratio[0]), math.log(crops.ratio[1])
  for area, ratio, y, x in draws[:_ATTEMPTS].tolist():
    area = (crops.area[0] + area * (crops.area[1] - crops.area[0])) * height * width
    ratio = math.exp(low + ratio * (high - low))
    h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
    if 0 < h <= height and 0 < w <= width:
      return Window(int(y * (height - h + 1)), int(x * (width - w + 1)), h, w)
  # A long, narrow image: its middle, cut to the nearest ratio in range.
  w = min(width, max(1, round(height * crops.ratio[1])))
  h = min(height, max(1, round(width / crops.ratio[0])))
  return Window((height - h) // 2, (width - w) // 2, h, w)


def training_image(
  encoded: bytes, crops: Crops, seed: int, epoch: int, index: int, out: np.ndarray
):
  """Crops, resizes and perhaps mirrors an image, in a way that (seed, epoch, index) alone decide.

  The same numbers as torchvision's RandomResizedCrop (bilinear, with antialiasing) of the same
  window. A large window is decoded at a reduction, see `reduction`.

  Args:
    encoded: the image's file.
    crops: how to crop.
    seed: of the run.
    epoch, index: which example, in which epoch.
    out: uint8 (size, size, 3), written.

  Raises:
    UnreadableImage: see `images.inspect`.
  """
  picture, draws = images.inspect(encoded), uniforms(seed, epoch, index)
  window = random_window(picture.height, picture.width, crops, draws)
  # Pillow decodes all of another image in any case: to reduce it by 4 saves memory, by 2 next to
  # nothing.
  choices = (4, 2) if images.is_jpeg(picture) else (4,)
  r = reduction(min(window.height, window.width) / crops.size, choices)
  # Reduced pixels of a turned image may begin before its first row or column.
  top, left = (first + margin for first, margin in zip(window[:2], images.margins(picture, r)))
  rows, columns = Span(top, top + window.height), Span(left, left + window.width)
  # OpenCV mirrors from one array into another.
  mirrored = crops.flip and draws[_ATTEMPTS, 0] < 0.5
  resized = np.empty_like(out) if mirrored else out
  resample(images.pixels(picture, r), r, rows, columns, resized)
  if mirrored:
    cv2.flip(resized, 1, dst=out)


def evaluation_image(encoded: bytes, crops: Crops, out: np.ndarray):
  """Resizes the short side to crops.resize and cuts the centre out.

  The same numbers as torchvision's Resize (bilinear, with antialiasing) and CenterCrop, without
  making what is cut off. A JPEG is decoded at the reduction that Pillow's ``Image.draft`` chooses
  for JPEG_SIDES times crops.resize. So a few lines of Pillow make the same pixels
  (docs/onnxruntime.md).

  Args, Raises: see `training_image`.
  """
  picture = images.inspect(encoded)
  short, long = sorted((picture.height, picture.width))
  r = images.largest_reduction(short, JPEG_SIDES * crops.resize) if images.is_jpeg(picture) else 1
  resized = {short: crops.resize, long: max(crops.resize * long // short, crops.resize)}
  image = Image.fromarray(images.pixels(picture, r))
  # The centre of the resized image, in pixels of the decoded one.
  edges = []
  for side in (picture.width, picture.height):
    start = round((resized[side] - crops.size) / 2)
    edges += [end * side / (resized[side] * r) for end in (start, start + crops.size)]
  left, right, top, bottom = edges
  # One side after the other: Pillow 13 chooses an order by the sizes, and they round differently.
  size, bilinear = crops.size, Image.Resampling.BILINEAR
  image = image.resize((size, image.height), bilinear, (left, 0, right, image.height))
  out[...] = image.resize((size, size), bilinear, (0, top, size, bottom))


def reduction(ratio: float, choices: Sequence[int] = (4, 2)) -> int:
  """Returns the first of ``choices`` for an output whose sides are ``ratio`` times smaller, or
  1."""
  return next((r for r in choices if ratio >= _LEAST[r]), 1)


def resample(pixels: np.ndarray, reduced: int, rows: Span, columns: Span, out: np.ndarray) -> None:
  """Resizes a part of an image, at any ratio of its own on either side.

  Args:
    pixels: uint8 (height, width, 3), the image at 1 / reduced of its resolution.
    reduced: 1, or how many pixels of the full resolution one pixel averages on each side.
    rows, columns: the part.
    out: uint8 (size, size, 3), written.
  """
  size = len(out)
  if reduced == 1 and max(rows.stop - rows.start, columns.stop - columns.start) <= size:
    # An enlargement takes no averages: OpenCV's is the same, and faster.
    part = pixels[rows.start : rows.stop, columns.start : columns.stop]
    cv2.resize(part, (size, size), dst=out, interpolation=cv2.INTER_LINEAR)
    return
  (top, vertical), (left, horizontal) = (_side(span, size, reduced) for span in (rows, columns))
  height, width = vertical.shape[1], horizontal.shape[1]
  # The conversion and the products take the time, apart from OpenCV. All let go of Python's lock.
  part = np.ascontiguousarray(pixels[top : top + height, left : left + width], np.float32)
  part = (vertical @ part.reshape(height, -1)).reshape(size, width, 3)
  part = (horizontal @ cv2.transpose(part).reshape(width, -1)).reshape(size, size, 3)
  # Of a reduced image some weights are below zero, and the conversion takes magnitudes.
  if reduced > 1:
    np.maximum(part, 0, out=part)
  # It rounds, and cuts off at 255.
  cv2.convertScaleAbs(cv2.transpose(part), dst=out)


def _side(span: Span, size: int, reduced: int) -> tuple:
  """Returns the first pixel needed, and a sparse matrix: for each output, the weights from there
  on."""
  begin = span.start // reduced
  # Counted from there, windows that differ in their place have the same weights.
  first, weights = _weights(span.start - begin * reduced, span.stop - span.start, size, reduced)
  return begin + first, weights


@functools.lru_cache(1024)  # of some 10 kB
def _weights(start: int, side: int, size: int, reduced: int) -> tuple:
  """Returns what `_side` does, of ``side`` pixels that begin ``start`` behind the first reduced
  one's."""
  from scipy import sparse  # here, not above: images that live on the device do without

  # Pillow's filter: around each output's centre, a triangle two pixels of the larger grid wide.
  scale = side / size
  radius = max(scale, 1)
  centre = start + (np.arange(size)[:, None] + 0.5) * scale
  low = np.maximum(np.floor(centre - radius + 0.5).astype(int), start)
  high = np.minimum(np.floor(centre + radius + 0.5).astype(int), start + side)
  # The reduced pixel in which each output's weights begin, and the most that any output needs.
  first = low // reduced
  count = -(-np.max(high - first * reduced) // reduced)
  place = first * reduced + np.arange(count * reduced)
  weights = np.maximum(1 - np.abs(place + 0.5 - centre) / radius, 0)
  weights *= (low <= place) & (place < high)
  weights /= weights.sum(1, keepdims=True)
  # A reduced pixel gets the sum of its pixels' weights, sharpened as the module's docstring says.
  if reduced > 1:
    weights = np.pad(weights.reshape(size, count, reduced).sum(2), ((0, 0), (1, 1)))
    weights += (2 * weights - np.roll(weights, 1, 1) - np.roll(weights, -1, 1)) / 12
    first -= 1
  columns = first + np.arange(weights.shape[1])
  # Beyond the edge the pixel there counts, as if it were repeated.
  columns = columns.clip(start // reduced, (start + side - 1) // reduced)
  begin = columns.min()
  data = weights.ravel().astype(np.float32)
  indices = (columns - begin).ravel().astype(np.int32)
  pointers = np.arange(size + 1, dtype=np.int32) * weights.shape[1]
  shape = (size, int(columns.max() - begin) + 1)
  return int(begin), sparse.csr_array((data, indices, pointers), shape)
