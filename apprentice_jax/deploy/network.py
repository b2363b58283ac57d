"""A network as it is deployed: its nodes, what else there is to know of it, and whether they fit.

Every exported file is written from one `Lowered`. A node's result is one of three kinds:

- *levels*: whole numbers of an activation grid, which a convolution multiplies;
- *fixed*: float32 whole numbers of 1/`FRACTION` of a step of the grid that comes next;
- *float*: float32 values, of networks or ends at full precision.

The order of operations is stated, so that every backend computes the same bits. A product that is
added to something is rounded to a whole number first (`fixed`): no compiler can contract the two
into one fused multiply-add. Nothing is divided, and sums of levels times levels are whole numbers.
The order of summation of float values is each backend's own. `interpret` is the definition.

This module, `interpret`, `bits` and the reading of packed files need NumPy and safetensors alone.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from apprentice_jax.deploy.bits import Weights

FULL = 32  # bits of full precision
# Fixed numbers to a step: float32 has them all up to 16 steps, and is as fine beyond.
FRACTION = 2.0**20
# Bits of the weights of layers that training left in full precision.
ENDS = {"float": FULL, "8bit": 8, "7bit": 7}
EXACT = 2**24  # float32 has all whole numbers up to here
LARGEST = 2**31 - 1  # of an accumulator; also of the numbers in one image's result


@dataclasses.dataclass(frozen=True, eq=False)
class Image:
  """uint8 pixels, normalised: ``pixel * multiplier + addend``; fixed: the product is rounded.

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
  """A convolution of padding ``(size - 1) // 2`` with its batch norm; a dense layer has size 1x1.

  ``acc = conv(input, levels)``: of levels with levels in int32 (exact), of anything else in
  float32. Then, with float32(acc) rounded half to even, ``acc * multiplier + addend``; fixed:
  ``rint(acc * multiplier) + addend``. Two rows of multipliers (TTQ) stand for two accumulators: of
  the positive levels as 1, and of the negative ones as 1. Both products are then added first, as in
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
  """A branch without parameters before an addition: levels to fixed, ``rint(x * multiplier)``.

  It takes every ``stride``-th pixel of both directions, and adds zero channels on both sides
  (before: the smaller half) up to ``channels``. Float values stay float, with a multiplier of 1.
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
  """Fixed to levels: ``clip(rint(x * (1 / FRACTION)), low, high)``, half to even.

  The clip at 0 is the ReLU.

  Attributes:
    bits: the levels are 0 to ``2**bits - 1``.
    signed: the levels are ``-2**(bits-1)`` to ``2**(bits-1) - 1``.
    step: the value of one level (already in the multipliers of the nodes around it).
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
  """The largest of 3x3 at stride 2 in a border of zeros: of unsigned levels, or after a `Relu`."""

  name: str
  input: str


@dataclasses.dataclass(frozen=True, eq=False)
class Mean:
  """The mean over all pixels, (batch, 1, 1, channels): ``float32(sum) * multiplier``.

  Fixed: that product is rounded. The sum of levels is exact, in int32. The multiplier holds the
  number of pixels, and the step of levels.
  """

  name: str
  input: str
  fixed: bool
  multiplier: float


Node = Image | Conv | Rescale | Add | Quantize | Relu | MaxPool | Mean
KINDS = {kind.__name__: kind for kind in (Image, Conv, Rescale, Add, Quantize, Relu, MaxPool, Mean)}


def inputs(node: Node) -> tuple[str, ...]:
  """The names of the nodes that a node reads."""
  fields = ("input", "first", "second")
  return tuple(getattr(node, field) for field in fields if hasattr(node, field))


class BadNetwork(ValueError):
  """A description that no network can have; the message says what is wrong."""


@dataclasses.dataclass(frozen=True, eq=False)
class Lowered:
  """A deployed network.

  Attributes:
    nodes: each after those it reads; first the `Image`, last a `Conv` that gives the logits.
    image_shape: (height, width, channels) of the uint8 images.
    class_names: in the order of the logits.
    architecture, precision: of the trained network, for people: "resnet20", "8A,2W".
    mean, std: with which `Image` normalises, per channel, of pixels scaled to [0, 1].
    resize: the short side that photos get before their centre is cut out; 0: the network's own.
  """

  nodes: tuple[Node, ...]
  image_shape: tuple[int, int, int]
  class_names: tuple[str, ...]
  architecture: str
  precision: str
  mean: tuple[float, ...]
  std: tuple[float, ...]
  resize: int = 0


class Value(NamedTuple):
  """A node's result, before it is computed.

  Attributes:
    shape: (height, width, channels), of one image.
    kind: "levels", "fixed" or "float".
    low, high: of levels.
    bits: of levels; else 32.
  """

  shape: tuple[int, int, int]
  kind: str
  low: int = 0
  high: int = 0
  bits: int = FULL


def check(network: Lowered) -> dict[str, Value]:
  """Follows shapes and kinds through a network.

  Returns:
    The `Value` of each node, by name.

  Raises:
    BadNetwork: the nodes do not fit together, or a number is not finite.
  """
  # In one pass, as the nodes stand: each is checked with the results of those before it.
  values, read = {}, set()
  for i, node in enumerate(network.nodes):
    where = f"node {node.name}"
    first = isinstance(node, Image)
    _require(first == (i == 0), f"{where}: an Image has to be the first node, and no other")
    _require(node.name not in values, f"two nodes have the name {node.name}")
    for name in inputs(node):
      _require(name in values, f"{where} reads {name}, which is no node before it")
    read.update(inputs(node))
    value = _CHECKS[type(node)](network, node, *(values[name] for name in inputs(node)))
    # A damaged file must not ask for more memory than there is.
    fits = math.prod(value.shape) <= LARGEST and min(value.shape) > 0
    _require(fits, f"{where} has a result of shape {value.shape}")
    values[node.name] = value
  _check_head(network, values, values.keys() - read)
  return values


def _check_head(network: Lowered, values: dict[str, Value], unread: set[str]):
  """Checks that the last node gives the logits."""
  head = network.nodes[-1] if network.nodes else None
  _require(
    isinstance(head, Conv) and unread == {head.name},
    f"no node reads {sorted(unread)[:3]}, and only the logits of a Conv at the end may be unread",
  )
  # Every backend makes it a matrix product.
  one = head.weights.levels.shape[:2] == (1, 1)
  _require(one, f"node {head.name} is a classifier of more than one pixel")
  logits = values[head.name]
  _require(
    logits[:2] == ((1, 1, len(network.class_names)), "float"),
    f"the logits are {logits.kind} {logits.shape} for {len(network.class_names)} classes",
  )


def accumulator_bound(node: Conv, x: Value) -> int:
  """The largest magnitude that a convolution's accumulators can have, by its weights."""
  return largest_sum(node) * max(-x.low, x.high)


