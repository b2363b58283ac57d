"""Convolutions whose forward pass multiplies int8 levels and adds them up in int32.

By TPU's own compiler a 3x3 convolution of int8 takes half the cycles of a bfloat16 one. But an int8
operand has to be written to memory first, in a pass of its own, where a bfloat16 one is computed on
the way into the convolution. The pass costs in proportion to the input's pixels, the product saves
in proportion to the output's, to kernel and output channels: with 3x3 kernels and stride 1 it pays
from 256 channels, with 1x1 kernels never (results/plan/int8.md).
"""

import functools
import math

import jax
import jax.numpy as jnp

from apprentice_jax.quantizers.rule import unforwarded

PAYS = (
  9 * 256
  # kernel positions times output channels from which int8 is faster on TPU (v5e's compiler), at
  # stride 1
)


def convolution_sums(
  product, strides: int, top: int, compute: str, x: jax.Array, w: jax.Array
) -> jax.Array:
  """The sums of a convolution of levels; its gradients are those of ``product``.

  Args:
    product: (x, w, preferred_element_type=None) -> the same convolution, of floats.
    strides: of both directions; the padding is ``(size - 1) // 2``.
    top: the largest activation level.
    compute: "int8"; "float"; or "auto": int8 where it pays, on TPU.
    x: float (batch, height, width, channels), whole numbers from 0 to top. (int8 has no NaN: one of
      these becomes some level.)
    w: float (height, width, channels, features), whole numbers from -127 to 127.

  Returns:
    float32 (batch, height', width', features), the same in either way wherever they are below 2**24
    (and ``product``
    does not round them: `convolution` does, of bfloat16 on GPUs).
  """
  if compute == "auto" and math.prod(w.shape[:2]) * w.shape[-1] < PAYS * strides**2:
    compute = "float"
  return _sums(product, strides, top, compute, x, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _sums(product, strides, top, compute, x, w):
  of_floats = functools.partial(product, preferred_element_type=jnp.float32)
  of_integers = functools.partial(_integer_sums, strides, top)
  if compute == "auto":
    return jax.lax.platform_dependent(x, w, tpu=of_integers, default=of_floats)
  return (of_integers if compute == "int8" else of_floats)(x, w)


def _backward(product, strides, top, compute, residuals, g):
  del strides, top, compute
  x, w = residuals
  return jax.vjp(product, x, w)[1](g.astype(x.dtype))


_sums.defvjp(
  lambda product, strides, top, compute, x, w: (
    _sums(product, strides, top, compute, x, w),
    unforwarded((x, w)),
  ),
  _backward,
)


def _integer_sums(strides, top, x, w):
  """``sum x w = sum (x - shift) w + shift * sum w``, the last over the weights that meet the image.

  Beyond the image x is 0, so x - shift is -shift there. Instead of a padded copy of the levels, the
  second sum leaves out what the border cuts off: it is a convolution of one image of ones.
  """
  shift = 128 if top > 127 else 0
  w = w.astype(jnp.int8)
  product = functools.partial(
    jax.lax.conv_general_dilated,
    rhs=w,
    window_strides=(strides, strides),
    padding=[((k - 1) // 2,) * 2 for k in w.shape[:2]],
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    preferred_element_type=jnp.int32,
  )
  sums = product((x.astype(jnp.float32) - shift).astype(jnp.int8))
  if shift:
    sums = sums + shift * product(jnp.ones((1, *x.shape[1:]), jnp.int8))
  return sums.astype(jnp.float32)
