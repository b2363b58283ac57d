"""Levels of weights as bytes: k bits each, or base 3, five ternary ones to a byte.

A level's *code* counts from the lowest level up, 0, 1, 2, ... Codes follow each other in the
row-major order of (height, width, in, out). In k bits, the stream's bit ``k * i + j`` is bit j of
code i. Bit b of the stream is bit ``b % 8`` of byte ``b // 8``. In base 3, byte b is the sum of
``3**j`` times code ``5 * b + j``. What is left of the last byte is zero. The functions take NumPy
or jax arrays: exported programs unpack their weights with them.
"""

import dataclasses

import numpy as np

BASE3 = "base3"


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
  """The weights of a convolution.

  Attributes:
    levels: (height, width, in, out): int8 (int16 where they do not fit) levels, or float32 values.
    bits: 1 to 8; 32 for float32 values.
    odd: whether the levels are the odd numbers of magnitude up to ``2**bits - 1`` (DoReFa's), and
      not those of magnitude up to ``2**(bits-1) - 1``.
  """

  levels: np.ndarray
  bits: int
  odd: bool = False

  @property
  def top(self) -> int:
    """The largest magnitude a level can have."""
    return 2**self.bits - 1 if self.odd else 2 ** (self.bits - 1) - 1


def packings(weights: Weights) -> tuple[str, ...]:
  """The packings that weights can have: "2bit" for instance, and "base3" if they are ternary."""
  bits = f"{weights.bits}bit-odd" if weights.odd else f"{weights.bits}bit"
  return (bits, BASE3) if weights.bits == 2 and not weights.odd else (bits,)


def packed_size(count: int, packing: str) -> int:
  """The bytes of ``count`` levels."""
  return -(-count // 5) if packing == BASE3 else -(-count * bits_of(packing) // 8)


def bits_of(packing: str) -> int:
  """The bits of the levels: 2 for "base3"."""
  return 2 if packing == BASE3 else int(packing[0])


def _top(packing: str) -> int:
  """The magnitude of the highest level."""
  bits = bits_of(packing)
  return 2**bits - 1 if packing.endswith("odd") else 2 ** (bits - 1) - 1


def pack(levels: np.ndarray, packing: str) -> np.ndarray:
  """Levels, of any shape, to uint8 (packed_size,)."""
  codes = levels.reshape(-1).astype(np.int16) + _top(packing)
  # Odd levels lie two apart.
  codes = (codes // 2 if packing.endswith("odd") else codes).astype(np.uint8)
  if packing == BASE3:
    codes = np.pad(codes, (0, -len(codes) % 5)).reshape(-1, 5)
    return (codes @ (3 ** np.arange(5, dtype=np.uint8))).astype(np.uint8)
  stream = (codes[:, None] >> np.arange(bits_of(packing), dtype=np.uint8)) & np.uint8(1)
  return np.packbits(stream.reshape(-1), bitorder="little")


def codes(data, packing: str, xp=np):
  """uint8 bytes to the codes of all that they hold, uint8; ``xp``: numpy or jax.numpy."""
  if packing == BASE3:
    digits = [data // np.uint8(3**j) % np.uint8(3) for j in range(5)]
    return xp.stack(digits, -1).reshape(-1)
  bits, mask = bits_of(packing), np.uint8(2 ** bits_of(packing) - 1)
  # 1, 2, 4 and 8 bits: no code lies across two bytes.
  if 8 % bits == 0:
    return xp.stack([data >> np.uint8(shift) & mask for shift in range(0, 8, bits)], -1).reshape(-1)
  # Eight codes to ``bits`` bytes: each code lies in one byte, or in that and the next one.
  data = xp.pad(data, (0, -data.shape[0] % bits)).reshape(-1, bits).astype(np.uint16)
  wide = data | xp.pad(data[:, 1:], ((0, 0), (0, 1))) << np.uint16(8)
  found = [wide[:, bits * i // 8] >> np.uint16(bits * i % 8) & mask for i in range(8)]
  return xp.stack(found, -1).astype(np.uint8).reshape(-1)


def levels(data, packing: str, shape, xp=np):
  """uint8 (packed_size,) to levels: int8 of a shape, int16 where they do not fit; see `codes`."""
  count = int(np.prod(shape, dtype=np.int64))
  dtype = np.int16 if _top(packing) > 127 else np.int8
  found = codes(data, packing, xp)[:count].astype(np.int16)
  found = found * (2 if packing.endswith("odd") else 1) - _top(packing)
  return found.astype(dtype).reshape(shape)


def whole(data: np.ndarray, packing: str, count: int) -> bool:
  """Whether bytes are what `pack` makes of ``count`` levels: each code that of a level, the rest
  zero."""
  found = codes(data, packing)
  highest = 2 ** bits_of(packing) - (1 if packing.endswith("odd") else 2)
  # A byte of base 3 has 13 values to spare, which stand for no five digits.
  if packing == BASE3 and np.any(data >= 3**5):
    return False
  return bool(np.all(found[:count] <= highest) and not np.any(found[count:]))
