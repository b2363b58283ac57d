"""The four networks of results/own_networks, quantized: which layers, training, the table."""

import csv
import os
import pathlib
import statistics
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax.models.wrap import quantize

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "results" / "own_networks"
sys.path.insert(0, str(FOLDER))

from plain_flax import NETWORKS  # noqa: E402

FULL = ("32A,32W", "baseline")
# What the first and the last layer called are, and layers whose input has a signed grid.
EXPECTED = {
  "resnet": ("conv_init", "Dense_0", set()),
  "cnn": ("Conv_0", "Dense_1", set()),
  "mobilenet": ("Conv_0", "Dense_0", set()),
  "vit": (
    "embedding",
    "head",
    {f"MultiHeadDotProductAttention_{i}/{name}" for i in (0, 1) for name in ("query", "out")}
    | {f"Dense_{i}" for i in range(4)},
  ),
}


def paths(tree, name, path=()):
  """The paths of the layers that have a parameter of that name."""
  found = {"/".join(path)} if name in tree else set()
  for key, value in tree.items():
    found |= paths(value, name, (*path, key)) if isinstance(value, dict) else set()
  return found


@pytest.mark.parametrize("name", NETWORKS)
def test_which_layers_are_quantized_and_signed(name):
  plain = NETWORKS[name](10)
  images = jnp.zeros((2, 8, 8, 1))
  own, variables = (
    jax.eval_shape(lambda module=module: module.init(jax.random.key(0), images, train=True))
    for module in (plain, quantize(plain, "8A,4W"))
  )
  params = dict(variables["params"])
  steps = params.pop("quantization")
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, dict(own["params"]))
  first, last, signed = EXPECTED[name]
  assert paths(params, "kernel") - paths(steps, "weight_step") == {first, last}
  assert paths(steps, "activation_step") == signed


def rows(path):
  with open(path) as file:
    return list(csv.DictReader(file))


def falls_short(trained) -> dict:
  """By network, precision and scheme, the points of mean accuracy below full precision."""
  means = {}
  for row in trained:
    key = row["network"], row["precision"], row["scheme"]
    means.setdefault(key, []).append(float(row["accuracy"]))
  means = {key: statistics.mean(scores) for key, scores in means.items()}
  return {key: means[key[0], *FULL] - mean for key, mean in means.items()}


def check_within_three_points(trained):
  short = falls_short(trained)
  assert len(short) == len(NETWORKS) * 7  # full precision, and two precisions under three schemes
  assert max(short.values()) <= 3, short
  # Nothing learns from chance alone.
  assert min(float(row["accuracy"]) for row in trained) > 90


def test_the_table_is_of_the_trainings_and_within_three_points():
  import train

  trained = rows(FOLDER / "trainings.csv")
  check_within_three_points(trained)
  assert train.table(trained) in (FOLDER / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_trainings_end_within_three_points(tmp_path):
  out = tmp_path / "trainings.csv"
  # A process of its own: here the compiler is told not to try hard.
  environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
  command = [sys.executable, str(FOLDER / "train.py"), "--seed=0", f"--out={out}"]
  done = subprocess.run(command, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  check_within_three_points(rows(out))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["8A,4W", "8A,2W"])
@pytest.mark.parametrize("name", NETWORKS)
def test_pmap_is_jit_of_each_share(name, precision):
  net = quantize(NETWORKS[name](10), precision)
  images = jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, 8, 8, 1)), jnp.float32)
  variables = jax.jit(net.init)(jax.random.key(0), images[0])
  # A branch of the ResNet starts at scale 0, where its kernels have no gradient.
  variables["params"] = jax.tree.map(lambda a: a + 0.05, variables["params"])

  def loss(params, images):
    y, new = net.apply({**variables, "params": params}, images, mutable=["batch_stats"])
    return jnp.mean(jnp.sin(y)), new

  gradient = jax.value_and_grad(loss, has_aux=True)
  both = jax.pmap(gradient, in_axes=(None, 0))(variables["params"], images)
  each = [jax.jit(gradient)(variables["params"], share) for share in images]
  close = lambda a, *shares: np.testing.assert_allclose(a, shares, rtol=1e-4, atol=1e-5)
  jax.tree.map(close, both, *each)
  for path, g in jax.tree_util.tree_leaves_with_path(both[1]):
    # Others may well be none: a clip of 6 is beyond all values here.
    if path[-1].key == "kernel":
      assert np.any(g), path
