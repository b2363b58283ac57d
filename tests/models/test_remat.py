"""Rematerialised blocks: the same numbers, and less that is kept for the backward pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax.models.residual import resnet

X = jnp.asarray(np.random.default_rng(0).standard_normal((4, 8, 8, 3)), jnp.float32)


def loss_of(remat, make=jax.jit):
  """Parameters, or with `jax.eval_shape` their shapes, and the loss and new statistics as a
  function of them."""
  model = resnet("resnet8", 5, "8A,4W", width=0.25, shortcut="conv", remat=remat)
  start = lambda x: model.init(jax.random.key(0), x, True)["params"]
  params = jax.eval_shape(start, X) if make is jax.eval_shape else make(start)(X)

  def loss(params):
    # Without "batch_stats" of before, which training does not use, the module starts them itself.
    logits, updated = model.apply({"params": params}, X, True, mutable=["batch_stats"])
    return jnp.sum(jnp.sin(logits)), updated

  return params, loss


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["elementwise", "blocks"])
def test_a_step_is_the_one_without(remat):
  results = []
  for kind in ("none", remat):
    params, loss = loss_of(kind)
    results.append((params, jax.jit(jax.value_and_grad(loss, has_aux=True))(params)))
  expected, found = results
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * np.abs(b).max())


def test_each_kind_keeps_less():
  kept = {}
  for kind in ("none", "elementwise", "blocks"):
    params, loss = loss_of(kind, jax.eval_shape)
    pullback = jax.eval_shape(lambda p: jax.vjp(loss, p, has_aux=True)[1], params)
    kept[kind] = sum(
      a.size * a.dtype.itemsize for a in jax.tree.leaves(pullback) if a.shape[:1] == X.shape[:1]
    )
  assert kept["blocks"] < 0.6 * kept["elementwise"] and kept["elementwise"] < 0.6 * kept["none"]


def test_an_unknown_kind_is_refused():
  with pytest.raises(ValueError, match="remat 'block' does not exist: did you mean 'blocks'"):
    resnet("resnet8", 10, remat="block")
