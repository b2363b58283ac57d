"""The layers of a network as the C code runs them.

A layer is a convolution with all that follows it up to the next grid: its batch norm, a shortcut
that is added, and the rounding to levels. The first one, the stem, reads the image where it lies.
"""

import dataclasses

import numpy as np

from apprentice_jax.deploy import interpret
from apprentice_jax.deploy.c import masks
from apprentice_jax.deploy.network import (
  FULL,
  Add,
  BadNetwork,
  Conv,
  Image,
  Lowered,
  MaxPool,
  Mean,
  Quantize,
  Rescale,
  check,
  inputs,
)

POSITIONS = 64  # outputs of a channel that are computed at a time, where a row is not longer


@dataclasses.dataclass
class Tensor:
  """Levels in memory: planes of rows, as types.h describes them.

  Attributes:
    shape: (height, width, channels).
    zero: the byte of level zero: 128 of signed levels, else 0.
    top: the largest byte.
    border: rows of zeros around each plane that its readers need.
    start: of the first pixel; set by `memory.place`.
  """

  name: str
  shape: tuple[int, int, int]
  zero: int
  top: int
  border: int = 0
  start: int = 0

  @property
  def pitch(self) -> int:
    return -(-self.shape[1] // 4) * 4

  @property
  def plane(self) -> int:
    return (self.shape[0] + self.border) * self.pitch

  @property
  def before(self) -> int:
    """Bytes of the border before the first pixel."""
    return self.border * self.pitch

  @property
  def bytes(self) -> int:
    return self.before + self.shape[2] * self.plane


@dataclasses.dataclass
class Branch:
  """A convolution on its way to an addition or a grid.

  Attributes:
    conv, input: the node, and the levels that it reads.
    own: the branch's own grid, and what one of its levels is of the next grid's fractions; or None.
  """

  conv: Conv
  input: Tensor
  own: tuple[Quantize, Rescale] | None

  @property
  def sides(self) -> int:
    return len(self.conv.multiplier)

  @property
  def segment(self) -> int:
    return masks.segment(self.conv.weights, self.sides, self.input.pitch, self.input.plane)

  @property
  def list_length(self) -> int:
    return masks.list_length(self.conv.weights, self.sides, self.segment)


@dataclasses.dataclass
class Layer:
  """See the module; ``added`` are levels with their `Rescale`, ``shortcut`` is a convolution."""

  branch: Branch
  grid: Quantize
  output: Tensor
  shortcut: Branch | None = None
  added: tuple[Tensor, Rescale] | None = None

  @property
  def branches(self) -> list[Branch]:
    return [branch for branch in (self.branch, self.shortcut) if branch]

  @property
  def band(self) -> int:
    """Rows that are computed at a time: of those that fill tiles of sixteen best, the most."""
    height, width, _ = self.output.shape
    most = max(POSITIONS // self.output.pitch, 1)
    return max(range(1, min(most, height) + 1), key=lambda rows: (self._filled(rows), rows))

  def _filled(self, rows: int) -> float:
    count = rows * self.row_positions(self.branch)
    return count / (-(-count // 16) * 16)

  def row_positions(self, branch: Branch) -> int:
    """Positions of a row for which a branch has sums: in whole words, or in whole eights."""
    return self.output.pitch if branch.conv.stride == 1 else -(-self.output.shape[1] // 8) * 8


@dataclasses.dataclass(frozen=True)
class Pool:
  """A maximum over 3x3 at stride 2."""

  input: Tensor
  output: Tensor


@dataclasses.dataclass
class Plan:
  """What the C code does, in order.

  Attributes:
    table: (channels, 256), the level of each pixel value of the image, int8 or uint8. For a stem in
      full precision, the normalised pixel in float32.
    steps: the stem, and then `Layer`s and `Pool`s in their order.
    mean, mean_grid, mean_input: the mean before the classifier; without a grid if that has floats.
    logits: the classifier.
  """

  network: Lowered
  table: np.ndarray
  steps: list[Layer | Pool]
  mean: Mean
  mean_grid: Quantize | None
  mean_input: Tensor
  logits: Conv

  @property
  def stem(self) -> Layer:
    return self.steps[0]

  @property
  def float_stem(self) -> bool:
    return self.stem.branch.conv.weights.bits == FULL

  @property
  def float_head(self) -> bool:
    return self.mean_grid is None

  @property
  def layers(self) -> list[Layer]:
    """All layers but the stem."""
    return [step for step in self.steps[1:] if isinstance(step, Layer)]

  @property
  def branches(self) -> list[Branch]:
    return [branch for layer in self.layers for branch in layer.branches]


def plan(network: Lowered) -> Plan:
  """Plans a network.

  Raises:
    BadNetwork: a part of it has no integer form; the message says what to do.
  """
  values = check(network)
  image, head = network.nodes[0], network.nodes[-1]
  for node in network.nodes:
    inside = isinstance(node, Conv) and node is not head and node.input != image.name
    if inside and (node.weights.bits == FULL or values[node.input].kind == "float"):
      raise BadNetwork(
        f"C code computes on integers between its ends, and {node.name} has floats: export a "
        "network with quantized activations and weights, or write ONNX"
      )
  return _Planner(network, values).plan()


class _Planner:
  """Follows a network's nodes, and makes a layer at each grid."""

  def __init__(self, network: Lowered, values: dict):
    self.network, self.values = network, values
    self.nodes = {node.name: node for node in network.nodes}
    self.tensors, self.steps, self.ends = {}, [], {}

  def plan(self) -> Plan:
    for node in self.network.nodes:
      if isinstance(node, Image) and not node.fixed:
        self.ends["table"] = interpret.normalised(node, _pixels(node)).T
        self.tensors[node.name] = Tensor("image", self.values[node.name].shape, 0, 255)
      elif isinstance(node, Mean) and not node.fixed:
        self.ends.update(mean=node, mean_grid=None, mean_input=self.tensors[node.input])
      elif isinstance(node, MaxPool):
        output = self._tensor(node.name)
        self.steps.append(Pool(self.tensors[node.input], output))
      elif isinstance(node, Quantize):
        self._grid(node, self.nodes[node.input])
    logits = self.network.nodes[-1]
    last = self.ends.get("mean_grid") or self.ends.get("mean")
    if last is None or logits.input != last.name or not isinstance(self.steps[0], Layer):
      raise BadNetwork("C code begins with a convolution and ends with a mean and a classifier")
    return Plan(self.network, steps=self.steps, logits=logits, **self.ends)

  def _grid(self, grid: Quantize, source):
    if isinstance(source, Image):
      self.ends["table"] = interpret.levels_of(source, grid, _pixels(source)).T
      # The stem makes these levels itself, row by row.
      self.tensors[grid.name] = Tensor("image", self.values[grid.name].shape, 0, 255)
    elif isinstance(source, Mean):
      if grid.signed:
        raise BadNetwork(f"C code has means on unsigned grids, and {grid.name} is signed")
      inside = self.tensors[source.input]
      self.ends.update(mean=source, mean_grid=grid, mean_input=inside)
    elif not self._is_own(grid, source):
      self.steps.append(self._layer(grid, source))

  def _is_own(self, grid, source) -> bool:
    """Whether a grid is a branch's own, on its way to an addition."""
    readers = lambda node: [n for n in self.network.nodes if node.name in inputs(n)]
    after = readers(grid)
    one = len(after) == 1 and isinstance(after[0], Rescale) and isinstance(source, Conv)
    return one and grid.signed and isinstance(readers(after[0])[0], Add)

  def _tensor(self, name: str) -> Tensor:
    value = self.values[name]
    zero = 128 if value.low < 0 else 0
    self.tensors[name] = Tensor(name, value.shape, zero, value.high + zero)
    return self.tensors[name]

  def _layer(self, grid: Quantize, source) -> Layer:
    if isinstance(source, Conv):
      branch = self._branch(source, None)
      return Layer(branch, grid, self._tensor(grid.name))
    if not isinstance(source, Add):
      raise BadNetwork(f"C code has no form for {source.name}, which is put on a grid")
    branches, added = [], None
    for name in (source.first, source.second):
      node, own = self.nodes[name], None
      if isinstance(node, Rescale) and node.input not in self.tensors:
        own = self.nodes[node.input], node
        node = self.nodes[own[0].input]
      if isinstance(node, Conv):
        branches.append(self._branch(node, own))
      elif isinstance(node, Rescale):
        added = self.tensors[node.input], node
    if not branches or len(branches) + (added is not None) < 2 or not self.steps:
      raise BadNetwork(f"C code has no form for {source.name}, which is put on a grid")
    shortcut = branches[1] if len(branches) == 2 else None
    return Layer(branches[0], grid, self._tensor(grid.name), shortcut, added)

  def _branch(self, conv: Conv, own) -> Branch:
    levels, source = conv.weights.levels, self.tensors[conv.input]
    if source.name == "image":
      if self.steps:
        raise BadNetwork(f"C code reads the image in one convolution, and {conv.name} is another")
    elif max(levels.shape[:2]) > 3:
      raise BadNetwork(f"C code has kernels of 1x1 and 3x3 after the stem, and not {conv.name}'s")
    # The C code's numbers on the way are below four times as large.
    elif 4 * 255 * int(np.abs(levels).sum((0, 1, 2), dtype=np.int64).max()) >= 2**31:
      raise BadNetwork(f"the sums of {conv.name} may leave 31 bits")
    source.border = max(source.border, levels.shape[0] // 2)
    return Branch(conv, source, own)


def _pixels(image: Image) -> np.ndarray:
  """All pixels, uint8 (256, channels)."""
  return np.arange(256, dtype=np.uint8)[:, None].repeat(len(image.addend), -1)
