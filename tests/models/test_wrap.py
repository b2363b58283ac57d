"""`quantize`: plain Flax modules compute what our own layers compute, whatever holds the layers."""

import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import apprentice_jax
from apprentice_jax import quantizers
from apprentice_jax.models.layers import QuantActivation, QuantConv, QuantDense
from apprentice_jax.models.precision import Precision, Quantization
from apprentice_jax.models.wrap import quantize

KEY = jax.random.key(0)


def apply(module, params, x):
  return jax.jit(module.apply)({"params": params}, x)


def init(module, x):
  return jax.jit(module.init)(KEY, x)["params"]


def shapes(module, x):
  """The shapes of what quantizers train."""
  return jax.tree.map(jnp.shape, start(module, x)["params"]["quantization"])


def start(module, x):
  return jax.eval_shape(module.init, KEY, x)


def draw(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


class Behind(nn.Module):
  """A layer, behind a ReLU or not."""

  layer: nn.Module
  relu: bool = True

  @nn.compact
  def __call__(self, x):
    return self.layer(nn.relu(x) if self.relu else x)


class Ours(nn.Module):
  """The same in our layers."""

  layer: nn.Module
  quantization: Quantization
  relu: bool = True

  @nn.compact
  def __call__(self, x):
    act = QuantActivation(self.quantization, signed=not self.relu, name="act")
    return self.layer(act(x) if self.quantization.precision.activations < 32 or self.relu else x)


def in_our_layers(params):
  """A wrapped `Behind`'s parameters for `Ours`."""
  steps = dict(params["quantization"]["layer"]) if "quantization" in params else {}
  act = {name: steps.pop(name) for name in ("clip", "activation_step") if name in steps}
  return {"layer": {**params["layer"], **steps}, **({"act": act} if act else {})}


def moved(tree):
  """Parameters as training would have changed them: no two alike."""
  leaves, kind = jax.tree.flatten(tree)
  normal = np.random.default_rng(0).standard_normal
  turn = lambda leaf: leaf * (1 + 0.2 * normal(leaf.shape)) + 0.01 * normal(leaf.shape)
  return kind.unflatten([turn(np.asarray(leaf)).astype(np.float32) for leaf in leaves])


def check_alike(plain, ours, x, precision, relu=True, **names):
  """A wrapped layer's value and gradients equal those of our layers."""
  bits = Precision.parse(precision)
  q = Quantization(bits, **names, full_precision=())
  wrapped = quantize(Behind(plain, relu), precision, full_precision=(), **names)
  params = moved(init(wrapped, x))
  other = Ours(ours(q), q, relu)
  weigh = lambda y: jnp.sum(jnp.sin(jnp.arange(y.size).reshape(y.shape)) * y)

  def both(params, x):
    y, back = jax.vjp(lambda p, x: wrapped.apply({"params": p}, x), params, x)
    z, back_ours = jax.vjp(lambda p, x: other.apply({"params": in_our_layers(p)}, x), params, x)
    g = jax.grad(weigh)(z)
    return (y, back(g)), (z, back_ours(g))

  mine, theirs = jax.jit(both)(params, x)
  for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(mine), jax.tree.leaves(theirs)):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=str(path))
  np.testing.assert_array_equal(mine[0], theirs[0])


CONVOLUTIONS = [
  ("8A,2W", dict(weights="twn"), {}),
  ("8A,2W", dict(weights="ttq"), dict(feature_group_count=4)),
  ("4A,4W", dict(weights="wrpn", activations="wrpn"), dict(strides=2)),
  ("3A,1W", dict(weights="dorefa", activations="dorefa"), dict(kernel_dilation=2)),
  ("4A,4W", dict(weights="lsq", activations="lsq"), dict(feature_group_count=2, padding="VALID")),
  ("32A,2W", dict(weights="ttq"), dict(use_bias=False)),
  ("8A,32W", dict(), dict(padding=((1, 0), (2, 1)))),
]


