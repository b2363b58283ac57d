"""What a deployed network costs: parameters, bytes, multiply-accumulates, bit operations,
memory."""

import collections
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np

from apprentice_jax import document
from apprentice_jax.deploy import network as nodes
from apprentice_jax.deploy import packed
from apprentice_jax.deploy.lower import lower
from apprentice_jax.deploy.network import FULL, Conv, Lowered, Value, check, inputs
from apprentice_jax.deploy.unlowered import Unlowered, unlowered
from apprentice_jax.models.imported import ImportedNetwork
from apprentice_jax.models.residual import ResNet, variable_shapes
from apprentice_jax.models.table import Row


class LayerCost(NamedTuple):
  """One convolution or dense layer, for one image.

  Attributes:
    path: its name, such as ``stage1_block1/conv1``.
    weights: number of weights.
    weight_bits, activation_bits: bits of a weight, and of an input value (32: float).
    channels: output channels.
    macs: multiply-accumulates.
    zeros: how many of its weights have the level zero; None for floats.
  """

  path: str
  weights: int
  weight_bits: int
  activation_bits: int
  channels: int
  macs: int
  zeros: int | None

  @property
  def bops(self) -> int:
    """Bit operations: multiply-accumulates times the bits of a weight times those of an input.

    Van Baalen et al. count so ("Bayesian Bits", 2020, https://arxiv.org/abs/2005.07093). Baskin et
    al. count the additions as well ("UNIQ", 2018, https://arxiv.org/abs/1804.10969).
    """
    return self.macs * self.weight_bits * self.activation_bits


class Cost(NamedTuple):
  """A network, for one image.

  Attributes:
    parameters: weights, and a scale and a bias per output channel.
    weight_bits: bits of all weights.
    bytes: of the packed file; of an `Unlowered` network, of what such a file would hold.
    macs: multiply-accumulates by precision, such as "8A,2W".
    bops: see `LayerCost.bops`.
    peak_bytes: see `peak_bytes`; None of an `Unlowered` network.
    sparsity: the fraction of integer weights that are zero; None where there are none.
  """

  parameters: int
  weight_bits: int
  bytes: int
  macs: dict[str, int]
  bops: int
  peak_bytes: int | None
  sparsity: float | None


def total(network: Lowered | Unlowered, packing: str = "bits") -> Cost:
  """The cost of a network; ``packing``: see `packed.write`."""
  every, macs = layers(network), collections.Counter()
  for layer in every:
    macs[f"{layer.activation_bits}A,{layer.weight_bits}W"] += layer.macs
  integers = [layer for layer in every if layer.zeros is not None]
  zeros, levels = (sum(getattr(l, field) for l in integers) for field in ("zeros", "weights"))
  if isinstance(network, Unlowered):
    rows = network.rows()
    numbers, size, peak = (sum(r.parameters for r in rows), sum(r.bytes for r in rows), None)
  else:
    numbers = sum(layer.weights + 2 * layer.channels for layer in every)
    size, peak = len(packed.encode(network, packing)), peak_bytes(network)
  return Cost(
    parameters=numbers,
    weight_bits=sum(layer.weights * layer.weight_bits for layer in every),
    bytes=size,
    macs=dict(macs),
    bops=sum(layer.bops for layer in every),
    peak_bytes=peak,
    sparsity=zeros / levels if integers else None,
  )


def layers(network: Lowered | Unlowered) -> list[LayerCost]:
  """The cost of every convolution and dense layer, in order."""
  if isinstance(network, Unlowered):
    return [_traced(row, network.zeros.get(row.path)) for row in network.rows() if row.layer]
  values = check(network)
  convs = [node for node in network.nodes if isinstance(node, Conv)]
  return [_layer(node, values[node.input], values[node.name]) for node in convs]


def _layer(node: Conv, x: Value, result: Value) -> LayerCost:
  w, (height, width, channels) = node.weights, result.shape
  zeros = None if w.bits == FULL else int(np.sum(w.levels == 0))
  macs = w.levels.size * height * width
  return LayerCost(node.name, w.levels.size, w.bits, x.bits, channels, macs, zeros)


def _traced(row: Row, zeros: int | None) -> LayerCost:
  layer, bits = row.layer, row.precision
  weights = math.prod(layer.kernel)
  return LayerCost(
    row.path, weights, bits.weights, bits.activations, layer.channels, layer.macs, zeros
  )


_KEPT = (nodes.Image, nodes.Quantize, nodes.Relu, nodes.MaxPool, nodes.Mean)


