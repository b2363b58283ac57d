"""Weights of convolutions on planes, as the C code stores them and as the lists that it makes.

The digits of a magnitude are its bits or, recoded, -1, 0 and 1 of which no two neighbours are other
than 0 (the non-adjacent form). Each digit other than 0 becomes an offset in a list. The sums of a
list fit 16 bits.
"""

import numpy as np

from apprentice_jax.deploy.bits import Weights
from apprentice_jax.deploy.network import FULL

CHANNELS = 256  # of a segment at most: the C code keeps their masks in eight words
RANGE = 257  # weights of a list whose sums have 2**16 values at most
OFFSET = 2**16 - 1
LIST = 18  # weights that cost as much as the lists of a digit


def recoded(weights: Weights) -> bool:
  """Whether digits -1, 0 and 1 take less time than the magnitudes' bits do.

  They are fewer, but one more place needs a list of its own, which costs as much as some weights.
  """
  if weights.bits == FULL:
    return False
  bits, signed = _bits(weights), _signed_digits(weights)
  cost = lambda places: int(places.sum(dtype=np.int64)) + LIST * len(places) * places.shape[-1]
  return cost(signed) < cost(bits)


def digits(weights: Weights) -> np.ndarray:
  """uint8 (digits, height, width, in, out): where a weight has a digit other than 0."""
  return _signed_digits(weights) if recoded(weights) else _bits(weights)


def _bits(weights: Weights) -> np.ndarray:
  return _places(np.abs(weights.levels.astype(np.int32)))


def _signed_digits(weights: Weights) -> np.ndarray:
  magnitudes = np.abs(weights.levels.astype(np.int32))
  return _places((magnitudes ^ 3 * magnitudes) >> 1)


def _places(numbers: np.ndarray) -> np.ndarray:
  """The bits of numbers, as many as the largest needs."""
  count = max(int(numbers.max()).bit_length(), 1)
  return (numbers >> np.arange(count).reshape(-1, 1, 1, 1, 1) & 1).astype(np.uint8)


def _sided(weights: Weights, sides: int) -> list[np.ndarray]:
  """`digits` of each side: of all weights, or of the positive and of the negative ones."""
  nonzero, levels = digits(weights), weights.levels
  return [nonzero] if sides == 1 else [nonzero * (levels > 0), nonzero * (levels < 0)]


def segment(weights: Weights, sides: int, pitch: int, plane: int) -> int:
  """The most input channels of a list, so that its sums and offsets fit 16 bits.

  Args:
    weights: of the convolution.
    sides: rows of multipliers.
    pitch, plane: bytes from row to row, and from channel to channel, of the input.
  """
  rows, _, channels, _ = weights.levels.shape
  # A segment ends with a whole mask, or is one mask at most.
  sizes = [channels, *range(channels // 32 * 32, 31, -32), 24, 16, 8, 4, 2, 1]
  counts = [np.sum(side, (1, 2), dtype=np.int64) for side in _sided(weights, sides)]
  for size in sizes:
    starts = np.arange(0, channels, size)
    if size > min(channels, CHANNELS) or (rows - 1) * pitch + (size - 1) * plane > OFFSET:
      continue
    if max(np.add.reduceat(count, starts, axis=1).max() for count in counts) <= RANGE:
      return size
  raise AssertionError("one channel always fits")


def list_length(weights: Weights, sides: int, segment: int) -> int:
  """The 16-bit numbers in the longest lists of an output channel."""
  _, columns, channels, _ = weights.levels.shape
  nonzero = _sided(weights, sides)
  passes = sides * -(-channels // segment) * len(nonzero[0])
  most = np.sum(nonzero, (0, 1, 2, 3, 4), dtype=np.int64).max()
  return int(most) + 3 * columns * passes


def encode(weights: Weights, segment: int) -> list[bytes]:
  """Each output channel's masks; see weights.c."""
  rows, columns, channels, _ = weights.levels.shape
  magnitudes = np.abs(weights.levels.astype(np.int32))
  bits = [magnitudes >> bit & 1 for bit in range(int(weights.odd), weights.bits + weights.odd - 1)]
  masks = np.stack([weights.levels < 0, *bits]).astype(np.uint8)  # mask, row, column, in, out
  pieces = []
  for start in range(0, channels, segment):
    stop = min(start + segment, channels)
    for column in range(columns):
      for row in range(rows):
        for group in range(start, stop, 32):
          part = masks[:, row, column, group : min(group + 32, stop)]
          packed = np.packbits(part, axis=1)  # mask, byte, out
          pieces.append(packed.reshape(-1, packed.shape[-1]))
  return [channel.tobytes() for channel in np.concatenate(pieces).T]
