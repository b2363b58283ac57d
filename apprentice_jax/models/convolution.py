"""A 2-D convolution whose filter gradient is fast on CPU.

XLA:CPU computes a filter's gradient as a convolution over transposed arrays, and the transposes alone take two
fifths of a training step. Here it is a matrix product of patches of the input and the output's gradient, a
few images at a time so that the patches stay in cache.
"""

import functools
import math

import jax
import jax.numpy as jnp

PATCH_BYTES = 3 << 19  # 1.5 MiB, about a core's own cache


def convolution(x: jax.Array, w: jax.Array, *, strides: int = 1, im2col: bool = True,
                preferred_element_type=None) -> jax.Array:
  """A convolution with padding ``(size - 1) // 2`` on every side, as `jax.lax.conv_general_dilated`.

  Args:
    x: float (batch, height, width, channels).
    w: float (height, width, channels, features), of x's dtype.
    strides: of both directions.
    im2col: whether the gradient for float32 filters is computed from patches where the program is compiled
      for CPU; equal to XLA's up to rounding.
    preferred_element_type: of the result.

  Returns:
    (batch, height', width', features).
  """
  if im2col and x.dtype == jnp.float32:
    return _with_patches(strides, preferred_element_type, x, w)
  return _plain(strides, preferred_element_type, x, w)


def _plain(strides, preferred_element_type, x, w):
  return jax.lax.conv_general_dilated(
      x, w, (strides, strides), [((k - 1) // 2,) * 2 for k in w.shape[:2]],
      dimension_numbers=("NHWC", "HWIO", "NHWC"), preferred_element_type=preferred_element_type)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _with_patches(strides, preferred_element_type, x, w):
  return _plain(strides, preferred_element_type, x, w)


def _backward(strides, _, residuals, g):
  x, w = residuals
  g = g.astype(x.dtype)
  product = functools.partial(_plain, strides, None)
  by_xla = lambda x, g: jax.vjp(lambda w: product(x, w), w)[1](g)[0]
  by_patches = functools.partial(filter_gradient, strides=strides, size=w.shape[:2])
  return (jax.vjp(lambda x: product(x, w), x)[1](g)[0],
          jax.lax.platform_dependent(x, g, cpu=by_patches, default=by_xla))


_with_patches.defvjp(lambda strides, preferred, x, w: (_plain(strides, preferred, x, w), (x, w)), _backward)


def filter_gradient(x: jax.Array, g: jax.Array, *, strides: int, size: tuple[int, int]) -> jax.Array:
  """The gradient of a convolution's filter, by matrix products.

  With rows i and columns j of the filter, ``dw[i, j] = sum over images and positions p of
  x[p * strides + (i, j)]^T g[p]``. At stride 1 the input is shifted by rows and the gradient by columns, three
  copies of each for 3x3, of which one product makes all nine; else all patches of the input are made.

  Args:
    x: (batch, height, width, channels), the input.
    g: (batch, height', width', features), the gradient of the output.
    strides, size: of the convolution, whose padding is ``(size - 1) // 2``.

  Returns:
    (*size, channels, features), of x's dtype.
  """
  by_rows = strides == 1 and size[1] > 1 and size[1] % 2 == 1  # the output is as wide as the input
  product = _by_rows_and_columns if by_rows else _by_patches
  copies = x.shape[-1] * size[0] + g.shape[-1] * size[1] if by_rows else x.shape[-1] * math.prod(size)
  bytes_per_image = g.shape[1] * g.shape[2] * copies * x.dtype.itemsize
  share = _divisor(x.shape[0], max(PATCH_BYTES // bytes_per_image, 1))
  product = functools.partial(product, strides=strides, size=size)
  if share == x.shape[0]:
    return product(x, g)
  split = lambda a: a.reshape(-1, share, *a.shape[1:])
  add = lambda total, images: (total + product(*images), None)
  start = jnp.zeros((*size, x.shape[-1], g.shape[-1]), x.dtype)
  return jax.lax.scan(add, start, (split(x), split(g)))[0]


def _divisor(n: int, limit: int) -> int:
  """The largest divisor of n that is at most limit."""
  return next(d for d in range(min(n, limit), 0, -1) if n % d == 0)


def _by_patches(x, g, *, strides, size):
  (_, height, width, _), (rows, columns) = g.shape, size
  x = _padded(x, rows, columns)
  end = lambda start, count: start + (count - 1) * strides + 1
  patches = [x[:, i:end(i, height):strides, j:end(j, width):strides] for i in range(rows)
             for j in range(columns)]
  return _product(jnp.concatenate(patches, -1), g).reshape(rows, columns, x.shape[-1], -1)


def _by_rows_and_columns(x, g, *, strides, size):
  del strides  # 1
  (_, height, width, _), (rows, columns) = g.shape, size
  by_rows = [_padded(x, rows, 1)[:, i:i + height] for i in range(rows)]
  # The input's column q meets the output's column q + padding - j.
  padding = (columns - 1) // 2
  g = jnp.pad(g, ((0, 0), (0, 0), (columns - 1 - padding, columns - 1 - padding), (0, 0)))
  by_columns = [g[:, :, columns - 1 - j:columns - 1 - j + width] for j in range(columns)]
  products = _product(jnp.concatenate(by_rows, -1), jnp.concatenate(by_columns, -1))
  return products.reshape(rows, x.shape[-1], columns, -1).transpose(0, 2, 1, 3)


def _padded(x, rows, columns):
  sides = lambda k: ((k - 1) // 2,) * 2
  return jnp.pad(x, ((0, 0), sides(rows), sides(columns), (0, 0)))


def _product(a, b):
  """a^T b over images and positions: (..., m), (..., n) -> (m, n)."""
  flat = lambda t: t.reshape(math.prod(t.shape[:-1]), t.shape[-1])
  return jax.lax.dot_general(flat(a), flat(b), (((0,), (0,)), ((), ())))
