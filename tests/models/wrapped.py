"""Modules to quantize, for the tests of `quantize`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import apprentice_jax
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


def moved(tree):
  """Parameters as training would have changed them: no two alike."""
  leaves, kind = jax.tree.flatten(tree)
  normal = np.random.default_rng(0).standard_normal
  turn = lambda leaf: leaf * (1 + 0.2 * normal(leaf.shape)) + 0.01 * normal(leaf.shape)
  return kind.unflatten([turn(np.asarray(leaf)).astype(np.float32) for leaf in leaves])


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


class Points(nn.Module):
  """`activation` where both the layer and the sum behind it read."""

  @nn.compact
  def __call__(self, x):
    x = apprentice_jax.activation(x, relu=True)
    x = nn.Dense(4, name="a")(x) + x
    return nn.Dense(3, name="b")(apprentice_jax.activation(x, signed=True))


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
