"""The product of one of flax's layers, for which ours stands in while the layer computes."""

import contextlib
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from apprentice_jax.models import levels
from apprentice_jax.models.geometry import geometry
from apprentice_jax.models.precision import Quantization
from apprentice_jax.quantizers import Quantized


def own_product(module: nn.Module) -> bool:
  """Whether a layer's author has exchanged its product."""
  return bool(getattr(module, _name(module)) or getattr(module, f"{_name(module)}_cls"))


def _name(module) -> str:
  return "conv_general_dilated" if isinstance(module, nn.Conv) else "dot_general"


class Product:
  """The product of one layer, in the place of flax's.

  Attributes:
    dtype: of the layer's result; None until it was computed.
  """

  def __init__(self, module: nn.Module, path: str, q: Quantization, x, weight, param, sow):
    """Product of a bound layer.

    Args:
      module: an `nn.Conv`, `nn.Dense` or `nn.DenseGeneral`.
      path: of the layer, for messages.
      q: the quantizers.
      x: the layer's input, quantized or not.
      weight: ``weight(kernel, read)`` returns the kernel that `levels.weighted` takes; read is the
        array that the layer's code gives, and kernel has its values, (..., features).
      param, sow: see `levels.weighted`.
    """
    self.dtype = None
    self._module, self._path, self._quantization, self._x = module, path, q, x
    self._weight, self._param, self._sow = weight, param, sow

  @contextlib.contextmanager
  def in_place(self):
    module, product = self._module, _name(self._module)
    if own_product(module):
      raise ValueError(f"{self._path} has a {product} of its own: name it in full_precision.")
    ours = self._conv if isinstance(module, nn.Conv) else self._dense
    changes = {product: ours, "promote_dtype": self._promoted}
    before = {name: getattr(module, name) for name in changes}
    self._promote = before["promote_dtype"]
    try:
      for name, value in changes.items():
        object.__setattr__(module, name, value)
      yield
    finally:
      for name, value in before.items():
        object.__setattr__(module, name, value)

  def _promoted(self, inputs, kernel, bias, *, dtype):
    # The kernel as it is stored: a rounded one could have other levels. The bias comes after the
    # scale, in float32.
    is_float = jnp.issubdtype(kernel.dtype, jnp.floating)
    # Integer levels stand for a float32 kernel.
    promoted = self._promote(inputs, kernel if is_float else jnp.float32(0), bias, dtype=dtype)[0]
    self._to, self._read = promoted.dtype, kernel
    return promoted, kernel, bias

  def _weighted(self, product, inputs, kernel, sums=None):
    self.dtype = self._to
    x, module = self._x, self._module
    return levels.weighted(
      "/".join(module.path),
      self._quantization,
      product,
      Quantized(inputs, x.scale) if isinstance(x, Quantized) else inputs,
      self._weight(kernel, self._read),
      dtype=self.dtype,
      param=self._param,
      sow=self._sow,
      sums=sums,
    )

  def _dense(self, inputs, kernel, dimensions, precision=None):
    (axes, _), (batch, _) = dimensions
    if batch:
      raise ValueError(
        f"{self._path} has batch_dims, which quantized layers have not: name it in full_precision."
      )
    # As QuantDense: all inputs in one axis, all outputs in one.
    features = kernel.shape[len(axes) :]
    inputs = jnp.moveaxis(inputs, axes, range(-len(axes), 0))
    inputs = inputs.reshape(*inputs.shape[: inputs.ndim - len(axes)], -1)
    kernel = kernel.reshape(-1, math.prod(features))
    y = self._weighted(functools.partial(jnp.dot, precision=precision), inputs, kernel)
    return y.reshape(*y.shape[:-1], *features)

  def _conv(self, inputs, kernel, strides, padding, *, precision, lhs_dilation, **options):
    groups, dilation = options["feature_group_count"], options["rhs_dilation"]
    q, module = self._quantization, self._module
    two_sides = isinstance(self._x, Quantized) and q.weights == "ttq"
    if inputs.ndim == 4 and precision is None and set(lhs_dilation) == {1}:
      size, features = kernel.shape[:2], kernel.shape[-1]
      where = geometry(inputs.shape, features, size, strides, padding, dilation, groups)
      exact = two_sides or module.is_mutable_collection("accumulators")
      product, sums = levels.convolving(where, im2col=True, exact=exact)
      return self._weighted(product, inputs, kernel, sums)
    product = functools.partial(
      jax.lax.conv_general_dilated,
      window_strides=strides,
      padding=padding,
      lhs_dilation=lhs_dilation,
      precision=precision,
      **options,
    )
    return self._weighted(product, inputs, kernel, functools.partial(levels.grouped_sums, groups))