@pytest.mark.parametrize("precision, names, options", CONVOLUTIONS)
def test_a_convolution_is_ours(precision, names, options):
  ours = lambda q: QuantConv(
    8, q, kernel_size=(3, 3), **{"padding": "SAME", "use_bias": True, **options}
  )
  check_alike(nn.Conv(8, (3, 3), **options), ours, draw(2, 7, 7, 4), precision, **names)


def test_a_convolution_of_values_below_zero_has_a_signed_grid():
  ours = lambda q: QuantConv(8, q, kernel_size=(1, 1), use_bias=True)
  check_alike(nn.Conv(8, (1, 1)), ours, draw(2, 4, 4, 4), "8A,4W", relu=False)


def test_a_convolution_in_bfloat16_is_ours():
  ours = lambda q: QuantConv(
    8, q, kernel_size=(3, 3), padding="SAME", use_bias=True, dtype=jnp.bfloat16
  )
  check_alike(nn.Conv(8, (3, 3), dtype=jnp.bfloat16), ours, draw(2, 5, 5, 4), "8A,2W")


@pytest.mark.parametrize("weights, bits", [("twn", 2), ("ttq", 2), ("dorefa", 3), ("lsq", 4)])
def test_a_dense_layer_is_ours(weights, bits):
  ours = lambda q: QuantDense(6, q)
  check_alike(nn.Dense(6), ours, draw(5, 8), f"8A,{bits}W", weights=weights, per_channel=bits != 4)


def test_a_projection_of_several_axes_is_our_dense_layer():
  wrapped = quantize(nn.DenseGeneral((2, 3), axis=(1, -1)), "8A,4W", full_precision=())
  x = draw(5, 4, 3, 6)
  params = moved(init(wrapped, x))
  steps = params["quantization"]
  q = Quantization(Precision(8, 4), full_precision=())
  flat = jnp.moveaxis(x, 1, 2).reshape(15, 24)
  # LSQ's gradient scale aside, which values do not have.
  levels = QuantActivation(q, signed=True).apply(
    {"params": {"activation_step": steps["activation_step"]}}, flat
  )
  layer = {
    "kernel": params["kernel"].reshape(24, 6),
    "bias": params["bias"].reshape(6),
    "weight_step": steps["weight_step"],
  }
  expected = QuantDense(6, q).apply({"params": layer}, levels)
  np.testing.assert_array_equal(apply(wrapped, params, x), expected.reshape(5, 3, 2, 3))


def test_accumulators_are_those_of_integers():
  wrapped = quantize(Behind(nn.Dense(6)), "8A,4W", full_precision=())
  x = draw(5, 8)
  params = moved(init(wrapped, x))
  _, sown = jax.jit(lambda p: wrapped.apply({"params": p}, x, mutable=["accumulators"]))(params)
  steps = params["quantization"]["layer"]
  a = quantizers.encode(quantizers.pact, nn.relu(x), steps["clip"], 8).levels
  w = quantizers.encode(
    quantizers.lsq, params["layer"]["kernel"], steps["weight_step"], 4, symmetric=True
  ).levels
  sums = np.asarray(a).astype(np.int64) @ np.asarray(w).astype(np.int64)
  np.testing.assert_array_equal(sown["accumulators"]["layer"]["value"][0], sums)


class Net(nn.Module):
  """Layers of every kind; `short` and `deep` read the same array."""

  @nn.compact
  def __call__(self, x, train=False):
    x = nn.relu(nn.Conv(8, (3, 3), name="stem")(x))
    y = nn.Conv(8, (3, 3), feature_group_count=8, name="deep")(x)
    y = nn.BatchNorm(use_running_average=not train)(y)
    x = nn.relu(y + nn.Conv(8, (1, 1), name="short")(x))
    x = nn.Dropout(0.5, deterministic=not train)(jnp.mean(x, (1, 2)))
    x = nn.gelu(nn.Dense(8, name="wide")(x))
    x = nn.Dense(8, name="narrow")(x)
    return nn.Dense(3, name="head")(x)


