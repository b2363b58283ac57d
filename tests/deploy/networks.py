"""Small networks of random numbers, and their lowerings."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from apprentice_jax.deploy import lower
from apprentice_jax.models import resnet

NAMES = tuple("abcdefghij")
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
SHAPE = (13, 16, 3)  # an odd and an even side


@functools.cache
def made(name="resnet8", precision="8A,2W", width=0.25, **changes):
  """(model, params, batch_stats, uint8 images), batch norm with scales and biases of both signs."""
  model = resnet(name, len(NAMES), precision, width=width, **changes)
  images = np.random.default_rng(1).integers(0, 256, (6, *SHAPE), np.uint8)
  shapes = jax.eval_shape(lambda k: model.init(k, jnp.zeros((1, *SHAPE)), False), jax.random.key(0))
  bits = model.quantization.precision
  fill = functools.partial(jax.tree_util.tree_map_with_path, functools.partial(_filled, bits))
  return model, fill(shapes["params"]), fill(shapes["batch_stats"]), images


def _filled(bits, path, leaf):
  """Random numbers of a size that leaves levels of all kinds in use."""
  random, name = (
    np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode())),
    path[-1].key,
  )
  size = {
    "kernel": (2 / max(np.prod(leaf.shape[:-1]), 1)) ** 0.5,
    "scale": 0.5,
    "bias": 0.5,
    "mean": 0.3,
  }.get(name)
  if size:
    return random.normal(0.5 * (name == "scale"), size, leaf.shape).astype(np.float32)
  centre = {
    "var": 1.0,
    "clip": 3.0,
    "positive": 0.2,
    "negative": 0.3,
    "activation_step": 2.5 / 2**bits.activations,
    "weight_step": 0.3 / 2**bits.weights,
  }[name]
  return (centre * random.uniform(0.7, 1.5, leaf.shape)).astype(np.float32)


def lowered(ends="float", **which):
  """The network of `made`, lowered."""
  model, params, stats, _ = made(**which)
  return lower.lower(
    model, params, stats, image_shape=SHAPE, class_names=NAMES, mean=MEAN, std=STD, ends=ends
  )
