"""The layers of a network as the C code runs them, and where their results lie in memory.

A layer is a convolution with all that follows it up to the next grid: its batch norm, a shortcut
that is added, and the rounding to levels. Its result may overwrite the levels that were added.
"""

import dataclasses

import numpy as np

from apprentice_jax.deploy import interpret
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

LISTS = (
  5  # bits of weights up to which a channel becomes lists of offsets, and nothing is multiplied
)
SUM = 2**15 - 1  # the largest sum of a list's levels


@dataclasses.dataclass
class Tensor:
  """Levels in memory: planes of rows, with a border of level zero.

  Attributes:
    shape: (height, width, channels).
    zero: the byte of level zero: 128 of signed levels, else 0.
    top: the largest byte.
    border: columns and rows of zeros that its readers need.
    start: of the first pixel; set by `placed`.
  """

  name: str
  shape: tuple[int, int, int]
  zero: int
  top: int
  border: int = 0
  start: int = 0

  @property
  def pitch(self) -> int:
    return self.shape[1] + self.border

  @property
  def plane(self) -> int:
    return (self.shape[0] + self.border) * self.pitch

  @property
  def before(self) -> int:
    """Bytes of the border before the first pixel."""
    return self.border * (self.pitch + 1)

  @property
  def bytes(self) -> int:
    return self.before + self.shape[2] * self.plane


@dataclasses.dataclass
class Branch:
  """A convolution on its way to an addition or a grid.

  Attributes:
    conv, input: the node, and the levels that it reads.
    own: the branch's own grid, and what one of its levels is of the next grid's fractions; or None.
    segment: input channels whose sums fit 16 bits.
    magnitudes: of the weights, where they become lists; else 0.
  """

  conv: Conv
  input: Tensor
  own: tuple[Quantize, Rescale] | None
  segment: int = 0
  magnitudes: int = 0


@dataclasses.dataclass
class Layer:
  """See the module; ``added`` are levels with their `Rescale`, ``shortcut`` is a convolution."""

  branch: Branch
  grid: Quantize
  output: Tensor
  shortcut: Branch | None = None
  added: tuple[Tensor, Rescale] | None = None


@dataclasses.dataclass
class Plan:
  """What the C code does, in order.

  Attributes:
    table: uint8 (channels, 256), the byte of each pixel value of the image.
    image: the image's levels.
    steps: `Layer`s and ("pool", input, output) in their order.
    mean, mean_grid, mean_input: the mean before the classifier.
    logits: the classifier.
    bytes: of all tensors in memory.
  """

  network: Lowered
  table: np.ndarray
  image: Tensor
  steps: list
  mean: Mean
  mean_grid: Quantize
  mean_input: Tensor
  logits: Conv
  bytes: int = 0

  @property
  def layers(self) -> list[Layer]:
    return [step for step in self.steps if isinstance(step, Layer)]

  @property
  def branches(self) -> list[Branch]:
    return [b for layer in self.layers for b in (layer.branch, layer.shortcut) if b]


def plan(network: Lowered) -> Plan:
  """Plans a network.

  Raises:
    BadNetwork: a part of it has no integer form; the message says what to do.
  """
  values = check(network)
  nodes = {node.name: node for node in network.nodes}
  readers = {name: [n for n in network.nodes if name in inputs(n)] for name in nodes}
  tensors, steps, planned = {}, [], {}
  for node in network.nodes:
    if (
      isinstance(node, Conv)
      and node.weights.bits == FULL
      or (isinstance(node, (Image, Mean)) and not node.fixed)
    ):
      raise BadNetwork(
        f"C code computes on integers, and {node.name} has floats: export a network with quantized "
        "activations and weights, with --ends=8bit"
      )
    if isinstance(node, MaxPool):
      tensors[node.name] = _tensor(node.name, values)
      steps.append(("pool", tensors[node.input], tensors[node.name]))
      _widen(tensors[node.input], 1)
    if not isinstance(node, Quantize):
      continue
    source = nodes[node.input]
    if isinstance(source, Image):
      planned["table"] = _table(source, node)
      tensors[node.name] = planned["image"] = _tensor(node.name, values)
    elif isinstance(source, Mean):
      planned.update(mean=source, mean_grid=node, mean_input=tensors[source.input])
    elif (
      isinstance(source, Conv)
      and isinstance(readers[node.name][0], Rescale)
      and len(readers[node.name]) == 1
      and isinstance(nodes[readers[readers[node.name][0].name][0].name], Add)
      and node.signed
    ):
      continue  # a branch's own grid, on its way to an addition
    else:
      tensors[node.name] = _tensor(node.name, values)
      steps.append(_layer(node, source, nodes, tensors, values))
  logits = network.nodes[-1]
  if "mean" not in planned or logits.input != planned["mean_grid"].name:
    raise BadNetwork("C code ends with a mean and a classifier, and this network does not")
  result = Plan(network, steps=steps, logits=logits, **planned)
  _place(result)
  return result


