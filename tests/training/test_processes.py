"""Two processes with two devices each: the numbers of one with four, and what happens when one
dies.

The all-reduce of two processes adds in another order. The networks are not quantized and learn
slowly, so that no weight changes its level, and hardly a ReLU opens, for a rounding.
"""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from runs import final_state, untimed

from apprentice_jax import cli, environment
from apprentice_jax.deploy import registry
from apprentice_jax.errors import ConfigError
from apprentice_jax.training import api, cluster, guard
from apprentice_jax.training.records import read_records

ROOT = pathlib.Path(__file__).parents[2]
FLAGS = (
  "--config=configs/digits.py:runlocal,student=resnet8,teacher=resnet8,width=0.25,scheme=A,"
  "precision=32A32W",
  "--config.recipe.student.learning_rate=0.01",
  "--config.recipe.teacher.learning_rate=0.01",
  "--config.batch_size=64",
  "--config.steps_per_dispatch=1",
  "--config.checkpoint.every_epochs=0.2",
  "--config.recipe.student.epochs=1.0",
  "--config.export=('packed',)",
)
FIRST = 5  # the step of the first checkpoint
STREAMED = ("--config.data.image_size=8", "--config.data.resize=8", "--config.data.threads=1")
SYNCHRONISED = (
  "--config.sync_batch_norm=True",
  "--config.steps_per_dispatch=4",
  "--config.recipe.student.epochs=1.0",
)
HEARTBEAT = 15  # seconds until a silent process counts as lost
LIMIT = 240  # seconds; far more than anything here takes


