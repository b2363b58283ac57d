"""Gradients of gradients, inside `jax.lax.scan` as in an unrolled loop, under jit, vmap and
remat."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quantizers_cases import each_case, samples

from apprentice_jax import quantizers as Q
from apprentice_jax.models import Precision, QuantConv, Quantization
from apprentice_jax.models.norm import BatchNorm

STEPS = 2


def _of_loop(step, x, params, scan):
  """A number that depends on x and params through two applications of ``step(x, params)``."""
  body = lambda c, _: (jnp.sin(step(c, params)) + 0.1 * c, jnp.sum(c**2))
  if scan:
    end, sums = jax.lax.scan(body, x, None, length=STEPS)
    return jnp.sum(end**3) + jnp.sum(sums)
  total = 0.0
  for _ in range(STEPS):
    x, term = body(x, None)
    total += term
  return jnp.sum(x**3) + total


def _second(step, scan):
  """(x, params) -> the gradients of the square of the gradient's length."""

  def length(x, params):
    gradients = jax.grad(functools.partial(_of_loop, step, scan=scan), (0, 1))(x, params)
    return sum(jnp.sum(g**2) for g in jax.tree.leaves(gradients))

  return jax.grad(length, (0, 1))


def _equal(found, expected):
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, 1e-3, 1e-3 * max(1, np.abs(b).max()))


def _check(step, x, params):
  expected = jax.jit(_second(step, scan=False))(x, params)
  assert any(np.abs(g).max() > 0 for g in jax.tree.leaves(expected))
  _equal(jax.jit(_second(step, scan=True))(x, params), expected)
  rematerialised = _second(jax.checkpoint(step), scan=True)
  twice = jax.jit(jax.vmap(rematerialised, (0, None)))(jnp.stack([x, x]), params)
  _equal(twice, jax.tree.map(lambda g: jnp.stack([g, g]), expected))


@each_case(
  "ste_sign",
  "wrpn_weights_4_scale",
  "wrpn_activations_8",
  "twn_channels",
  "ttq_channels",
  "dorefa_weights_1",
  "dorefa_weights_2",
  "pact_4_channels",
  "lsq_4",
  "lsq_8_unsigned",
)
def test_inside_scan_as_unrolled(case):
  _check(lambda x, params: case.quantize(x, **params), samples(), case.params)


@each_case("ttq_channels", "lsq_4")
def test_codes_inside_scan(case):
  _check(
    lambda x, params: Q.decode(Q.encode_ste(case.quantize, x, **params)), samples(), case.params
  )


def test_the_blocks_inside_scan():
  _check(lambda x, params: Q.ste_round(3 * Q.ste_clip(x, -1.0, 0.8)) * params, samples(), 0.4)


@pytest.mark.slow
@pytest.mark.parametrize("weights, bits, im2col", [("lsq", 4, True), ("ttq", 2, False)])
def test_layers_inside_scan(weights, bits, im2col):
  class Layers(nn.Module):
    @nn.compact
    def __call__(self, x):
      q = Quantization(Precision(8, bits), weights=weights, activations="pact")
      x = Q.encode_ste(Q.pact, x, self.param("clip", lambda _: jnp.float32(1.3)), 8)
      x = QuantConv(3, q, im2col=im2col)(x)
      return BatchNorm(train=True, paired_sums=True)(x)

  x = samples(shape=(2, 4, 4, 3))
  params = Layers().init(jax.random.key(0), x)["params"]
  step = lambda x, params: Layers().apply({"params": params}, x, mutable=["batch_stats"])[0]
  _check(step, x, params)


def test_second_order_by_hand():
  # dL/dx = v clip'(x), L2 = sum (dL/dx)^2 of L = sum q(x)^2 / 2: dL/dx = q(x) inside, d/dx of q^2 =
  # 2 q.
  x = jnp.array([-0.5, 0.3, 0.9, 2.0])
  of_gradient = lambda x: jnp.sum(jax.grad(lambda x: jnp.sum(Q.pact(x, 1.0, 2) ** 2) / 2)(x) ** 2)
  np.testing.assert_allclose(jax.grad(of_gradient)(x), [0, 2 / 3, 2, 0], rtol=1e-6)
