"""What `study --status` says of a study that is running."""

import os

import pytest
from made_study import accuracy, config_of, made

from apprentice_jax import cli
from apprentice_jax.study import cells, progress
from apprentice_jax.study.variations import Variation


def test_status_of_a_study_that_another_process_runs(tmp_path, capsys):
  config = config_of(seeds=(0, 1), cells=("teacher", "student", "baseline", "B"))
  study = made(tmp_path / "study", config, leave=lambda c: c.seed == 1 and c.kind == "B")
  running = study / "cells" / "baseline-8A2W-seed1"
  (running / "result.json").unlink()
  last = os.stat(running / "metrics.jsonl").st_mtime
  os.utime(running / "metrics.jsonl", (last - 100, last - 100))
  before = {p: p.read_bytes() for p in study.rglob("*") if p.is_file()}
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
  assert {p: p.read_bytes() for p in study.rglob("*") if p.is_file()} == before
  assert cli.main(["study", "--status", f"--workdir={running}"]) == 2
  assert f"apprentice: {running} holds a training run, not a study." in capsys.readouterr().err


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
