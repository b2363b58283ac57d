"""Runs on the digits, seconds long, and how to compare two of them."""

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from apprentice_jax import config as configs
from apprentice_jax.models.pytorch.pretrained import Pretrained
from apprentice_jax.training import api
from apprentice_jax.training.checkpoint import Checkpoints
from apprentice_jax.training.records import MetricsWriter, read_records

STEPS = 27  # 1.2 epochs of 22.45 steps
TIMING = ("seconds", "images_per_second", "data_wait", "host_memory")


def tiny(**changes):
  """Seconds long; teacher and student are one network, so that they share a program."""
  config = configs.base()
  small = dict(name="resnet8", width=0.25)
  for network in (config.student, config.teacher):
    network.update(small)
  for recipe in config.recipe.values():
    recipe.update(epochs=1.2, warmup_epochs=0.2)
  config.update_from_flattened_dict(
    {
      "data.name": "digits",
      "data.pad": 1,
      "data.flip": False,
      "batch_size": 64,
      "steps_per_dispatch": 5,
      "checkpoint.every_epochs": 0.4,
    }
  )
  config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
  return config


def final_state(workdir):
  """Everything the last checkpoint holds: parameters, statistics, optimizer state."""
  with Checkpoints(workdir) as checkpoints:
    state, meta = checkpoints.contents()
  return meta["step"], {
    jax.tree_util.keystr(p): np.asarray(leaf)
    for p, leaf in jax.tree_util.tree_leaves_with_path(state)
  }


def untimed(record):
  return {k: v for k, v in record.items() if k not in TIMING}


def assert_same_run(workdir, expected):
  """Bit for bit, and record for record, apart from the clock."""
  (step, state), (expected_step, expected_state) = final_state(workdir), final_state(expected)
  assert step == expected_step == STEPS and state.keys() == expected_state.keys()
  for name, leaf in expected_state.items():
    np.testing.assert_array_equal(state[name], leaf, err_msg=name)
  records = [[untimed(r) for r in read_records(w)] for w in (workdir, expected)]
  assert records[0] == records[1]
  assert untimed(api.result(workdir)) == untimed(api.result(expected))


def scheme_config(kind, pretrained):
  """The config of "A", "B", "C", or "A streamed": images that are read as they are needed."""
  scheme, _, streamed = kind.partition(" ")
  config = tiny(scheme=scheme)
  if streamed:
    config.data.image_size = config.data.resize = 8
  if scheme in ("B", "C"):
    config.teacher.init = str(pretrained)
  if scheme == "C":
    config.student.init = str(pretrained)
  return config


class Killed(BaseException):
  pass


def begin(config, workdir, monkeypatch, killed_at):
  """Trains until the record of a step, or the final score ("end"), is written."""
  write = MetricsWriter.write

  def killed(self, step, record):
    write(self, step, record)
    if step == killed_at or killed_at == "end" and "test_loss" in record:
      raise Killed

  with monkeypatch.context() as patch:
    patch.setattr(MetricsWriter, "write", killed)
    with pytest.raises(Killed):
      api.train(config, workdir)
  assert api.result(workdir) is None


def named_torch(network, path, order=range(10)):
  """Writes a network by torchvision's names, its outputs in an order."""
  tensors, spelled = {}, Pretrained({}, {}, {}).spelled
  for tree in network.params, network.batch_stats:
    for key, array in jax.tree_util.tree_leaves_with_path(tree):
      name, _ = spelled("/".join(k.key for k in key), array.shape)
      tensors[name] = np.ascontiguousarray(
        np.transpose(array, {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim, (0,)))
      )
  for name in ("fc.weight", "fc.bias"):
    tensors[name] = np.ascontiguousarray(tensors[name][list(order)])
  save_file(tensors, path)
  return str(path)
