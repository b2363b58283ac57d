"""Where the levels of a network lie in the arena, and how large the arena is.

A layer's result may overwrite the levels that it adds, where nobody reads them again.
"""

import dataclasses

from apprentice_jax.deploy.c.plan import Layer, Plan, Tensor

SLACK = 16  # bytes behind the levels, which the last tiles read and drop


@dataclasses.dataclass(frozen=True)
class Memory:
  """The arena of a plan.

  Attributes:
    levels: bytes of all levels.
    image: where in the levels an image may lie, since nothing is written there before it is read;
      or None.
    moments: bytes that are in use in each step, by the step's name.
    in_place: names of results that overwrite levels that are added to them.
    list: 16-bit numbers of a layer's lists.
    columns, side, values, sums: of the kernels, outputs of a band, values of shortcuts, and sums.
    apart: 16-bit numbers from one column's sums to the next.
    pixels, kernels: 16-bit numbers of the stem's rows and weights.
  """

  levels: int
  image: int | None
  moments: dict[str, int]
  in_place: frozenset[str]
  list: int
  apart: int
  columns: int
  side: int
  values: int
  sums: int
  pixels: int
  kernels: int

  @property
  def arena(self) -> int:
    """Bytes in all: levels, what a layer and the stem share, a shortcut's values, sums."""
    layers = 2 * (self.list + self.apart * self.columns)
    shared = max(layers, 2 * (self.pixels + self.kernels))
    return self.levels + SLACK + -(-shared // 4) * 4 + 4 * (self.values + self.sums)


def place(plan: Plan) -> Memory:
  """Gives every tensor its place: the first gap between those that live at the same time."""
  first, last, tensors = _lives(plan)
  in_place = _in_place(plan, last)
  root = lambda name: root(in_place[name]) if name in in_place else name
  groups = {}
  for name in tensors:
    groups.setdefault(root(name), []).append(name)
  placed = []
  for r in sorted(groups, key=lambda r: (-tensors[r].bytes, first[r])):
    begin, end = first[r], max(last[name] for name in groups[r])
    at = _gap(placed, tensors[r].bytes, begin, end)
    placed.append((at, tensors[r].bytes, begin, end))
    for name in groups[r]:
      tensors[name].start = at + tensors[name].before
  levels = max(at + size for at, size, *_ in placed)
  height, width, channels = plan.network.image_shape
  image = _gap(placed, height * width * channels, 0, 0)
  moments = {}
  for i, step in enumerate(plan.steps):
    moments[step.output.name] = sum(size for _, size, begin, end in placed if begin <= i <= end)
  fits = image + height * width * channels <= levels
  return Memory(levels, image if fits else None, moments, frozenset(in_place), **_scratch(plan))


def _gap(placed, size: int, begin: int, end: int) -> int:
  at = 0
  for other, other_size in sorted((a, s) for a, s, b, e in placed if b <= end and begin <= e):
    if at + size <= other:
      break
    at = max(at, other + other_size)
  return at


def _lives(plan: Plan) -> tuple[dict, dict, dict[str, Tensor]]:
  """The step that writes each tensor, the last one that reads it, and the tensors, by name."""
  first, last, tensors = {}, {plan.mean_input.name: len(plan.steps)}, {}
  for i, step in enumerate(plan.steps):
    if isinstance(step, Layer):
      read = [branch.input for branch in step.branches if branch.input.name != "image"]
      read += [step.added[0]] if step.added else []
    else:
      read = [step.input]
    for tensor in read:
      last[tensor.name] = max(i, last.get(tensor.name, -1))
    first[step.output.name], tensors[step.output.name] = i, step.output
  return first, last, tensors


def _in_place(plan: Plan, last: dict) -> dict[str, str]:
  """The levels that a result overwrites, by the result's name."""
  form = lambda tensor: (tensor.shape, tensor.border, tensor.zero)
  result = {}
  for i, step in enumerate(plan.steps):
    if isinstance(step, Layer) and step.added:
      source, rescale = step.added
      free = last[source.name] == i and source is not step.branch.input
      if form(source) == form(step.output) and rescale.stride == 1 and free:
        result[step.output.name] = source.name
  return result


def _scratch(plan: Plan) -> dict[str, int]:
  """The numbers of `Memory` that are no levels."""
  even = lambda count: -(-count // 2) * 2
  bands = [(layer, branch) for layer in plan.layers for branch in layer.branches]
  computed = max((layer.band * layer.row_positions(branch) for layer, branch in bands), default=0)
  positions = lambda layer: layer.band * layer.output.pitch
  side = max(map(positions, plan.layers), default=0)
  second = [b.sides == 2 for _, b in bands]
  sums = [side * two + positions(layer) for (layer, _), two in zip(bands, second)]
  values = [positions(layer) for layer in plan.layers if layer.shortcut]
  rows, columns, channels, _ = plan.stem.branch.conv.weights.levels.shape
  width = plan.network.image_shape[1]
  # a float takes two 16-bit numbers, and its kernels are read in the flash
  halves, kernels = (2, 0) if plan.float_stem else (1, 2 * rows * even(columns * channels))
  return {
    "list": sum_of_lists(plan),
    # two before and two behind the sums, which come by sixteen
    "apart": -(-computed // 16) * 16 + 4,
    "columns": max((b.conv.weights.levels.shape[1] for b in plan.branches), default=0),
    "side": side,
    "values": max(values, default=0),
    # the stem computes two channels and two pixels at a time
    "sums": max([*sums, plan.stem.output.pitch + even(plan.stem.output.shape[1])]),
    "pixels": halves * rows * ((width + columns) * channels + 1),
    "kernels": kernels,
  }


def sum_of_lists(plan: Plan) -> int:
  """The 16-bit numbers that lists of a layer and its shortcut take."""
  even = lambda count: -(-count // 2) * 2
  lists = [sum(even(b.list_length) for b in layer.branches) for layer in plan.layers]
  return max(lists, default=0)
