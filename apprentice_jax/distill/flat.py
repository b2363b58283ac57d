"""Trees of many small arrays as one vector, for GPUs: a kernel takes a few microseconds there, whatever its size, and a
network has a hundred parameters.
"""

import itertools
import math
from typing import Any, Callable

import jax
import jax.numpy as jnp


def pack(tree: Any) -> tuple[jax.Array, Callable[[jax.Array], Any]]:
  """A tree of float32 arrays as one vector, and the function from such a vector back to the tree.

  A kernel's output channels come first in it: so cuDNN writes a filter's gradient, and a channel's weights lie together.

  Raises:
    TypeError: an array of another dtype.
  """
  leaves, structure = jax.tree.flatten(tree)
  for leaf in leaves:
    if leaf.dtype != jnp.float32:
      raise TypeError(f"pack takes float32 arrays, not {leaf.dtype}.")
  if not leaves:
    return jnp.zeros(0, jnp.float32), lambda _: tree
  turned = [jnp.moveaxis(leaf, -1, 0) if leaf.ndim else leaf for leaf in leaves]
  shapes = [leaf.shape for leaf in turned]
  ends = list(itertools.accumulate(math.prod(shape) for shape in shapes))

  def unpack(vector):
    parts = [part.reshape(shape) for part, shape in zip(jnp.split(vector, ends[:-1]), shapes)]
    return jax.tree.unflatten(structure, [jnp.moveaxis(part, 0, -1) if part.ndim else part for part in parts])

  return jnp.concatenate([leaf.ravel() for leaf in turned]), unpack


def norm(tree: Any) -> jax.Array:
  """The Euclidean norm of all of a tree's float32 arrays together, of one vector: see `step.global_norm`."""
  return jnp.sqrt(jnp.sum(jnp.square(pack(tree)[0])))
