"""Trees as vectors, by hand and against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax.distill import flat


def tree(seed=0):
  r = np.random.default_rng(seed)
  return {
    "kernel": jnp.asarray(r.standard_normal((3, 3, 2, 4)), jnp.float32),
    "clip": jnp.float32(6),
    "none": None,
    "count": jnp.int32(2**24 + 1),
    "norm": (jnp.asarray(r.standard_normal(4), jnp.float32),),
  }


def test_output_channels_come_first():
  (vector, large), _ = flat.pack(
    {"kernel": jnp.arange(6, dtype=jnp.float32).reshape(3, 2), "scale": jnp.float32([7, 8])}
  )
  np.testing.assert_array_equal(vector, [0, 2, 4, 1, 3, 5, 7, 8])
  assert not large


@pytest.mark.parametrize("given", [tree(), {}, None])
@pytest.mark.parametrize("limit, apart", [(2**18, 1), (72, 2), (1, 4)])
def test_a_tree_comes_back_from_what_it_was_packed_in(given, limit, apart, monkeypatch):
  monkeypatch.setattr(flat, "LARGE", limit)
  (vector, large), unpack = flat.pack(given)
  assert len(large) == (apart if given else 0)
  assert vector.size + sum(leaf.size for leaf in large) == sum(
    leaf.size for leaf in jax.tree.leaves(given)
  )
  back = unpack((vector, large))
  assert jax.tree.structure(back) == jax.tree.structure(given)
  jax.tree.map(np.testing.assert_array_equal, back, given)
  assert [leaf.dtype for leaf in jax.tree.leaves(back)] == [
    leaf.dtype for leaf in jax.tree.leaves(given)
  ]


def test_other_numbers_are_another_tree_of_the_same_form():
  unpack = flat.pack(tree())[1]
  jax.tree.map(np.testing.assert_array_equal, unpack(flat.pack(tree(1))[0]), tree(1))
