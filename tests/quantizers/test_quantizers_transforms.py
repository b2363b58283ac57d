"""vmap, pmap and shard_map; under shard_map the gradients of what every device shares."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from quantizers_cases import CASE, each_case, float32, samples, value_and_pullback

from apprentice_jax import quantizers as Q

DEVICES = 2
# Those with parameters, which every device shares.
SHARED = (
  "wrpn_weights_4_scale",
  "wrpn_weights_8_channels",
  "ttq",
  "ttq_channels",
  "pact_8",
  "pact_4_channels",
  "lsq_4",
  "lsq_2_symmetric_channels",
)
check_vma = pytest.mark.parametrize("check_vma", [True, False], ids=["vma", "no_vma"])


def _batch(seed=0):
  """One array for each device, of the same largest magnitude: what ttq's threshold looks at."""
  x = samples(seed=seed, shape=(DEVICES, 3, 5, 8))
  return x.at[:, 0, 0, 0].set(4.0)


@functools.cache
def _mesh():
  devices = jax.devices()
  assert len(devices) >= DEVICES, "these tests need virtual devices: see tests/conftest.py"
  return jax.sharding.Mesh(np.array(devices[:DEVICES]), ("device",))


def _shard(f, in_specs, out_specs, check_vma):
  return jax.jit(
    jax.shard_map(f, mesh=_mesh(), in_specs=in_specs, out_specs=out_specs, check_vma=check_vma)
  )


def _close(actual, expected):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(float32(a), float32(b), 2e-6, 1e-5), actual, expected
  )


@each_case(
  "ste_sign",
  "wrpn_weights_8_channels",
  "wrpn_activations_8",
  "twn",
  "twn_two_axes",
  "ttq",
  "dorefa_weights_1",
  "dorefa_weights_8",
  "pact_4_channels",
  "lsq_4",
)
def test_vmap_equals_a_loop(case):
  x, g = _batch(), _batch(seed=1)
  run = jax.jit(lambda x, g: value_and_pullback(case, x, case.params, g))
  looped = [run(x[i], g[i]) for i in range(DEVICES)]
  _close(jax.jit(jax.vmap(run))(x, g), jax.tree.map(lambda *a: jnp.stack(a), *looped))


@each_case("wrpn_weights_4_scale", "ttq_channels", "pact_8", "lsq_2_symmetric_channels")
def test_vmap_over_parameters(case):
  x, g = samples(), samples(seed=1)
  params = {k: np.stack([v, 2 * v]) for k, v in case.params.items()}
  run = jax.jit(lambda params: value_and_pullback(case, x, params, g))
  looped = [run({k: v[i] for k, v in params.items()}) for i in range(2)]
  _close(jax.jit(jax.vmap(run))(params), jax.tree.map(lambda *a: jnp.stack(a), *looped))


class Variants(chex.TestCase):
  """Eager, jitted and pmapped, on the device and off: one result."""

  @chex.variants(
    with_jit=True, without_jit=True, with_device=True, without_device=True, with_pmap=True
  )
  def test_encode_ste_and_its_gradient(self):
    x = samples()

    def f(x, positive, negative):
      q = Q.encode_ste(Q.ttq, x, positive, negative)
      return (Q.decode(q) * samples(seed=1)).sum()

    gradients = self.variant(lambda *args: jax.grad(f, (0, 1, 2))(*args))(x, 0.6, 1.3)
    expected = CASE["ttq"].pullback(float32(samples(seed=1)), float32(x), 0.6, 1.3)
    _close(gradients, (expected["x"], expected["positive"], expected["negative"]))


@each_case("wrpn_weights_8_channels", "ttq", "dorefa_weights_8", "lsq_4")
def test_pmap_keeps_every_devices_own_gradient(case):
  x, g = _batch(), _batch(seed=1)
  assert jax.device_count() >= DEVICES
  run = jax.pmap(
    lambda x, params, g: value_and_pullback(case, x, params, g),
    in_axes=(0, None, 0),
    devices=jax.devices()[:DEVICES],
  )
  alone = jax.jit(lambda x, g: value_and_pullback(case, x, case.params, g))
  looped = [alone(x[i], g[i]) for i in range(DEVICES)]
  _close(run(x, case.params, g), jax.tree.map(lambda *a: jnp.stack(a), *looped))


@each_case("wrpn_weights_8_channels", "wrpn_activations_8", "pact_8", "lsq_2_symmetric_channels")
@check_vma
def test_shard_map_forward(case, check_vma):
  x = _batch()
  run = lambda x, params: (case.quantize(x, **params), Q.encode(case.quantize, x, **params).levels)
  sharded = _shard(run, (P("device"), P()), P("device"), check_vma)
  value, levels = sharded(x, case.params)
  expected_value, expected_levels = jax.jit(run)(x, case.params)
  np.testing.assert_array_equal(levels, expected_levels)
  np.testing.assert_allclose(value, expected_value, 3e-7)


