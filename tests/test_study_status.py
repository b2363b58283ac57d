"""The words of `study --status` on a running study, and on an interrupted one."""

import fcntl
import os
import socket
import subprocess
import sys

import pytest
from made_study import accuracy, config_of, made

from apprentice_jax import cli
from apprentice_jax.study import cells, progress
from apprentice_jax.study.variations import Variation
from apprentice_jax.training import workdir


def test_status_of_a_study_that_another_process_runs(tmp_path, capsys):
  config = config_of(seeds=(0, 1), cells=("teacher", "student", "baseline", "B"))
  study = made(tmp_path / "study", config, leave=lambda c: c.seed == 1 and c.kind == "B")
  running = study / "cells" / "baseline-8A2W-seed1"
  (running / "result.json").unlink()
  last = os.stat(running / "metrics.jsonl").st_mtime
  os.utime(running / "metrics.jsonl", (last - 100, last - 100))
  before = {p: p.read_bytes() for p in study.rglob("*") if p.is_file()}
  with holding(running):
    assert cli.main(["study", "--status", f"--workdir={study}"]) == 0
  out = capsys.readouterr().out.splitlines()
  # 10 seconds at seed 0 of both; four of the running one's are over.
  assert out[0] == "6 of 8 cells done, about 0:16 left"
  assert [line.split() for line in out[1:6]] == [
    ["network", "precision", "seed", "0", "seed", "1"],
    *(
      [k, p, *(f"{accuracy(cells.Cell(k, p, s)):.2f}" for s in (0, 1))]
      for k, p in (("teacher", "32A,32W"), ("student", "32A,32W"))
    ),
    ["baseline", "8A,2W", "82.00", "running"],
    ["B", "8A,2W", "84.00", "waiting"],
  ]
  assert out[6].startswith("baseline-8A2W-seed1: epoch 4.00 of 30, last record 1:4")
  (running / "lock").unlink()
  assert {p: p.read_bytes() for p in study.rglob("*") if p.is_file()} == before
  assert cli.main(["study", "--status", f"--workdir={running}"]) == 2
  assert f"apprentice: {running} holds a training run, not a study." in capsys.readouterr().err


class holding:
  """Another process holds a workdir, and is killed at the end."""

  PROGRAM = """if True:
    import fcntl, socket, sys, time
    file = open(sys.argv[1], "a")
    fcntl.flock(file, fcntl.LOCK_EX)
    print("process 1 on " + socket.gethostname(), file=file, flush=True)
    print("held", flush=True)
    time.sleep(600)
  """

  def __init__(self, run):
    self._command = [sys.executable, "-c", self.PROGRAM, str(run / "lock")]

  def __enter__(self):
    self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
    assert self._process.stdout.readline() == "held\n"

  def __exit__(self, *_):
    self._process.kill()
    self._process.communicate()


def test_a_cell_runs_only_while_a_process_holds_it(tmp_path):
  study = made(tmp_path / "study", config_of(seeds=(0,), cells=("student", "baseline")))
  run, lock = (study / "cells" / "baseline-8A2W-seed0" / name for name in ("", "lock"))
  (run / "result.json").unlink()

  def said():
    lines = progress.status(study).splitlines()
    return lines[-2].split()[-1], lines[-1].removeprefix("baseline-8A2W-seed0: ")

  # Ten steps an epoch, four of thirty epochs.
  begun = ("begun", "begun, 40 of 300 steps: the same command continues")
  assert said() == begun
  with holding(run):
    assert said()[0] == "running" and said()[1].startswith("epoch 4.00 of 30, last record 0:0")
  # It was killed, and its lock file still names it.
  assert lock.read_text() and said() == begun
  with workdir.writing(run):
    assert said()[0] == "running"
  assert lock.read_text() == "" and said() == begun  # as after a SIGTERM
  # Another machine's lock may not reach here: its newest file tells.
  lock.write_text("process 1 on elsewhere")
  assert socket.gethostname() != "elsewhere" and said()[0] == "running"
  old = os.stat(lock).st_mtime - 2 * progress.RECENT
  os.utime(lock, (old, old))
  assert said()[0] == "running"
  os.utime(run / "metrics.jsonl", (old, old))
  assert said() == begun
  (run / "metrics.jsonl").unlink()
  assert said() == ("begun", "begun: the same command continues")


def test_a_look_at_the_status_stops_no_run(tmp_path, monkeypatch):
  (tmp_path / "lock").touch()
  with (tmp_path / "lock").open() as look:
    fcntl.flock(look, fcntl.LOCK_SH)
    # The look ends while the run waits for its second try.
    monkeypatch.setattr(workdir.time, "sleep", lambda _: look.close())
    with workdir.writing(tmp_path):
      assert workdir.held(tmp_path)


def test_time_left_is_that_of_cells_alike():
  cell = cells.Cell
  done, waiting = lambda s: progress.Status("done", 50.0, s), progress.Status("waiting")
  variation = Variation("quarter", (("loss.gamma", 0.25),))
  found = {cell("A", "8A,2W", 0): waiting, cell("teacher", "32A,32W", 0): progress.Status("given")}
  assert progress.time_left(found) is None and "left" not in progress.table(found)
  assert progress.table(found).splitlines()[0] == "0 of 1 cells done"
  found |= {
    cell("B", "8A,2W", 0): done(7),
    cell("A", "8A,4W", 0): done(30),
    cell("A", "8A,2W", 1, variation): done(20),
  }
  # The time of another variation comes before that of another precision.
  assert progress.time_left(found) == 20
  found |= {cell("A", "8A,2W", 2): done(10), cell("A", "8A,2W", 3): done(14)}
  assert progress.time_left(found) == 12
  found[cell("C", "8A,2W", 0)] = progress.Status("running", None, 6.2)
  assert progress.time_left(found) == pytest.approx(12 + (7 + 30 + 20 + 10 + 14) / 5 - 6.2)