def peak_bytes(network: Lowered) -> int:
  """The most memory that results take at a time.

  A level takes a byte, a float four, a pixel of the image one. The results of quantizers, ReLUs,
  pools and means are kept, and the logits. We take the nodes between two of these to be computed
  with the latter one, value by value. Nodes run in their order; each needs its inputs, its result,
  and what is needed later.
  """
  values = check(network)
  # By node: the kept results that it is computed from; their bytes; the step that reads them last.
  sources, size, last = {}, {}, {}
  steps = []
  for node in network.nodes:
    below = frozenset().union(*(sources[name] for name in inputs(node)))
    # What is not kept is computed with the next kept result, and hands its sources on to it.
    if isinstance(node, _KEPT) or node is network.nodes[-1]:
      small = values[node.name].kind == "levels" or isinstance(node, nodes.Image)
      bytes_each = 1 if small else 4
      size[node.name] = math.prod(values[node.name].shape) * bytes_each
      last.update({name: len(steps) for name in (*below, node.name)})
      steps.append(node.name)
      below = frozenset([node.name])
    sources[node.name] = below
  # A kept result takes memory from its own step to the last one that reads it.
  held = lambda i: sum(size[name] for name in steps[: i + 1] if last[name] >= i)
  return max(map(held, range(len(steps))))


def table(network: Lowered | Unlowered, packing: str = "bits", by_layer: bool = False) -> str:
  """The cost as text; ``by_layer``: with a Markdown table of its layers."""
  cost = total(network, packing)
  macs = ", ".join(f"{count:,} at {precision}" for precision, count in cost.macs.items())
  shape = "x".join(map(str, network.image_shape))
  lines = [
    f"{network.architecture} {network.precision}, one image of {shape}:",
    f"  parameters         {cost.parameters:,}; weights of {cost.weight_bits:,} bits",
    f"  {_size(network, cost.bytes)}",
    f"  multiply-adds      {macs}",
    f"  bit operations     {cost.bops:,}",
  ]
  if cost.peak_bytes is not None:
    lines.append(f"  activation memory  {cost.peak_bytes:,} bytes at most")
  if cost.sparsity is not None:
    lines.append(f"  integer weights    {cost.sparsity:.1%} are zero")
  if by_layer:
    lines += ["", document.table(_COLUMNS, map(_row, layers(network)))]
  return "\n".join(lines)


def _size(network: Lowered | Unlowered, size: int) -> str:
  if isinstance(network, Lowered):
    return f"packed file        {size:,} bytes"
  # No file holds the weights of an `Unlowered` network in their bits.
  stored = network.model.quantization.precision.weights != FULL
  return (
    f"at its bits        {size:,} bytes" + "; a StableHLO file stores a weight in int8" * stored
  )


_COLUMNS = ("layer", "weights", "bits", "input bits", "multiply-adds", "bit operations", "zero")


def _row(l: LayerCost) -> list[str]:
  numbers = (l.weights, l.weight_bits, l.activation_bits, l.macs, l.bops)
  zero = "" if l.zeros is None else f"{l.zeros / l.weights:.1%}"
  return [l.path, *(f"{number:,}" for number in numbers), zero]


def parameters(model: nn.Module, image_shape) -> int:
  """The number of trained parameters, batch norm's included, of the model on images (h, w, c)."""
  return sum(a.size for a in jax.tree.leaves(variable_shapes(model, tuple(image_shape))["params"]))


def blank(model: ResNet | ImportedNetwork, image_shape, **about) -> Lowered | Unlowered:
  """The model lowered with weights of zero; all but the sparsity costs what a trained one does.

  Args:
    model: as `models.resnet` makes it, or a user's own, which is not lowered.
    image_shape: (height, width, channels).
    **about: further arguments of `lower.lower`.
  """
  names = tuple(map(str, range(model.num_classes)))
  about = {
    "class_names": names,
    "mean": (0.5,),
    "std": (0.5,),
    **about,
    "image_shape": tuple(image_shape),
  }
  if isinstance(model, ImportedNetwork):
    return unlowered(model, **about)

  def fill(path, leaf):
    # Zero is no step of a grid.
    one = path[-1].key in ("clip", "weight_step", "activation_step")
    return np.broadcast_to(np.float32(one), leaf.shape)

  shapes = variable_shapes(model, tuple(image_shape))
  variables = [shapes["params"], shapes["batch_stats"]]
  filled = jax.tree_util.tree_map_with_path(fill, variables)
  return lower(model, *filled, **about)
