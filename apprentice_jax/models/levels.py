"""Levels, then scale: the arithmetic of a quantized layer, as functions.

A quantized activation travels as `Quantized(levels, scale)`. A layer multiplies its levels with the
levels of its own weights and applies the scales to the sums, the accumulators. Whole numbers to 256
are exact in bfloat16, and sums to 2**24 in float32. Accumulators below 2**24 therefore equal those
of integer inference, whatever the order of summation: see `accumulator_bound`. A GPU that computes
in bfloat16 rounds a convolution's result to it, except for the collection "accumulators": see
`convolution`.
"""

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from apprentice_jax import quantizers
from apprentice_jax.models import magnitudes
from apprentice_jax.models.convolution import convolution, general_convolution
from apprentice_jax.models.geometry import Geometry
from apprentice_jax.models.precision import FULL, Quantization
from apprentice_jax.quantizers import Quantized, decode, encode_ste
from apprentice_jax.quantizers.rule import unforwarded

Array = jax.Array
Activation = Array | Quantized
# param(name, start) returns a layer's parameter, or makes it of start().
Param = Callable[[str, Callable[[], Array]], Array]

PACT_INIT = 6.0
CONVOLVED = "convolved"  # the name of every layer's result, for what rematerialises the rest
EXACT = 2**24  # whole numbers up to here are exact in float32


def accumulator_bound(fan_in: int, weight_level: int, activation_level: int) -> int:
  """The largest magnitude a layer's accumulators can have; exact in float32 below 2**24."""
  return fan_in * weight_level * activation_level


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _accumulate(product, x, w):
  """product(x, w) accumulated in float32, and returned so; gradients are computed in x's dtype."""
  return product(x, w, preferred_element_type=jnp.float32)


def _accumulate_bwd(product, residuals, g):
  x, w = residuals
  return jax.vjp(product, x, w)[1](g.astype(x.dtype))


_accumulate.defvjp(
  lambda product, x, w: (_accumulate(product, x, w), unforwarded((x, w))), _accumulate_bwd
)


