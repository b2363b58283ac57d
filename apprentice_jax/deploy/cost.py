"""What a deployed network costs: parameters, bytes, multiply-accumulates, bit operations,
memory."""

import collections
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np

from apprentice_jax import document
from apprentice_jax.deploy import packed
from apprentice_jax.deploy.lower import lower
from apprentice_jax.deploy.network import (
  FULL,
  Conv,
  Image,
  MaxPool,
  Mean,
  Network,
  Quantize,
  Relu,
  check,
  inputs,
)
from apprentice_jax.models.residual import variable_shapes


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
    """Bit operations: multiply-accumulates times the bits of a weight times those of an input value
    (van Baalen et al., "Bayesian Bits", 2020, https://arxiv.org/abs/2005.07093; Baskin et al.,
    "UNIQ", 2018, https://arxiv.org/abs/1804.10969, count those of the additions as well)."""
    return self.macs * self.weight_bits * self.activation_bits


class Cost(NamedTuple):
  """A network, for one image.

  Attributes:
    parameters: weights, and a scale and a bias per output channel.
    weight_bits: bits of all weights.
    bytes: of the packed file.
    macs: multiply-accumulates by precision, such as "8A,2W".
    bops: see `LayerCost.bops`.
    peak_bytes: see `peak_bytes`.
    sparsity: the fraction of integer weights that are zero; None where there are none.
  """

  parameters: int
  weight_bits: int
  bytes: int
  macs: dict[str, int]
  bops: int
  peak_bytes: int
  sparsity: float | None


def total(network: Network, packing: str = "bits") -> Cost:
  """What a network costs; ``packing``: see `packed.write`."""
  found, macs = layers(network), collections.Counter()
  for layer in found:
    macs[f"{layer.activation_bits}A,{layer.weight_bits}W"] += layer.macs
  integers = [layer for layer in found if layer.zeros is not None]
  return Cost(
    parameters=sum(layer.weights + 2 * layer.channels for layer in found),
    weight_bits=sum(layer.weights * layer.weight_bits for layer in found),
    bytes=len(packed.encode(network, packing)),
    macs=dict(macs),
    bops=sum(layer.bops for layer in found),
    peak_bytes=peak_bytes(network),
    sparsity=sum(l.zeros for l in integers) / sum(l.weights for l in integers)
    if integers
    else None,
  )


def layers(network: Network) -> list[LayerCost]:
  """The cost of every convolution and dense layer, in order."""
  known, found = check(network), []
  for node in network.nodes:
    if isinstance(node, Conv):
      w, (height, width, channels) = node.weights, known[node.name].shape
      found.append(
        LayerCost(
          node.name,
          w.levels.size,
          w.bits,
          known[node.input].bits,
          channels,
          w.levels.size * height * width,
          None if w.bits == FULL else int(np.sum(w.levels == 0)),
        )
      )
  return found


def peak_bytes(network: Network) -> int:
  """The most memory that results take at a time: a byte for each level, four for each float, one
  for each pixel.

  Results are kept of quantizers, ReLUs, pools and means, and the logits; what lies between, up to
  the next of these, is taken to be computed with it, value by value. Nodes run in their order; one
  needs its inputs, its result, and what is needed later.
  """
  known = check(network)
  sources, size, last = (
    {},
    {},
    {},
  )  # of a node: the kept results it is computed from; their bytes; their last use
  steps = []
  for node in network.nodes:
    below = frozenset().union(*(sources[name] for name in inputs(node)))
    if isinstance(node, (Image, Quantize, Relu, MaxPool, Mean)) or node is network.nodes[-1]:
      bytes_each = 1 if known[node.name].kind == "levels" or isinstance(node, Image) else 4
      size[node.name] = math.prod(known[node.name].shape) * bytes_each
      last.update({name: len(steps) for name in (*below, node.name)})
      steps.append(node.name)
      below = frozenset([node.name])
    sources[node.name] = below
  return max(
    sum(size[name] for name in steps[: i + 1] if last[name] >= i) for i in range(len(steps))
  )


def table(network: Network, packing: str = "bits", by_layer: bool = False) -> str:
  """The cost as text; ``by_layer``: with a Markdown table of its layers."""
  cost = total(network, packing)
  macs = ", ".join(f"{count:,} at {precision}" for precision, count in cost.macs.items())
  lines = [
    f"{network.architecture} {network.precision}, one image of "
    f"{'x'.join(map(str, network.image_shape))}:",
    f"  parameters         {cost.parameters:,}; weights of {cost.weight_bits:,} bits",
    f"  packed file        {cost.bytes:,} bytes",
    f"  multiply-adds      {macs}",
    f"  bit operations     {cost.bops:,}",
    f"  activation memory  {cost.peak_bytes:,} bytes at most",
  ]
  if cost.sparsity is not None:
    lines.append(f"  integer weights    {cost.sparsity:.1%} are zero")
  if by_layer:
    columns = ("layer", "weights", "bits", "input bits", "multiply-adds", "bit operations", "zero")
    rows = []
    for l in layers(network):
      zero = "" if l.zeros is None else f"{l.zeros / l.weights:.1%}"
      counts = (f"{l.macs:,}", f"{l.bops:,}")
      rows.append((l.path, f"{l.weights:,}", l.weight_bits, l.activation_bits, *counts, zero))
    lines += ["", document.table(columns, rows)]
  return "\n".join(lines)


def parameters(model: nn.Module, image_shape) -> int:
  """The number of trained parameters, batch norm's included, of the model on images (h, w, c)."""
  return sum(a.size for a in jax.tree.leaves(variable_shapes(model, tuple(image_shape))["params"]))


def blank(model: nn.Module, image_shape, **about) -> Network:
  """The model lowered with weights of zero: its cost is that of a trained one, but for the
  sparsity.

  Args:
    model: as `models.resnet` makes it.
    image_shape: (height, width, channels).
    **about: further arguments of `lower.lower`.
  """

  def fill(path, leaf):
    one = path[-1].key in ("clip", "weight_step", "activation_step")  # zero is no step
    return np.broadcast_to(np.float32(one), leaf.shape)

  shapes = variable_shapes(model, tuple(image_shape))
  params, stats = (
    jax.tree_util.tree_map_with_path(fill, shapes[k]) for k in ("params", "batch_stats")
  )
  about = {
    "class_names": tuple(map(str, range(model.num_classes))),
    "mean": (0.5,),
    "std": (0.5,),
    **about,
  }
  return lower(model, params, stats, image_shape=tuple(image_shape), **about)
