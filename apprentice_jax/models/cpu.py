"""2-D convolutions that are fast where XLA compiles for CPU, forward and backward.

XLA:CPU has fast convolutions (YNNPACK's) for wide layers only. At 16 channels and fewer it falls
back to a routine of half the processor's speed, at 4 channels of a twentieth. Images of a few
pixels take that routine too.

XLA computes a filter's gradient as a convolution over transposed arrays. The gradient of a strided
input becomes one of an array with zeros between its pixels. XLA:CPU has no fast code for either,
and inside a loop they take a hundred times as long.

This module has its own ways:

* Narrow layers compute several columns of pixels at once, as if the columns were channels.
* Images of a few pixels are one matrix product.
* Gradients of inputs are convolutions like those of the forward pass.
* Gradients of filters are convolutions of transposed arrays, or matrix products of patches. A few
  images at a time keep the patches in cache.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from apprentice_jax.quantizers.rule import unforwarded

PATCH_BYTES = 3 << 19  # 1.5 MiB, about a core's own cache
WIDE = 24  # output channels from which XLA's convolution is the fast one
WIDE_OF_FEW = 48  # the same for at most FEW input channels, where a wider one costs little
FEW = 3
WIDE_FILTERS = 32  # features from which a filter's gradient is fast as a convolution
TOGETHER = 8  # images whose pixels lie side by side in it
TINY = 4  # pixels up to which an image is multiplied as a whole
_CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")
_convolve = functools.partial(jax.lax.conv_general_dilated, dimension_numbers=_CHANNELS_LAST)


def by_xla(strides, preferred_element_type, x, w):
  """XLA's own convolution; see `convolution`."""
  padding = [((k - 1) // 2,) * 2 for k in w.shape[:2]]
  kind = preferred_element_type
  return _convolve(x, w, (strides, strides), padding, preferred_element_type=kind)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def convolution(strides: int, preferred_element_type, x: jax.Array, w: jax.Array) -> jax.Array:
  """A convolution with padding ``(size - 1) // 2`` on every side.

  Args:
    strides: of both directions.
    preferred_element_type: of the result; None: x's.
    x: float32 (batch, height, width, channels).
    w: float32 (rows, columns, channels, features).

  Returns:
    (batch, height', width', features).
  """
  plain = functools.partial(by_xla, strides, preferred_element_type)
  if (way := _way(x.shape, w.shape, strides)) is None:
    return plain(x, w)
  on_cpu = lambda x, w: way(x, w).astype(preferred_element_type or x.dtype)
  return jax.lax.platform_dependent(x, w, cpu=on_cpu, default=plain)


def _backward(strides, _, residuals, g):
  x, w = residuals
  g = g.astype(x.dtype)
  plain = functools.partial(by_xla, strides, None)
  elsewhere = lambda x, w, g: jax.vjp(plain, x, w)[1](g)

  def on_cpu(x, w, g):
    # An even filter has no middle to turn it about.
    if not all(k % 2 for k in w.shape[:2]):
      dx = jax.vjp(lambda x: plain(x, w), x)[1](g)[0]
    elif strides == 1:
      turned = jnp.swapaxes(w[::-1, ::-1], 2, 3)
      dx = (_way(g.shape, turned.shape, 1) or plain)(g, turned)
    else:
      dx = input_gradient(g, w, strides=strides, size=x.shape[1:3])
    return dx, filter_gradient(x, g, strides=strides, size=w.shape[:2])

  return jax.lax.platform_dependent(x, w, g, cpu=on_cpu, default=elsewhere)


convolution.defvjp(
  lambda strides, preferred, x, w: (convolution(strides, preferred, x, w), unforwarded((x, w))),
  _backward,
)


def _way(x_shape, w_shape, strides: int):
  """A faster function of (x, w) than XLA's own convolution, or None."""
  (_, height, width, _), (rows, size, channels, features) = x_shape, w_shape
  if strides != 1 or rows * size == 1 or not rows % 2 or not size % 2:
    return None
  if height * width <= TINY:
    return as_product
  wide = WIDE_OF_FEW if channels <= FEW else WIDE
  # One group alone is no convolution.
  groups = [c for c in range(2, width // 2 + 1) if width % c == 0]
  if features >= wide or channels >= WIDE or not groups:
    return None
  # The least that make the convolution a wide one.
  count = next((c for c in groups if c * features >= wide), groups[-1])
  return functools.partial(by_columns, count=count)


def as_product(x: jax.Array, w: jax.Array) -> jax.Array:
  """A convolution at stride 1 as one matrix product, of all pixels of an image with all of the
  result's.

  Args:
    x: (batch, height, width, channels).
    w: (rows, size, channels, features), rows and size odd.

  Returns:
    (batch, height, width, features).
  """
  (batch, height, width, channels), (rows, size, _, features) = x.shape, w.shape

  def taps(pixels, size):
    """(from, to): which of the filter's rows or columns connects two pixels; size, a zero one, if
    none does."""
    tap = np.arange(pixels)[:, None] - np.arange(pixels) + (size - 1) // 2
    return np.where((tap >= 0) & (tap < size), tap, size)

  w = jnp.pad(w, ((0, 1), (0, 1), (0, 0), (0, 0)))
  # from, to; from, to; channels, features
  matrix = w[taps(height, rows)[:, :, None, None], taps(width, size)[None, None]]
  matrix = matrix.transpose(0, 2, 4, 1, 3, 5).reshape(
    height * width * channels, height * width * features
  )
  return (x.reshape(batch, -1) @ matrix).reshape(batch, height, width, features)


def by_columns(x: jax.Array, w: jax.Array, count: int) -> jax.Array:
  """A convolution at stride 1, ``count`` columns at a time.

  A window is count - 1 columns wider than the filter, and windows are count columns apart. Column c
  of a group has the filter c columns further right in its window. Zeros fill the rest of the
  window, so there are (size + count - 1) / size times as many products.

  Args:
    x: (batch, height, width, channels), width a multiple of count.
    w: (rows, size, channels, features), rows and size odd.

  Returns:
    (batch, height, width, features).
  """
  rows, size, channels, features = w.shape
  shifted = [jnp.pad(w, ((0, 0), (c, count - 1 - c), (0, 0), (0, 0))) for c in range(count)]
  window = jnp.stack(shifted, axis=3).reshape(rows, size + count - 1, channels, count * features)
  y = _convolve(x, window, (1, count), [((k - 1) // 2,) * 2 for k in (rows, size)])
  return y.reshape(*x.shape[:3], features)


def input_gradient(g: jax.Array, w: jax.Array, *, strides: int, size: tuple[int, int]) -> jax.Array:
  """The gradient of a strided convolution's input, by convolutions of the output's gradient at
  stride 1.

  XLA would take one convolution of an array with zeros between its pixels. Here every strides-th
  row of the input is a convolution with the rows of the filter that meet it. A pixel of the
  gradient makes ``strides`` columns at once, as if the columns were channels. Zeros in the filter
  cost products. At stride 2 there are 12 in place of 9 for 3x3, and 2 in place of 1 for 1x1.

  Args:
    g: (batch, height', width', features), the gradient of the output.
    w: (rows, columns, channels, features), rows and columns odd.
    strides: of the convolution, whose padding is ``(rows - 1) // 2`` and ``(columns - 1) // 2``.
    size: (height, width) of the input.

  Returns:
    (batch, height, width, channels).
  """
  (batch, height, width, features), (rows, columns, channels, _) = g.shape, w.shape
  padding = (columns - 1) // 2
  # Columns of g beside the one above.
  before, after = (padding // strides, (strides - 1 + padding) // strides)
  tap = np.arange(strides) + padding - strides * np.arange(-before, after + 1)[:, None]  # from, to
  # The last column of the padded filter is zeros, for pixels that no tap connects.
  tap = np.where((tap >= 0) & (tap < columns), tap, columns)
  w = jnp.pad(w, ((0, 0), (0, 1), (0, 0), (0, 0)))[:, tap]
  w = w.transpose(0, 1, 4, 2, 3).reshape(rows, before + after + 1, features, strides * channels)

  # Written into one array: stacked, XLA would make the choice between them, pixel by pixel, part of
  # whatever comes next.
  dx = jnp.zeros((batch, height, strides, width, strides * channels), g.dtype)
  for row in range(strides):
    # The filter's first row meets the row of g so far down.
    below, first = divmod(row + (rows - 1) // 2, strides)
    if not len(met := w[first::strides][::-1]):
      continue
    part = _convolve(g, met, (1, 1), ((len(met) - 1 - below, below), (before, after)))
    dx = jax.lax.dynamic_update_slice_in_dim(dx, part[:, :, None], row, 2)
  return dx.reshape(batch, height * strides, width * strides, channels)[:, : size[0], : size[1]]


def filter_gradient(
  x: jax.Array, g: jax.Array, *, strides: int, size: tuple[int, int]
) -> jax.Array:
  """The gradient of a convolution's filter, a few images at a time.

  ``dw[i, j]`` is the sum of ``x[p * strides + (i, j)]^T g[p]`` over images and positions p. At
  stride 1 this sum is a convolution again, with the gradient as the filter. XLA has a fast one for
  enough features. Fewer features take one matrix product of shifted copies: the input is shifted by
  rows, the gradient by columns. All other cases (strides, 1x1, even sizes) multiply patches.

  Args:
    x: (batch, height, width, channels), the input.
    g: (batch, height', width', features), the gradient of the output.
    strides, size: of the convolution, whose padding is ``(size - 1) // 2``.

  Returns:
    (*size, channels, features), of x's dtype.
  """
  (*_, channels), (batch, height, width, features) = x.shape, g.shape
  # Then the output is as wide and high as the input.
  as_wide = strides == 1 and size[0] % 2 == size[1] % 2 == 1
  if as_wide and size[1] > 1 and features >= WIDE_FILTERS:
    product, copies, limit = _by_convolution, channels + features, TOGETHER
  elif as_wide and size[1] > 1:
    product, copies, limit = _by_rows_and_columns, channels * size[0] + features * size[1], batch
  else:
    product, copies, limit = _by_patches, channels * math.prod(size), batch
  bytes_per_image = height * width * copies * x.dtype.itemsize
  share = _divisor(batch, min(max(PATCH_BYTES // bytes_per_image, 1), limit))
  product = functools.partial(product, strides=strides, size=size)
  if share == batch:
    return product(x, g)
  # Slices of the arrays as they are. Reshaped copies would be other arrays to XLA, which would
  # compute each a second time from the previous convolution's output, although the next
  # convolution's input has the same values.
  images = lambda a, i: jax.lax.dynamic_slice_in_dim(a, i * share, share)
  add = lambda i, total: total + product(images(x, i), images(g, i))
  start = jnp.zeros((*size, channels, features), x.dtype)
  return jax.lax.fori_loop(0, batch // share, add, start)


def _divisor(n: int, limit: int) -> int:
  """The largest divisor of n that is at most limit."""
  return next(d for d in range(min(n, limit), 0, -1) if n % d == 0)


def _by_patches(x, g, *, strides, size):
  (_, height, width, _), (rows, columns) = g.shape, size
  x = _padded(x, rows, columns)
  end = lambda start, count: start + (count - 1) * strides + 1
  patches = [
    x[:, i : end(i, height) : strides, j : end(j, width) : strides]
    for i in range(rows)
    for j in range(columns)
  ]
  return _product(jnp.concatenate(patches, -1), g).reshape(rows, columns, x.shape[-1], -1)


def _by_convolution(x, g, *, strides, size):
  """A channel of all images is an image here, whose own channels are the images: sums run over
  these innermost."""
  del strides  # 1
  x = jnp.transpose(x, (3, 1, 2, 0))
  # By itself: padding that belongs to the convolution makes XLA take the transpositions into it,
  # too, and it has no fast convolution of such arrays.
  x = jnp.pad(x, ((0, 0), *(((k - 1) // 2,) * 2 for k in size), (0, 0)))
  dw = _convolve(x, jnp.transpose(g, (1, 2, 0, 3)), (1, 1), "VALID")
  return jnp.transpose(dw, (1, 2, 0, 3))


def _by_rows_and_columns(x, g, *, strides, size):
  del strides  # 1
  (_, height, width, _), (rows, columns) = g.shape, size
  by_rows = [_padded(x, rows, 1)[:, i : i + height] for i in range(rows)]
  # The input's column q meets the output's column q + padding - j.
  padding = (columns - 1) // 2
  g = jnp.pad(g, ((0, 0), (0, 0), (columns - 1 - padding, columns - 1 - padding), (0, 0)))
  by_columns = [g[:, :, columns - 1 - j : columns - 1 - j + width] for j in range(columns)]
  products = _product(jnp.concatenate(by_rows, -1), jnp.concatenate(by_columns, -1))
  return products.reshape(rows, x.shape[-1], columns, -1).transpose(0, 2, 1, 3)


def _padded(x, rows, columns):
  sides = lambda k: ((k - 1) // 2,) * 2
  return jnp.pad(x, ((0, 0), sides(rows), sides(columns), (0, 0)))


def _product(a, b):
  """The product a^T b, (m, n), of arrays (..., m) and (..., n)."""
  flat = lambda t: t.reshape(math.prod(t.shape[:-1]), t.shape[-1])
  return jax.lax.dot_general(flat(a), flat(b), (((0,), (0,)), ((), ())))
