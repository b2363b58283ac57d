"""A deployed network as a jax function: the numbers of `interpret`, compiled.

Sums of levels are computed by float32 convolutions, as whole numbers below 2**24. No order of
summation changes these, nor do the bfloat16 or TF32 in which accelerators multiply by default.
Weights are constants in their packed form, which the program unpacks.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from apprentice_jax.deploy import bits, interpret
from apprentice_jax.deploy import network as nodes
from apprentice_jax.deploy.network import EXACT, FULL, BadNetwork, Conv, Lowered, Value
from apprentice_jax.deploy.predictor import Predictor


def predictor(network: Lowered) -> Predictor:
  """The network, to be compiled for the devices of this process.

  Raises:
    BadNetwork: float32 cannot hold its sums.
  """
  # A sentence now, and not an error while jax traces the first batch.
  values = nodes.check(network)
  for node in network.nodes:
    if isinstance(node, Conv) and node.weights.bits != FULL and values[node.input].kind == "levels":
      _bounded_sum(node)
  compiled = jax.jit(functools.partial(logits, network))
  call = lambda images: np.asarray(compiled(images))
  return Predictor(network.image_shape, network.class_names, network.resize, call, network)


def _accumulate(node: Conv, x, value: Value):
  """See `interpret.accumulate`."""
  w, rows = node.weights, len(node.multiplier)
  convolve = functools.partial(_convolve, stride=node.stride)
  if w.bits == FULL:
    return convolve(x.astype(jnp.float32), _constant(w.levels), precision="highest")[None]
  # The program holds the weights packed, so an exported file stays small.
  packing = bits.packings(w)[0]
  kernel = bits.levels(_constant(bits.pack(w.levels, packing)), packing, w.levels.shape, jnp)
  # TTQ's two magnitudes: positive and negative levels are output channels of one convolution.
  if rows == 2:
    kernel = jnp.concatenate([jnp.maximum(kernel, 0), jnp.maximum(-kernel, 0)], -1)
  kernel = kernel.astype(jnp.float32)
  if value.kind == "float":
    sums = convolve(x, kernel, precision="highest")
  else:
    sums = _exact(convolve, x, kernel, value, _bounded_sum(node))
  return jnp.stack(jnp.split(sums, rows, -1))


def _bounded_sum(node: Conv) -> int:
  """`largest_sum`, if float32 can hold it."""
  weight = nodes.largest_sum(node)
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
  # As few convolutions as can be: the widest digits whose sums float32 holds.
  digit = next(d for d in (4, 2, 1) if weight * (2**d - 1) <= EXACT)
  x, total = x.astype(jnp.int32), 0
  for shift in range(0, value.bits, digit):
    last = shift + digit >= value.bits
    # The last digit has the sign.
    part = x >> shift if last else (x >> shift) & (2**digit - 1)
    total += convolve(part.astype(jnp.float32), kernel).astype(jnp.int32) << shift
  return total


def _convolve(x, kernel, stride, precision=None):
  padding = [((k - 1) // 2,) * 2 for k in kernel.shape[:2]]
  dimensions = ("NHWC", "HWIO", "NHWC")
  return jax.lax.conv_general_dilated(
    x, kernel, (stride, stride), padding, precision=precision, dimension_numbers=dimensions
  )


def _constant(array: np.ndarray):
  # The barrier keeps an export from unpacking the weights beforehand.
  return jax.lax.optimization_barrier(jnp.asarray(array))


def _max_pool(x):
  """See `interpret.max_pool`."""
  window, strides = (1, 3, 3, 1), (1, 2, 2, 1)
  padding = ((0, 0), (1, 1), (1, 1), (0, 0))
  return jax.lax.reduce_window(x, np.zeros((), x.dtype), jax.lax.max, window, strides, padding)


JAX = interpret.Backend(jnp, _accumulate, _max_pool)
# `interpret.logits` of jax arrays, which can be traced.
logits = functools.partial(interpret.logits, backend=JAX)
