"""The numbers that a deployed network computes, by definition; in NumPy, without jax.

uint8 levels times integer levels are summed in int32. All that follows is float32, in the order
that `network` states. The rules are those of any array library, see `Backend`; convolutions and
pools are each library's own.
"""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import numpy as np

from apprentice_jax.deploy import network as nodes
from apprentice_jax.deploy.network import EXACT, FRACTION, FULL, Conv, Lowered, Value

BYTES = 1 << 24  # of patches at a time


class Backend(NamedTuple):
  """An array library that computes networks.

  Attributes:
    xp: numpy or jax.numpy.
    accumulate: the sums of a convolution; see `accumulate`.
    max_pool: the largest of 3x3 at stride 2; see `max_pool`.
  """

  xp: ModuleType
  accumulate: Callable
  max_pool: Callable


def logits(
  network: Lowered,
  images,
  replaced: dict | None = None,
  observe: Callable | None = None,
  backend: Backend | None = None,
):
  """The logits of images.

  Args:
    network: as `lower.lower` or `packed.read` gives it.
    images: uint8 (batch, height, width, channels).
    replaced: results to go on with in place of a node's own, by name.
    observe: called with (name, accumulators, result) of every node, before a replacement takes its
      place; accumulators: int32 or float32 (rows, batch, height, width, out) of a `Conv`, else
      None.
    backend: NumPy by default; see `program.JAX`.

  Returns:
    float32 (batch, classes), an array of the backend.
  """
  backend = backend or NUMPY
  values, last, results = nodes.check(network), {}, {}
  # Results are dropped after their last reader: a large batch would not fit otherwise.
  for i, node in enumerate(network.nodes):
    last.update({name: i for name in nodes.inputs(node)})
  for i, node in enumerate(network.nodes):
    arrays = [results[name] for name in nodes.inputs(node)] or [images]
    accumulators = None
    if isinstance(node, Conv):
      accumulators = backend.accumulate(node, arrays[0], values[node.input])
      result = _scaled(backend.xp, node, accumulators.astype(np.float32))
    elif isinstance(node, nodes.MaxPool):
      result = backend.max_pool(arrays[0])
    else:
      result = _RULES[type(node)](backend.xp, node, *arrays)
    if observe:
      observe(node.name, accumulators, result)
    results[node.name] = (replaced or {}).get(node.name, result)
    for name in nodes.inputs(node):
      if last[name] == i:
        results.pop(name, None)
  return results[network.nodes[-1].name].reshape(-1, len(network.class_names))


def _scaled(xp, node: nodes.Image | Conv, values):
  """``value * multiplier + addend``; ``values``: float32 (rows, batch, h, w, channels)."""
  products = [rows * multiplier for rows, multiplier in zip(values, node.multiplier)]
  if node.fixed:
    products = [xp.rint(product) for product in products]
  return functools.reduce(xp.add, products) + node.addend


def _image(xp, node: nodes.Image, images):
  return _scaled(xp, node, images[None].astype(np.float32))


def _rescale(xp, node: nodes.Rescale, x):
  subsampled = x[:, :: node.stride, :: node.stride].astype(np.float32)
  # Float values stay as they are; levels become fixed.
  if x.dtype != np.float32:
    subsampled = xp.rint(subsampled * np.float32(node.multiplier))
  extra = node.channels - x.shape[-1]
  return xp.pad(subsampled, ((0, 0), (0, 0), (0, 0), (extra // 2, extra - extra // 2)))


def _quantize(xp, node: nodes.Quantize, x):
  levels = xp.clip(xp.rint(x * np.float32(1 / FRACTION)), node.low, node.high)
  return levels.astype(np.int8 if node.signed else np.uint8)


def _mean(xp, node: nodes.Mean, x):
  dtype = np.float32 if x.dtype == np.float32 else np.int32
  mean = xp.sum(x, (1, 2), dtype, keepdims=True).astype(np.float32) * np.float32(node.multiplier)
  return xp.rint(mean) if node.fixed else mean


_RULES = {
  nodes.Image: _image,
  nodes.Rescale: _rescale,
  nodes.Add: lambda xp, node, a, b: a + b,
  nodes.Quantize: _quantize,
  nodes.Relu: lambda xp, node, x: xp.maximum(x, 0),
  nodes.Mean: _mean,
}


def accumulate(node: Conv, x: np.ndarray, value: Value) -> np.ndarray:
  """The sums of a convolution, one for each row of multipliers.

  Float matrix products compute integer sums: they are exact below 2**24 (float32) and 2**53
  (float64).

  Args:
    node: the convolution.
    x: its input, (batch, height, width, in).
    value: of its input.

  Returns:
    (rows, batch, height, width, out), int32 if levels meet levels, else float32.
  """
  integers = value.kind == "levels" and node.weights.bits != FULL
  exact = not integers or nodes.accumulator_bound(node, value) <= EXACT
  # Both rows in one product: the patches, which take most of the time, are made once.
  sides = [node.weights.levels]
  if len(node.multiplier) == 2:
    sides = [np.maximum(sides[0], 0), np.maximum(-sides[0], 0)]
  kernel = np.concatenate(sides, -1).astype(np.float32 if exact else np.float64)
  sums = _convolution(x, kernel, node.stride, np.int32 if integers else np.float32)
  return np.stack(np.split(sums, len(sides), -1))


def _convolution(x, kernel, stride: int, dtype):
  height, width, channels, features = kernel.shape
  out = tuple(-(-side // stride) for side in x.shape[1:3])
  result = np.empty((len(x), *out, features), dtype)
  # Patches are many times the size of their images, so only a few images' are there at a time.
  share = max(BYTES // (out[0] * out[1] * kernel[..., 0].size * kernel.itemsize), 1)
  for start in range(0, len(x), share):
    part = x[start : start + share]
    padded = np.pad(part, ((0, 0), ((height - 1) // 2,) * 2, ((width - 1) // 2,) * 2, (0, 0)))
    patches = np.empty((len(part), *out, height, width, channels), kernel.dtype)
    for i in range(height):
      for j in range(width):
        patches[..., i, j, :] = _shifted(padded, i, j, out, stride)
    sums = patches.reshape(-1, kernel[..., 0].size) @ kernel.reshape(-1, features)
    result[start : start + share] = sums.reshape(len(part), *out, features)
  return result


def _shifted(padded, i: int, j: int, out, stride: int):
  """The pixels at offset (i, j) of every window, (batch, *out, channels)."""
  rows, columns = (slice(k, k + stride * (n - 1) + 1, stride) for k, n in zip((i, j), out))
  return padded[:, rows, columns]


def max_pool(x: np.ndarray) -> np.ndarray:
  """The largest of 3x3 at stride 2 in a border of zeros, (batch, height, width, channels)."""
  out = tuple(-(-side // 2) for side in x.shape[1:3])
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  windows = [_shifted(padded, i, j, out, 2) for i in range(3) for j in range(3)]
  return functools.reduce(np.maximum, windows)


NUMPY = Backend(np, accumulate, max_pool)


def normalised(image: nodes.Image, pixels: np.ndarray) -> np.ndarray:
  """The float32 values of uint8 pixels (..., channels)."""
  return _image(np, image, pixels)


def levels_of(image: nodes.Image, grid: nodes.Quantize, pixels: np.ndarray) -> np.ndarray:
  """The levels of uint8 pixels (..., channels) on the images' grid."""
  return _quantize(np, grid, _image(np, image, pixels))
