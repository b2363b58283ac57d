"""Convolutions of every geometry: values and gradients of the quantizers and `flax.linen.Conv`,
exact accumulators."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax import quantizers
from apprentice_jax.deploy.lower import lower
from apprentice_jax.deploy.network import BadNetwork
from apprentice_jax.models import Precision, QuantActivation, QuantConv, Quantization, resnet
from apprentice_jax.models.levels import encode_weights
from apprentice_jax.quantizers import Quantized, decode

GEOMETRIES = [
  dict(padding="SAME"),
  dict(padding="VALID", strides=2),
  dict(padding=2, strides=(2, 1)),
  dict(padding=((2, 0), (1, 3)), kernel_size=(2, 3)),
  dict(padding=(0, 2), kernel_dilation=2),
  dict(padding="SAME", kernel_dilation=(1, 2), strides=(1, 3)),
  dict(padding="SAME_LOWER", strides=2),
  dict(padding=1, feature_group_count=2),
  dict(padding="SAME", feature_group_count=4, strides=2),
  dict(padding=((1, 1), (1, 1))),
  dict(padding=1, kernel_size=3, use_bias=True),
]
each_geometry = pytest.mark.parametrize("options", GEOMETRIES, ids=str)


def setting(weights, bits, **kwargs):
  return Quantization(Precision(8, bits), weights=weights, activations="pact", **kwargs)


def levels_of(shape=(2, 9, 8, 4), top=255, dtype=jnp.float32):
  return jnp.asarray(np.random.default_rng(0).integers(0, top + 1, shape), dtype)


def flax_conv(options):
  """`flax.linen.Conv` of the same arguments."""
  return nn.Conv(
    8,
    **{
      "use_bias": False,
      **options,
      "kernel_size": tuple(np.broadcast_to(options.get("kernel_size", 3), 2)),
    },
  )


@each_geometry
@pytest.mark.parametrize("weights, bits", [("ttq", 2), ("lsq", 4)])
def test_values_and_gradients_are_those_of_flax_linens_convolution(options, weights, bits):
  q = setting(weights, bits)
  layer, x = QuantConv(8, q, **options), levels_of() / 60 - 1
  params = dict(layer.init(jax.random.key(0), Quantized(levels_of(), jnp.float32(0.1)))["params"])
  if "bias" in params:
    params["bias"] = jnp.arange(8.0)

  def ours(params, x, clip):
    return layer.apply({"params": params}, quantizers.encode_ste(quantizers.pact, x, clip, 8))

  def theirs(params, x, clip):
    variables = {k: v for k, v in params.items() if k == "bias"}
    variables["kernel"] = decode(encode_weights(q, params["kernel"], params))
    return flax_conv(options).apply({"params": variables}, quantizers.pact(x, clip, 8))

  @jax.jit
  def both(params, x, clip):
    results = []
    for f in (ours, theirs):
      y, vjp = jax.vjp(f, params, x, clip)
      results.append((y, vjp(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))))
    return results

  a, b = both(params, x, 2.5)
  assert jax.tree.map(jnp.shape, a) == jax.tree.map(jnp.shape, b)
  for (path, expected), found in zip(jax.tree_util.tree_leaves_with_path(b), jax.tree.leaves(a)):
    assert np.abs(expected).max() > 0, path
    np.testing.assert_allclose(
      found,
      expected,
      rtol=1e-4,
      atol=2e-5 * np.abs(expected).max(),
      err_msg=jax.tree_util.keystr(path),
    )


def integer_convolution(x, kernel, size, strides, padding, dilation, groups):
  """int64, window by window; padding as pairs."""
  x = np.pad(np.asarray(x).astype(np.int64), ((0, 0), *padding, (0, 0)))
  kernel = np.asarray(kernel).astype(np.int64)
  reach = [(k - 1) * d + 1 for k, d in zip(size, dilation)]
  height, width = ((n - r) // s + 1 for n, r, s in zip(x.shape[1:3], reach, strides))
  part, features = x.shape[-1] // groups, kernel.shape[-1] // groups
  y = np.zeros((len(x), height, width, kernel.shape[-1]), np.int64)
  for i, j in np.ndindex(height, width):
    window = x[
      :,
      i * strides[0] : i * strides[0] + reach[0] : dilation[0],
      j * strides[1] : j * strides[1] + reach[1] : dilation[1],
    ]
    for g in range(groups):
      of_group = slice(g * features, (g + 1) * features)
      y[:, i, j, of_group] = np.einsum(
        "bhwc,hwcf->bf", window[..., g * part : (g + 1) * part], kernel[..., of_group]
      )
  return y


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("weights, bits", [("twn", 2), ("ttq", 2), ("lsq", 4)])
@pytest.mark.parametrize(
  "options, plain",
  [
    (dict(padding=((2, 0), (1, 3)), strides=(2, 1)), ((2, 1), ((2, 0), (1, 3)), (1, 1), 1)),
    (dict(padding="VALID", kernel_dilation=(2, 1)), ((1, 1), ((0, 0), (0, 0)), (2, 1), 1)),
    (dict(padding=1, feature_group_count=2, strides=2), ((2, 2), ((1, 1), (1, 1)), (1, 1), 2)),
  ],
)
def test_accumulators_are_those_of_integers(options, plain, weights, bits, dtype):
  q = setting(weights, bits)
  layer, x = (
    QuantConv(8, q, dtype=dtype, **options),
    Quantized(levels_of((2, 9, 8, 32), dtype=dtype), jnp.float32(0.01)),
  )
  params = layer.init(jax.random.key(0), x)["params"]
  _, found = layer.apply({"params": params}, x, mutable=["accumulators"])
  levels = encode_weights(q, params["kernel"], params).levels
  sides = levels if isinstance(levels, tuple) else (levels,)
  expected = np.concatenate(
    [integer_convolution(x.levels, side, (3, 3), *plain) for side in sides], -1
  )
  assert np.abs(expected).max() > 257  # what bfloat16 could not hold
  np.testing.assert_array_equal(found["accumulators"]["value"][0], expected)


def test_the_usual_geometry_is_the_fast_convolution_in_any_spelling():
  x = levels_of() / 255
  text = lambda **options: (
    jax.jit(lambda v, x: QuantConv(8, **options).apply(v, x))
    .lower({"params": {"kernel": jnp.ones((3, 3, 4, 8))}}, x)
    .as_text()
  )
  usual = text()
  assert text(padding=1, strides=(1, 1), kernel_size=3, kernel_dilation=(1, 1)) == usual
  assert text(padding=((1, 1), (1, 1))) == usual != text(padding=(1, 0))


@pytest.mark.parametrize(
  "options, message",
  [
    (dict(padding="CIRCULAR"), "padding 'CIRCULAR' is not one: use SAME"),
    (dict(padding=-1), "padding=-1 is not one"),
    (dict(padding=1.5), "padding=1.5 is not one"),
    (dict(padding=(1, 2, 3)), "padding=.1, 2, 3. is not one"),
    (dict(strides=0), "strides=0 is not one"),
    (dict(strides=(1, 2, 3)), "strides=.1, 2, 3. is not one"),
    (dict(kernel_size=(3,)), "kernel_size=.3,. is not"),
    (dict(kernel_dilation=(1, 1.5)), "kernel_dilation"),
    (dict(feature_group_count=0), "feature_group_count=0"),
    (
      dict(feature_group_count=3),
      "feature_group_count=3 has to divide both the 4 input channels and the 8 features",
    ),
  ],
)
def test_a_geometry_that_is_none_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    QuantConv(8, **options).init(jax.random.key(0), levels_of())


def test_images_without_a_batch_are_refused():
  with pytest.raises(
    ValueError, match="takes .batch, height, width, channels., not an array of 3 dimensions"
  ):
    QuantConv(8).init(jax.random.key(0), levels_of()[0])


def test_a_scale_for_each_example_comes_after_the_sum_and_one_for_each_channel_is_refused():
  q, levels = setting("lsq", 4), levels_of((2, 9, 8, 8))
  scale = jnp.float32([0.1, 0.3]).reshape(2, 1, 1, 1)
  layer = QuantConv(8, q)
  variables = layer.init(jax.random.key(0), Quantized(levels, jnp.float32(1)))
  np.testing.assert_allclose(
    layer.apply(variables, Quantized(levels, scale)),
    layer.apply(variables, levels * scale),
    rtol=1e-4,
    atol=1e-3,
  )
  for bad in (
    jnp.ones(8),
    jnp.ones((1, 1, 1, 8)),
    jnp.ones((1, 9, 1, 1)),
    (jnp.float32(1), jnp.float32(1)),
  ):
    with pytest.raises(ValueError, match="takes levels of one scale.*give it x.values"):
      layer.apply(variables, Quantized(levels, bad))


class Network(nn.Module):
  """As someone writes it who knows Linen: pooling on levels, values for the rest."""

  @nn.compact
  def __call__(self, x):
    q = setting("lsq", 4, full_precision=())
    x = QuantActivation(q, name="act")(x)
    pooled = x._replace(levels=nn.max_pool(x.levels, (2, 2), (2, 2)))
    y = QuantConv(4, q, padding="SAME", feature_group_count=2, name="conv")(pooled)
    return nn.relu(y) + nn.max_pool(x.values, (2, 2), (2, 2)), jnp.mean(x.values, (1, 2))


def test_a_network_of_ones_own():
  x = levels_of((2, 8, 8, 4)) / 60 - 1
  params = Network().init(jax.random.key(0), x)["params"]
  y, mean = Network().apply({"params": params}, x)
  a = quantizers.pact(x, 6.0, 8)
  kernel = quantizers.lsq(
    params["conv"]["kernel"], params["conv"]["weight_step"], 4, symmetric=True
  )
  pooled = nn.max_pool(a, (2, 2), (2, 2))
  expected = nn.Conv(4, (3, 3), feature_group_count=2, use_bias=False).apply(
    {"params": {"kernel": kernel}}, pooled
  )
  np.testing.assert_allclose(y, nn.relu(expected) + pooled, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(mean, jnp.mean(a, (1, 2)), rtol=1e-6)


def test_a_resnet_of_other_layers_is_not_exported_as_if_it_were_of_the_usual_ones():
  model = resnet("resnet8", 10, "8A,4W").clone(conv=functools.partial(QuantConv, padding="SAME"))
  with pytest.raises(BadNetwork, match="other layers than QuantConv and QuantActivation"):
    lower(model, {}, {}, image_shape=(32, 32, 3), class_names=(), mean=(0,), std=(1,))