IMAGES = draw(2, 6, 6, 3)


def test_a_plain_tree_goes_in_and_comes_out():
  plain, wrapped = Net(), quantize(Net(), "8A,4W")
  own, variables = (jax.jit(module.init)(KEY, IMAGES) for module in (plain, wrapped))
  assert list(variables) == list(own)
  params = dict(variables["params"])
  steps = params.pop("quantization")
  close = lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6)
  jax.tree.map(close, params, own["params"])
  # "short" reads what "deep" has quantized; first and last are left alone.
  assert jax.tree.map(jnp.shape, steps) == {
    "deep": {"clip": (), "weight_step": (8,)},
    "short": {"weight_step": (8,)},
    "wide": {"clip": (), "weight_step": (8,)},
    "narrow": {"activation_step": (), "weight_step": (8,)},
  }
  run = lambda module, variables: jax.jit(module.apply)(variables, IMAGES)
  value = run(wrapped, variables)
  np.testing.assert_allclose(run(wrapped, own), value, 1e-5, 1e-5)
  _, filled = jax.jit(lambda v: wrapped.apply(v, IMAGES, mutable=["params"]))(own)
  jax.tree.map(close, filled["params"], variables["params"])
  expected = run(plain, own)
  assert not np.allclose(value, expected, atol=1e-3)
  np.testing.assert_array_equal(run(quantize(Net(), "32A,32W"), own), expected)


def test_training_updates_statistics_and_every_parameter():
  wrapped = quantize(Net(), "8A,4W")
  variables = jax.jit(wrapped.init)(KEY, IMAGES)

  def loss(params, x):
    y, new = wrapped.apply(
      {**variables, "params": params}, x, train=True, mutable=["batch_stats"], rngs={"dropout": KEY}
    )
    return jnp.sum(jnp.sin(y)), new

  each = jax.pmap(jax.value_and_grad(loss, has_aux=True), in_axes=(None, 0))
  one = jax.tree.map(lambda a: a[0], each(variables["params"], IMAGES[None]))
  (_, new), gradients = one
  assert np.any(new["batch_stats"]["BatchNorm_0"]["mean"])
  for path, g in jax.tree_util.tree_leaves_with_path(gradients):
    # A clip of 6 is beyond all values here, and a bias before batch norm is subtracted again.
    if path[-1].key != "clip" and path[-2].key not in ("deep", "short"):
      assert np.any(g), path


@pytest.mark.parametrize(
  "names, left",
  [
    (None, {"stem", "head"}),
    ((), set()),
    (("head", "*e*p"), {"head", "deep"}),
    ("wide", {"wide"}),
  ],
)
def test_which_layers_stay(names, left):
  layers = shapes(quantize(Net(), "8A,4W", full_precision=names), IMAGES)
  assert {"stem", "deep", "short", "wide", "narrow", "head"} - set(layers) == left


class Points(nn.Module):
  """`activation` where both the layer and the sum behind it read."""

  @nn.compact
  def __call__(self, x):
    x = apprentice_jax.activation(x, relu=True)
    x = nn.Dense(4, name="a")(x) + x
    return nn.Dense(3, name="b")(apprentice_jax.activation(x, signed=True))


