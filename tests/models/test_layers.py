"""Layers compute what the quantizers say: exactly in integers, and in their gradients."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax import quantizers
from apprentice_jax.models.layers import QuantActivation, QuantConv, QuantDense
from apprentice_jax.models.levels import accumulator_bound
from apprentice_jax.models.precision import Precision, Quantization
from apprentice_jax.models.residual import resnet
from apprentice_jax.quantizers import Quantized, encode

WEIGHTS = [
  ("twn", 2),
  ("ttq", 2),
  ("wrpn", 2),
  ("wrpn", 4),
  ("dorefa", 1),
  ("dorefa", 3),
  ("lsq", 2),
  ("lsq", 4),
]
ACTIVATIONS = [("wrpn", 8), ("dorefa", 3), ("pact", 8), ("lsq", 4), ("pact", 32)]


def draw(shape, seed=0, scale=1.0):
  return jnp.asarray(scale * np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def setting(weights, bits, activations="pact", activation_bits=8, **changes):
  return Quantization(Precision(activation_bits, bits), weights, activations, **changes)


def weight_quantizer(q, p):
  """The quantizer of a layer with parameters p, and its arguments, from the definitions."""
  bits = q.precision.weights
  if q.weights == "twn":
    return quantizers.twn, dict(axis=-1 if q.per_channel else None)
  if q.weights == "ttq":
    return quantizers.ttq, dict(positive=p["positive"], negative=p["negative"])
  if q.weights == "dorefa":
    return quantizers.dorefa_weights, dict(bits=bits)
  if q.weights == "wrpn":
    scale = jax.lax.stop_gradient(jnp.abs(p["kernel"]).max((0, 1, 2) if q.per_channel else None))
    return quantizers.wrpn_weights, dict(bits=bits, scale=1.0 if q.wrpn_scale == "unit" else scale)
  shared = p["kernel"].size // p["weight_step"].size
  return quantizers.lsq, dict(
    step=p["weight_step"],
    bits=bits,
    symmetric=True,
    grad_scale=1 / math.sqrt(shared * (2 ** (bits - 1) - 1)),
  )


def weight_values(q, p):
  """The kernel's values on its grid, by the public quantizers."""
  function, arguments = weight_quantizer(q, p)
  return function(p["kernel"], **arguments)


def weight_levels(q, p):
  """int64 levels of the kernel; of ttq the positive and the negative ones beside each other."""
  function, arguments = weight_quantizer(q, p)
  levels = np.asarray(encode(function, p["kernel"], **arguments).levels).astype(np.int64)
  both = np.concatenate([levels == 1, levels == -1], -1).astype(np.int64)
  return both if q.weights == "ttq" else levels


def activation_values(q, p, x):
  bits = q.precision.activations
  if bits == 32:
    return jax.nn.relu(x)
  if q.activations == "pact":
    return quantizers.pact(x, p["clip"], bits)
  if q.activations == "lsq":
    grad_scale = 1 / math.sqrt(math.prod(x.shape[1:]) * (2**bits - 1))
    return quantizers.lsq(x, p["activation_step"], bits, signed=False, grad_scale=grad_scale)
  return {"wrpn": quantizers.wrpn_activations, "dorefa": quantizers.dorefa_activations}[
    q.activations
  ](x, bits)