def start(workdir, count, devices, flags, own=((), ())):
  """Starts a run in ``count`` processes with some devices each; with flags of their ``own``."""
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    address = f"localhost:{probe.getsockname()[1]}"
  environment = dict(
    os.environ,
    PYTHONPATH=str(ROOT),
    APPRENTICE_HEARTBEAT_SECONDS=str(HEARTBEAT),
    JAX_PLATFORMS="cpu",
    XLA_FLAGS="--xla_backend_optimization_level=0",
  )
  command = [
    sys.executable,
    "-m",
    "apprentice_jax",
    "train",
    *FLAGS,
    *flags,
    f"--workdir={workdir}",
    f"--config.cpu_devices={devices}",
  ]
  joined = lambda i: [
    f"--coordinator_address={address}",
    f"--num_processes={count}",
    f"--process_id={i}",
  ]
  return [
    subprocess.Popen(
      command + (joined(i) if count > 1 else []) + [*own[i]],
      cwd=ROOT,
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(count)
  ]


@contextlib.contextmanager
def started(*arguments):
  running = start(*arguments)
  try:
    yield running
  finally:
    for process in running:
      process.kill()  # the worker of a guard ends with it


def ends(running):
  """Exit statuses and what was printed on standard error, of every process."""
  printed = [p.communicate(timeout=LIMIT)[1] for p in running]
  return [p.returncode for p in running], printed


def train(*arguments):
  with started(*arguments) as running:
    statuses, printed = ends(running)
  assert not any(statuses), printed


def wait_for_checkpoint(workdir, step):
  """Until there is a checkpoint of the step or a later one."""
  until = time.monotonic() + LIMIT
  while not any(
    p.name.isdigit() and int(p.name) >= step for p in (workdir / "checkpoints").glob("*")
  ):
    assert time.monotonic() < until
    time.sleep(0.02)


def worker_of(guard):
  """The process that does the work of one that only watches it."""
  return int(pathlib.Path(f"/proc/{guard.pid}/task/{guard.pid}/children").read_text().split()[0])


def records(workdir):
  return [untimed(r) for r in read_records(workdir)]


def assert_close(workdir, expected):
  """All of the last checkpoint, and the metrics of every step."""
  (step, state), (expected_step, expected_state) = final_state(workdir), final_state(expected)
  found, wanted = records(workdir), records(expected)
  assert step == expected_step and [r["step"] for r in found] == [r["step"] for r in wanted]
  for a, b in zip([state, *found], [expected_state, *wanted]):
    assert a.keys() == b.keys()
    for name in a:
      np.testing.assert_allclose(a[name], b[name], rtol=1e-3, atol=1e-3, err_msg=name)
  for a, b in zip(found, wanted):
    np.testing.assert_allclose(a.get("loss", 0), b.get("loss", 0), rtol=1e-5)
  assert untimed(api.result(workdir)).keys() == untimed(api.result(expected)).keys()
  assert registry.load(workdir / "student.packed").class_names == tuple("0123456789")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
  """The workdir of a run of two processes that nothing interrupted."""
  workdir = tmp_path_factory.mktemp("pair")
  train(workdir, 2, 2, STREAMED)
  return workdir


@pytest.mark.slow
def test_two_processes_train_as_one(pair, tmp_path):
  train(tmp_path, 1, 4, STREAMED)
  assert_close(pair, tmp_path)
  assert [r["step"] for r in records(pair) if "loss" in r] == list(range(1, 23))
  assert api.result(pair)["test_count"] == 360


@pytest.mark.slow
def test_one_process_writes(pair):
  written = [r["step"] for r in records(pair) if "loss" in r]
  assert written == sorted(set(written))
  assert len(list((pair / "tensorboard").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="finds processes in /proc")
def test_a_lost_process_ends_the_other_and_the_pair_continues(pair, tmp_path):
  for victim, step in ((1, FIRST), (0, 2 * FIRST)):
    with started(tmp_path, 2, 2, STREAMED) as running:
      wait_for_checkpoint(tmp_path, step)
      os.kill(worker_of(running[victim]), signal.SIGKILL)
      statuses, printed = ends(running)
    assert statuses[victim] == 128 + signal.SIGKILL
    assert statuses[1 - victim] == 75
    assert guard.LOST in printed[1 - victim]
  train(tmp_path, 2, 2, STREAMED)
  (step, state), (expected_step, expected) = final_state(tmp_path), final_state(pair)
  assert step == expected_step and state.keys() == expected.keys()
  for name in state:
    np.testing.assert_array_equal(state[name], expected[name], err_msg=name)
  assert records(tmp_path) == records(pair)


@pytest.mark.slow
def test_a_run_moves_between_one_process_and_two(tmp_path):
  whole, moved = tmp_path / "whole", tmp_path / "moved"
  train(whole, 1, 1, SYNCHRONISED)
  latest = 0
  for count, devices in ((1, 1), (2, 2)):
    with started(moved, count, devices, SYNCHRONISED) as running:
      wait_for_checkpoint(moved, latest + 1)
      running[-1].send_signal(signal.SIGTERM)  # one is enough: they agree
      statuses, printed = ends(running)
    assert statuses == [75] * count, printed
    assert "saved" in printed[0]
    latest = final_state(moved)[0]
  train(moved, 1, 1, SYNCHRONISED)
  assert_close(moved, whole)


def test_a_mistake_on_all_is_said_by_all(tmp_path):
  (tmp_path / "cells").mkdir()
  with started(tmp_path, 2, 1, ()) as running:
    statuses, printed = ends(running)
  assert statuses == [2, 2]
  assert all("holds a study" in p for p in printed)


@pytest.mark.slow
def test_what_one_machine_does_not_have_is_said_by_all(pair, tmp_path):
  """Also where the others could read it, which they do together."""
  own = [[f"--config.teacher.init={path}"] for path in (pair, "nowhere")]
  with started(tmp_path, 2, 1, ["--config.scheme=B"], own) as running:
    statuses, printed = ends(running)
  assert statuses == [2, 2]
  assert all(
    "process 1: config.teacher.init=nowhere is neither a workdir nor a checkpoint file." in p
    for p in printed
  ), printed


@pytest.mark.slow
def test_a_workdir_in_use_ends_all(tmp_path):
  from apprentice_jax.training.workdir import writing

  with writing(tmp_path), started(tmp_path, 2, 1, ()) as running:
    statuses, printed = ends(running)
  assert statuses == [2, 2]
  assert all("another run is writing to" in p for p in printed)


@pytest.mark.parametrize(
  "flags, sentence",
  [
    (("h:1", None, None), "--num_processes and --process_id missing"),
    (("", 2, 0), "--coordinator_address missing"),
    (("host", 2, 0), "'host': write HOST:PORT"),
    (("h:1", 2, 2), "--process_id is 2: it counts from 0 to 1"),
  ],
)
def test_flags_that_make_no_sense(flags, sentence, capfd):
  with pytest.raises(ConfigError, match=sentence):
    cluster.check(*flags)
  if flags == ("", 2, 0):  # the process under the guard says it
    assert (
      cli.main(["train", FLAGS[0], "--workdir=nowhere", "--num-processes=2", "--process_id=0"]) == 2
    )
    assert sentence in capfd.readouterr().err and not pathlib.Path("nowhere").exists()


def test_where_there_are_several(monkeypatch):
  for name in ("SLURM_STEP_NODELIST", "SLURM_NTASKS"):
    monkeypatch.delenv(name, raising=False)
  assert not cluster.several(None) and not cluster.several(1) and cluster.several(2)
  monkeypatch.setenv("SLURM_NTASKS", "8")  # inside an allocation, not under srun
  assert not cluster.several(None)
  monkeypatch.setenv("SLURM_STEP_NODELIST", "node[1-8]")
  assert cluster.several(None)
  monkeypatch.setenv("SLURM_NTASKS", "1")
  assert not cluster.several(None)


def test_machines_with_tpus_count_as_several(monkeypatch):
  monkeypatch.delenv("SLURM_STEP_NODELIST", raising=False)
  monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: name == "libtpu")
  monkeypatch.setattr(environment, "has_tpu", lambda: True)
  for platforms, expected in (("", True), ("tpu,cpu", True), ("cpu", False)):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    assert cluster.several(None) == expected and not cluster.several(1)
  monkeypatch.delenv("JAX_PLATFORMS")
  assert cluster.several(None)


def test_the_vendor_of_a_tpu(monkeypatch, tmp_path):
  monkeypatch.setattr(environment.glob, "glob", lambda _: [str(p) for p in tmp_path.iterdir()])
  (tmp_path / "a").write_text("0x8086\n")
  assert not environment.has_tpu()
  (tmp_path / "b").write_text("0x1ae0\n")
  assert environment.has_tpu()


class JaxRuntimeError(Exception):
  """Under the name of jax's, with messages that it was seen to have."""


@pytest.mark.parametrize(
  "message, memory, lost",
  [
    ("RESOURCE_EXHAUSTED: Out of memory allocating 1099511627776 bytes.", True, False),
    (
      "FAILED_PRECONDITION: Buffer Definition Event: Gloo all-reduce failed: Connection closed by "
      "peer",
      False,
      True,
    ),
    ("UNAVAILABLE: Task /job:jax_worker/replica:0/task:1 heartbeat timeout", False, True),
    ("DEADLINE_EXCEEDED: GetKeyValue() timed out with key: cpu:gloo/1", False, True),
    (
      "INVALID_ARGUMENT: Executable expected parameter 0 of size 8 but got buffer with size 4",
      False,
      False,
    ),
  ],
)
def test_what_an_error_of_jax_means(message, memory, lost):
  error = JaxRuntimeError(message)
  assert (guard.out_of_memory(error), guard.peer_lost(error)) == (memory, lost)
  assert not guard.out_of_memory(ValueError(message)) and not guard.peer_lost(ValueError(message))


@pytest.mark.parametrize(
  "address, kind, status", [("h:1", ConfigError, 2), ("", cluster.NotTogether, 75)]
)
def test_processes_that_do_not_come_together(address, kind, status, monkeypatch):
  def late(**_):
    raise RuntimeError("DEADLINE_EXCEEDED: Barrier timed out.")

  monkeypatch.setattr(jax.distributed, "initialize", late)
  monkeypatch.setattr(cluster, "several", lambda _: True)
  with pytest.raises(ConfigError, match="did not come together .*Barrier timed out") as error:
    cluster.join(address, 2, 0)
  assert error.type is kind and getattr(error.value, "exit_code", 2) == status


def test_one_process_agrees_with_itself():
  assert cluster.share({"a": [1, None]}) == {"a": [1, None]} and cluster.sum_of(3) == 3
  assert cluster.agreed(lambda: 5) == 5 and cluster.first()
  with pytest.raises(OSError, match="full"):
    cluster.on_first(lambda: (_ for _ in ()).throw(OSError(28, "full")))
  assert jax.process_count() == 1