def encode_weights(q: Quantization, kernel: Array, params: dict, encode=encode_ste) -> Quantized:
  """A kernel's levels and scale, by its layer's weight quantizer, with straight-through gradients.

  Args:
    q: which quantizer, at how many bits.
    kernel: (..., features), float.
    params: the layer's parameters, of which "weight_step" (lsq), "positive" and "negative" (ttq)
      count.
    encode: or `quantizers.encode`, for integers without gradients.

  Returns:
    See ``encode``.
  """
  bits, axes = q.precision.weights, tuple(range(kernel.ndim - 1)) if q.per_channel else None
  if q.weights == "twn":
    return encode(quantizers.twn, kernel, axis=-1 if q.per_channel else None)
  if q.weights == "ttq":
    return encode(quantizers.ttq, *magnitudes.ttq_arguments(kernel, params))
  if q.weights == "dorefa":
    return encode(quantizers.dorefa_weights, kernel, bits)
  if q.weights == "wrpn":
    # Without the stop the largest weight alone would get the scale's gradient.
    scale = 1.0
    if q.wrpn_scale != "unit":
      scale = jax.lax.stop_gradient(jnp.max(jnp.abs(kernel), axes))
    return encode(quantizers.wrpn_weights, kernel, bits, scale)
  # The paper's gradient scale, of the weights that share a step.
  step = params["weight_step"]
  grad_scale = 1 / math.sqrt(kernel.size // step.size * (2 ** (bits - 1) - 1))
  return encode(quantizers.lsq, kernel, step, bits, symmetric=True, grad_scale=grad_scale)


def quantized_layers(q: Quantization, params: Any) -> dict[str, dict]:
  """The parameters of a `ResNet`'s layers whose weights are quantized, by path, sorted.

  Args:
    q: the network's.
    params: nested dicts, of which those with a "kernel" are layers.
  """
  result = {}
  for *path, name in sorted(flatten_dict(params)):
    if name == "kernel" and q.quantizes_weights("/".join(path)):
      result["/".join(path)] = functools.reduce(lambda tree, key: tree[key], path, params)
  return result


def values(x: Activation, dtype) -> Array:
  """The values of an activation, quantized or not."""
  return decode(x, dtype) if isinstance(x, Quantized) else x.astype(dtype)


def quantizer_params(q: Quantization, kernel: Array, param: Param) -> dict:
  """A layer's trained weight-quantizer parameters, by the names that `encode_weights` takes.

  Args:
    q: which quantizer, at how many bits.
    kernel: (..., features), float, from which the parameters start.
    param: returns the layer's parameter of a name, or makes it.
  """
  if q.weights == "lsq":
    init = functools.partial(quantizers.lsq_init, bits=q.precision.weights, symmetric=True)
    start = jax.vmap(init, in_axes=-1) if q.per_channel else init
    return {"weight_step": param("weight_step", lambda: start(kernel))}
  if q.weights == "ttq":
    start = functools.partial(magnitudes.start, kernel, q.per_channel)
    return {side: param(side, lambda side=side: start()[side]) for side in magnitudes.SIDES}
  return {}


def weighted(
  name: str,
  q: Quantization,
  product,
  x: Activation,
  kernel: Activation,
  *,
  dtype,
  param,
  sow,
  sums=None,
) -> Array:
  """product(x, kernel) at a layer's precision: levels with levels, and the scales on the sums.

  Args:
    name: the layer's path.
    q: which quantizer, at how many bits; at 32 bits the kernel's values are multiplied.
    product: ``product(x, w, preferred_element_type=None)``, linear in both.
    x: an activation, quantized or not.
    kernel: (..., features), float; or its levels and scale, as `encode_weights` has them.
    dtype: of the multiplication.
    param: see `quantizer_params`.
    sow: the layer's own.
    sums: ``sums(product, levels, weight_levels, sides)``, another way to the sums of whole numbers;
      sides is 2 where weight_levels has TTQ's two sides beside each other.

  Returns:
    (..., features), float32.
  """
  if q.precision.weights == FULL:
    return _accumulate(product, values(x, dtype), kernel.astype(dtype))
  encoded = isinstance(kernel, Quantized)
  params = {} if encoded else quantizer_params(q, kernel, param)
  if q.weights == "ttq" and not isinstance(x, Quantized):
    # No levels to keep exact: one product with the two magnitudes in place.
    w = decode(kernel) if encoded else quantizers.ttq(*magnitudes.ttq_arguments(kernel, params))
    return _accumulate(product, x.astype(dtype), w.astype(dtype))
  levels, scale = x if isinstance(x, Quantized) else (x, 1.0)
  levels = levels.astype(dtype)
  if isinstance(x, Quantized):
    _check_scale(name, levels.shape, scale)
    _warn_if_inexact(name, q, jax.tree.leaves(kernel)[0])
  weight = kernel if encoded else encode_weights(q, kernel, params)
  two_sides = isinstance(weight.scale, tuple)
  # Two magnitudes take two accumulators.
  both = jnp.concatenate(weight.levels, axis=-1) if two_sides else weight.levels
  if sums is None or not isinstance(x, Quantized):
    accumulators = _accumulate(product, levels, both.astype(dtype))
  else:
    accumulators = sums(product, levels, both.astype(dtype), 2 if two_sides else 1)
  # Kept only when the caller asks for the collection: to compare with integer inference.
  sow("accumulators", "value", accumulators)
  if two_sides:
    positive, negative = jnp.split(accumulators, 2, axis=-1)
    return positive * (weight.scale[0] * scale) - negative * (weight.scale[1] * scale)
  return accumulators * (weight.scale.reshape(weight.scale.shape[-1:]) * scale)


def _check_scale(name, shape, scale):
  """Only a scale that all terms of a sum share comes after the sum."""
  scales = "two magnitudes" if isinstance(scale, tuple) else jnp.shape(scale)
  an_example = len(scales) == len(shape) and scales[0] in (1, shape[0])
  if (
    isinstance(scale, tuple)
    or math.prod(scales[1:] if an_example else scales) != 1
    or len(scales) > len(shape)
  ):
    raise ValueError(
      f"{name or 'the layer'} takes levels of one scale, or of one for each "
      f"example, not a scale of {scales} for levels of shape {shape}: give it x.values."
    )


def _warn_if_inexact(name, q, kernel):
  activation_level = 2**q.precision.activations - 1
  bound = accumulator_bound(kernel.size // kernel.shape[-1], q.weight_level, activation_level)
  if bound > EXACT:
    warnings.warn(
      f"{name} at {q.precision}: accumulators can reach "
      f"{bound:,}, and float32 rounds sums above {EXACT:,}.",
      stacklevel=2,
    )


def convolving(where: Geometry, im2col: bool, exact: bool):
  """A convolution as the `product` of `weighted`, and its `sums`.

  Args:
    where: the filter's geometry.
    im2col, exact: see `convolution`; other geometries than its own are XLA's.
  """
  if where.usual:
    product = functools.partial(convolution, strides=where.strides[0], im2col=im2col, exact=exact)
  else:
    product = functools.partial(general_convolution, geometry=where, exact=exact)
  return product, functools.partial(grouped_sums, where.groups)


def grouped_sums(groups: int, product, levels, weight_levels, sides: int) -> Array:
  """The `sums` of `weighted` where channels are convolved in groups."""
  if groups == 1 or sides == 1:
    return _accumulate(product, levels, weight_levels)
  # TTQ's two sides: side by side they would be other groups.
  each = jnp.split(weight_levels, sides, axis=-1)
  return jnp.concatenate([_accumulate(product, levels, side) for side in each], axis=-1)


def encode_activation(q: Quantization, x: Array, signed: bool, param: Param) -> Quantized:
  """An activation's levels and scale, by the network's activation quantizer.

  Args:
    q: which quantizer, at how many bits.
    x: float, (batch, ...).
    signed: a grid with levels below zero (lsq); else the grid's clip at 0 is a ReLU.
    param: returns the quantizer's parameter of a name, or makes it of x.
  """
  bits = q.precision.activations
  name = "lsq" if signed else q.activations
  if name == "pact":
    return encode_ste(quantizers.pact, x, param("clip", lambda: jnp.float32(PACT_INIT)), bits)
  if name == "lsq":
    start = lambda: quantizers.lsq_init(x if signed else nn.relu(x), bits, signed)
    step = param("activation_step", start)
    top = quantizers.lsq_range(bits, signed)[1]
    features = math.prod(x.shape[1:])
    return encode_ste(
      quantizers.lsq, x, step, bits, signed=signed, grad_scale=1 / math.sqrt(features * top)
    )
  function = {"wrpn": quantizers.wrpn_activations, "dorefa": quantizers.dorefa_activations}[name]
  return encode_ste(function, x, bits)


def note_health(layer, levels: Array, bits: int, signed: bool):
  """Writes the fractions of levels at zero and at an end of the range into the collection "health".

  Args:
    layer: a bound module, or a scope; nothing is written unless its collection is mutable.
    levels, bits, signed: of its activation.
  """
  if not layer.is_mutable_collection("health"):
    return
  low, high = quantizers.lsq_range(bits, signed=True) if signed else (0, 2**bits - 1)
  saturated = (levels == high) | (levels == -low) & (low > 0)
  fractions = [jnp.mean(x, dtype=jnp.float32) for x in (levels == 0, saturated)]
  # The last call's alone.
  layer.put_variable("health", "fractions", jnp.stack(fractions))