def conv(x, kernel, stride, pad):
  return jax.lax.conv_general_dilated(
    x, kernel, (stride,) * 2, [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


def integer_conv(levels, kernel, stride):
  """int64 convolution; levels as whole numbers."""
  levels = np.asarray(levels, np.float64)
  whole = levels.astype(np.int64)
  assert np.array_equal(whole, levels)
  size = kernel.shape[0]
  pad = (size - 1) // 2
  x = np.pad(whole, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
  return np.einsum("bhwcij,ijco->bhwo", windows[:, ::stride, ::stride], kernel)


def as_the_layer_scales(q, p, gradients):
  """The gradients of a layer's parameters p, from those of its quantizer: TTQ's layer scales
  them."""
  if q.weights != "ttq":
    return gradients
  kernel = np.asarray(p["kernel"])
  delta = 0.05 * np.abs(kernel).max()
  factor = np.select([kernel > delta, kernel < -delta], [1 / p["positive"], 1 / p["negative"]], 1)
  one = 0.1 / math.sqrt(kernel.size / p["positive"].size)
  return {name: g * (factor if name == "kernel" else one) for name, g in gradients.items()}


class Pair(nn.Module):
  """An activation and the convolution behind it."""

  quantization: Quantization
  stride: int = 1

  @nn.compact
  def __call__(self, x):
    x = QuantActivation(self.quantization, name="act")(x)
    return QuantConv(6, self.quantization, strides=self.stride, name="conv")(x)


@pytest.mark.parametrize("activations, activation_bits", ACTIVATIONS)
@pytest.mark.parametrize("weights, bits", [*WEIGHTS, ("ttq of the layer", 2)])
def test_values_and_gradients_are_those_of_a_convolution_of_the_quantizers_values(
  weights, bits, activations, activation_bits
):
  weights, _, whole = weights.partition(" ")
  q = setting(weights, bits, activations, activation_bits, per_channel=not whole)
  pair, x = Pair(q, stride=2), draw((2, 6, 6, 3), 1)
  params = pair.init(jax.random.key(0), x)["params"]
  if "clip" in params.get("act", {}):
    params["act"]["clip"] = jnp.float32(1.3)  # so that something is clipped
  cotangent = draw((2, 3, 3, 6), 2)

  def plain(params, x):
    return conv(activation_values(q, params.get("act"), x), weight_values(q, params["conv"]), 2, 1)

  @jax.jit
  def both(params, x):
    ours = lambda p, x: pair.apply({"params": p}, x)
    gradient = lambda f: jax.vjp(f, params, x)[1](cotangent)
    return [ours(params, x), *gradient(ours)], [plain(params, x), *gradient(plain)]

  ours, expected = both(params, x)
  expected[1]["conv"] = as_the_layer_scales(q, params["conv"], expected[1]["conv"])
  paths = jax.tree_util.tree_leaves_with_path(expected)
  for (path, b), a in zip(paths, jax.tree.leaves(ours)):
    assert np.abs(b).max() > 0, path
    np.testing.assert_allclose(
      a, b, rtol=1e-4, atol=2e-5 * np.abs(b).max(), err_msg=jax.tree_util.keystr(path)
    )


def test_gradients_by_hand():
  # One pixel, one channel: 8 bits of activation on [0, 2], a ternary weight of magnitude w.
  q = setting("twn", 2)
  layer = QuantConv(1, q, kernel_size=(1, 1))
  for x, passes in ((1.0, 1.0), (-1.0, 0.0), (3.0, 0.0)):

    def f(x, clip, w):
      a = quantizers.encode_ste(quantizers.pact, jnp.reshape(x, (1, 1, 1, 1)), clip, 8)
      return layer.apply({"params": {"kernel": jnp.reshape(w, (1, 1, 1, 1))}}, a)[0, 0, 0, 0]

    value, (d_x, d_clip, d_w) = jax.value_and_grad(f, (0, 1, 2))(x, 2.0, 0.7)
    held = min(max(x, 0.0), 2.0)
    np.testing.assert_allclose(value, held * 0.7, atol=3e-3)  # to half a level
    np.testing.assert_allclose([d_x, d_clip], [0.7 * passes, 0.7 * (x >= 2)], rtol=1e-5)
    np.testing.assert_allclose(d_w, held, atol=5e-3)


EXACT = [("lsq", 2), ("lsq", 4), ("wrpn", 2), ("wrpn", 4), ("twn", 2), ("ttq", 2), ("dorefa", 4)]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("weights, bits", EXACT)
def test_accumulators_are_those_of_integers(weights, bits, dtype):
  q = setting(weights, bits)
  layer = QuantConv(6, q, kernel_size=(3, 3), strides=2, dtype=dtype)
  # Wide enough for sums that bfloat16 could not hold.
  levels = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 7, 7, 32)), dtype)
  x = Quantized(levels, jnp.float32(0.01))
  variables = {"params": layer.init(jax.random.key(0), x)["params"]}
  y, found = layer.apply(variables, x, mutable=["accumulators"])
  (accumulators,) = found["accumulators"]["value"]
  expected = integer_conv(levels, weight_levels(q, variables["params"]), 2)
  assert accumulators.dtype == jnp.float32 and np.abs(expected).max() > 257
  np.testing.assert_array_equal(np.asarray(accumulators, np.int64), expected)
  values = conv(
    np.float32(levels) * np.float32(0.01), np.float32(weight_values(q, variables["params"])), 2, 1
  )
  assert y.dtype == dtype
  tolerance = 1e-5 if dtype == jnp.float32 else 2**-8  # half an ulp, and the sums' rounding
  np.testing.assert_allclose(
    np.float32(y), values, rtol=tolerance, atol=1e-5 * np.abs(values).max()
  )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_largest_accumulators_are_exact_and_at_their_bound(dtype):
  # ResNet-50's largest fan-in at 8A,4W, with every level as large as it can be, but one.
  q = setting("wrpn", 4)
  layer = QuantConv(1, q, dtype=dtype)
  x = Quantized(jnp.full((1, 3, 3, 512), 255, dtype), jnp.float32(1))
  params = {"kernel": jnp.ones((3, 3, 512, 1))}
  accumulate = lambda x: int(
    layer.apply({"params": params}, x, mutable=["accumulators"])[1]["accumulators"]["value"][0][
      0, 1, 1, 0
    ]
  )
  bound = accumulator_bound(9 * 512, 7, 255)
  assert bound == 9 * 512 * 7 * 255 < 2**24
  assert accumulate(x) == bound
  # One less in one place shows: nothing was rounded away.
  assert accumulate(x._replace(levels=x.levels.at[0, 0, 0, 0].add(-1))) == bound - 7


