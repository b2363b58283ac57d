"""The fast form: 8 bits between all layers, for students with quantization points before additions.

Convolutions and additions stand between DequantizeLinear and QuantizeLinear, which ONNX Runtime
makes QLinearConv and QLinearAdd. These round a sum times one scale, with the bias in units of the
sum. `interpret` rounds to 1/FRACTION of a step first, so a level close to the middle between two
may differ by one. Float ends are float operators. With 8-bit ends, the mean and the logits are
8-bit operators, too.

Weights of convolutions are int8 whatever the bits of their levels. The levels are multiplied by a
whole *gain*, so that the units of the bias are finer. The products stay within
`exact.LARGEST_WEIGHT`, so that no processor saturates. Levels of 8 bits are beyond it by
themselves: `needs_vnni` names their layers. The classifier's are uint8. All processors add these up
right, but too slowly for more than a classifier.
"""

import collections
import dataclasses

import numpy as np

from apprentice_jax.deploy import network as nodes
from apprentice_jax.deploy.network import FRACTION, FULL, Conv, Lowered, Quantize, Value, inputs
from apprentice_jax.deploy.onnx import exact
from apprentice_jax.deploy.onnx.exact import LARGEST_WEIGHT, filters, window, windows, zero
from apprentice_jax.deploy.onnx.graph import ZERO, Graph

LARGEST_BIAS = 2.0**30
NEGLIGIBLE = 2.0**-10  # of a level


def unfit(network: Lowered, values: dict[str, Value]) -> str:
  """Why a network has no fast form; "" if it has one."""
  by_name = {node.name: node for node in network.nodes}
  readers = collections.Counter(name for node in network.nodes for name in inputs(node))
  shortcut = lambda name: isinstance(by_name[name], nodes.Rescale)
  for node in network.nodes:
    if isinstance(node, Quantize) and node.bits != 8:
      return f"{node.name} has {node.bits} bits, and what ONNX multiplies and adds fast has 8"
    if isinstance(node, Quantize) and (shortcut(node.input) or readers[node.input] > 1):
      return f"{node.name} quantizes what is a shortcut, or read by others as well"
    if isinstance(node, nodes.Add):
      if not all(values[name].kind == "fixed" and shortcut(name) for name in inputs(node)):
        return (
          "its additions are not of 8-bit activations: train with "
          "--config.quantization.residual, or export the exact form"
        )
    if isinstance(node, Conv) and values[node.input].kind == "levels":
      if why := _unfit_weights(node):
        return f"{node.name} has {why}"
  return ""


def _unfit_weights(node: Conv) -> str:
  w = node.weights
  if w.bits == FULL:
    return "float weights for 8-bit activations"
  if w.levels.dtype != np.int8:
    return f"levels up to {w.top}, which int8 cannot hold"
  if w.levels[..., 0].size * LARGEST_WEIGHT * 255 > LARGEST_BIAS:
    return "more inputs than sums of 31 bits can hold"
  if len(node.multiplier) == 2 and np.any(node.multiplier[0] * node.multiplier[1] > 0):
    return "two magnitudes that are not of two signs"
  return ""


def needs_vnni(network: Lowered, values: dict[str, Value]) -> list[str]:
  """The convolutions whose sums saturate at 16 bits in this form, on x86 without VNNI."""
  integers = lambda node: isinstance(node, Conv) and values[node.input].kind == "levels"
  convs = filter(integers, network.nodes[:-1])
  return [node.name for node in convs if node.weights.top > LARGEST_WEIGHT]


def build(g: Graph, network: Lowered, values: dict[str, Value], images: str) -> str:
  """As `exact.build`; but a quantized result is one with its Quantize, and has no name itself."""
  steps, by_name = {}, {node.name: node for node in network.nodes}
  for node in network.nodes[:-1]:
    names = inputs(node) or (images,)
    before, x = by_name.get(names[0]), values.get(names[0])
    of_levels = x is not None and x.kind == "levels"
    # A Quantize and the node before it become one operator, so nodes wait for their Quantize.
    if isinstance(node, Quantize):
      steps[node.name] = node.step
      if isinstance(before, nodes.Add):
        _addition(g, node, before, by_name, values)
      elif isinstance(before, Conv):
        _convolution(g, node, before, values[before.input], steps)
      elif isinstance(before, nodes.Mean):
        mean = _mean(g, before, values[before.input], node.step / FRACTION)
        exact.on_grid(g, node, mean, node.step)
      else:
        exact.rule(g, node, [x], names)
    elif isinstance(node, nodes.Rescale) and of_levels:
      _rescale(g, node, x)
    elif isinstance(node, nodes.Mean) and of_levels:
      if not node.fixed:
        _mean(g, node, x)
    elif isinstance(node, nodes.Image):
      # Without the rounding there is a pass less over all pixels.
      unrounded = dataclasses.replace(node, fixed=False)
      exact.rule(g, unrounded, [values[node.name]], names)
    elif not isinstance(node, nodes.Add) and not (isinstance(node, Conv) and node.fixed):
      exact.rule(g, node, [x], names)
      steps[node.name] = steps.get(names[0])
  head = network.nodes[-1]
  return dense(g, head, values[head.input], steps.get(head.input))


