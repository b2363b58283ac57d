"""Convolution, dense layer and activation that compute on integer levels and scale afterwards."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from apprentice_jax.models import levels
from apprentice_jax.models.geometry import Geometry, Padding, geometry
from apprentice_jax.models.levels import CONVOLVED, Activation
from apprentice_jax.models.precision import FULL, Quantization
from apprentice_jax.quantizers import Quantized

Array = jax.Array

KERNEL_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")  # He et al., 2015


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

  def _multiply(self, product, x: Activation, kernel: Array, sums=None) -> Array:
    """product(x, kernel) at the layer's precision; plus the bias."""
    name = "/".join(self.path)
    # A layer in full precision sees values, whatever its input's precision.
    full = not self.quantization.quantizes_weights(name)
    y = levels.weighted(
      name,
      Quantization() if full else self.quantization,
      product,
      x,
      kernel,
      dtype=self.dtype,
      param=functools.partial(_param, self),
      sow=self.sow,
      sums=sums,
    )
    if self.use_bias:
      y = y + self.param("bias", nn.initializers.zeros, (self.features,))
    return checkpoint_name(y.astype(self.dtype), CONVOLVED)


def _param(layer: nn.Module, name: str, start) -> Array:
  return layer.param(name, lambda _: start())


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
    product, sums = levels.convolving(where, self.im2col, exact)
    return self._multiply(product, x, kernel, sums)

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
    param = functools.partial(_param, self)
    quantized = levels.encode_activation(self.quantization, x, self.signed, param)
    levels.note_health(self, quantized.levels, bits, self.signed)
    return quantized