def drawn_variables(model, image_shape, seed=0):
  """Parameters and statistics as after some training, without compiling an initialisation."""
  r = np.random.default_rng(seed)
  tree = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *image_shape)), False))

  def draw(path, leaf):
    name, shape = path[-1].key, leaf.shape
    if name == "kernel":
      return np.float32(r.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1])))
    low, high = {
      "mean": (-0.3, 0.3),
      "bias": (-0.3, 0.3),
      "clip": (1.5, 3),
      "var": (0.5, 2),
      "scale": (0.5, 1.5),
    }.get(name, (0.05, 0.2))  # steps and ttq's magnitudes
    return np.float32(r.uniform(low, high, shape))

  return {c: jax.tree_util.tree_map_with_path(draw, tree[c]) for c in ("params", "batch_stats")}


def layer_calls(model, variables, x):
  """{path: (input, output) of each convolution and dense layer} and the accumulators."""
  calls = {}

  def record(function, args, kwargs, context):
    out = function(*args, **kwargs)
    if isinstance(context.module, (QuantConv, QuantDense)) and context.method_name == "__call__":
      calls["/".join(context.module.path)] = (args[0], out)
    return out

  def run(variables, x):
    with nn.intercept_methods(record):
      _, found = model.apply(variables, x, False, mutable=["accumulators"])
    return dict(calls), found["accumulators"]

  return jax.jit(run)(variables, x)


def at(tree, path):
  return functools.reduce(lambda t, k: t[k], path.split("/"), tree)


@pytest.mark.parametrize(
  "precision, weights, dtype",
  [
    ("8A,2W", "lsq", jnp.bfloat16),
    ("8A,4W", "lsq", jnp.float32),
    ("8A,4W", "wrpn", jnp.bfloat16),
    ("8A,2W", "twn", jnp.float32),
    ("8A,2W", "ttq", jnp.bfloat16),
  ],
)
def test_a_networks_accumulators_are_those_of_integers(precision, weights, dtype):
  model = resnet(
    "resnet8", 10, precision, width=0.25, shortcut="conv", weights=weights, dtype=dtype
  )
  x = draw((2, 16, 16, 3))
  variables = drawn_variables(model, (16, 16, 3))
  calls, accumulators = layer_calls(model, variables, x.astype(dtype))
  quantized = sorted(p for p in calls if p not in ("stem", "head"))
  assert len(calls) == 10 and len(quantized) == 8
  for path in quantized:
    given, out = calls[path]
    params = at(variables["params"], path)
    q = model.quantization
    stride = given.levels.shape[1] // out.shape[1]
    expected = integer_conv(given.levels, weight_levels(q, params), stride)
    (found,) = at(accumulators, path)["value"]
    np.testing.assert_array_equal(np.asarray(found), expected, err_msg=path)
    top = 1 if q.precision.weights == 2 else 7
    fan_in = math.prod(params["kernel"].shape[:-1])
    assert np.abs(expected).max() <= accumulator_bound(fan_in, top, 255) < 2**24
    assert given.levels.dtype == dtype and np.max(given.levels) > 1
  # What enters them are levels; what enters stem and head are not.
  assert not isinstance(calls["stem"][0], Quantized)
  assert not isinstance(calls["head"][0], Quantized)