@each_case(*SHARED)
def test_gradient_inside_of_a_shared_parameter_is_the_sum(case):
  """As the gradients of jax's own operations are, where replication is tracked (check_vma)."""
  x, g = _batch(), _batch(seed=1)
  run = lambda x, params, g: value_and_pullback(case, x, params, g)[1]
  specs = {"x": P("device"), **{k: P() for k in case.params}}
  _close(
    _shard(run, (P("device"), P(), P("device")), specs, True)(x, case.params, g),
    jax.jit(run)(x, case.params, g),
  )


@each_case("wrpn_weights_8_channels", "ttq", "pact_8", "lsq_4")
def test_gradient_inside_without_tracking_is_the_devices_own(case):
  x, g = _batch(), _batch(seed=1)

  def run(x, params, g):
    gradients = value_and_pullback(case, x, params, g)[1]
    return {k: jax.lax.psum(v, "device") if k != "x" else v for k, v in gradients.items()}

  specs = {"x": P("device"), **{k: P() for k in case.params}}
  _close(
    _shard(run, (P("device"), P(), P("device")), specs, False)(x, case.params, g),
    jax.jit(lambda x, params, g: value_and_pullback(case, x, params, g)[1])(x, case.params, g),
  )


@each_case("wrpn_weights_4_scale", "ttq_channels", "pact_8", "lsq_4")
@check_vma
def test_gradient_through_a_shard_map(case, check_vma):
  x, g = _batch(), _batch(seed=1)
  sharded = _shard(
    lambda x, params: case.quantize(x, **params), (P("device"), P()), P("device"), check_vma
  )
  loss = lambda f: jax.jit(jax.grad(lambda x, params: (f(x, params) * g).sum(), (0, 1)))
  expected = loss(lambda x, params: case.quantize(x, **params))(x, case.params)
  _close(loss(sharded)(x, case.params), expected)


@each_case("ttq", "pact_4_channels", "lsq_4", "twn_channels")
def test_encode_ste_inside_a_shard_map(case):
  """A layer's data is split and its weights are shared: their gradient is the sum."""
  w = samples()
  v = np.random.default_rng(3).normal(size=(DEVICES, 4, 5)).astype(np.float32)

  def loss(w, params, v):
    q = Q.encode_ste(case.quantize, w, **params)
    accumulate = lambda levels: jnp.einsum("bmk,akc->bamc", v, levels)
    if isinstance(q.scale, tuple):
      out = accumulate(q.levels[0]) * q.scale[0] - accumulate(q.levels[1]) * q.scale[1]
    else:
      out = accumulate(q.levels) * q.scale
    return jnp.sin(out).sum()

  gradient = jax.grad(loss, (0, 1))
  _close(
    _shard(gradient, (P(), P(), P("device")), P(), True)(w, case.params, v),
    jax.jit(gradient)(w, case.params, v),
  )


@check_vma
def test_the_blocks_inside_a_shard_map(check_vma):
  x = _batch()
  f = lambda x: Q.ste_round(Q.ste_clip(3 * x, -1.0, 2.0))
  run = lambda x: jax.vjp(f, x)[1](x)[0]
  np.testing.assert_array_equal(
    _shard(run, P("device"), P("device"), check_vma)(x), jax.jit(run)(x)
  )


def test_shared_input_with_a_devices_own_parameter():
  # The other way round: x is the same everywhere, so its gradient is the sum over devices.
  x, clips = samples(), np.float32([0.5, 1.5])
  gradient = lambda x, clip: jax.grad(lambda x: Q.pact(x, clip[0], 8).sum())(x)
  sharded = _shard(gradient, (P(), P("device")), P(), True)(x, clips)
  np.testing.assert_array_equal(sharded, sum(gradient(x, clips[i : i + 1]) for i in range(2)))


def test_scan_and_checkpoint():
  steps = np.float32([0.1, 0.2, 0.3])

  def body(total, step):
    return total + jax.checkpoint(lambda s: Q.lsq(samples(), s, 4).sum())(step), None

  gradient = jax.jit(jax.grad(lambda steps: jax.lax.scan(body, 0.0, steps)[0]))(steps)
  ones = np.ones(samples().shape)
  expected = [CASE["lsq_4"].pullback(ones, float32(samples()), step=s)["step"] for s in steps]
  _close(gradient, np.array(expected) / 0.25)  # The case's grad_scale.