def test_a_point_is_quantized_once_and_nothing_outside():
  x = draw(5, 4)
  wrapped = quantize(Points(), "4A,4W", full_precision=())
  params = moved(init(wrapped, x))
  assert jax.tree.map(jnp.shape, params["quantization"]) == {
    "a": {"weight_step": (4,)},
    "b": {"weight_step": (3,)},
    "activation_0": {"clip": ()},
    "activation_1": {"activation_step": ()},
  }
  steps = params["quantization"]
  dense = lambda name, x: (
    x @ quantizers.lsq(params[name]["kernel"], steps[name]["weight_step"], 4, symmetric=True)
    + params[name]["bias"]
  )

  @jax.jit
  def expected():
    h = quantizers.pact(x, steps["activation_0"]["clip"], 4)
    h = quantizers.lsq(dense("a", h) + h, steps["activation_1"]["activation_step"], 4)
    return dense("b", h)

  np.testing.assert_allclose(apply(wrapped, params, x), expected(), 1e-5, 1e-5)
  plain = {name: params[name] for name in "ab"}
  both = lambda name, x: x @ params[name]["kernel"] + params[name]["bias"]
  expected = both("b", both("a", nn.relu(x)) + nn.relu(x))
  for outside in (Points(), quantize(Points(), "32A,32W")):
    np.testing.assert_allclose(apply(outside, plain, x), expected, 1e-5, 1e-5)
  with pytest.raises(ValueError, match="leave out signed or relu"):
    apprentice_jax.activation(x, signed=True, relu=True)


class Block(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.Dense(4)(nn.relu(x))
    return nn.Dense(4)(apprentice_jax.activation(x))


class Turn(nn.Module):
  @nn.compact
  def __call__(self, x, _):
    return Block()(x), None


def looped(lift):
  class Loop(nn.Module):
    @nn.compact
    def __call__(self, x):
      return lift()(x)

  return quantize(Loop(), "8A,4W", full_precision=())


class Unrolled(nn.Module):
  @nn.compact
  def __call__(self, x):
    for i in range(3):
      x = Block(name=f"block{i}")(x)
    return x


def value_and_gradient(module, params, x):
  loss = lambda params: jnp.sum(jnp.sin(module.apply({"params": params}, x)))
  return jax.jit(jax.value_and_grad(loss))(params)


def test_scan_is_the_loop_unrolled():
  lift = nn.scan(Turn, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
  scan = looped(lambda: lambda x: lift(name="turns")(x, None)[0])
  x = draw(5, 4)
  params = moved(init(scan, x))
  turn = lambda tree, i: jax.tree.map(lambda a: a[i], tree["turns"]["Block_0"])
  blocks = lambda tree: {f"block{i}": turn(tree, i) for i in range(3)}
  unrolled = quantize(Unrolled(), "8A,4W", full_precision=())
  y, g = value_and_gradient(scan, params, x)
  other = {**blocks(params), "quantization": blocks(params["quantization"])}
  z, h = value_and_gradient(unrolled, other, x)
  np.testing.assert_allclose(y, z, rtol=1e-5)
  mine = {**blocks(g), "quantization": blocks(g["quantization"])}
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-5), mine, h)


def test_vmap_is_each_by_itself():
  lift = nn.vmap(
    Block, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=None, axis_size=2
  )
  each = looped(lambda: lift(name="block"))
  x = draw(5, 4)
  params = moved(init(each, x))
  alone = quantize(Block(), "8A,4W", full_precision=())
  y = apply(each, params, x)
  for i in range(2):
    own = jax.tree.map(lambda a: a[i], params)
    own = {**own["block"], "quantization": own["quantization"]["block"]}
    np.testing.assert_allclose(y[i], apply(alone, own, x), 1e-5, 1e-5)


def test_remat_of_a_block_changes_nothing():
  x = draw(5, 4)
  ways = [looped(lambda: nn.remat(Block)(name="block")), looped(lambda: Block(name="block"))]
  params = moved(init(ways[0], x))
  (y, g), (z, h) = (value_and_gradient(way, params, x) for way in ways)
  np.testing.assert_allclose(y, z, rtol=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), g, h)


class Closed(nn.Module):
  """A rematerialised function that reads an array from outside, before another layer does."""

  def setup(self):
    self.a, self.b = nn.Dense(4), nn.Dense(4)

  def __call__(self, x):
    x = nn.relu(x)
    return nn.remat(lambda self: self.a(x))(self) + self.b(x)


