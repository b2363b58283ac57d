"""The exact form: operation by operation what `interpret` does, to the bit after float sums.

Convolutions of levels are float32 ones of whole numbers where their sums cannot exceed 2**24, so
that no order of summation changes them. Others are ConvInteger, for which ONNX Runtime takes
several times as long. A runtime has to compute the former in float32 as such, not in TF32 nor by
Winograd's transformation: ONNX Runtime does on CPUs. Mul, Round, Add and QuantizeLinear follow,
whose scale is a power of two. Convolutions of float values have their multipliers in their weights.
Images are (batch, channels, height, width) inside; signed levels are uint8 with a zero point of
128.
"""

import functools

import numpy as np

from apprentice_jax.deploy import network as nodes
from apprentice_jax.deploy.network import EXACT, FRACTION, FULL, Conv, Lowered, Value
from apprentice_jax.deploy.onnx.graph import ZERO, Graph

SPATIAL = np.array([2, 3])
# x86 processors without VNNI add products of uint8 and int8 in pairs, in 16 bits, which hold 2 *
# 255 * 64.
LARGEST_WEIGHT = 64


def build(g: Graph, network: Lowered, values: dict[str, Value], images: str) -> str:
  """Adds a network to a graph, each node's result under its name; gives that of the logits.

  Args:
    g: the graph.
    network: the network.
    values: what `network.check` gives.
    images: the name of the input.
  """
  for node in network.nodes[:-1]:
    names = nodes.inputs(node)
    rule(g, node, [values[name] for name in names or [node.name]], names or [images])
  head = network.nodes[-1]
  return dense(g, head, values[head.input], head.input)


def rule(g: Graph, node, values, names) -> str:
  """Adds one node; ``values``, ``names``: of what it reads (an `Image`: of its own result, and of
  the input)."""
  return _RULES[type(node)](g, node, *values, *names)


def zero(value) -> np.uint8:
  """The zero point of levels: of a `Value` or a `Quantize`."""
  return np.uint8(ZERO if value.low < 0 else 0)


def filters(kernel: np.ndarray) -> np.ndarray:
  """(height, width, in, out) to (out, in, height, width)."""
  return np.transpose(kernel, (3, 2, 0, 1))


def window(node: Conv) -> dict:
  """The attributes of a convolution."""
  return windows(node.weights.levels.shape[:2], node.stride)


