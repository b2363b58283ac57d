"""Convolutions on int8: the float path's accumulators, exactly, its gradients, and where they are
used."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax.models import integer
from apprentice_jax.models.convolution import convolution
from apprentice_jax.models.layers import QuantConv
from apprentice_jax.models.precision import Precision, Quantization
from apprentice_jax.models.residual import resnet
from apprentice_jax.quantizers import Quantized

SHAPES = [  # height, width, channels, features, size, strides
  (8, 8, 32, 6, (3, 3), 1),
  (8, 8, 32, 6, (3, 3), 2),
  (7, 5, 16, 3, (3, 3), 2),
  (6, 6, 40, 5, (1, 1), 1),
  (7, 7, 8, 4, (1, 1), 2),
  (9, 9, 3, 4, (7, 7), 2),
  (5, 6, 4, 3, (5, 3), 1),
  (1, 1, 4, 2, (3, 3), 1),
]
QUANTIZERS = [
  ("8A,2W", "twn"),
  ("8A,4W", "lsq"),
  ("8A,2W", "ttq"),
  ("4A,4W", "wrpn"),
  ("8A,8W", "lsq"),
  ("7A,1W", "dorefa"),
  ("8A,7W", "dorefa"),
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
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_are_numpys(shape, top):
  height, width, channels, features, size, strides = shape
  r = np.random.default_rng(top)
  x = r.integers(0, top + 1, (2, height, width, channels)).astype(np.float32)
  x[0] = top  # with the largest weights, at the ends of int8's range
  w = r.integers(-127, 128, (*size, channels, features)).astype(np.float32)
  w[..., 0], w[..., 1] = 127, -127
  product = functools.partial(convolution, strides=strides)
  found = jax.jit(lambda x, w: integer.convolution_sums(product, strides, top, "int8", x, w))(x, w)
  assert found.dtype == jnp.float32
  np.testing.assert_array_equal(found, by_numpy(x, w, strides))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("precision, weights", QUANTIZERS)
def test_a_layers_accumulators_output_and_gradients_are_the_float_paths(precision, weights, dtype):
  r = np.random.default_rng(0)
  bits = Precision.parse(precision).activations
  levels = jnp.asarray(r.integers(0, 2**bits, (2, 7, 7, 16)), dtype)
  cotangent = jnp.asarray(r.standard_normal((2, 4, 4, 6)), dtype)

  def layer(compute):
    q = Quantization(Precision.parse(precision), weights, compute=compute)
    return QuantConv(6, q, strides=2, dtype=dtype)

  params = layer("float").init(jax.random.key(0), Quantized(levels, jnp.float32(0.01)))["params"]

  def run(compute):
    f = lambda p, x: layer(compute).apply(
      {"params": p}, Quantized(x, jnp.float32(0.01)), mutable=["accumulators"]
    )
    y, pullback, sown = jax.vjp(f, params, levels, has_aux=True)
    return y, pullback(cotangent), sown

  ours, expected = jax.jit(run, static_argnums=0)("int8"), jax.jit(run, static_argnums=0)("float")
  assert max(np.abs(a).max() for a in jax.tree.leaves(expected[2])) > bits
  assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(expected[1]))
  jax.tree.map(np.testing.assert_array_equal, ours, expected)


def test_a_networks_step_is_the_float_paths():
  x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 8, 8, 3)), jnp.float32)

  def run(compute):
    model = resnet(
      "resnet8", 10, "8A,4W", width=0.25, shortcut="conv", residual=True, compute=compute
    )
    variables = jax.jit(model.init, static_argnums=2)(jax.random.key(0), x, True)
    f = lambda p: model.apply({**variables, "params": p}, x, True, mutable=["batch_stats"])
    loss = lambda p: (jnp.sum(jnp.sin(f(p)[0])), f(p)[1])
    return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])

  ours, expected = run("int8"), run("float")
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * max(np.abs(b).max(), 1))


@pytest.mark.parametrize(
  "platform, compute, features, size, strides, activations, expected",
  [
    ("tpu", "auto", 256, 3, 1, True, True),
    ("tpu", "auto", 128, 3, 1, True, False),
    ("tpu", "auto", 512, 3, 2, True, False),
    ("tpu", "auto", 2048, 1, 1, True, False),
    ("cpu", "auto", 512, 3, 1, True, False),
    ("cuda", "auto", 512, 3, 1, True, False),
    ("cpu", "int8", 8, 1, 2, True, True),
    ("tpu", "float", 512, 3, 1, True, False),
    ("tpu", "int8", 512, 3, 1, False, False),
  ],
)
def test_where_the_product_is_of_integers(
  platform, compute, features, size, strides, activations, expected
):
  q = Quantization(Precision(8, 2), compute=compute)
  layer = QuantConv(features, q, kernel_size=(size, size), strides=strides)
  x = jax.ShapeDtypeStruct((1, 4, 4, 4), jnp.float32)
  given = lambda x: Quantized(x, jnp.float32(1)) if activations else x
  params = jax.eval_shape(lambda x: layer.init(jax.random.key(0), given(x)), x)
  text = (
    jax.jit(lambda p, x: layer.apply(p, given(x)))
    .trace(params, x)
    .lower(lowering_platforms=(platform,))
    .as_text()
  )
  assert (
    "xi8>) -> tensor" in text and "stablehlo.convolution" in text and "xi32>" in text
  ) == expected


def test_weights_that_do_not_fit_int8_stay_float():
  q = Quantization(Precision(8, 8), "dorefa", compute="int8")  # odd numbers from -255 to 255
  layer, x = QuantConv(2, q), Quantized(jnp.full((1, 3, 3, 2), 255.0), jnp.float32(1))
  params = layer.init(jax.random.key(0), x)
  found = layer.apply(params, x, mutable=["accumulators"])[1]
  other = QuantConv(2, Quantization(Precision(8, 8), "dorefa", compute="float"))
  jax.tree.map(
    np.testing.assert_array_equal, found, other.apply(params, x, mutable=["accumulators"])[1]
  )


def test_an_unknown_way_is_refused():
  with pytest.raises(ValueError, match="compute 'int4' does not exist: did you mean 'int8'"):
    Quantization(Precision(8, 2), compute="int4")
