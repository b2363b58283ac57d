"""What a deployed network is made of: nodes with integer weights, from which every exported file is
written.

A node's result is one of three kinds:

- *levels*: whole numbers of an activation grid, what a convolution multiplies;
- *fixed*: float32 whole numbers of 1/`network.FRACTION` of a step of the grid that they are about
to be put on; - *float*: float32 values, of networks or ends at full precision.

The order of operations is stated so that every backend computes the same bits. A multiplication
whose product is added to something is rounded to a whole number first (`fixed`), so that no
compiler can contract the two into one fused multiply-add; nothing is divided; and sums of levels
times levels are whole numbers. What is left to a backend's own order of summation is float: the
ends, where their weights are float, and networks with float activations. `integer` computes all
this in NumPy and is the definition.
"""

import dataclasses

import numpy as np


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


@dataclasses.dataclass(frozen=True, eq=False)
class Image:
  """uint8 pixels, normalised: ``pixel * multiplier + addend``; fixed: ``rint(pixel * multiplier) +
  addend``.

  Attributes:
    multiplier, addend: float32, one per channel: (1, channels) and (channels,).
    fixed: whether a `Quantize` follows, in whose fractions the result is.
  """

  name: str
  fixed: bool
  multiplier: np.ndarray
  addend: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Conv:
  """A convolution of padding ``(size - 1) // 2``, batch norm included; a dense layer is one of size
  1x1.

  ``acc = conv(input, levels)``: of levels with levels in int32 (exact), of anything else in
  float32. Then, with float32(acc) rounded half to even, ``acc * multiplier + addend``; fixed:
  ``rint(acc * multiplier) + addend``. With two rows of multipliers there are two accumulators, of
  the positive levels as 1 and of the negative ones as 1 (TTQ), and for instance fixed is
  ``(rint(acc0 * multiplier0) + rint(acc1 * multiplier1)) + addend``.

  Attributes:
    input: the name of the node that it reads.
    stride: of both directions.
    fixed: as for `Image`.
    weights: see `Weights`.
    multiplier, addend: float32, one per output channel: (1 or 2, out) and (out,); a fixed addend is
      whole.
  """

  name: str
  input: str
  stride: int
  fixed: bool
  weights: Weights
  multiplier: np.ndarray
  addend: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Rescale:
  """A branch without parameters on its way to an addition: levels to fixed, ``rint(x *
  multiplier)``.

  Every ``stride``-th pixel of both directions, and zero channels on both sides (before: the smaller
  half) to make ``channels``. Of float values, which stay float, the multiplier is 1.
  """

  name: str
  input: str
  stride: int
  channels: int
  multiplier: float


@dataclasses.dataclass(frozen=True, eq=False)
class Add:
  """``first + second``, in float32: both fixed or both float."""

  name: str
  first: str
  second: str


@dataclasses.dataclass(frozen=True, eq=False)
class Quantize:
  """Fixed to levels: ``clip(rint(x * (1 / FRACTION)), low, high)``, half to even; the clip at 0 is
  the ReLU.

  Attributes:
    bits, signed: the levels are 0 to ``2**bits - 1``, or signed ``-2**(bits-1)`` to ``2**(bits-1) -
      1``.
    step: what one level stands for (already in the multipliers of the nodes around it).
  """

  name: str
  input: str
  bits: int
  signed: bool
  step: float

  @property
  def low(self) -> int:
    return -(2 ** (self.bits - 1)) if self.signed else 0

  @property
  def high(self) -> int:
    return 2 ** (self.bits - self.signed) - 1


@dataclasses.dataclass(frozen=True, eq=False)
class Relu:
  """``max(x, 0)`` of float values."""

  name: str
  input: str


@dataclasses.dataclass(frozen=True, eq=False)
class MaxPool:
  """The largest of 3x3 at stride 2 with a border of zeros; of unsigned levels, or of what a `Relu`
  gives."""

  name: str
  input: str


@dataclasses.dataclass(frozen=True, eq=False)
class Mean:
  """The mean over all pixels, (batch, 1, 1, channels): ``float32(sum) * multiplier``, fixed: rint
  of that.

  The sum of levels is exact, in int32. The multiplier has the number of pixels in it, and the step
  of levels.
  """

  name: str
  input: str
  fixed: bool
  multiplier: float


Node = Image | Conv | Rescale | Add | Quantize | Relu | MaxPool | Mean
KINDS = {kind.__name__: kind for kind in (Image, Conv, Rescale, Add, Quantize, Relu, MaxPool, Mean)}


def inputs(node: Node) -> tuple[str, ...]:
  """The names of the nodes that a node reads."""
  return tuple(
    getattr(node, field) for field in ("input", "first", "second") if hasattr(node, field)
  )
