"""Our ResNet, written with plain layers and points: under `quantize` it computes the same."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax import activation
from apprentice_jax.models.norm import BatchNorm
from apprentice_jax.models.residual import resnet
from apprentice_jax.models.wrap import quantize


class Block(nn.Module):
  width: int
  strides: int
  train: bool

  @nn.compact
  def __call__(self, x):
    conv = lambda name, strides: nn.Conv(
      self.width, (3, 3), strides, padding=1, use_bias=False, name=name
    )
    y = BatchNorm(self.train, name="norm1")(conv("conv1", self.strides)(x))
    y = activation(y, relu=True)
    y = BatchNorm(self.train, name="norm2")(conv("conv2", 1)(y))
    x = x[:, :: self.strides, :: self.strides]
    extra = (self.width - x.shape[-1]) // 2
    return activation(nn.relu(y + jnp.pad(x, ((0, 0), (0, 0), (0, 0), (extra, extra)))))


class Plain(nn.Module):
  """ResNet-8 of flax's layers, at four channels."""

  @nn.compact
  def __call__(self, x, train: bool):
    x = nn.Conv(4, (3, 3), padding=1, use_bias=False, name="stem")(x)
    x = activation(nn.relu(BatchNorm(train, name="stem_norm")(x)))
    for stage in (1, 2, 3):
      block = Block(4 * 2 ** (stage - 1), 2 if stage > 1 else 1, train, name=f"stage{stage}_block1")
      x = block(x)
    return nn.Dense(10, name="head")(jnp.mean(x, (1, 2)))


def ours_of(params):
  """The wrapped network's parameters under our network's names."""
  params = dict(params)
  steps = params.pop("quantization")

  def merged(own, trained, names):
    tree = {name: dict(value) if hasattr(value, "items") else value for name, value in own.items()}
    for name, value in trained.items():
      if isinstance(value, dict):
        to = names.get(name, name)
        tree[to] = merged(tree.get(to, {}), value, {"activation_0": "act1", "activation_1": "act"})
      else:
        tree[name] = value
    return tree

  return merged(params, steps, {"activation_0": "stem_act"})


@pytest.mark.parametrize("precision", ["8A,2W", pytest.param("2A,4W", marks=pytest.mark.slow)])
def test_value_and_gradients_are_those_of_our_network(precision):
  ours, wrapped = resnet("resnet8", 10, precision, width=0.25), quantize(Plain(), precision)
  x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 8, 8, 3)), jnp.float32)
  variables = jax.jit(wrapped.init, static_argnums=2)(jax.random.key(0), x, True)
  expected = jax.eval_shape(lambda: ours.init(jax.random.key(0), x, True))["params"]
  assert jax.tree.structure(ours_of(variables["params"])) == jax.tree.structure(expected)

  def run(apply, names, params):
    collections = {"params": names(params), "batch_stats": variables["batch_stats"]}
    y, new = apply(collections, x, True, mutable=["batch_stats", "accumulators", "health"])
    return jnp.mean(jnp.sin(y) * jnp.arange(10)), (y, new)

  both = jax.jit(
    lambda params: [
      jax.value_and_grad(lambda p: run(apply, names, p), has_aux=True)(params)
      for apply, names in ((wrapped.apply, lambda p: p), (ours.apply, ours_of))
    ]
  )
  ((_, (y, new)), g), ((_, (z, ours_new)), h) = both(variables["params"])
  np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-3, 1e-5), g, h)
  for collection in ("batch_stats", "accumulators"):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6),
      new[collection],
      {name: ours_new[collection][name] for name in new[collection]},
    )
  health = lambda tree: sorted(tuple(np.asarray(leaf)) for leaf in jax.tree.leaves(tree["health"]))
  np.testing.assert_allclose(health(new), health(ours_new), atol=1e-6)
