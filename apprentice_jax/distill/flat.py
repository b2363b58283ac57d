"""Trees of many small arrays as one vector, for GPUs: a kernel takes a few microseconds there, whatever its size, and a
network has a hundred parameters.
"""

import itertools
import math
from typing import Any, Callable

import jax
import jax.numpy as jnp

LARGE = 2**18  # numbers (1 MiB), from which to move an array takes longer than to start a kernel


def pack(tree: Any) -> tuple[Any, Callable[[Any], Any]]:
  """A tree of float32 arrays as few: (all that are small as one vector, the LARGE ones as they are in a list); and the
  function from such a pair back to the tree.

  A kernel's output channels come first in the vector: so cuDNN writes a filter's gradient, and a channel's weights lie
  together.

  Raises:
    TypeError: an array of another dtype.
  """
  leaves, structure = jax.tree.flatten(tree)
  for leaf in leaves:
    if leaf.dtype != jnp.float32:
      raise TypeError(f"pack takes float32 arrays, not {leaf.dtype}.")
  large = [leaf.size >= LARGE for leaf in leaves]
  small = [jnp.moveaxis(leaf, -1, 0) if leaf.ndim else leaf for leaf, alone in zip(leaves, large) if not alone]
  shapes = [leaf.shape for leaf in small]
  ends = list(itertools.accumulate(math.prod(shape) for shape in shapes))
  vector = jnp.concatenate([leaf.ravel() for leaf in small]) if small else jnp.zeros(0, jnp.float32)

  def unpack(packed):
    vector, others = packed
    parts = [part.reshape(shape) for part, shape in zip(jnp.split(vector, ends[:-1]), shapes)]
    parts = iter([jnp.moveaxis(part, 0, -1) if part.ndim else part for part in parts])
    others = iter(others)
    return jax.tree.unflatten(structure, [next(others if alone else parts) for alone in large])

  return (vector, [leaf for leaf, alone in zip(leaves, large) if alone]), unpack


def norm(tree: Any) -> jax.Array:
  """The Euclidean norm of all of a tree's float32 arrays together, of what is packed: see `step.global_norm`."""
  return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(pack(tree)[0])))
