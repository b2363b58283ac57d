"""Checkpoints: what comes back is what went in, placed as asked, whatever the devices."""

import errno
import os

import jax
import numpy as np
import optax
import pytest

from apprentice_jax.distill.step import Network, State
from apprentice_jax.training import checkpoint, parallel
from apprentice_jax.training.checkpoint import Checkpoints


def state(seed, trains_teacher):
  r = np.random.default_rng(seed)

  def network(trains):
    params = {
      "conv": {"kernel": r.standard_normal((3, 2)).astype(np.float32)},
      "clip": np.float32(r.random()),
    }
    opt_state = (optax.EmptyState(), optax.TraceState(jax.tree.map(lambda p: p + 1, params)))
    return Network(
      params, {"norm": {"mean": r.random(2).astype(np.float32)}}, opt_state if trains else None
    )

  return State(network(True), network(trains_teacher))


@pytest.mark.parametrize("trains_teacher", [True, False])
@pytest.mark.parametrize("devices", [8, 2])
def test_round_trip(trains_teacher, devices, tmp_path):
  saved, others = state(0, trains_teacher), state(1, trains_teacher)
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.latest() is None
    checkpoints.save(3, parallel.replicate(saved), {"examples": 96})
  chosen = jax.devices()[:devices]
  with Checkpoints(tmp_path) as checkpoints:
    found, meta = checkpoints.restore(parallel.replicate(others, chosen))
    student, step = checkpoints.student()
  assert (meta["step"], meta["examples"]) == (3, 96)
  # A fixed teacher is not in there: it is the one that was handed in.
  expected = saved if trains_teacher else saved._replace(teacher=others.teacher)
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
    np.testing.assert_array_equal(a, b)
    assert a.devices() == set(chosen)
  jax.tree.map(
    np.testing.assert_array_equal,
    (student.params, student.batch_stats),
    (saved.student.params, saved.student.batch_stats),
  )
  assert student.opt_state is None and step == 3


def test_where_no_space_can_be_set_aside_a_file_has_to_do(tmp_path, monkeypatch):
  """A bucket or a network disk: nothing large is written to find out."""

  def unable(*_):
    raise OSError(errno.EOPNOTSUPP, "not supported")

  monkeypatch.setattr(checkpoint, "_set_space_aside", unable)
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(1, parallel.replicate(state(1, True)), {})
    assert checkpoints.latest() == 1


def test_space_is_set_aside(tmp_path):
  with open(tmp_path / "file", "wb") as file:
    checkpoint._set_space_aside(file.fileno(), 2**20)
    assert os.fstat(file.fileno()).st_size == 2**20
  with (
    open(tmp_path / "file") as file,
    pytest.raises(OSError, match="Bad file"),
  ):  # not open to write
    checkpoint._set_space_aside(file.fileno(), 1)


def test_only_the_newest_are_kept(tmp_path):
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    for step in (1, 2, 3):
      checkpoints.save(step, parallel.replicate(state(step, True)), {})
  assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["2", "3"]
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.latest() == 3
    np.testing.assert_array_equal(
      checkpoints.student()[0].params["clip"], state(3, True).student.params["clip"]
    )
