"""The health of layers, against NumPy and by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax.models import health, resnet
from apprentice_jax.models.layers import QuantActivation
from apprentice_jax.models.precision import Precision, Quantization


def quantization(precision="8A,2W", **fields):
  return Quantization(Precision.parse(precision), **fields)


def network(precision="8A,2W", **fields):
  return resnet("resnet8", 10, precision, **fields)


def test_zeros_and_flips_by_hand():
  # TWN: the threshold of a channel is 0.7 of its mean magnitude.
  before = np.array([[1.0, 1.0], [-1.0, 0.1], [0.1, 0.1], [0.1, 0.1]], np.float32)
  after = before.copy()
  after[1] = 0.1, -1.0  # -1 becomes 0, and 0 becomes -1
  params = [
    {"layer": {"kernel": k}, "stem": {"kernel": k}, "layer_norm": {"scale": k}}
    for k in (before, after)
  ]
  found = health.weights(network(), *params)
  # Levels after: [1, 0, 0, 0] and [1, -1, 0, 0]; the stem is at full precision.
  np.testing.assert_allclose(found, [[5 / 8, 2 / 8]])


@pytest.mark.parametrize(
  "weights, extra",
  [
    ("ttq", dict(positive=np.float32([0.5]), negative=np.float32([2.0]))),
    ("lsq", dict(weight_step=np.full(2, 0.4, np.float32))),
    ("wrpn", {}),
    ("dorefa", {}),
  ],
)
def test_every_quantizer_has_zeros_and_flips(weights, extra):
  r = np.random.default_rng(0)
  before, after = (r.standard_normal((50, 2)).astype(np.float32) for _ in range(2))
  params = [{"layer": dict(kernel=k, **extra)} for k in (before, after)]
  ((zeros, flips, *_),) = np.asarray(health.weights(network(weights=weights), *params))
  ((_, none, *_),) = np.asarray(health.weights(network(weights=weights), params[0], params[0]))
  assert none == 0 and 0.2 < flips < 0.9
  levels = {
    "ttq": lambda w: np.abs(w) > 0.05 * np.abs(w).max(),
    "lsq": lambda w: np.abs(w) > 0.2,
    "wrpn": lambda w: np.abs(w) > 0.5 * np.abs(w).max(0),
    "dorefa": lambda w: w == w,
  }[weights](after)  # which are not zero
  np.testing.assert_allclose(zeros, np.mean(~levels), atol=1e-6)


def apply_activation(x, q, signed=False):
  layer = QuantActivation(q, signed)
  variables = layer.init(jax.random.key(0), x)
  _, sown = layer.apply({"params": variables.get("params", {})}, x, mutable=["health"])
  return health.activations(sown["health"])


@pytest.mark.parametrize("name", ["pact", "wrpn"])
def test_zeros_and_saturation_of_activations_by_hand(name):
  top = {"pact": 6.0, "wrpn": 1.0}[name]
  x = np.tile(np.float32([-1.0, 0.0, 0.5 * top, 2 * top]), (6, 1))
  np.testing.assert_allclose(apply_activation(x, quantization(activations=name)), [[0.5, 0.25]])


def test_both_ends_of_a_signed_range_are_saturated():
  x = jnp.tile(jnp.array([-100.0, 100.0, 0.0, 0.1]), (4, 1))
  q = quantization(activations="lsq")
  layer = QuantActivation(q, signed=True)
  _, sown = layer.apply({"params": {"activation_step": jnp.float32(0.1)}}, x, mutable=["health"])
  np.testing.assert_allclose(health.activations(sown["health"]), [[0.25, 0.5]])


@pytest.mark.slow
def test_names_are_those_of_the_rows():
  model = resnet("resnet8", 10, "8A,2W")
  names = health.names(model, (8, 8, 3))
  x = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
  variables = model.init(jax.random.key(0), x, True)
  kept = {k: variables[k] for k in ("params", "batch_stats")}
  _, sown = model.apply(kept, x, True, mutable=["batch_stats", "health"])
  rows = health.activations(sown["health"])
  assert rows.shape == (len(names.activations), 2) and names.activations[-1] == "stem_act"
  # A layer whose weights are all zero shows in its own row.
  dead = jax.tree.map(lambda p: p, kept["params"])
  dead["stage2_block1"]["conv2"]["kernel"] *= 0
  zeros = np.asarray(health.weights(model, kept["params"], dead))[:, 0]
  assert zeros[names.weights.index("stage2_block1/conv2")] == 1 and np.sum(zeros == 1) == 1
  # An activation that saturates, too.
  kept["params"]["stage1_block1"]["act1"]["clip"] = jnp.float32(1e-6)
  _, sown = model.apply(kept, x, True, mutable=["batch_stats", "health"])
  saturated = np.asarray(health.activations(sown["health"]))[:, 1]
  assert np.argmax(saturated) == names.activations.index("stage1_block1/act1")


def test_the_first_images_of_a_batch_are_looked_at():
  model = resnet("resnet8", 10, "8A,2W", norm_axis="replicas")  # an axis that is not there
  x = jax.random.normal(jax.random.key(1), (health.IMAGES + 3, 8, 8, 3))
  variables = model.clone(norm_axis=None).init(jax.random.key(0), x, True)
  found = health.activations_of(model, variables["params"], variables["batch_stats"], x)
  _, sown = model.clone(norm_axis=None).apply(
    {k: variables[k] for k in ("params", "batch_stats")},
    x[: health.IMAGES],
    True,
    mutable=["batch_stats", "health"],
  )
  np.testing.assert_array_equal(found, health.activations(sown["health"]))
  assert found.shape[0] == 7 and np.any(found > 0)


@pytest.mark.parametrize(
  "precision, weights, activations", [("32A,32W", 0, 0), ("32A,2W", 6, 0), ("8A,32W", 0, 7)]
)
def test_full_precision_has_no_health(precision, weights, activations):
  names = health.names(resnet("resnet8", 10, precision), (8, 8, 1))
  assert (len(names.weights), len(names.activations)) == (weights, activations)


def test_nothing_is_sown_unasked():
  model = resnet("resnet8", 10, "8A,2W")
  x = jnp.zeros((1, 8, 8, 1))
  variables = model.init(jax.random.key(0), x, True)
  _, updated = model.apply(
    {k: variables[k] for k in ("params", "batch_stats")}, x, True, mutable=["batch_stats"]
  )
  assert set(updated) == {"batch_stats"}
  assert isinstance(model, nn.Module)