def test_per_tensor_and_per_channel_scales():
  x = Quantized(jnp.ones((1, 3, 3, 2)), jnp.float32(1))
  for weights, bits, name in (("lsq", 4, "weight_step"), ("twn", 2, None)):
    for per_channel in (True, False):
      q = setting(weights, bits, per_channel=per_channel)
      variables = QuantConv(5, q).init(jax.random.key(0), x)
      if name:
        assert variables["params"][name].shape == ((5,) if per_channel else ())
      # Channels of very different size keep a scale each only if asked.
      kernel = variables["params"]["kernel"] * 10.0 ** jnp.arange(-2, 3)
      params = dict(variables["params"], kernel=kernel)
      np.testing.assert_allclose(
        QuantConv(5, q).apply({"params": params}, x),
        conv(x.levels, weight_values(q, params), 1, 1),
        rtol=1e-5,
        atol=1e-6,
      )
      if not name:
        values = np.abs(weight_values(q, params)).reshape(-1, 5).max(0)
        assert (len({float(f"{v:.4g}") for v in values}) == 5) == per_channel


def test_wrpn_to_the_letter_has_a_grid_to_one():
  kernel = draw((3, 3, 2, 4), scale=0.6)
  for mode, scale in (("unit", 1.0), ("max", np.abs(kernel).max((0, 1, 2)))):
    q = setting("wrpn", 4, wrpn_scale=mode)
    y = QuantConv(4, q).apply({"params": {"kernel": kernel}}, jnp.ones((1, 3, 3, 2)))
    expected = scale * np.round(7 * np.clip(kernel / scale, -1, 1)) / 7
    np.testing.assert_allclose(
      y, conv(jnp.ones((1, 3, 3, 2)), expected, 1, 1), rtol=1e-5, atol=1e-6
    )


def test_initialisation_of_what_quantizers_learn():
  x = draw((8, 6, 6, 3), 3)
  for weights, bits, activations in (("ttq", 2, "pact"), ("lsq", 4, "lsq")):
    q = setting(weights, bits, activations, 4)
    params = Pair(q).init(jax.random.key(0), x)["params"]
    kernel = np.asarray(params["conv"]["kernel"], np.float64)
    if weights == "ttq":
      threshold = 0.05 * np.abs(kernel).max()
      for channel in range(6):
        w = kernel[..., channel]
        np.testing.assert_allclose(
          params["conv"]["positive"][channel], w[w > threshold].mean(), rtol=1e-5
        )
        np.testing.assert_allclose(
          params["conv"]["negative"][channel], -w[w < -threshold].mean(), rtol=1e-5
        )
      assert params["act"] == {"clip": 6.0}
    else:
      np.testing.assert_allclose(
        params["conv"]["weight_step"], 2 * np.abs(kernel).mean((0, 1, 2)) / math.sqrt(7), rtol=1e-5
      )
      np.testing.assert_allclose(
        params["act"]["activation_step"], 2 * np.maximum(x, 0).mean() / math.sqrt(15), rtol=1e-5
      )
  # He et al.: variance 2 / fan-out.
  kernel = QuantConv(64).init(jax.random.key(1), jnp.ones((1, 4, 4, 64)))["params"]["kernel"]
  np.testing.assert_allclose(np.std(kernel), math.sqrt(2 / (9 * 64)), rtol=0.03)


def test_dense_layers_quantize_too():
  q = setting("lsq", 4, full_precision=())
  x = Quantized(
    jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 20)), jnp.float32), jnp.float32(0.02)
  )
  layer = QuantDense(7, q)
  params = dict(layer.init(jax.random.key(0), x)["params"], bias=jnp.arange(7.0))
  y, found = layer.apply({"params": params}, x, mutable=["accumulators"])
  kernel = encode(quantizers.lsq, params["kernel"], params["weight_step"], 4, symmetric=True)
  expected = np.asarray(x.levels, np.int64) @ np.asarray(kernel.levels, np.int64)
  np.testing.assert_array_equal(found["accumulators"]["value"][0], expected)
  np.testing.assert_allclose(
    y, expected * 0.02 * np.asarray(kernel.scale) + np.arange(7), rtol=1e-5
  )


def test_stored_parameters_stay_float32_and_bfloat16_gradients_are_float32():
  q = setting("lsq", 2)
  layer = QuantConv(4, q, dtype=jnp.bfloat16)
  x = draw((2, 5, 5, 3)).astype(jnp.bfloat16)
  variables = layer.init(jax.random.key(0), x)
  gradients = jax.grad(lambda v: layer.apply(v, x).astype(jnp.float32).sum())(variables)
  for tree in (variables, gradients):
    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype("float32")}
