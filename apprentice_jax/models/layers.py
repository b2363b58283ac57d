"""Convolution, dense layer and activation that compute on integer levels and scale afterwards.

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
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from apprentice_jax import quantizers
from apprentice_jax.models import magnitudes
from apprentice_jax.models.convolution import convolution, general_convolution
from apprentice_jax.models.geometry import Geometry, Padding, geometry
from apprentice_jax.models.precision import FULL, Quantization
from apprentice_jax.quantizers import Quantized, decode, encode_ste
from apprentice_jax.quantizers.rule import unforwarded

Array = jax.Array
Activation = Array | Quantized

KERNEL_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")  # He et al., 2015
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


def encode_weights(q: Quantization, kernel: Array, params: dict) -> Quantized:
  """A kernel's levels and scale, by its layer's weight quantizer, with straight-through gradients.

  Args:
    q: which quantizer, at how many bits.
    kernel: (..., features), float.
    params: the layer's parameters, of which "weight_step" (lsq), "positive" and "negative" (ttq)
      count.

  Returns:
    See `quantizers.encode_ste`.
  """
  bits, axes = q.precision.weights, tuple(range(kernel.ndim - 1)) if q.per_channel else None
  if q.weights == "twn":
    return encode_ste(quantizers.twn, kernel, axis=-1 if q.per_channel else None)
  if q.weights == "ttq":
    return encode_ste(quantizers.ttq, *magnitudes.ttq_arguments(kernel, params))
  if q.weights == "dorefa":
    return encode_ste(quantizers.dorefa_weights, kernel, bits)
  if q.weights == "wrpn":
    # Without the stop the largest weight alone would get the scale's gradient.
    scale = 1.0
    if q.wrpn_scale != "unit":
      scale = jax.lax.stop_gradient(jnp.max(jnp.abs(kernel), axes))
    return encode_ste(quantizers.wrpn_weights, kernel, bits, scale)
  # The paper's gradient scale, of the weights that share a step.
  step = params["weight_step"]
  grad_scale = 1 / math.sqrt(kernel.size // step.size * (2 ** (bits - 1) - 1))
  return encode_ste(quantizers.lsq, kernel, step, bits, symmetric=True, grad_scale=grad_scale)


def values(x: Activation, dtype) -> Array:
  """The values of an activation, quantized or not."""
  return decode(x, dtype) if isinstance(x, Quantized) else x.astype(dtype)


class _Weighted(nn.Module):
  """What QuantConv and QuantDense share: a kernel, its quantizer, and levels-then-scale.

  Attributes:
    features: output channels.
    quantization: which quantizer, at how many bits, and which layers are left alone.
    dtype: of the multiplication: float32 or bfloat16. Parameters are float32.
    use_bias: add a trained bias, in full precision.
  """

  features: int
  quantization: Quantization = Quantization()
  dtype: Any = jnp.float32
  use_bias: bool = False
  kernel_init: Callable = KERNEL_INIT

  def _multiply(self, product, x: Activation, kernel: Array) -> Array:
    """product(x, kernel) at the layer's precision; plus the bias."""
    dtype = self.dtype
    q = self.quantization
    # A layer in full precision sees values, whatever its input's precision.
    if not q.quantizes_weights("/".join(self.path)):
      y = _accumulate(product, values(x, dtype), kernel.astype(dtype))
    elif q.weights == "ttq" and not isinstance(x, Quantized):
      # No levels to keep exact: one product with the two magnitudes in place.
      w = quantizers.ttq(*magnitudes.ttq_arguments(kernel, self._quantizer_params(kernel)))
      y = _accumulate(product, x.astype(dtype), w.astype(dtype))
    else:
      # Levels with levels, and the scales on the sums.
      levels, scale = x if isinstance(x, Quantized) else (x, 1.0)
      levels = levels.astype(dtype)
      if isinstance(x, Quantized):
        self._check_scale(levels.shape, scale)
        self._warn_if_inexact(kernel)
      weight = encode_weights(q, kernel, self._quantizer_params(kernel))
      # Two magnitudes take two accumulators.
      if isinstance(weight.scale, tuple):
        both = jnp.concatenate(weight.levels, axis=-1).astype(dtype)
        positive, negative = jnp.split(self._accumulated(product, x, levels, both), 2, axis=-1)
        y = positive * (weight.scale[0] * scale) - negative * (weight.scale[1] * scale)
      else:
        accumulators = self._accumulated(product, x, levels, weight.levels.astype(dtype))
        y = accumulators * (weight.scale.reshape(weight.scale.shape[-1:]) * scale)
    if self.use_bias:
      y = y + self.param("bias", nn.initializers.zeros, (self.features,))
    return checkpoint_name(y.astype(dtype), CONVOLVED)

  def _check_scale(self, shape, scale):
    """Only a scale that all terms of a sum share comes after the sum."""
    scales = "two magnitudes" if isinstance(scale, tuple) else jnp.shape(scale)
    an_example = len(scales) == len(shape) and scales[0] in (1, shape[0])
    if (
      isinstance(scale, tuple)
      or math.prod(scales[1:] if an_example else scales) != 1
      or len(scales) > len(shape)
    ):
      raise ValueError(
        f"{'/'.join(self.path) or 'the layer'} takes levels of one scale, or of one for each "
        f"example, not a scale of {scales} for levels of shape {shape}: give it x.values."
      )

  def _warn_if_inexact(self, kernel):
    q = self.quantization
    activation_level = 2**q.precision.activations - 1
    bound = accumulator_bound(kernel.size // self.features, q.weight_level, activation_level)
    if bound > EXACT:
      warnings.warn(
        f"{'/'.join(self.path)} at {q.precision}: accumulators can reach "
        f"{bound:,}, and float32 rounds sums above {EXACT:,}.",
        stacklevel=2,
      )

  def _sums(self, product, levels, weight_levels):
    """product(levels, weight_levels) of whole numbers, in float32; a layer may have another way to
    it."""
    return _accumulate(product, levels, weight_levels)

  def _accumulated(self, product, x, levels, weight_levels):
    sums = self._sums if isinstance(x, Quantized) else _accumulate
    accumulators = sums(product, levels, weight_levels)
    # Kept only when the caller asks for the collection: to compare with integer inference.
    self.sow("accumulators", "value", accumulators)
    return accumulators

  def _quantizer_params(self, kernel: Array) -> dict:
    """The layer's trained quantizer parameters, by the names that `encode_weights` takes."""
    q = self.quantization
    if q.weights == "lsq":
      return {"weight_step": self.param("weight_step", lambda _: self._lsq_init(kernel))}
    if q.weights == "ttq":
      start = functools.partial(magnitudes.start, kernel, q.per_channel)
      return {
        side: self.param(side, lambda _, side=side: start()[side]) for side in magnitudes.SIDES
      }
    return {}

  def _lsq_init(self, kernel):
    q = self.quantization
    init = functools.partial(quantizers.lsq_init, bits=q.precision.weights, symmetric=True)
    return jax.vmap(init, in_axes=-1)(kernel) if q.per_channel else init(kernel)


class QuantConv(_Weighted):
  """A 2-D convolution, NHWC, at a chosen precision.

  The arguments are those of `flax.linen.Conv`, but for the default padding.

  Attributes:
    kernel_size: height and width, or one number for both.
    strides: of height and width, or one number for both.
    padding: "SAME", "SAME_LOWER", "VALID", a number, or for height and width a number or a pair
      (before, after); None: ``(size - 1) // 2`` on every side.
    kernel_dilation: of height and width, or one number for both.
    feature_group_count: groups of channels that are convolved apart; a kernel has
      channels / feature_group_count.
    im2col: see `convolution`; other geometries than its own are XLA's.
  """

  kernel_size: int | Sequence[int] = (3, 3)
  strides: int | Sequence[int] = 1
  im2col: bool = True
  padding: Padding = None
  kernel_dilation: int | Sequence[int] = 1
  feature_group_count: int = 1

  @nn.compact
  def __call__(self, x: Activation) -> Array:
    """(batch, height, width, channels) -> (batch, height', width', features), of self.dtype."""
    shape = (x.levels if isinstance(x, Quantized) else x).shape
    where = self._geometry(shape)
    kernel_shape = (*where.size, shape[-1] // where.groups, self.features)
    kernel = self.param("kernel", self.kernel_init, kernel_shape)
    # Of sums that are to be subtracted from each other, and of those that are compared, all digits
    # count.
    two_sides = isinstance(x, Quantized) and self.quantization.weights == "ttq"
    exact = two_sides or self.is_mutable_collection("accumulators")
    if where.usual:
      product = functools.partial(
        convolution, strides=where.strides[0], im2col=self.im2col, exact=exact
      )
    else:
      product = functools.partial(general_convolution, geometry=where, exact=exact)
    return self._multiply(product, x, kernel)

  def _geometry(self, shape) -> Geometry:
    return geometry(
      shape,
      self.features,
      self.kernel_size,
      self.strides,
      self.padding,
      self.kernel_dilation,
      self.feature_group_count,
    )

  def _sums(self, product, levels, weight_levels):
    where = self._geometry(levels.shape)
    if where.groups > 1 and weight_levels.shape[-1] != self.features:
      # TTQ's two sides: side by side they would be other groups.
      sides = jnp.split(weight_levels, 2, axis=-1)
      return jnp.concatenate([_accumulate(product, levels, side) for side in sides], axis=-1)
    return _accumulate(product, levels, weight_levels)


class QuantDense(_Weighted):
  """A dense layer at a chosen precision."""

  use_bias: bool = True
  kernel_init: Callable = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")

  @nn.compact
  def __call__(self, x: Activation) -> Array:
    """(batch, channels) -> (batch, features), of self.dtype."""
    channels = (x.levels if isinstance(x, Quantized) else x).shape[-1]
    kernel = self.param("kernel", self.kernel_init, (channels, self.features))
    return self._multiply(jnp.dot, x, kernel)


class QuantActivation(nn.Module):
  """ReLU, followed by the activation quantizer, whose clip at 0 is the ReLU.

  Attributes:
    quantization: which quantizer at how many bits.
    signed: no ReLU, and levels below zero: the quantization point on a residual branch (lsq).
  """

  quantization: Quantization = Quantization()
  signed: bool = False

  @nn.compact
  def __call__(self, x: Array) -> Activation:
    """Returns `Quantized` levels of x's shape and dtype and a float32 scale; at 32 bits an
    array."""
    bits = self.quantization.precision.activations
    if bits == FULL:
      return x if self.signed else nn.relu(x)
    quantized = self._encode(x, bits)
    if self.is_mutable_collection("health"):
      self._sow_health(quantized.levels, bits)
    return quantized

  def _encode(self, x: Array, bits: int) -> Quantized:
    name = "lsq" if self.signed else self.quantization.activations
    if name == "pact":
      clip = self.param("clip", lambda _: jnp.float32(PACT_INIT))
      return encode_ste(quantizers.pact, x, clip, bits)
    if name == "lsq":
      start = lambda _: quantizers.lsq_init(x if self.signed else nn.relu(x), bits, self.signed)
      step = self.param("activation_step", start)
      top = quantizers.lsq_range(bits, self.signed)[1]
      features = math.prod(x.shape[1:])
      return encode_ste(
        quantizers.lsq, x, step, bits, signed=self.signed, grad_scale=1 / math.sqrt(features * top)
      )
    function = {"wrpn": quantizers.wrpn_activations, "dorefa": quantizers.dorefa_activations}[name]
    return encode_ste(function, x, bits)

  def _sow_health(self, levels: Array, bits: int):
    """Fractions at zero and at an end of the range."""
    low, high = quantizers.lsq_range(bits, signed=True) if self.signed else (0, 2**bits - 1)
    saturated = (levels == high) | (levels == -low) & (low > 0)
    fractions = jnp.stack([jnp.mean(x, dtype=jnp.float32) for x in (levels == 0, saturated)])
    # The last call's alone: flax would append to a tuple.
    last = lambda _, new: new
    self.sow("health", "fractions", fractions, reduce_fn=last, init_fn=lambda: None)
