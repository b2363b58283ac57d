"""2-D convolutions: XLA's own, faster ways on CPU, and of bfloat16 on GPUs.

cuDNN has no convolution of bfloat16 with a float32 result: XLA computes one in TF32, from float32
copies of the operands. On GPUs the result is bfloat16 instead, unless the caller asks for all of
its digits. The sums inside are float32 either way.
"""

import functools

import jax
import jax.numpy as jnp

from apprentice_jax.models import cpu
from apprentice_jax.models.geometry import Geometry


def convolution(
  x: jax.Array,
  w: jax.Array,
  *,
  strides: int = 1,
  im2col: bool = True,
  exact: bool = False,
  preferred_element_type=None,
) -> jax.Array:
  """A convolution with padding ``(size - 1) // 2`` on every side, as
  `jax.lax.conv_general_dilated`.

  Args:
    x: float (batch, height, width, channels).
    w: float (height, width, channels, features), of x's dtype.
    strides: of both directions.
    im2col: whether what is float32 is computed in the ways of `models.cpu` where the program is
      compiled for CPU; equal to XLA's own up to rounding, and exactly where all sums are whole
      numbers below 2**24.
    exact: whether a result of another dtype than x's has all of that dtype's digits on GPUs, too,
      and not x's.
    preferred_element_type: of the result.

  Returns:
    (batch, height', width', features).
  """
  if im2col and x.dtype == jnp.float32:
    return cpu.convolution(strides, preferred_element_type, x, w)
  of_type = lambda dtype: functools.partial(cpu.by_xla, strides, dtype)
  return _rounded_on_gpus(of_type, exact, preferred_element_type, x, w)


def general_convolution(
  x: jax.Array,
  w: jax.Array,
  *,
  geometry: Geometry,
  exact: bool = False,
  preferred_element_type=None,
) -> jax.Array:
  """A convolution of any geometry, by XLA's own routines on every platform.

  Args:
    x: float (batch, height, width, channels).
    w: float (height, width, channels / groups, features), of x's dtype.
    geometry: strides, padding, dilation and groups.
    exact, preferred_element_type: see `convolution`.

  Returns:
    (batch, height', width', features).
  """
  of_type = lambda dtype: functools.partial(
    jax.lax.conv_general_dilated,
    window_strides=geometry.strides,
    padding=geometry.padding,
    rhs_dilation=geometry.dilation,
    feature_group_count=geometry.groups,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    preferred_element_type=dtype,
  )
  return _rounded_on_gpus(of_type, exact, preferred_element_type, x, w)


def _rounded_on_gpus(of_type, exact, preferred_element_type, x, w):
  plain = of_type(preferred_element_type)
  if exact or preferred_element_type in (None, x.dtype):
    return plain(x, w)
  # A result of the inputs' type is what cuDNN has; rounded, it takes half the memory as well.
  on_gpu = lambda x, w: of_type(None)(x, w).astype(preferred_element_type)
  return jax.lax.platform_dependent(x, w, cuda=on_gpu, rocm=on_gpu, default=plain)
