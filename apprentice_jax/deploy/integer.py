"""Integer inference in NumPy: what a deployed network computes, by definition.

uint8 levels times integer levels are summed in int32; everything after that is float32 in the order
that `network` states. Integer sums are computed by float matrix products, which are exact below
2**24 (float32) and 2**53 (float64).
"""

import functools
from collections.abc import Callable

import numpy as np

from apprentice_jax.deploy.network import FRACTION, FULL, Network, Value, accumulator_bound, check
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

BYTES = 1 << 24  # of patches at a time


def run(
  network: Network,
  images: np.ndarray,
  given: dict | None = None,
  observe: Callable | None = None,
) -> np.ndarray:
  """The logits of images.

  Args:
    network: as `fold.lower` or `packed.load` give it.
    images: uint8 (batch, height, width, channels).
    given: results to go on with in place of a node's own, by name.
    observe: called with (name, accumulators, result) of every node, before what is given takes its
      place; accumulators: int32 or float32 (rows, batch, height, width, out) of a `Conv`, else
      None.

  Returns:
    float32 (batch, classes).
  """
  known, last = check(network), {}
  for i, node in enumerate(network.nodes):
    last.update({name: i for name in inputs(node)})
  results = {}
  for i, node in enumerate(network.nodes):
    arrays = [results[name] for name in inputs(node)] or [images]
    accumulators = None
    if isinstance(node, Conv):
      accumulators = accumulate(node, arrays[0], known[node.input])
      result = scaled(node, accumulators.astype(np.float32, copy=False))
    else:
      result = _RULES[type(node)](node, *arrays)
    if observe:
      observe(node.name, accumulators, result)
    results[node.name] = (given or {}).get(node.name, result)
    for name in inputs(node):
      if last[name] == i:
        del results[name]
  return results[network.nodes[-1].name].reshape(len(images), -1)


def accumulate(node: Conv, x: np.ndarray, value: Value) -> np.ndarray:
  """A convolution's sums: int32 if levels meet levels, else float32; (rows, batch, height, width,
  out)."""
  integers = value.kind == "levels" and node.weights.bits != FULL
  exact = not integers or accumulator_bound(node, value) <= 2**24
  dtype = np.float32 if exact else np.float64
  sides = [node.weights.levels]
  if len(node.multiplier) == 2:
    sides = [np.maximum(sides[0], 0), np.maximum(-sides[0], 0)]
  kernel = np.concatenate(sides, -1).astype(dtype)
  sums = _convolution(x, kernel, node.stride, np.int32 if integers else np.float32)
  return np.stack(np.split(sums, len(sides), -1))


def _convolution(x, kernel, stride, dtype):
  height, width, channels, features = kernel.shape
  out = tuple(-(-side // stride) for side in x.shape[1:3])
  result = np.empty((len(x), *out, features), dtype)
  share = max(BYTES // (out[0] * out[1] * kernel[..., 0].size * kernel.itemsize), 1)
  for start in range(0, len(x), share):
    part = x[start : start + share]
    padded = np.pad(part, ((0, 0), ((height - 1) // 2,) * 2, ((width - 1) // 2,) * 2, (0, 0)))
    patches = np.empty((len(part), *out, height, width, channels), kernel.dtype)
    for i in range(height):
      for j in range(width):
        rows, columns = (slice(k, k + stride * (n - 1) + 1, stride) for k, n in zip((i, j), out))
        patches[..., i, j, :] = padded[:, rows, columns]
    sums = patches.reshape(-1, kernel[..., 0].size) @ kernel.reshape(-1, features)
    result[start : start + share] = sums.reshape(len(part), *out, features)
  return result


def scaled(node, values: np.ndarray) -> np.ndarray:
  """``value * multiplier + addend`` of an `Image` or `Conv`; ``values``: float32 (rows, batch, h,
  w, channels)."""
  products = [rows * multiplier for rows, multiplier in zip(values, node.multiplier)]
  if node.fixed:
    products = list(map(np.rint, products))
  return functools.reduce(np.add, products) + node.addend


def _image(node: Image, images):
  return scaled(node, images[None].astype(np.float32))


def _rescale(node: Rescale, x):
  subsampled = x[:, :: node.stride, :: node.stride].astype(np.float32)
  if x.dtype != np.float32:
    subsampled = np.rint(subsampled * np.float32(node.multiplier))
  extra = node.channels - x.shape[-1]
  return np.pad(subsampled, ((0, 0), (0, 0), (0, 0), (extra // 2, extra - extra // 2)))


def _add(node: Add, a, b):
  return a + b


def _quantize(node: Quantize, x):
  levels = np.clip(np.rint(x * np.float32(1 / FRACTION)), node.low, node.high)
  return levels.astype(np.int8 if node.signed else np.uint8)


def _relu(node: Relu, x):
  return np.maximum(x, 0)


def _max_pool(node: MaxPool, x):
  height, width = (-(-side // 2) for side in x.shape[1:3])
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  return functools.reduce(
    np.maximum,
    (
      padded[:, i : i + 2 * height - 1 : 2, j : j + 2 * width - 1 : 2]
      for i in range(3)
      for j in range(3)
    ),
  )


def _mean(node: Mean, x):
  dtype = np.float32 if x.dtype == np.float32 else np.int32
  mean = np.sum(x, (1, 2), dtype, keepdims=True).astype(np.float32) * np.float32(node.multiplier)
  return np.rint(mean) if node.fixed else mean


_RULES: dict[type[Node], Callable] = {
  Image: _image,
  Rescale: _rescale,
  Add: _add,
  Quantize: _quantize,
  Relu: _relu,
  MaxPool: _max_pool,
  Mean: _mean,
}
