"""A network as it is deployed: its `nodes`, what else there is to know of it, and whether they fit
together.

This module, `nodes`, `integer` and `packed` need NumPy and safetensors, and neither jax nor
anything else of ours.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from apprentice_jax.deploy.nodes import (
  Add,
  Conv,
  Image,
  MaxPool,
  Mean,
  Node,
  Quantize,
  Relu,
  Rescale,
  inputs,
)

FULL = 32  # bits of full precision
FRACTION = (
  2.0**20
)  # fixed numbers to a step: float32 has them all up to 16 steps, and is as fine beyond
ENDS = {
  "float": FULL,
  "8bit": 8,
  "7bit": 7,
}  # bits of the weights of layers that training left in full precision


class BadNetwork(ValueError):
  """A description that no network can have; the message says what is wrong."""


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
  """A deployed network.

  Attributes:
    nodes: each after those it reads; the first is the `Image`, the last a `Conv` of float results,
      the logits.
    image_shape: (height, width, channels) of the uint8 images.
    class_names: in the order of the logits.
    architecture, precision: what it was lowered from, for people: "resnet20", "8A,2W".
    mean, std: with which `Image` normalises, per channel, of pixels scaled to [0, 1].
    resize: photos are resized to this short side before the centre is cut out; 0: to the network's
      own.
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
  """What is known of a node's result.

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


LARGEST = 2**31 - 1  # of an accumulator; also of the numbers in one image's result


def check(network: Network) -> dict[str, Value]:
  """Follows shapes and kinds through a network.

  Returns:
    What is known of each node's result, by name.

  Raises:
    BadNetwork: the nodes do not fit together, or a number is not finite.
  """
  known, read = {}, set()
  for i, node in enumerate(network.nodes):
    where = f"node {node.name}"
    _require(
      isinstance(node, Image) == (i == 0), f"{where}: an Image comes first, and nowhere else"
    )
    _require(node.name not in known, f"{where} is there twice")
    for name in inputs(node):
      _require(name in known, f"{where} reads {name}, which is no node before it")
    read.update(inputs(node))
    value = _CHECKS[type(node)](network, node, *(known[name] for name in inputs(node)))
    _require(
      math.prod(value.shape) <= LARGEST and min(value.shape) > 0,
      f"{where}: a result of shape {value.shape}",
    )
    known[node.name] = value
  unread = known.keys() - read
  last = network.nodes[-1].name if network.nodes else ""
  _require(
    unread == {last} and isinstance(network.nodes[-1], Conv),
    f"one result is not read by others, the logits of a Conv at the end; not {sorted(unread)[:3]}",
  )
  _require(
    network.nodes[-1].weights.levels.shape[:2] == (1, 1),
    f"node {last}: a classifier of more than one pixel",
  )
  _require(
    known[last][:2] == ((1, 1, len(network.class_names)), "float"),
    f"the logits are {known[last].kind} {known[last].shape} for {len(network.class_names)} classes",
  )
  return known


def _require(ok, sentence: str):
  if not ok:
    raise BadNetwork(sentence)


def _finite(node, *arrays):
  for array in arrays:
    _require(np.all(np.isfinite(array)), f"node {node.name}: a number that is not finite")


def _scaled(node, channels: int):
  """Checks the multipliers and addends of an `Image` or `Conv`."""
  for array, shapes in (
    (node.multiplier, [(1, channels), (2, channels)]),
    (node.addend, [(channels,)]),
  ):
    _require(
      array.dtype == np.float32 and array.shape in shapes,
      f"node {node.name}: multipliers or addends {array.dtype} {array.shape} for {channels} "
      "channels",
    )
  _finite(node, node.multiplier, node.addend)
  _require(
    not node.fixed or np.array_equal(node.addend, np.rint(node.addend)),
    f"node {node.name}: an addend that is not whole",
  )


def _image(network, node):
  shape, channels = network.image_shape, network.image_shape[-1]
  _scaled(node, channels)
  _require(len(node.multiplier) == 1, f"node {node.name}: two rows of multipliers")
  _require(
    len(network.mean) in (1, channels) and len(network.std) == len(network.mean),
    f"{len(network.mean)} means and {len(network.std)} deviations for {channels} channels",
  )
  _require(
    np.all(np.isfinite(network.mean)) and np.all(np.isfinite(network.std)) and min(network.std) > 0,
    "a mean or deviation that is none",
  )
  _require(0 <= network.resize < 2**16, f"a resize to {network.resize}")
  return Value(shape, "fixed" if node.fixed else "float")


def _conv(network, node, x):
  w, where = node.weights, f"node {node.name}"
  _require(x.kind != "fixed", f"{where}: a convolution of fixed numbers")
  _require(
    w.levels.ndim == 4 and min(w.levels.shape) > 0 and w.levels.shape[2] == x.shape[-1],
    f"{where}: weights {w.levels.shape} for {x.shape[-1]} channels",
  )
  _require(
    all(k % 2 for k in w.levels.shape[:2]) and node.stride in (1, 2),
    f"{where}: size {w.levels.shape[:2]} at stride {node.stride}",
  )
  _scaled(node, w.levels.shape[-1])
  if w.bits == FULL:
    _require(
      w.levels.dtype == np.float32 and not w.odd, f"{where}: {w.levels.dtype} weights of 32 bits"
    )
    _finite(node, w.levels)
  else:
    _require(
      1 <= w.bits <= 8 and w.levels.dtype in (np.int8, np.int16) and w.top > 0,
      f"{where}: {w.levels.dtype} weights of {w.bits} bits",
    )
    least, most = int(w.levels.min()), int(w.levels.max())
    _require(
      -w.top <= least and most <= w.top and not (w.odd and np.any(w.levels % 2 == 0)),
      f"{where}: levels that are not {'odd and ' * w.odd}within {w.top}",
    )
    _require(
      x.kind == "float" or accumulator_bound(node, x) <= LARGEST, f"{where}: sums beyond 31 bits"
    )
  _require(
    len(node.multiplier) == 1 or w.bits == 2 and not w.odd,
    f"{where}: two rows of multipliers for weights that are not ternary",
  )
  return Value(
    _strided(x.shape, node.stride, w.levels.shape[-1]), "fixed" if node.fixed else "float"
  )


def accumulator_bound(node: Conv, x: Value) -> int:
  """The largest magnitude that the accumulators can have, given the weights that there are."""
  sums = np.sum(np.abs(node.weights.levels), axis=(0, 1, 2), dtype=np.int64)
  return int(sums.max()) * max(-x.low, x.high)


def _strided(shape, stride, channels):
  return (-(-shape[0] // stride), -(-shape[1] // stride), channels)


def _rescale(network, node, x):
  _finite(node, node.multiplier)
  _require(
    x.kind == "levels" or x.kind == "float" and node.multiplier == 1,
    f"node {node.name} rescales {x.kind} by {node.multiplier}",
  )
  _require(
    node.channels >= x.shape[-1] and node.stride in (1, 2),
    f"node {node.name}: {node.channels} channels of {x.shape[-1]} at stride {node.stride}",
  )
  return Value(
    _strided(x.shape, node.stride, node.channels), "fixed" if x.kind == "levels" else "float"
  )


def _add(network, node, a, b):
  _require(
    a == b and a.kind != "levels",
    f"node {node.name} adds {a.kind} {a.shape} and {b.kind} {b.shape}",
  )
  return a


def _quantize(network, node, x):
  _require(x.kind == "fixed", f"node {node.name} quantizes {x.kind}")
  _require(1 + node.signed <= node.bits <= 8, f"node {node.name}: a grid of {node.bits} bits")
  _finite(node, node.step)
  _require(node.step > 0, f"node {node.name}: a step of {node.step}")
  return Value(x.shape, "levels", node.low, node.high, node.bits)


def _relu(network, node, x):
  _require(x.kind == "float", f"node {node.name}: a ReLU of {x.kind}")
  return x


def _max_pool(network, node, x):
  before = next(n for n in network.nodes if n.name == node.input)
  _require(
    isinstance(before, Relu) or isinstance(before, Quantize) and not before.signed,
    f"node {node.name} pools what may be below 0",
  )
  return x._replace(shape=_strided(x.shape, 2, x.shape[-1]))


def _mean(network, node, x):
  _finite(node, node.multiplier)
  _require(
    x.kind == "levels" or x.kind == "float" and not node.fixed,
    f"node {node.name}: a mean of {x.kind}",
  )
  return Value((1, 1, x.shape[-1]), "fixed" if node.fixed else "float")


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
