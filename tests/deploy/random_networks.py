"""Networks of random numbers on the frame of lowered ones, with numbers at the edges of formats.

No training leaves such numbers: they lie at the halves of levels, where float32 has no whole number
any more, and beyond 31 bits.
"""

import dataclasses

import numpy as np
from networks import MEAN, STD

from apprentice_jax.deploy import interpret
from apprentice_jax.deploy.bits import Weights
from apprentice_jax.deploy.network import (
  FRACTION,
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

SIDES = [(1, 1), (2, 3), (5, 7), (9, 4), (13, 16), (12, 17), (8, 8), (33, 6), (3, 70), (1, 20)]
COLOURS = [1, 2, 3, 3, 3, 4]
STYLES = ["spread", "halves", "stopped", "mixed", "large"]
PATTERNS = ["uniform", "nonzero", "sparse", "half", "ends", "channels", "top", "bottom", "zero"]
SHARES = [0.28, 0.15, 0.15, 0.15, 0.1, 0.1, 0.03, 0.03, 0.01]
# Multipliers in steps: products of them stop, vanish, or lie on halves.
ODD_ONES = [0.0, -0.0, 1e-45, -1e-38, 2.0**-21, 2.0**-20, 0.5, -0.5, 1.0, 1.5, 3e3, -3e3, 1e9, -1e9]


def varied(base: Lowered, random: np.random.Generator, heavy: bool = False):
  """A network with the nodes of another one, and other numbers and sizes throughout.

  Args:
    base: a lowered network with 8-bit ends.
    random: the same network each time for a generator of one seed.
    heavy: channels, most weights and grids stay as large as they are, and sums leave 2**24.

  Returns:
    The network, and uint8 images (4, height, width, channels): black, white, and two random ones.
  """
  sides = [(13, 16), (12, 17)] if heavy else SIDES
  image_shape = (*sides[random.integers(len(sides))], int(random.choice(COLOURS)))
  images = random.integers(0, 256, (4, *image_shape), np.uint8)
  images[0], images[1] = 0, 255
  network = dataclasses.replace(
    base,
    nodes=_nodes(base, image_shape[-1], random, heavy),
    image_shape=image_shape,
    mean=MEAN[:1],
    std=STD[:1],
  )
  _scale(network, images, random, heavy)
  return network, images


def levels(random: np.random.Generator, shape, weights: Weights, pattern: str) -> np.ndarray:
  """Levels of weights; see `PATTERNS`."""
  top, odd = weights.top, weights.odd
  values = np.arange(-top, top + 1, 2 if odd else 1)
  nonzero = values[values != 0]
  result = random.choice(nonzero if pattern == "nonzero" else values, shape)
  fills = {"top": top, "bottom": -top}
  if pattern in fills:
    result[:] = fills[pattern]
  elif pattern == "ends":
    result = random.choice([-top, top], shape)
  elif pattern == "channels":  # some channels are all the same
    same = random.random(shape[-1]) < 0.5
    result[..., same] = random.choice(values, shape[-1])[same]
  elif not odd and pattern in ("zero", "sparse", "half"):
    result *= random.random(shape) < {"zero": 0, "sparse": 0.08, "half": 0.5}[pattern]
  return result.astype(np.int16 if top > 127 else np.int8)


def _nodes(base: Lowered, colours: int, random, heavy: bool) -> tuple:
  """The nodes with other levels, grids and channels; their multipliers are not yet right."""
  convs = [n for n in base.nodes if isinstance(n, Conv)]
  counts = sorted({n.weights.levels.shape[-1] for n in convs[:-1]})
  # More channels stay more channels, as a Rescale needs.
  low, high = [(1, 12), (1, 12), (20, 70)][random.integers(3)]
  sizes = sorted(random.integers(low, high, len(counts)).tolist())
  widths = dict(zip(counts, counts if heavy or random.random() < 0.4 else sizes))
  bits, out = 8 if heavy else int(random.integers(1, 9)), {}
  pooled = {n.input for n in base.nodes if isinstance(n, MaxPool)}
  result = []
  for node in base.nodes:
    if isinstance(node, Image):
      zeros = np.zeros((2, colours), np.float32)
      node = dataclasses.replace(node, multiplier=zeros[:1], addend=zeros[1])
    elif isinstance(node, Conv):
      wide = heavy and node is not convs[-1] and random.random() < 0.8
      node = _conv(node, out[node.input], widths if node is not convs[-1] else {}, random, wide)
      out[node.name] = node.weights.levels.shape[-1]
    elif isinstance(node, Rescale):
      node = dataclasses.replace(node, channels=widths[node.channels])
      out[node.name] = node.channels
    elif isinstance(node, Quantize):
      signed, own = node.signed, bits if random.random() < 0.8 else int(random.integers(1, 9))
      if node.name == "image_act":
        signed, own = random.random() < 0.8, 8 if random.random() < 0.8 else own
      elif random.random() < 0.1 and node.name not in pooled | {"mean_act"}:
        signed = True
      node = dataclasses.replace(node, bits=max(own, 1 + signed), signed=signed)
    if isinstance(node, Image):
      out[node.name] = colours
    elif not isinstance(node, Conv | Rescale):
      out[node.name] = out[inputs(node)[0]]
    # A copy: its numbers are set later, and the frame has to stay as it is.
    result.append(dataclasses.replace(node))
  return tuple(result)


def _conv(node: Conv, channels: int, widths: dict, random, heavy: bool) -> Conv:
  height, width, _, features = node.weights.levels.shape
  if height == 3 and not heavy and random.random() < 0.1:
    height, width = [(1, 1), (1, 3), (3, 1)][random.integers(3)]
  bits, odd = node.weights.bits, node.weights.odd
  if not heavy and random.random() < 0.4:
    bits, odd = int(random.integers(1, 9)), bool(random.integers(2))
    odd = odd or bits == 1  # one bit has no other levels
  shape = (height, width, channels, widths.get(features, features))
  kind = Weights(np.zeros(0), bits, odd)
  pattern = "top" if heavy else str(random.choice(PATTERNS, p=SHARES))
  weights = dataclasses.replace(kind, levels=levels(random, shape, kind, pattern))
  rows = int(random.integers(1, 3)) if bits == 2 and not odd else 1
  zeros = np.zeros((rows + 1, shape[-1]), np.float32)
  return dataclasses.replace(node, weights=weights, multiplier=zeros[:-1], addend=zeros[-1])


def _scale(network: Lowered, images: np.ndarray, random, heavy: bool):
  """Sets the multipliers and addends, in place, by the sums that the images have."""
  nodes = {node.name: node for node in network.nodes}
  readers = {name: node for node in network.nodes for name in inputs(node)}
  style = str(random.choice(STYLES))

  def grid(name: str) -> Quantize:
    after = readers[name]
    return after if isinstance(after, Quantize) else grid(after.name)

  values, image = check(network), network.nodes[0]
  high = grid(image.name).high
  image.multiplier[:] = random.uniform(-2, 2, image.multiplier.shape) * high / 255 * FRACTION
  image.addend[:] = np.rint(random.normal(0, high / 3, image.addend.shape) * FRACTION)
  for node in network.nodes:
    if isinstance(node, Rescale | Mean):
      source, own, size = values[node.input], style, grid(node.name).high
      size /= source.high
      if isinstance(
        node, Mean
      ):  # it alone leads to the logits, so it mostly lets something through
        size /= source.shape[0] * source.shape[1]
        own = style if random.random() < 0.05 else "halves" if style == "halves" else "spread"
      scale = _multipliers(random, own, np.full(1, size)).item() * FRACTION
      scale = abs(scale) if isinstance(node, Mean) else scale
      object.__setattr__(node, "multiplier", float(np.float32(scale)))

  def observe(name, sums, result):
    node = nodes[name]
    if not isinstance(node, Conv):
      return
    if not node.fixed:
      node.multiplier[:] = random.normal(0, 2.0 ** random.integers(-12, 3), node.multiplier.shape)
      node.addend[:] = random.normal(0, 1, node.addend.shape)
      return
    high, largest = grid(name).high, np.maximum(np.abs(sums).max((1, 2, 3)), 1)
    node.multiplier[:] = _multipliers(random, style, high / largest) * FRACTION
    products = np.rint(sums.astype(np.float32) * node.multiplier[:, None, None, None])
    total = products[0] + products[-1] if len(products) == 2 else products[0]
    node.addend[:] = _addends(random, style, total.reshape(-1, total.shape[-1]), high)
    if heavy:  # most levels are the highest ones
      node.addend[:] += (random.random(len(node.addend)) < 0.8) * np.float32(high * FRACTION)
    result[:] = total + node.addend

  interpret.logits(network, images, observe=observe)


def _multipliers(random, style: str, size: np.ndarray) -> np.ndarray:
  """Multipliers in steps of the grid; ``size``: those that bring the largest sums to its end."""
  result = size * 2.0 ** random.uniform(-2, 2, size.shape)
  if style == "mixed":
    style = STYLES[random.integers(3)]
  elif style == "stopped" and random.random() < 0.6:
    style = "spread"
  if style == "halves":
    result = 2.0 ** (np.floor(np.log2(size)) + random.integers(-1, 3, size.shape))
  elif style == "stopped":
    result = np.where(random.random(size.shape) < 0.3, random.choice(ODD_ONES, size.shape), result)
  elif style == "large":
    result *= 2.0 ** random.uniform(0, 24, size.shape)
  return result * random.choice([1, 1, 1, -1], size.shape)


def _addends(random, style: str, total: np.ndarray, high: int) -> np.ndarray:
  """Whole addends: any, or such that one of the sums lies at a half of a level, or beside it.

  Args:
    random, style: see `STYLES`.
    total: the products, (positions, channels).
    high: of the grid.
  """
  channels = np.arange(total.shape[1])
  one = total[random.integers(0, len(total), len(channels)), channels].astype(np.float64)
  half = (random.integers(-1, high + 1, len(channels)) + 0.5) * FRACTION
  aimed = half - one + random.integers(-1, 2, len(channels))
  if style != "large":
    aimed = np.clip(aimed, -(2.0**30), 2.0**30)
  step = 2.0**19 if style == "halves" else 1.0
  free = np.rint(random.normal(0, high / 2, len(channels)) * FRACTION / step) * step
  return np.rint(np.where(random.random(len(channels)) < 0.5, aimed, free))