def windows(size, stride: int) -> dict:
  """The attributes of an operator with windows of an odd size around each ``stride``-th pixel."""
  size = list(size)
  pads = [(k - 1) // 2 for k in size] * 2
  return dict(kernel_shape=size, pads=pads, strides=[stride] * 2, dilations=[1, 1])


def dense(g: Graph, node: Conv, value: Value, x: str) -> str:
  """A convolution of one pixel by one: the logits, (batch, classes)."""
  x = g.add("Flatten", x)
  layout, form = (lambda kernel: kernel[0, 0]), (lambda array: array)
  if value.kind == "levels" and node.weights.bits != FULL:
    return _scaled(g, node, _sums(g, node, value, layout, "MatMulInteger", x), form)
  x = as_float(g, value, x)
  return g.add("Gemm", x, weights(g, node, layout, node.multiplier), node.addend, name=node.name)


def _conv(g, node: Conv, value: Value, x):
  if value.kind == "levels" and node.weights.bits != FULL:
    sums = _sums(g, node, value, filters, "ConvInteger", x, **window(node))
    return _scaled(g, node, sums, _channels)
  x, kernel = as_float(g, value, x), weights(g, node, filters, node.multiplier)
  if not node.fixed:
    return g.add("Conv", x, kernel, node.addend, name=node.name, **window(node))
  # The addend comes after the rounding, so it cannot be the operator's own bias.
  products = g.add("Round", g.add("Conv", x, kernel, **window(node)))
  return g.add("Add", products, _channels(node.addend), name=node.name)


def _sums(g, node: Conv, value: Value, layout, op, x, **attributes):
  """The accumulators, whole float32 numbers, one for each row of multipliers."""
  w = node.weights
  if op == "ConvInteger" and nodes.accumulator_bound(node, value) <= EXACT:
    x = as_float(g, value, x)
    sums = [g.add("Conv", x, kernel, **attributes) for kernel in _float_levels(g, node, layout)]
    # Without Round, ONNX Runtime would multiply the weights by the multipliers.
    return [g.add("Round", s) for s in sums]
  convolve = functools.partial(g.add, op, x, **attributes)
  # Odd levels up to 255 do not fit int8: half of one, and half + 1 by another zero point.
  if w.odd and w.bits == 8:
    half, points = as_uint8(g, layout(w.levels // 2)), (ZERO, ZERO - 1)
    sums = [g.add("Add", *(convolve(half, zero(value), np.uint8(point)) for point in points))]
  elif w.top > LARGEST_WEIGHT:
    sums = [convolve(as_uint8(g, layout(w.levels)), zero(value), np.uint8(ZERO))]
  else:
    sums = [convolve(kernel, zero(value)) for kernel in _kernels(g, node, layout)]
  return [g.cast(s, np.float32) for s in sums]


def as_uint8(g, levels):
  """For `LARGEST_WEIGHT`: products of uint8 and uint8 are exact on every processor."""
  return g.constant((levels.astype(np.int16) + ZERO).astype(np.uint8))


def _scaled(g, node: Conv, sums, form):
  products = [g.add("Mul", s, form(m)) for s, m in zip(sums, node.multiplier, strict=True)]
  if node.fixed:
    products = [g.add("Round", p) for p in products]
  return g.add("Add", _sum(g, products), form(node.addend), name=node.name)


def _sum(g, rows: list[str]) -> str:
  return g.add("Add", *rows) if len(rows) == 2 else rows[0]


def weights(g: Graph, node: Conv, layout, multiplier: np.ndarray) -> str:
  """Float weights times multipliers, float32 (1 or 2, out); computed from levels, if any."""
  w, form = node.weights, lambda row: layout(row.reshape(1, 1, 1, -1))
  if w.bits == FULL:
    return g.constant(layout(w.levels * multiplier[0]))
  levels = _float_levels(g, node, layout)
  return _sum(g, [g.add("Mul", x, form(m)) for x, m in zip(levels, multiplier, strict=True)])


def _float_levels(g, node: Conv, layout):
  """The levels that meet each row of multipliers, in float32."""
  w = node.weights
  if w.odd and w.bits == 8:
    half = g.cast(g.constant(layout(w.levels // 2).astype(np.int8)), np.float32)
    return [g.add("Add", g.add("Mul", half, np.float32(2)), np.float32(1))]
  return [g.cast(kernel, np.float32) for kernel in _kernels(g, node, layout)]


def _kernels(g, node: Conv, layout):
  """The levels that meet each row of multipliers: all, or the positive and negative ones, as 1."""
  sides = [None]
  if len(node.multiplier) == 2:
    sides = [lambda x: np.maximum(x, 0), lambda x: np.maximum(-x, 0)]
  return (g.levels(node.weights, layout(node.weights.levels), side) for side in sides)


def as_float(g: Graph, value: Value, x: str) -> str:
  """Levels as float32; whatever else as it is."""
  if value.kind != "levels":
    return x
  x = g.cast(x, np.float32)
  return g.add("Sub", x, np.float32(ZERO)) if zero(value) else x


def _channels(array) -> np.ndarray:
  """One number per channel, (channels, 1, 1)."""
  return np.reshape(array, (-1, 1, 1))


def _image(g, node: nodes.Image, value: Value, images):
  """By rows: ONNX Runtime is slow where constants of three numbers, one per channel, recur from
  pixel to pixel."""
  height, width, channels = value.shape
  x = g.cast(g.add("Reshape", images, np.array([0, height, width * channels])), np.float32)
  x = g.add("Mul", x, np.tile(node.multiplier[0], width))
  x = g.add("Add", g.add("Round", x) if node.fixed else x, np.tile(node.addend, width))
  x = g.add("Reshape", x, np.array([0, *value.shape]))
  return g.add("Transpose", x, perm=[0, 3, 1, 2], name=node.name)


def _rescale(g, node: nodes.Rescale, value: Value, x):
  x = as_float(g, value, subsampled(g, x, node.stride))
  if value.kind == "levels":
    x = g.add("Round", g.add("Mul", x, np.float32(node.multiplier)))
  # Zeros on both sides, the smaller half before.
  if extra := node.channels - value.shape[-1]:
    pads = np.array([0, extra // 2, 0, 0, 0, extra - extra // 2, 0, 0])
    x = g.add("Pad", x, pads, np.float32(0))
  return g.add("Identity", x, name=node.name)


def subsampled(g: Graph, x: str, stride: int) -> str:
  """Every ``stride``-th pixel."""
  if stride == 1:
    return x
  ends = np.full(2, np.iinfo(np.int64).max)
  return g.add("Slice", x, np.zeros(2, np.int64), ends, SPATIAL, np.full(2, stride))


def on_grid(g: Graph, node: nodes.Quantize, x: str, step: float, named: bool = True) -> str:
  """``x / step`` as levels, which get the node's name if ``named``."""
  name = node.name if named else ""
  if node.bits == 8:
    return g.add("QuantizeLinear", x, np.float32(step), zero(node), name=name)
  # QuantizeLinear saturates at 8 bits, and Clip at fewer.
  levels = g.add("QuantizeLinear", x, np.float32(step), zero(node))
  low, high = (np.uint8(bound + int(zero(node))) for bound in (node.low, node.high))
  return g.add("Clip", levels, low, high, name=name)


def _mean(g, node: nodes.Mean, value: Value, x):
  if value.kind == "float":
    # One fast operator, where the multiplier is the mean's alone.
    if np.float32(node.multiplier) == np.float32(1 / (value.shape[0] * value.shape[1])):
      return g.add("GlobalAveragePool", x, name=node.name)
    return g.add("Mul", g.add("ReduceSum", x, SPATIAL), np.float32(node.multiplier), name=node.name)
  x = g.cast(x, np.int32)
  x = g.add("Sub", x, np.int32(ZERO)) if zero(value) else x
  x = g.cast(g.add("ReduceSum", x, SPATIAL), np.float32)
  if not node.fixed:
    return g.add("Mul", x, np.float32(node.multiplier), name=node.name)
  return g.add("Round", g.add("Mul", x, np.float32(node.multiplier)), name=node.name)


_RULES = {
  nodes.Image: _image,
  nodes.Conv: _conv,
  nodes.Rescale: _rescale,
  nodes.Add: lambda g, node, first, second, a, b: g.add("Add", a, b, name=node.name),
  nodes.Quantize: lambda g, node, value, x: on_grid(g, node, x, FRACTION),
  nodes.Relu: lambda g, node, value, x: g.add("Relu", x, name=node.name),
  nodes.MaxPool: lambda g, node, value, x: g.add(
    "MaxPool", x, name=node.name, **windows((3, 3), 2)
  ),
  nodes.Mean: _mean,
}
