"""Batch norm, against Flax's own; and pooled before, against pooled after."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax.models.norm import EPSILON, MOMENTUM, BatchNorm


def pool(x):
  return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))


def inputs(dtype=jnp.float32):
  r = np.random.default_rng(0)
  x = jnp.asarray(3 + 2 * r.normal(size=(4, 6, 6, 8)), dtype)
  variables = {
    "params": {"scale": r.normal(size=8), "bias": r.normal(size=8)},
    "batch_stats": {"mean": r.normal(size=8), "var": r.uniform(0.5, 2, 8)},
  }
  assert min(variables["params"]["scale"]) < 0 < max(variables["params"]["scale"])
  return x, jax.tree.map(jnp.float32, variables)


def ours(train, **fields):
  return BatchNorm(train, **fields)


def flax(train, **fields):
  return nn.BatchNorm(not train, momentum=MOMENTUM, epsilon=EPSILON, **fields)


def run(layer, variables, x, after):
  """Output, new statistics, and gradients of a nonlinear function of the output."""

  def loss(params, x):
    y, new = layer.apply({**variables, "params": params}, x, mutable=["batch_stats"])
    y = after(y)
    return jnp.sum(jnp.sin(y.astype(jnp.float32))), (y, new)

  gradients, (y, new) = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(variables["params"], x)
  return y, new, gradients


def assert_close(found, expected, tolerance):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      np.float32(a), np.float32(b), rtol=tolerance, atol=tolerance
    ),
    found,
    expected,
  )


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 2e-5), (jnp.bfloat16, 2e-2)])
def test_is_that_of_flax(train, dtype, tolerance):
  x, variables = inputs(dtype)
  same = lambda y: y
  found = run(ours(train, dtype=dtype), variables, x, same)
  assert found[0].dtype == dtype
  assert_close(found, run(flax(train, dtype=dtype), variables, x, same), tolerance)


@pytest.mark.parametrize("train", [True, False])
def test_pooling_before_is_pooling_after(train):
  x, variables = inputs()
  found = run(ours(train, pool=pool), variables, x, nn.relu)
  assert found[0].shape == (4, 3, 3, 8)
  after = run(ours(train), variables, x, lambda y: pool(nn.relu(y)))
  np.testing.assert_array_equal(found[0], after[0])
  assert_close(found, after, 2e-6)
  assert_close(found, run(flax(train), variables, x, lambda y: pool(nn.relu(y))), 3e-5)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 2e-5), (jnp.bfloat16, 2e-2)])
@pytest.mark.parametrize("pooling", [None, pool])
def test_paired_sums_are_the_same(pooling, dtype, tolerance, train):
  x, variables = inputs(dtype)
  found, expected = (
    run(ours(train, dtype=dtype, pool=pooling, paired_sums=paired), variables, x, nn.relu)
    for paired in (True, False)
  )
  assert_close(found, expected, tolerance)
  assert [leaf.dtype for leaf in jax.tree.leaves(found)] == [
    leaf.dtype for leaf in jax.tree.leaves(expected)
  ]


@pytest.mark.parametrize("paired", [True, False])
def test_sums_are_paired_in_both_directions(paired):
  x, variables = inputs()
  text = (
    jax.jit(lambda variables, x: run(ours(True, paired_sums=paired), variables, x, nn.relu))
    .lower(variables, x)
    .as_text()
  )
  pairs = re.findall(r"stablehlo.reduce\(%\S+ init: %\S+\), \(", text)
  assert len(pairs) == (
    2 if paired else 0
  )  # of the moments, and of the gradients of scale and bias


def test_synchronised_moments_are_those_of_all():
  x, variables = inputs()
  each = jax.vmap(
    lambda x: ours(True, axis_name="all").apply(variables, x, mutable=["batch_stats"]),
    axis_name="all",
  )(x.reshape(2, 2, 6, 6, 8))
  y, new = ours(True).apply(variables, x, mutable=["batch_stats"])
  assert_close(each[0].reshape(y.shape), y, 2e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, jnp.stack([b, b]), rtol=1e-5), each[1], new
  )


def test_variables_are_named_as_those_of_flax():
  x, _ = inputs()
  shapes = lambda layer: jax.tree.map(jnp.shape, layer.init(jax.random.key(0), x))
  assert shapes(ours(True)) == shapes(flax(True))
  jax.tree.map(
    np.testing.assert_array_equal,
    ours(True).init(jax.random.key(0), x),
    flax(True).init(jax.random.key(0), x),
  )