def _rescale(g: Graph, node: nodes.Rescale, value: Value):
  """The levels of a shortcut.

  A convolution copies them to more channels, in less time than Slice and Pad take.
  """
  channels = value.shape[-1]
  if node.channels == channels:
    g.add("Identity", exact.subsampled(g, node.input, node.stride), name=node.name)
    return
  copies = np.eye(node.channels, channels, -((node.channels - channels) // 2), np.int8)
  copies = copies[..., None, None]
  one, kernel = np.float32(1), g.levels(nodes.Weights(copies, 2), copies)
  kernel = g.add("DequantizeLinear", kernel, one, np.int8(0))
  x = g.add("DequantizeLinear", node.input, one, zero(value))
  x = g.add("Conv", x, kernel, **windows((1, 1), node.stride))
  g.add("QuantizeLinear", x, one, zero(value), name=node.name)


def _addition(g, node: Quantize, add: nodes.Add, by_name, values):
  floats = []
  for rescale in (by_name[name] for name in inputs(add)):
    step = np.float32(rescale.multiplier / FRACTION * node.step)
    floats.append(g.add("DequantizeLinear", rescale.name, step, zero(values[rescale.input])))
  exact.on_grid(g, node, g.add("Add", *floats, name=add.name), node.step)


def _convolution(g, node: Quantize, conv: Conv, value: Value, steps):
  # From here on in levels of the result.
  multiplier, addend = (a.astype(np.float64) / FRACTION for a in (conv.multiplier, conv.addend))
  if value.kind == "float":
    weights = exact.weights(g, conv, filters, (multiplier * node.step).astype(np.float32))
    bias = (addend * node.step).astype(np.float32)
    y = g.add("Conv", conv.input, weights, bias, name=conv.name, **window(conv))
    _channels_last(g, exact.on_grid(g, node, y, node.step, named=False), node.name)
    return
  step = np.float32(steps[conv.input])
  x = g.add("DequantizeLinear", conv.input, step, zero(value))
  weights, scale, bias = _integers(g, conv, multiplier, addend, max(-value.low, value.high))
  scale = (scale * node.step / step).astype(np.float32)
  weights = g.add("DequantizeLinear", weights, scale, np.zeros(len(scale), np.int8), axis=0)
  bias = g.add("DequantizeLinear", bias, scale * step, np.zeros(len(scale), np.int32), axis=0)
  y = g.add("Conv", x, weights, bias, name=conv.name, **window(conv))
  exact.on_grid(g, node, y, node.step)


def _mean(g: Graph, node: nodes.Mean, value: Value, unit: float = 1.0) -> str:
  """The mean of levels as a float; ``unit``: the value of 1 in the node's result."""
  step = np.float32(node.multiplier * (value.shape[0] * value.shape[1]) * unit)
  x = g.add("DequantizeLinear", node.input, step, zero(value))
  return g.add("GlobalAveragePool", x, name=node.name)


def dense(g: Graph, node: Conv, value: Value, step: float | None) -> str:
  """The logits: of levels, a Gemm between scales.

  Weights of 8 bits are uint8, see `exact.as_uint8`.
  """
  multiplier, addend, w = node.multiplier[0], node.addend, node.weights
  small = np.all(multiplier > 0) and np.all(np.abs(addend) < LARGEST_BIAS * multiplier)
  if value.kind != "levels" or w.bits == FULL or len(node.multiplier) > 1 or not small:
    return exact.dense(g, node, value, node.input)
  each = lambda point: np.full(len(multiplier), point)
  if w.top > LARGEST_WEIGHT:
    numbers, point = exact.as_uint8(g, w.levels[0, 0]), np.uint8(ZERO)
  else:
    numbers, point = g.levels(w, w.levels[0, 0]), np.int8(0)
  x = g.add("DequantizeLinear", g.add("Flatten", node.input), np.float32(step), zero(value))
  weights = g.add("DequantizeLinear", numbers, multiplier / np.float32(step), each(point), axis=1)
  bias = np.rint(addend / multiplier).astype(np.int32)
  bias = g.add("DequantizeLinear", bias, multiplier, each(np.int32(0)), axis=0)
  return g.add("Gemm", x, weights, bias, name=node.name)


def _channels_last(g: Graph, x: str, name: str):
  """Keeps ONNX Runtime's layouts apart: channels first up to here, and last from here on.

  ONNX Runtime's QLinearConv is channels-last, and the float convolution is not. Without this, it
  transposes between the first additions, in a sixth of the time of ResNet-18 at batch 16. It
  cancels transpositions that meet. It does not move them past a Reshape, even of the same shape.
  """
  x = g.add("Reshape", g.add("Transpose", x, perm=[0, 2, 3, 1]), np.zeros(4, np.int64))
  g.add("Transpose", x, perm=[0, 3, 1, 2], name=name)


def _integers(g: Graph, conv: Conv, multiplier, addend, largest: int):
  """int8 weights, the value of a unit of their sums, and the bias in these units.

  Args:
    g: the graph.
    conv: the convolution.
    multiplier, addend: of the convolution, in levels of the result.
    largest: magnitude of its input.

  Returns:
    The name of the weights; float64 (out,), in levels of the result; int32 (out,).
  """
  w, magnitude = conv.weights, np.abs(multiplier)
  row = magnitude.max(0)
  # A channel that hardly moves the result has no weights, so that it sets no other's units.
  dead = row * largest * np.abs(w.levels.astype(np.int32)).sum((0, 1, 2)) < NEGLIGIBLE
  dead |= np.abs(addend) > LARGEST_BIAS * row  # in whose units the bias would not fit
  row = np.where(dead, NEGLIGIBLE, row)
  # Larger weights make finer units of the bias, which has to fit int32 in them.
  room = np.min(LARGEST_BIAS * row / np.maximum(np.abs(addend), NEGLIGIBLE))
  top = int(np.clip(room, 1, LARGEST_WEIGHT))
  levels = np.where(dead, 0, w.levels)
  if len(multiplier) == 1:
    gain, levels = max(top // w.top, 1), np.where(multiplier[0] < 0, -levels, levels)
    scale, number = row / gain, lambda x: gain * np.clip(x, -w.top, w.top)
    packed = not (w.odd and np.any(dead))  # 0 is no odd number, and has no code
  else:
    plus, minus = _ratios(magnitude, top)
    scale = row / np.maximum(plus, minus)
    number = lambda x: np.select([x == 1, x == -1], [plus, -minus]).astype(np.int8)
    packed = plus.size == 1  # the packed form has one number for each level
  if packed:
    numbers = g.levels(w, filters(levels), number)
  else:
    numbers = g.constant(filters(number(levels)).astype(np.int8))
  # Of two rows in the other order, the weights change their signs: scales are positive.
  negative = multiplier[0] < multiplier[-1]
  if np.any(negative):
    signs = np.where(negative, -1, 1).astype(np.int32).reshape(-1, 1, 1, 1)
    numbers = g.cast(g.add("Mul", g.cast(numbers, np.int32), signs), np.int8)
  bias = np.clip(np.rint(addend / scale), -LARGEST_BIAS, LARGEST_BIAS)
  return numbers, scale, bias.astype(np.int32)


def _ratios(magnitude, top: int) -> tuple[np.ndarray, np.ndarray]:
  """`_ratio` of two rows of magnitudes, (2, out): one pair where all channels have one ratio, else
  one a channel."""
  plus, minus = magnitude
  first, second = magnitude[:, np.argmax(magnitude.max(0))]
  if np.allclose(plus * second, minus * first, rtol=1e-4, atol=0):
    return tuple(map(np.array, _ratio(first, second, top)))
  return tuple(np.array([_ratio(*pair, top) for pair in magnitude.T]).T)


def _ratio(first: float, second: float, top: int) -> tuple[int, int]:
  """Two whole numbers up to ``top`` in the ratio of two magnitudes, as nearly as that goes."""
  if not max(first, second):
    return 1, 1
  ratio = min(first, second) / max(first, second)
  large = max(range(1, top + 1), key=lambda n: (-abs(round(n * ratio) / n - ratio), n))
  small = round(large * ratio)
  return (large, small) if first >= second else (small, large)
