"""Workdirs of TTQ before its magnitudes had an axis: read as they were, or refused in a
sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import tiny

from apprentice_jax import quantizers
from apprentice_jax.distill.step import Network, State
from apprentice_jax.errors import ConfigError
from apprentice_jax.models.residual import variable_shapes
from apprentice_jax.training import api, networks, parallel
from apprentice_jax.training.checkpoint import Checkpoints
from apprentice_jax.training.workdir import write_config


def begun(workdir, per_channel, negative=0.25):
  """A workdir whose checkpoint has scalar magnitudes; its config, and its student."""
  config = tiny(
    scheme="baseline",
    precision="8A,2W",
    quantization__weights="ttq",
    quantization__per_channel=per_channel,
  )
  built, random = networks.settings(config, 10), np.random.default_rng(0)

  def fill(path, leaf):
    value = {"positive": 0.5, "negative": negative}.get(path[-1].key)
    return np.float32(value) if value else random.uniform(0.1, 1, leaf.shape).astype(np.float32)

  shapes = variable_shapes(built.student, (8, 8, 1))
  params, stats = (
    jax.tree_util.tree_map_with_path(fill, shapes[c]) for c in ("params", "batch_stats")
  )
  student = Network(
    params, stats, built.student_optimizer.build().init(jax.tree.map(jnp.asarray, params))
  )
  with Checkpoints(workdir, keep=1) as checkpoints:
    checkpoints.save(10, parallel.replicate(State(student)), {"examples": 640})
  write_config(workdir, config)
  return config, student, built.student


@pytest.mark.parametrize("per_channel", [True, False])
def test_scalar_magnitudes_are_read_and_the_layers_weights_are_what_they_were(
  per_channel, tmp_path
):
  _, student, model = begun(tmp_path, per_channel)
  found = networks.load(str(tmp_path), model, (8, 8, 1), complete=True)
  layer, before = (n.params["stage2_block1"]["conv1"] for n in (found, student))
  assert layer["positive"].shape == layer["negative"].shape == ((8,) if per_channel else (1,))
  now = quantizers.ttq(layer["kernel"], layer["positive"], layer["negative"])
  np.testing.assert_array_equal(now, quantizers.ttq(before["kernel"], 0.5, 0.25))


def test_a_magnitude_below_zero_is_refused(tmp_path):
  _, _, model = begun(tmp_path, True, negative=-0.25)
  with pytest.raises(ConfigError) as error:
    networks.load(str(tmp_path), model, (8, 8, 1))
  assert str(error.value) == (
    f"{tmp_path} holds a network of an earlier TTQ with a magnitude below 0, which TTQ no longer "
    "has: train it anew, "
    "or export it with the version that trained it."
  )


def test_a_run_of_it_does_not_continue(tmp_path, monkeypatch):
  config, _, _ = begun(tmp_path, True)
  monkeypatch.setattr(networks, "initial_state", lambda *_: State(None))
  with pytest.raises(ConfigError) as error:
    api.train(config, tmp_path)
  assert str(error.value) == (
    f"{tmp_path} cannot continue: it began with an earlier TTQ, whose steps were too large; "
    "choose another --workdir."
  )