def largest_sum(node: Conv) -> int:
  """The largest sum of the magnitudes of an output channel's weights."""
  return int(np.sum(np.abs(node.weights.levels), (0, 1, 2), np.int64).max())


def _require(ok, sentence: str):
  if not ok:
    raise BadNetwork(sentence)


def _require_finite(node, *arrays):
  finite = all(np.all(np.isfinite(array)) for array in arrays)
  _require(finite, f"node {node.name} has a number that is not finite")


def _check_scales(node, channels: int):
  """Checks the multipliers and addends of an `Image` or `Conv`."""
  shapes = {"multiplier": [(1, channels), (2, channels)], "addend": [(channels,)]}
  for field, possible in shapes.items():
    array = getattr(node, field)
    _require(
      array.dtype == np.float32 and array.shape in possible,
      f"node {node.name} has a {field} of {array.dtype} {array.shape} for {channels} channels",
    )
  _require_finite(node, node.multiplier, node.addend)
  whole = not node.fixed or np.array_equal(node.addend, np.rint(node.addend))
  _require(whole, f"node {node.name} has an addend that is not whole")


def _strided(shape, stride: int, channels: int):
  return (-(-shape[0] // stride), -(-shape[1] // stride), channels)


def _kind(fixed: bool) -> str:
  return "fixed" if fixed else "float"


def _image(network: Lowered, node: Image) -> Value:
  mean, std, channels = network.mean, network.std, network.image_shape[-1]
  _check_scales(node, channels)
  _require(len(node.multiplier) == 1, f"node {node.name} has two rows of multipliers")
  _require(
    len(mean) in (1, channels) and len(std) == len(mean),
    f"it has {len(mean)} means and {len(std)} deviations for {channels} channels",
  )
  finite = np.all(np.isfinite(mean)) and np.all(np.isfinite(std)) and min(std) > 0
  _require(finite, "its mean or its deviation is out of range")
  _require(0 <= network.resize < 2**16, f"it resizes to {network.resize} pixels")
  return Value(network.image_shape, _kind(node.fixed))


def _conv(network: Lowered, node: Conv, x: Value) -> Value:
  w, where = node.weights, f"node {node.name}"
  _require(x.kind != "fixed", f"{where} is a convolution of fixed numbers")
  fits = w.levels.ndim == 4 and min(w.levels.shape) > 0 and w.levels.shape[2] == x.shape[-1]
  _require(fits, f"{where} has weights {w.levels.shape} for {x.shape[-1]} channels")
  size, channels = w.levels.shape[:2], w.levels.shape[-1]
  centred = all(k % 2 for k in size) and node.stride in (1, 2)
  _require(centred, f"{where} has size {size} at stride {node.stride}")
  _check_scales(node, channels)
  if w.bits == FULL:
    float32 = w.levels.dtype == np.float32 and not w.odd
    _require(float32, f"{where} has {w.levels.dtype} weights of 32 bits")
    _require_finite(node, w.levels)
  else:
    integers = 1 <= w.bits <= 8 and w.levels.dtype in (np.int8, np.int16) and w.top > 0
    _require(integers, f"{where} has {w.levels.dtype} weights of {w.bits} bits")
    # Sums are bounded by the levels themselves, so these have to be what their bits say.
    within = -w.top <= int(w.levels.min()) and int(w.levels.max()) <= w.top
    odd = not w.odd or np.all(w.levels % 2)
    _require(within and odd, f"{where} has levels that are not {'odd and ' * w.odd}within {w.top}")
    small = x.kind == "float" or accumulator_bound(node, x) <= LARGEST
    _require(small, f"{where} has sums beyond 31 bits")
  _require(
    len(node.multiplier) == 1 or w.bits == 2 and not w.odd,
    f"{where} has two rows of multipliers for weights that are not ternary",
  )
  return Value(_strided(x.shape, node.stride, channels), _kind(node.fixed))


def _rescale(network: Lowered, node: Rescale, x: Value) -> Value:
  _require_finite(node, node.multiplier)
  possible = x.kind == "levels" or x.kind == "float" and node.multiplier == 1
  _require(possible, f"node {node.name} rescales {x.kind} by {node.multiplier}")
  _require(
    node.channels >= x.shape[-1] and node.stride in (1, 2),
    f"node {node.name} makes {node.channels} channels of {x.shape[-1]} at stride {node.stride}",
  )
  return Value(_strided(x.shape, node.stride, node.channels), _kind(x.kind == "levels"))


def _add(network: Lowered, node: Add, a: Value, b: Value) -> Value:
  _require(
    a == b and a.kind != "levels",
    f"node {node.name} adds {a.kind} {a.shape} and {b.kind} {b.shape}",
  )
  return a


def _quantize(network: Lowered, node: Quantize, x: Value) -> Value:
  _require(x.kind == "fixed", f"node {node.name} quantizes {x.kind}")
  _require(1 + node.signed <= node.bits <= 8, f"node {node.name} has a grid of {node.bits} bits")
  _require_finite(node, node.step)
  _require(node.step > 0, f"node {node.name} has a step of {node.step}")
  return Value(x.shape, "levels", node.low, node.high, node.bits)


def _relu(network: Lowered, node: Relu, x: Value) -> Value:
  _require(x.kind == "float", f"node {node.name} is a ReLU of {x.kind}")
  return x


def _max_pool(network: Lowered, node: MaxPool, x: Value) -> Value:
  # Zeros of the border are never above such values.
  before = next(n for n in network.nodes if n.name == node.input)
  unsigned = isinstance(before, Relu) or isinstance(before, Quantize) and not before.signed
  _require(unsigned, f"node {node.name} pools values that may be below 0")
  return x._replace(shape=_strided(x.shape, 2, x.shape[-1]))


def _mean(network: Lowered, node: Mean, x: Value) -> Value:
  _require_finite(node, node.multiplier)
  possible = x.kind == "levels" or x.kind == "float" and not node.fixed
  _require(possible, f"node {node.name} is a mean of {x.kind}")
  return Value((1, 1, x.shape[-1]), _kind(node.fixed))


_CHECKS = {
  Image: _image,
  Conv: _conv,
  Rescale: _rescale,
  Add: _add,
  Quantize: _quantize,
  Relu: _relu,
  MaxPool: _max_pool,
  Mean: _mean,
}
