"""Resizing with Pillow's antialiased bilinear filter, from full or from reduced resolution.

The filter is a triangle as wide as two pixels of the larger grid. A sparse matrix of a few weights
a row resizes each side, in a third of the time that Pillow takes.

A reduced image's pixels are averages of r x r squares. Each gets the sum of the weights of its
pixels. The average leaves sin(pi f r) / (pi f r) of frequency f, and so does the sum: 1 - (pi f
r)^2 / 3 in all, to second order. Subtracting a twelfth of the weights' second difference makes up
for the loss.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

# From which ratio of input to output sides on an image may be reduced by so much. The deviation of
# noise, checks and photos then stays within 5% of the one that Pillow's filter on all pixels
# leaves, where that is 2 of 255 levels or more.
_LEAST = {4: 12, 2: 5}


class Span(NamedTuple):
  """The part of a side that is resized, in pixels of the full resolution. Others have no weight."""

  start: int
  stop: int


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
  if reduced > 1:
    np.maximum(part, 0, out=part)  # some weights are below zero
  cv2.convertScaleAbs(cv2.transpose(part), dst=out)  # rounds, and cuts off at 255


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

  scale = side / size
  radius = max(scale, 1)
  centre = start + (np.arange(size)[:, None] + 0.5) * scale
  low = np.maximum(np.floor(centre - radius + 0.5).astype(int), start)
  high = np.minimum(np.floor(centre + radius + 0.5).astype(int), start + side)
  first = low // reduced  # the reduced pixel in which each output's weights begin
  count = -(-np.max(high - first * reduced) // reduced)
  place = first * reduced + np.arange(count * reduced)
  weights = np.maximum(1 - np.abs(place + 0.5 - centre) / radius, 0)
  weights *= (low <= place) & (place < high)
  weights /= weights.sum(1, keepdims=True)
  if reduced > 1:
    weights = np.pad(weights.reshape(size, count, reduced).sum(2), ((0, 0), (1, 1)))
    weights += (2 * weights - np.roll(weights, 1, 1) - np.roll(weights, -1, 1)) / 12
    first -= 1
  columns = first + np.arange(weights.shape[1])
  # Beyond the edge the pixel there counts, as if it were repeated.
  columns = columns.clip(start // reduced, (start + side - 1) // reduced)
  begin, taps = columns.min(), weights.shape[1]
  return int(begin), sparse.csr_array(
    (
      weights.ravel().astype(np.float32),
      (columns - begin).ravel().astype(np.int32),
      np.arange(size + 1, dtype=np.int32) * taps,
    ),
    (size, int(columns.max() - begin) + 1),
  )