def _tensor(name, values) -> Tensor:
  value = values[name]
  zero = 128 if value.low < 0 else 0
  return Tensor(name, value.shape, zero, value.high + zero)


def _widen(tensor: Tensor, border: int):
  tensor.border = max(tensor.border, border)


def _table(image: Image, grid: Quantize) -> np.ndarray:
  pixels = np.arange(256, dtype=np.uint8)[None, None, :, None].repeat(len(image.addend), -1)
  levels = interpret.levels_of(image, grid, pixels)[0, 0].T
  return (levels.astype(np.int16) + (128 if grid.signed else 0)).astype(np.uint8)


def _layer(grid, source, nodes, tensors, values) -> Layer:
  result = None
  if isinstance(source, Conv):
    return Layer(_branch(source, None, tensors, values), grid, tensors[grid.name])
  if not isinstance(source, Add):
    raise BadNetwork(f"C code has no form for {source.name}, which is put on a grid")
  for name in (source.first, source.second):
    node = nodes[name]
    own = None
    if (
      isinstance(node, Rescale)
      and isinstance(nodes[node.input], Quantize)
      and (node.input not in tensors)
    ):
      own = nodes[node.input], node
      node = nodes[own[0].input]
    if isinstance(node, Conv):
      branch = _branch(node, own, tensors, values)
      if result is None:
        result = Layer(branch, grid, tensors[grid.name])
      else:
        result.shortcut = branch
    elif isinstance(node, Rescale) and result is not None:
      result.added = tensors[node.input], node
    else:
      raise BadNetwork(f"C code has no form for {name}, which is added")
  return result


def _branch(conv: Conv, own, tensors, values) -> Branch:
  source, w = tensors[conv.input], conv.weights
  _widen(source, max(conv.weights.levels.shape[:2]) // 2)
  branch = Branch(conv, source, own)
  if w.bits <= LISTS:
    branch.magnitudes = (w.top + 1) // 2 if w.odd else w.top
    branch.segment = _segment(w.levels, source.top)
  if not branch.segment:
    branch.magnitudes, branch.segment = 0, source.shape[2]
  largest = source.top * int(np.abs(w.levels).sum((0, 1, 2), dtype=np.int64).max())
  if largest >= 2**31:
    raise BadNetwork(f"the sums of {conv.name} may reach {largest:,}, beyond 31 bits")
  return branch


def _segment(levels: np.ndarray, top: int) -> int:
  """The most input channels whose lists stay below SUM for every output channel; 0: not one."""
  sides = np.stack([levels > 0, levels < 0]).sum((1, 2), dtype=np.int64) * top  # side, in, out
  for segment in range(levels.shape[2], 0, -1):
    starts = np.arange(0, levels.shape[2], segment)
    if np.add.reduceat(sides, starts, axis=1).max() <= SUM:
      return segment
  return 0


def _place(plan: Plan):
  """Gives every tensor its place: the first gap between those that live at the same time."""
  first, last = {plan.image.name: -1}, {plan.mean_input.name: len(plan.steps)}
  tensors = {plan.image.name: plan.image}
  in_place = {}
  for i, step in enumerate(plan.steps):
    if isinstance(step, Layer):
      read = [step.branch.input] + ([step.shortcut.input] if step.shortcut else [])
      read += [step.added[0]] if step.added else []
      output = step.output
    else:
      _, source, output = step
      read = [source]
    for tensor in read:
      last[tensor.name] = max(i, last.get(tensor.name, -1))
    first[output.name] = i
    tensors[output.name] = output
  for i, step in enumerate(plan.steps):
    if isinstance(step, Layer) and step.added:
      source, rescale = step.added
      same = (source.shape, source.border, source.zero) == (
        step.output.shape,
        step.output.border,
        step.output.zero,
      )
      if (
        same and rescale.stride == 1 and last[source.name] == i and source is not step.branch.input
      ):
        in_place[step.output.name] = source.name
  plan.in_place = in_place
  root = lambda name: root(in_place[name]) if name in in_place else name
  groups = {}
  for name in tensors:
    groups.setdefault(root(name), []).append(name)
  placed = []
  order = sorted(groups, key=lambda r: (-tensors[r].bytes, first[r]))
  for r in order:
    begin, end = first[r], max(last[n] for n in groups[r])
    size, at = tensors[r].bytes, 0
    for other_at, other_size in sorted((a, s) for a, s, b, e in placed if b <= end and begin <= e):
      if at + size <= other_at:
        break
      at = max(at, other_at + other_size)
    placed.append((at, size, begin, end))
    for name in groups[r]:
      tensors[name].start = at + tensors[name].before
  plan.bytes = max(a + s for a, s, *_ in placed)