def test_levels_of_a_rematerialised_function_stay_inside_it():
  x = draw(5, 4)
  wrapped = quantize(Closed(), "8A,4W", full_precision=())
  params = moved(init(wrapped, x))
  steps = params["quantization"]
  each = lambda name: apply(
    quantize(Behind(nn.Dense(4)), "8A,4W", full_precision=()),
    {"layer": params[name], "quantization": {"layer": steps[name]}},
    x,
  )
  np.testing.assert_allclose(apply(wrapped, params, x), each("a") + each("b"), 1e-5, 1e-5)


class Shared(nn.Module):
  """One layer, called three times, made in setup."""

  def setup(self):
    self.layer = nn.Dense(4)

  def __call__(self, x):
    return self.layer(nn.relu(self.layer(self.layer(x))))


def test_a_shared_layer_has_one_grid():
  x = draw(5, 4)
  wrapped = quantize(Shared(), "8A,4W", full_precision=())
  params = init(wrapped, x)
  # Signed, since one of its inputs is.
  assert shapes(wrapped, x) == {"layer": {"activation_step": (), "weight_step": (4,)}}
  plain = {"layer": params["layer"]}
  # A plain tree: the first call's start counts for all.
  value = apply(wrapped, params, x)
  np.testing.assert_allclose(apply(wrapped, plain, x), value, 1e-5, 1e-5)
  steps = params["quantization"]["layer"]
  w = quantizers.lsq(plain["layer"]["kernel"], steps["weight_step"], 4, symmetric=True)
  layer = lambda x: quantizers.lsq(x, steps["activation_step"], 8) @ w
  expected = jax.jit(lambda x: layer(nn.relu(layer(layer(x)))))(x)
  np.testing.assert_allclose(value, expected, 1e-5, 1e-5)


def test_inside_another_module():
  class Outer(nn.Module):
    inner: nn.Module

    @nn.compact
    def __call__(self, x):
      return nn.Dense(2)(self.inner(x))

  x = draw(5, 4)
  outer = Outer(quantize(Points(), "4A,4W", full_precision=()))
  params = init(outer, x)
  assert set(params["inner"]) == {"a", "b", "quantization"}
  assert set(params["Dense_0"]) == {"kernel", "bias"}
  inner = apply(quantize(Points(), "4A,4W", full_precision=()), params["inner"], x)
  expected = apply(nn.Dense(2), params["Dense_0"], inner)
  np.testing.assert_allclose(apply(outer, params, x), expected, 1e-5, 1e-5)


def test_attention_projections():
  attention = quantize(nn.MultiHeadDotProductAttention(2), "8A,4W", full_precision=("out",))
  x = draw(2, 3, 4)
  steps = shapes(attention, x)
  assert set(steps) == {"query", "key", "value"}
  assert [name for name in steps if "activation_step" in steps[name]] == ["query"]


