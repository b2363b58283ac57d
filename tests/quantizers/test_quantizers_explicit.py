"""Meshes of explicit axes, as `jax.make_mesh` makes them: values and gradients as on one device,
wherever arrays lie."""

import contextlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from quantizers_cases import CASES, each_case, float32, samples

from apprentice_jax import quantizers as Q

SHAPE = (4, 6, 8)
PLACES = (P(None, None, "model"), P("data", None, ("model",)), P(None, None, ("data", "model")))


@contextlib.contextmanager
def _mesh():
  assert len(jax.devices()) >= 4, "these tests need virtual devices: see tests/conftest.py"
  mesh = jax.make_mesh(
    (2, 2),
    ("data", "model"),
    devices=jax.devices()[:4],
    axis_types=(jax.sharding.AxisType.Explicit,) * 2,
  )
  with jax.set_mesh(mesh):
    yield mesh


def _of_value(quantize, x, v, params):
  return jnp.sum(quantize(x, **params) * v)


def _of_codes(quantize, x, v, params):
  return jnp.sum(Q.decode(Q.encode_ste(quantize, x, **params)) * v)


def _check(function, x, v, params, places):
  """Gradients, their places included, with the parameters replicated and with those of a channel
  split."""
  gradient = jax.jit(jax.value_and_grad(function, (0, 2)))
  expected_value, expected = gradient(x, v, params)
  with _mesh() as mesh:
    put = lambda a, spec: jax.device_put(a, NamedSharding(mesh, spec))
    for place, split in itertools.product(places, (False, True)):
      last = place[2] if len(place) > 2 and split else None
      laid = {
        name: put(np.float32(p), P(*[None] * (np.ndim(p) - 1), last) if np.ndim(p) else P())
        for name, p in params.items()
      }
      if split and (last is None or not any(map(np.ndim, params.values()))):
        continue
      arguments = put(x, place), put(v, place), laid
      value, found = gradient(*arguments)
      np.testing.assert_allclose(value, expected_value, 1e-5, 1e-5)
      for a, b, primal in zip(*map(jax.tree.leaves, (found, expected, (arguments[0], laid)))):
        assert jax.typeof(a).sharding.spec == jax.typeof(primal).sharding.spec
        np.testing.assert_allclose(float32(a), float32(b), 1e-5, 1e-5, err_msg=str(place))


@each_case(
  "ste_sign",
  "wrpn_weights_8_channels",
  "wrpn_activations_8",
  "twn",
  "twn_channels",
  "ttq",
  "ttq_channels",
  "dorefa_weights_1",
  "dorefa_weights_2",
  "pact_4_channels",
  "lsq_4",
  "lsq_2_symmetric_channels",
)
def test_every_quantizer_wherever_its_array_lies(case):
  x, v = samples(shape=SHAPE), samples(shape=SHAPE, seed=1)
  _check(lambda x, v, params: _of_value(case.quantize, x, v, params), x, v, case.params, PLACES)


@each_case("twn_channels", "ttq_channels", "lsq_2_symmetric_channels")
def test_codes(case):
  x, v = samples(shape=SHAPE), samples(shape=SHAPE, seed=1)
  _check(lambda x, v, params: _of_codes(case.quantize, x, v, params), x, v, case.params, PLACES[:1])


def test_the_blocks_lsq_init_and_encode():
  x, v = samples(shape=SHAPE), samples(shape=SHAPE, seed=1)

  def blocks(x, v, params):
    step = Q.lsq_init(x, 4)
    levels, scale = Q.encode(Q.lsq, x, step, 4)
    return jnp.sum(Q.ste_round(Q.ste_clip(3 * x, -1.0, params["high"])) * v) + scale * jnp.sum(
      levels
    )

  for high in (np.float32(2), np.linspace(1, 2, 8, dtype=np.float32)):
    _check(blocks, x, v, {"high": high}, PLACES[:2])


def test_parameters_that_lie_apart_where_the_array_does_not():
  case = next(case for case in CASES if case.name == "lsq_2_symmetric_channels")
  x, v = samples(shape=SHAPE), samples(shape=SHAPE, seed=1)
  gradient = jax.jit(jax.grad(lambda x, v, params: _of_value(case.quantize, x, v, params), (0, 2)))
  expected = gradient(x, v, case.params)
  with _mesh() as mesh:
    put = lambda a, spec: jax.device_put(a, NamedSharding(mesh, spec))
    found = gradient(
      put(x, P()), put(v, P()), {"step": put(case.params["step"], P(None, None, "data"))}
    )
    assert jax.typeof(found[0]).sharding.spec == P(None, None, None)
    assert jax.typeof(found[1]["step"]).sharding.spec == P(None, None, "data")
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(float32(a), float32(b), 1e-5, 1e-5), found, expected
  )


@pytest.mark.parametrize("transform", [jax.vmap, jax.checkpoint], ids=["vmap", "checkpoint"])
def test_under_a_transform(transform):
  x, v = samples(shape=SHAPE), samples(shape=SHAPE, seed=1)
  quantize = transform(lambda x: Q.lsq(x, 0.13, 4))
  _check(lambda x, v, params: jnp.sum(quantize(x) * v), x, v, {}, PLACES[:1])
