"""`quantize` of layers in loops, under flax's lifted transformations, and called several times."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from wrapped import Behind, Block, Points, Turn, apply, draw, init, looped, moved, shapes

import apprentice_jax
from apprentice_jax import quantizers
from apprentice_jax.models.wrap import quantize


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


def test_the_summary_of_a_loop_counts_its_turns():
  lift = nn.scan(Turn, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
  scan = looped(lambda: lambda x: lift(name="turns")(x, None)[0])
  line = apprentice_jax.summary(scan, draw(5, 4)).splitlines()[2].split()
  assert line[1:] == ["3x4x4", "5x4", "8A,4W", "60", str(24 + 48 + 48), str(3 * 5 * 16)]