class OwnKernel(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.Dense(4)(x)
    return x @ self.param("kernel", nn.initializers.ones, (4, 4))


def test_a_kernel_of_another_layer_is_named():
  net = nn.Sequential([nn.Dense(4), OwnKernel(), nn.Dense(4)])
  with pytest.warns(UserWarning, match="layers_1: full precision, since"):
    start(quantize(net, "8A,4W"), draw(2, 4))
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    start(quantize(net, "8A,4W", full_precision=("layers_1",)), draw(2, 4))
  with pytest.warns(UserWarning, match="no layer is quantized"):
    start(quantize(nn.Dense(4), "8A,4W"), draw(2, 4))


def shared_scan():
  lift = nn.scan(Turn, variable_broadcast="params", split_rngs={"params": False}, length=3)
  return looped(lambda: lambda x: lift(name="turns")(x, None)[0])


def programs_kept():
  jitted = nn.jit(Block)
  wrapped = looped(lambda: jitted(name="block"))
  wrapped.init(KEY, draw(2, 3, 4))
  return wrapped


class Jitted(nn.Module):
  @nn.jit
  @nn.compact
  def __call__(self, x):
    return Block()(x)


REFUSED = {
  "a ConvTranspose cannot be quantized": lambda: quantize(
    nn.Sequential([nn.Dense(4), nn.ConvTranspose(4, (3,)), nn.Dense(4)]), "8A,4W"
  ),
  "no layer has such a path: did you mean 'layers_0'": lambda: quantize(
    nn.Sequential([nn.Dense(4), nn.Dense(4)]), "8A,4W", full_precision=("layer_0",)
  ),
  "1 bit has no sign": lambda: quantize(nn.Dense(4), "1A,4W", full_precision=()),
  "the module itself has a dot_general of its own": lambda: quantize(
    nn.Dense(4, dot_general=jax.lax.dot_general), "8A,4W", full_precision=()
  ),
  "has batch_dims": lambda: quantize(
    nn.DenseGeneral(4, batch_dims=(0,)), "8A,4W", full_precision=()
  ),
  "lies inside another one": lambda: quantize(
    nn.Sequential([quantize(nn.Dense(4), "8A,4W", full_precision=()), nn.Dense(4)]), "8A,4W"
  ),
  "turns/Block_0/Dense_1: nn.scan or nn.vmap shares": shared_scan,
  "block/Dense_0, block/Dense_1: nn.jit keeps a program": programs_kept,
  "the module itself is of nn.jit": lambda: quantize(Jitted(), "8A,4W", full_precision=()),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_refusals(sentence):
  with pytest.raises(ValueError) as error:
    start(REFUSED[sentence](), draw(2, 3, 4))
  assert sentence in str(error.value) and "\n" not in str(error.value)


def test_refusals_of_modules_and_trees():
  with pytest.raises(TypeError, match="takes a module of flax.linen"):
    quantize(lambda x: x, "8A,4W")
  with pytest.raises(TypeError, match="this one is quantized"):
    quantize(quantize(nn.Dense(4), "8A,4W"), "8A,4W")
  with pytest.raises(ValueError, match="precision '8A' is not one"):
    quantize(nn.Dense(4), "8A")
  x = draw(2, 6, 6, 3)
  params = start(quantize(Net(), "8A,2W"), x)
  with pytest.raises(ValueError, match="without quantization/deep/weight_step"):
    jax.eval_shape(quantize(Net(), "8A,4W").apply, params, x)
  params = start(quantize(Net(), "8A,4W"), x)
  with pytest.raises(ValueError, match=r"deep/weight_step of shape \(8,\), and this .* has \(\)"):
    jax.eval_shape(quantize(Net(), "8A,4W", per_channel=False).apply, params, x)


def test_summary():
  lines = apprentice_jax.summary(quantize(Net(), "8A,2W"), IMAGES[:1]).splitlines()
  rows = {line.split()[0]: line.split()[1:] for line in lines if "--" not in line}
  assert list(rows)[1:7] == ["stem", "deep", "short", "wide", "narrow", "head"]
  assert rows["stem"] == ["3x3x3x8", "1x6x6x8", "32A,32W", "224", "896", "7,776"]
  # 72 weights at 2 bits, eight scales and eight biases.
  assert rows["deep"] == ["3x3x1x8", "1x6x6x8", "8A,2W", "80", "82", "2,592"]
  assert rows["head"] == ["8x3", "1x3", "32A,32W", "27", "108", "24"]
  assert rows["BatchNorm_0"] == ["16", "64", "0"]
  assert rows["total"][:1] == [str(224 + 80 + 72 + 72 + 72 + 27 + 16)]


def test_the_summary_of_a_loop_counts_its_turns():
  lift = nn.scan(Turn, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
  scan = looped(lambda: lambda x: lift(name="turns")(x, None)[0])
  line = apprentice_jax.summary(scan, draw(5, 4)).splitlines()[2].split()
  assert line[1:] == ["3x4x4", "5x4", "8A,4W", "60", str(24 + 48 + 48), str(3 * 5 * 16)]
