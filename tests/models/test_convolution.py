"""The convolution's gradients, beside PyTorch's, and what is compiled for which platform."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tools

from apprentice_jax.models import cpu
from apprentice_jax.models.convolution import convolution
from apprentice_jax.models.cpu import filter_gradient
from apprentice_jax.models.residual import resnet

SHAPES = [  # batch, height, width, channels, features, size, strides
  (4, 8, 8, 3, 5, (3, 3), 1),
  (4, 8, 8, 3, 5, (3, 3), 2),
  (3, 7, 9, 2, 4, (3, 3), 2),
  (2, 9, 6, 2, 3, (5, 3), 1),
  (2, 9, 6, 2, 3, (1, 3), 1),
  (2, 9, 6, 2, 3, (3, 1), 1),
  (5, 8, 8, 4, 3, (1, 1), 1),
  (5, 8, 8, 4, 3, (1, 1), 2),
  (2, 16, 16, 3, 4, (7, 7), 2),
  (1, 5, 5, 1, 1, (5, 5), 1),
  (2, 6, 6, 2, 3, (2, 2), 1),
  (2, 4, 8, 5, 16, (3, 3), 1),
  (2, 6, 12, 4, 4, (3, 5), 1),
  (2, 3, 14, 3, 2, (1, 3), 1),
  (2, 8, 4, 7, 6, (3, 1), 1),
  (3, 2, 2, 8, 5, (3, 3), 1),
  (3, 1, 3, 4, 6, (5, 3), 1),
  (3, 1, 1, 4, 6, (3, 3), 1),
  (10, 6, 5, 3, 32, (3, 3), 1),
  (3, 4, 7, 2, 33, (5, 3), 1),
  (2, 4, 4, 5, 32, (1, 3), 1),
  (2, 4, 4, 5, 32, (3, 1), 1),
  (2, 7, 8, 3, 4, (3, 3), 3),
  (2, 8, 7, 3, 4, (1, 1), 3),
  (2, 11, 12, 2, 3, (3, 5), 4),
  (2, 12, 11, 2, 3, (5, 3), 5),
]


def arrays(shape, seed=0):
  batch, height, width, channels, features, size, strides = shape
  r = np.random.default_rng(seed)
  x = r.standard_normal((batch, height, width, channels)).astype(np.float32)
  w = r.standard_normal((*size, channels, features)).astype(np.float32)
  g = r.standard_normal(np.shape(convolution(x, w, strides=strides, im2col=False))).astype(
    np.float32
  )
  return x, w, g


def torchs(x, w, g, strides):
  """The output, and the gradients of input and filter."""
  torch = tools.module("torch")
  tx = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).requires_grad_()
  tw = torch.from_numpy(w.transpose(3, 2, 0, 1).copy()).requires_grad_()
  y = torch.nn.functional.conv2d(
    tx, tw, stride=strides, padding=tuple((k - 1) // 2 for k in w.shape[:2])
  )
  y.backward(torch.from_numpy(g.transpose(0, 3, 1, 2).copy()))
  return (
    y.detach().numpy().transpose(0, 2, 3, 1),
    tx.grad.numpy().transpose(0, 2, 3, 1),
    tw.grad.numpy().transpose(2, 3, 1, 0),
  )


@pytest.mark.slow
@pytest.mark.parametrize("im2col", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_output_and_gradients_are_pytorchs(shape, im2col):
  x, w, g = arrays(shape)
  y, pullback = jax.vjp(lambda x, w: convolution(x, w, strides=shape[-1], im2col=im2col), x, w)
  for found, expected in zip((y, *pullback(g)), torchs(x, w, g, shape[-1])):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  "shape, expected",
  [
    # (height, width, channels, features, size, strides) -> columns at once, "product" or None:
    # XLA's own
    ((32, 32, 16, 16, 3, 1), 2),
    ((32, 32, 3, 16, 3, 1), 4),
    ((28, 28, 4, 4, 3, 1), 7),
    ((28, 28, 1, 4, 3, 1), 14),
    ((8, 8, 8, 8, 3, 1), 4),
    ((4, 4, 16, 16, 3, 1), 2),
    ((7, 7, 16, 16, 3, 1), None),
    ((16, 16, 32, 32, 3, 1), None),
    ((32, 32, 16, 32, 3, 1), None),
    ((32, 32, 32, 16, 3, 1), None),
    ((32, 32, 16, 16, 3, 2), None),
    ((32, 32, 16, 16, 1, 1), None),
    ((32, 32, 16, 16, 2, 1), None),
    ((2, 2, 32, 32, 3, 1), "product"),
  ],
  ids=str,
)
def test_narrow_layers_and_tiny_images_are_computed_another_way(shape, expected):
  height, width, channels, features, size, strides = shape
  way = cpu._way((4, height, width, channels), (size, size, channels, features), strides)
  assert (way and ("product" if way is cpu.as_product else way.keywords["count"])) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
  "shape",
  [(4, 8, 8, 3, 5, (3, 3), 1), (2, 4, 8, 5, 16, (3, 3), 1), (3, 2, 2, 8, 5, (3, 3), 1)],
  ids=str,
)
def test_sums_of_whole_numbers_are_exact(shape):
  x, w, _ = arrays(shape)
  x, w = np.rint(100 * np.abs(x)), np.rint(w)
  found = jax.jit(lambda x, w: convolution(x, w, strides=shape[-1]))(x, w)
  expected = torchs(x.astype(np.float64), w.astype(np.float64), np.zeros(found.shape), shape[-1])[0]
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("patch_bytes", [1, 2000, 10**9])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_few_images_at_a_time_are_all_images(shape, patch_bytes, monkeypatch):
  monkeypatch.setattr(cpu, "PATCH_BYTES", patch_bytes)
  x, w, g = arrays(shape)
  expected = jax.vjp(lambda w: convolution(x, w, strides=shape[-1], im2col=False), w)[1](g)[0]
  found = filter_gradient(jnp.asarray(x), jnp.asarray(g), strides=shape[-1], size=w.shape[:2])
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  "n, limit, expected", [(64, 5, 4), (64, 100, 64), (7, 5, 1), (12, 6, 6), (5, 1, 1)]
)
def test_images_are_divided_evenly(n, limit, expected):
  assert cpu._divisor(n, limit) == expected


@pytest.mark.parametrize(
  "platform, dtype, im2col, count",
  [
    ("cpu", jnp.float32, True, 1),
    ("cpu", jnp.float32, False, 2),
    ("cpu", jnp.bfloat16, True, 2),
    ("tpu", jnp.float32, True, 2),
    ("cuda", jnp.float32, True, 2),
  ],
)
def test_where_the_filters_gradient_is_a_convolution(platform, dtype, im2col, count):
  """Beside that of the input."""
  x, w, _ = (jnp.asarray(a, dtype) for a in arrays(SHAPES[0]))
  loss = lambda x, w: jnp.sum(convolution(x, w, im2col=im2col).astype(jnp.float32))
  text = jax.jit(jax.grad(loss, (0, 1))).trace(x, w).lower(lowering_platforms=(platform,)).as_text()
  assert text.count("stablehlo.convolution") == count


@pytest.mark.slow
@pytest.mark.parametrize(
  "platform, results", [("cuda", {"bf16"}), ("rocm", {"bf16"}), ("tpu", {"bf16", "f32"})]
)
def test_what_a_networks_convolutions_of_bfloat16_result_in(platform, results):
  """Forward, of weights and levels alike, and backward; a result of float32 is XLA's TF32 of
  float32 on a GPU."""
  network = resnet("resnet8", 10, "8A,2W", width=0.25, dtype=jnp.bfloat16)
  x = jnp.ones((2, 16, 16, 3), jnp.bfloat16)
  variables = network.init(jax.random.key(0), x, train=False)
  loss = lambda v: network.apply(v, x, train=False).astype(jnp.float32).sum()
  text = (
    jax.jit(jax.grad(loss, allow_int=True))
    .trace(variables)
    .lower(lowering_platforms=(platform,))
    .as_text()
  )
  lines = [line for line in text.splitlines() if "stablehlo.convolution" in line]
  found = [re.search(r"\((\S+), (\S+)\) -> (\S+)$", line).groups() for line in lines]
  assert {re.search(r"x([a-z]+\d+)>$", result)[1] for *_, result in found} == results
  assert all(operand.endswith("xbf16>") for *operands, _ in found for operand in operands)


@pytest.mark.parametrize(
  "size, strides, features, convolutions",
  [
    (3, 1, 32, ["input", "filter"]),
    (3, 1, 31, ["input"]),
    (1, 1, 32, ["input"]),
    (2, 1, 32, ["input"]),
    (3, 2, 32, ["input", "input"]),
    (1, 2, 32, ["input"]),
  ],
)
def test_gradients_are_convolutions_that_are_fast_on_cpu(size, strides, features, convolutions):
  """Of a filter, with a channel of all images for an image; of a strided input, of rows; at stride
  1 and without dilation."""
  x, w, g = arrays((6, 8, 8, 5, features, (size, size), strides))
  text = (
    jax.jit(lambda x, w, g: jax.vjp(functools.partial(convolution, strides=strides), x, w)[1](g))
    .lower(x, w, g)
    .as_text()
  )
  lines = [line for line in text.splitlines() if "stablehlo.convolution" in line]
  of = {"5": "filter", "6": "input"}  # by the number of images
  assert [of[re.search(r": \(tensor<(\d+)x", line)[1]] for line in lines] == convolutions
  assert not any(re.search(r"(dilate|stride) = \[(?!1, 1\])", line) for line in lines)


def test_gradients_are_those_of_differences():
  with jax.enable_x64(True):  # the custom rule is float32's: in float64 XLA's own
    x, w, _ = arrays((2, 5, 5, 2, 2, (3, 3), 1))
    f = lambda w: jnp.sum(jnp.sin(convolution(jnp.float64(x), w)))
    step = np.zeros(w.shape)
    step[1, 2, 0, 1] = 1e-6
    numeric = (f(jnp.float64(w) + step) - f(jnp.float64(w) - step)) / 2e-6
    exact = jax.grad(f)(jnp.float64(w))[1, 2, 0, 1]
  assert numeric == pytest.approx(float(exact), rel=1e-5)
  custom = jax.grad(lambda w: jnp.sum(jnp.sin(convolution(jnp.asarray(x), w))))(jnp.asarray(w))[
    1, 2, 0, 1
  ]
  assert custom == pytest.approx(float(exact), rel=1e-4)


LEVELS = [  # height, width, channels, features, size, strides
  (8, 8, 32, 6, (3, 3), 1),
  (8, 8, 32, 6, (3, 3), 2),
  (7, 5, 16, 3, (3, 3), 2),
  (6, 6, 40, 5, (1, 1), 1),
  (7, 7, 8, 4, (1, 1), 2),
  (9, 9, 3, 4, (7, 7), 2),
  (5, 6, 4, 3, (5, 3), 1),
  (1, 1, 4, 2, (3, 3), 1),
]


def by_numpy(levels, w, strides):
  """The convolution in int64."""
  levels, w = (np.asarray(a, np.float64).astype(np.int64) for a in (levels, w))
  rows, columns = ((k - 1) // 2 for k in w.shape[:2])
  x = np.pad(levels, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
  windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[:2], (1, 2))[
    :, ::strides, ::strides
  ]
  return np.einsum("bhwcij,ijco->bhwo", windows, w)


@pytest.mark.parametrize("top", [255, 127, 15])
@pytest.mark.parametrize("shape", LEVELS, ids=str)
def test_sums_of_levels_are_numpys(shape, top):
  height, width, channels, features, size, strides = shape
  r = np.random.default_rng(top)
  x = r.integers(0, top + 1, (2, height, width, channels)).astype(np.float32)
  x[0] = top  # with the largest weights
  w = r.integers(-127, 128, (*size, channels, features)).astype(np.float32)
  w[..., 0], w[..., 1] = 127, -127
  product = functools.partial(convolution, strides=strides)
  found = jax.jit(lambda x, w: product(x, w, preferred_element_type=jnp.float32))(x, w)
  assert found.dtype == jnp.float32
  np.testing.assert_array_equal(found, by_numpy(x, w, strides))
