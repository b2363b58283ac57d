"""A deployed network as a jax function: the numbers of `integer`, compiled.

Sums of levels are computed by float32 convolutions, as whole numbers below 2**24, which no order of
summation changes, nor the bfloat16 or TF32 in which accelerators multiply by default. Weights are
constants in their packed form, unpacked by the program.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from apprentice_jax.deploy import bits
from apprentice_jax.deploy.network import FRACTION, FULL, BadNetwork, Network, Value, check
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
from apprentice_jax.deploy.predictor import Predictor

EXACT = 2**24  # float32 has all whole numbers up to here


def run(network: Network, images, given: dict | None = None, observe: Callable | None = None):
  """The logits of images; see `integer.run`, whose arguments and results these are, as jax
  arrays."""
  known, results = check(network), {}
  for node in network.nodes:
    arrays = [results[name] for name in inputs(node)] or [images]
    accumulators = None
    if isinstance(node, Conv):
      accumulators = _accumulate(node, arrays[0], known[node.input])
      result = _scaled(node, accumulators.astype(jnp.float32))
    else:
      result = _RULES[type(node)](node, *arrays)
    if observe:
      observe(node.name, accumulators, result)
    results[node.name] = (given or {}).get(node.name, result)
  return result.reshape(-1, result.shape[-1])


def predictor(network: Network) -> Predictor:
  """The network, to be compiled for the devices of this process.

  Raises:
    BadNetwork: float32 cannot hold its sums.
  """
  known = check(network)
  for node in network.nodes:
    if isinstance(node, Conv) and node.weights.bits != FULL and known[node.input].kind == "levels":
      _largest_sum(node)
  compiled = jax.jit(functools.partial(run, network))
  return Predictor(
    network.image_shape,
    network.class_names,
    network.resize,
    lambda images: np.asarray(compiled(images)),
    network,
  )


def _accumulate(node: Conv, x, value: Value):
  w, rows = node.weights, len(node.multiplier)
  convolve = functools.partial(_convolve, stride=node.stride)
  if w.bits == FULL:
    return convolve(x.astype(jnp.float32), _constant(w.levels), precision="highest")[None]
  packing = bits.packings(w)[0]
  kernel = bits.levels(_constant(bits.pack(w.levels, packing)), packing, w.levels.shape, jnp)
  if rows == 2:
    kernel = jnp.concatenate([jnp.maximum(kernel, 0), jnp.maximum(-kernel, 0)], -1)
  kernel = kernel.astype(jnp.float32)
  if value.kind == "float":
    sums = convolve(x, kernel, precision="highest")
  else:
    sums = _exact(convolve, x, kernel, value, _largest_sum(node))
  return jnp.stack(jnp.split(sums, rows, -1))


def _largest_sum(node: Conv) -> int:
  """The largest sum of the magnitudes of a channel's weights."""
  weight = int(np.sum(np.abs(node.weights.levels), (0, 1, 2), np.int64).max())
  if weight > EXACT:
    raise BadNetwork(
      f"a convolution whose weights' magnitudes add up to {weight:,}, more than {EXACT:,}"
    )
  return weight


def _exact(convolve, x, kernel, value: Value, weight: int):
  """The int32 sums of levels; ``weight``: the largest sum of the magnitudes of a channel's weights.

  Where float32 could not hold them, they are put together from those of a few bits of each level at
  a time.
  """
  if weight * max(-value.low, value.high) <= EXACT:
    return convolve(x.astype(jnp.float32), kernel).astype(jnp.int32)
  digit = next(d for d in (4, 2, 1) if weight * (2**d - 1) <= EXACT)
  x, total = x.astype(jnp.int32), 0
  for shift in range(0, value.bits, digit):
    last = shift + digit >= value.bits
    part = x >> shift if last else (x >> shift) & (2**digit - 1)  # the last one has the sign
    total += convolve(part.astype(jnp.float32), kernel).astype(jnp.int32) << shift
  return total


def _convolve(x, kernel, stride, precision=None):
  padding = [((k - 1) // 2,) * 2 for k in kernel.shape[:2]]
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    padding,
    precision=precision,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _constant(array: np.ndarray):
  return jax.lax.optimization_barrier(
    jnp.asarray(array)
  )  # or it would be unpacked before it is exported


def _scaled(node, values):
  products = [rows * multiplier for rows, multiplier in zip(values, node.multiplier)]
  if node.fixed:
    products = list(map(jnp.rint, products))
  return functools.reduce(jnp.add, products) + node.addend


def _image(node: Image, images):
  return _scaled(node, images[None].astype(jnp.float32))


def _rescale(node: Rescale, x):
  subsampled = x[:, :: node.stride, :: node.stride].astype(jnp.float32)
  if x.dtype != jnp.float32:
    subsampled = jnp.rint(subsampled * np.float32(node.multiplier))
  extra = node.channels - x.shape[-1]
  return jnp.pad(subsampled, ((0, 0), (0, 0), (0, 0), (extra // 2, extra - extra // 2)))


def _add(node: Add, a, b):
  return a + b


def _quantize(node: Quantize, x):
  levels = jnp.clip(jnp.rint(x * np.float32(1 / FRACTION)), node.low, node.high)
  return levels.astype(jnp.int8 if node.signed else jnp.uint8)


def _relu(node: Relu, x):
  return jnp.maximum(x, 0)


def _max_pool(node: MaxPool, x):
  return jax.lax.reduce_window(
    x,
    np.zeros((), x.dtype),
    jax.lax.max,
    (1, 3, 3, 1),
    (1, 2, 2, 1),
    ((0, 0), (1, 1), (1, 1), (0, 0)),
  )


def _mean(node: Mean, x):
  dtype = jnp.float32 if x.dtype == jnp.float32 else jnp.int32
  mean = jnp.sum(x, (1, 2), dtype, keepdims=True).astype(jnp.float32) * np.float32(node.multiplier)
  return jnp.rint(mean) if node.fixed else mean


_RULES: dict[type[Node], Callable] = {
  Image: _image,
  Rescale: _rescale,
  Add: _add,
  Quantize: _quantize,
  Relu: _relu,
  MaxPool: _max_pool,
  Mean: _mean,
}
