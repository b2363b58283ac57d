"""A study on the digits: what it writes, what it shares, and what it does not do twice."""

import contextlib
import csv
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import statistics
import types

import pytest

from apprentice_jax import config as configs
from apprentice_jax.data.splits import open_splits
from apprentice_jax.distill.step import Trainer
from apprentice_jax.errors import ConfigError, Preempted
from apprentice_jax.study import cells, jobs, tables
from apprentice_jax.study.run import run_study
from apprentice_jax.training import api, devices, dispatch

KINDS = ("teacher", "student", "baseline", "A", "B", "C", "C-control")


def tiny():
  config = configs.base()
  for network in (config.student, config.teacher):
    network.update(dict(name="resnet8", width=0.25))
  for recipe in config.recipe.values():
    recipe.update(epochs=0.6, warmup_epochs=0.2)
  config.update_from_flattened_dict(
    {
      "data.name": "digits",
      "data.pad": 1,
      "data.flip": False,
      "batch_size": 64,
      "steps_per_dispatch": 5,
      "study.precisions": ("8A,2W",),
      "study.seeds": (0, 1),
    }
  )
  return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """(workdir, table, counts) of a study: what was compiled, and where cells started from."""
  workdir, counts = tmp_path_factory.mktemp("study"), {"programs": 0, "traces": 0, "starts": {}}
  train = api.train

  def counted(name, function):
    def wrapped(*args, **kwargs):
      counts[name] += 1
      return function(*args, **kwargs)

    return wrapped

  def noted(config, place, **starts):
    counts["starts"][place.name] = {
      k: pathlib.Path(v).name for k, v in starts.items() if k in ("teacher", "student")
    }
    return train(config, place, **starts)

  dispatch.program.cache_clear()
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(dispatch, "Program", counted("programs", dispatch.Program))
    patch.setattr(Trainer, "step", counted("traces", Trainer.step))
    patch.setattr(api, "train", noted)
    table = run_study(tiny(), workdir)
  return workdir, table, counts


def rows(workdir):
  with (workdir / "results.csv").open() as file:
    return list(csv.DictReader(file))


@pytest.mark.slow
def test_every_cell_is_there_with_its_own_runs_numbers(finished):
  workdir, _, counts = finished
  found = rows(workdir)
  assert sorted((r["cell"], r["precision"], r["seed"]) for r in found) == sorted(
    (k, "32A,32W" if k in ("teacher", "student") else "8A,2W", s) for k in KINDS for s in "01"
  )
  for row in found:
    result = json.loads((workdir / row["workdir"] / "result.json").read_text())
    config = json.loads((workdir / row["workdir"] / "config.json").read_text())
    assert float(row["accuracy"]) == result["test_accuracy"]
    assert float(row["loss"]) == result["test_loss"]
    assert int(row["count"]) == result["test_count"] == 360
    assert float(row["epochs"]) == pytest.approx(0.58, abs=0.01)  # 13 steps of 64
    assert config["seed"] == int(row["seed"]) and config["precision"] == row["precision"]
    for field in ("teacher_accuracy", "agreement", "steps"):
      assert row[field] == str(result.get(field if field == "steps" else f"test_{field}", ""))
    assert row["teacher_accuracy"] or row["cell"] != "A"
    assert row["network"] == "resnet8 at width 0.25" and row["point"] == ""
    # What starts from a trained network takes the same seed's.
    starts = {"B": ("teacher",), "C": ("teacher", "student"), "C-control": ("student",)}
    assert counts["starts"][row["workdir"].rpartition("/")[2]] == {
      which: f"{which}-32A32W-seed{row['seed']}" for which in starts.get(row["cell"], ())
    }
    expected = {"teacher": "baseline", "student": "baseline"}.get(row["cell"], row["cell"])
    assert config["scheme"] == expected
  # Ternary weights, apart from the full-precision stem and head, are much smaller than floats.
  size = {r["cell"]: int(r["bytes"]) for r in found}
  assert size["teacher"] == size["student"] and size["A"] == size["C"] < size["student"] / 3


def test_a_student_like_its_teacher_is_trained_once(finished):
  workdir, *_ = finished
  for seed in "01":
    teacher, student = (workdir / "cells" / f"{kind}-32A32W-seed{seed}" for kind in cells.ALONE)
    # The seconds of two trainings would differ.
    for name in ("metrics.jsonl", "result.json", "config.json", "starts.jsonl"):
      assert (student / name).read_bytes() == (teacher / name).read_bytes()
  assert not list(workdir.glob("*.part"))
  assert "the student is a copy of the teacher's training." in (workdir / "report.md").read_text()


def test_the_tables_numbers_are_those_of_the_csv(finished):
  workdir, table, *_ = finished
  found = rows(workdir)
  accuracy = {(r["cell"], r["seed"]): 100 * float(r["accuracy"]) for r in found}
  lines = [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()[2:]]
  assert [line[:2] for line in lines] == [
    [tables.NAMES[k], "32A,32W" if k in ("teacher", "student") else "8A,2W"] for k in KINDS
  ]
  for kind, (_, _, mean, gap, size) in zip(KINDS, lines):
    values = [accuracy[kind, s] for s in "01"]
    assert mean == f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
    if kind in ("teacher", "student"):
      assert gap == ""
    else:
      gaps = [accuracy[kind, s] - accuracy["student", s] for s in "01"]
      assert gap == f"{statistics.mean(gaps):+.2f}"
    assert size == f"{next(int(r['bytes']) for r in found if r['cell'] == kind) / 1000:.1f} kB"


def test_the_report_holds_the_table_and_its_plots(finished):
  workdir, table, *_ = finished
  text = (workdir / "report.md").read_text()
  assert table in text and "360 images of the test split" in text
  plots = sorted(p.name for p in workdir.glob("*.png"))
  assert plots == ["accuracy-bops.png", "accuracy-size.png", "curves-32A32W.png", "curves-8A2W.png"]
  for plot in plots:
    assert f"({plot})" in text
    assert (workdir / plot).read_bytes().startswith(b"\x89PNG")


def test_cells_that_differ_in_numbers_alone_share_a_program(finished):
  counts = finished[2]
  # Full precision alone (teacher and student are one network here); baseline and C's control; A;
  # B and C: four, whatever the seeds.
  assert counts["programs"] == counts["traces"] == 4


def test_a_second_run_trains_nothing_wherever_the_workdir_is(finished, tmp_path, monkeypatch):
  workdir, table, _ = finished
  moved = shutil.copytree(workdir, tmp_path / "moved")
  before = (workdir / "results.csv").read_text()
  monkeypatch.setattr(api, "Run", None)  # whatever would be started fails
  assert run_study(tiny(), moved) == table
  assert (moved / "results.csv").read_text() == before
  # A study of some of the cells and seeds is the same study.
  config = tiny()
  config.study.cells, config.study.seeds = ("student", "baseline"), (1,)
  run_study(config, moved)
  assert [
    r
    for r in csv.DictReader(before.splitlines())
    if r["cell"] in config.study.cells and r["seed"] == "1"
  ] == rows(moved)


def test_another_studys_workdir_is_refused(finished):
  config = tiny()
  config.batch_size = 32
  with pytest.raises(ConfigError, match=r"config.batch_size \(64 there, 32 now\)"):
    run_study(config, finished[0])


def test_variations_go_on_from_the_cells_that_they_do_not_concern(
  finished, tmp_path, monkeypatch, capsys
):
  moved = shutil.copytree(finished[0], tmp_path / "moved")
  before, began, train = rows(moved), [], api.Run
  monkeypatch.setattr(
    api,
    "Run",
    lambda config, place, splits, *starts: (
      began.append((place.name, config.loss.gamma, pathlib.Path(starts[0]).name))
      or train(config, place, splits, *starts)
    ),
  )
  config = tiny()
  config.study.update(
    dict(
      variations=("quarter: loss.gamma=0.25", "same: loss.gamma=0.5"),
      cells=("teacher", "student", "baseline", "B"),
      seeds=(1,),
    )
  )
  table = run_study(config, moved)
  assert began == [
    (f"B-8A2W-{name}-seed1", gamma, "teacher-32A32W-seed1")
    for name, gamma in (("quarter", 0.25), ("same", 0.5))
  ]
  found = rows(moved)
  # The base is what was trained without variations.
  assert [r for r in found if not r["point"]] == [
    r for r in before if r["cell"] in ("teacher", "student", "baseline", "B") and r["seed"] == "1"
  ]
  plain, changed, same = (r for r in found if r["cell"] == "B")
  own = ("seconds", "workdir", "point")
  assert {k: v for k, v in same.items() if k not in own} == {
    k: v for k, v in plain.items() if k not in own
  }
  labels = ["quarter: loss.gamma=0.25", "same: loss.gamma=0.5"]
  assert [changed["point"], same["point"]] == labels
  assert changed["loss"] != same["loss"]
  settings = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]]
  assert settings == ["base"] * 4 + labels
  # The view, before the first cell that is trained and after each one; in a log, its table at the
  # end alone.
  said = capsys.readouterr().out.splitlines()
  views = [line for line in said if "cells done" in line]
  assert [line.startswith("network ") for line in said].count(True) == 1
  assert [view.partition(",")[0] for view in views] == [f"{n} of 6 cells done" for n in (4, 5, 6)]
  assert all("left" in view for view in views[:2]) and "left" not in views[2]


def test_what_cells_start_from_has_to_be_there(tmp_path):
  config = tiny()
  config.study.cells = ("student", "B")
  with pytest.raises(ConfigError, match="has 'B' without 'teacher'"):
    run_study(config, tmp_path)
  assert not list(tmp_path.iterdir())


def test_a_given_teacher_is_scored_not_trained(finished, tmp_path):
  workdir = finished[0]
  config = tiny()
  config.study.cells, config.study.seeds = ("teacher",), (0,)
  config.teacher.init = str(workdir / "cells" / "teacher-32A32W-seed0")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(api, "Run", None)
    run_study(config, tmp_path)
  (row,), original = rows(tmp_path), rows(workdir)[0]
  assert original["cell"] == "teacher" and row["accuracy"] == original["accuracy"]
  assert row["workdir"] == config.teacher.init


@pytest.mark.slow
def test_several_cells_at_once_are_the_same_study(finished, tmp_path, monkeypatch):
  config = tiny()
  config.study.jobs, config.study.seeds = 2, (0,)
  begun = []

  def stop(together=True):  # once two are in hand
    return signal.SIGTERM if len(begun) == 2 else None

  monkeypatch.setattr(jobs.preemption, "requested", stop)
  run = jobs.train_cells
  monkeypatch.setattr(
    jobs,
    "train_cells",
    lambda config, workdir, begins: run(
      config, workdir, lambda in_hand: (begun.append(in_hand), begins(in_hand))
    ),
  )
  with pytest.raises(Preempted, match="cells that had begun are saved, and the same command"):
    run_study(config, tmp_path)
  # The student is a copy of the teacher here, and waits for it.
  assert [cell.kind for cell in begun[1]] == ["teacher", "baseline"] and rows(tmp_path) == []
  begun.append(None)
  run_study(config, tmp_path)
  alone = {(r["cell"], r["precision"]): r for r in rows(finished[0]) if r["seed"] == "0"}
  found = {(r["cell"], r["precision"]): r for r in rows(tmp_path)}
  assert found.keys() == alone.keys()
  for key, row in found.items():
    for field in ("accuracy", "loss", "steps", "agreement"):
      assert row[field] == alone[key][field], (key, field)
  # Each begins after what it starts from, and only two at once.
  hands = [{cell.kind for cell in hand} for hand in begun if hand]
  assert max(map(len, hands)) == 2
  for pair in ({"teacher", "B"}, {"student", "C"}, {"teacher", "student"}):
    assert not any(hand >= pair for hand in hands)


def test_a_cell_goes_where_its_program_is():
  config = tiny()
  config.study.precisions = ("8A,2W", "8A,4W")
  cells_of = {(c.kind, c.precision): c for c in cells.cells(config) if c.seed == 0}
  at = lambda kind, precision="8A,2W": cells_of[kind, precision]
  workers = [jobs._Worker(None, None, set()), jobs._Worker(None, None, set())]
  needs = lambda left: {cell: set(cells.sources(config, cell).values()) for cell in left}
  order = lambda w, left, in_hand=(): jobs._next(workers[w], workers, needs(left), in_hand)
  left = list(cells_of.values())
  assert order(0, left) == at("teacher", "32A,32W")
  waiting = [at("B"), at("C"), at("C-control")]
  assert order(0, waiting, [at("teacher", "32A,32W"), at("student", "32A,32W")]) is None
  assert order(0, waiting, [at("student", "32A,32W")]) == at("B")
  workers[0].programs.update(map(jobs.program_of, [at("baseline"), at("B", "8A,4W")]))
  left = [at("A"), at("baseline"), at("B", "8A,4W"), at("C-control")]
  assert order(0, left) == at("baseline")  # not the first, but it has this one
  assert order(1, left) == at("A")  # new to all
  assert order(1, [at("C-control"), at("B", "8A,4W")]) == at(
    "C-control"
  )  # rather another's than none
  workers[1].programs.add(jobs.program_of(at("C", "8A,4W")))
  assert order(1, [at("C-control"), at("B", "8A,4W")]) == at("B", "8A,4W")


def test_processes_are_told_to_stop_as_often_as_need_be():
  # A second SIGINT would act at once, in the middle of a save: after Ctrl-C they have had one.
  sent = []
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(jobs.os, "kill", lambda pid, number: sent.append((pid, number)))
    ours, theirs = multiprocessing.Pipe()
    theirs.send(None)
    process = types.SimpleNamespace(pid=7, is_alive=lambda: True)
    jobs._stop(
      [jobs._Worker(process, ours, set()), jobs._Worker(process, None, set())], {ours: None}
    )
  assert sent == [(7, signal.SIGTERM)]


def test_a_process_that_ends_without_a_word():
  ours, theirs = multiprocessing.Pipe()
  theirs.close()
  error = jobs._received(ours, cells.cells(tiny())[0])
  assert "the process that trained teacher-32A32W-seed0 ended without a message" in str(error)


@pytest.mark.parametrize(
  "platform, devices, processes, expected",
  [
    ("cpu", 2, 1, 3),
    ("cpu", 2, 2, 1),
    ("gpu", 1, 1, 3),
    ("gpu", 4, 1, 1),
    ("gpu", 1, 2, 1),
    ("tpu", 1, 1, 1),
  ],
)
def test_how_many_cells_at_once(platform, devices, processes, expected, monkeypatch):
  config = tiny()
  config.study.jobs = 3
  monkeypatch.setattr(
    jobs.jax, "devices", lambda: [types.SimpleNamespace(platform=platform)] * devices
  )
  monkeypatch.setattr(jobs.jax, "device_count", lambda: devices)
  monkeypatch.setattr(jobs.jax, "process_count", lambda: processes)
  assert jobs.count(config) == expected


@pytest.mark.parametrize(
  "number, own, expected", [(1, None, None), (2, None, "false"), (2, "true", "true")]
)
def test_jobs_take_of_a_gpu_what_they_need(number, own, expected, monkeypatch):
  name = "XLA_PYTHON_CLIENT_PREALLOCATE"
  monkeypatch.delenv(name, raising=False)
  if own:
    monkeypatch.setenv(name, own)
  monkeypatch.setattr(
    devices,
    "jax",
    types.SimpleNamespace(
      config=types.SimpleNamespace(update=lambda *_: None, jax_compilation_cache_dir="somewhere"),
      process_index=lambda: 1,
    ),
  )
  devices.start(1, jobs=number)
  assert os.environ.get(name) == expected
  monkeypatch.delenv(name, raising=False)


def test_a_device_without_room_is_said_in_a_sentence(monkeypatch):
  class JaxRuntimeError(RuntimeError):
    pass

  config = tiny()
  cell = cells.cells(config)[0]
  for error, kind, text in (
    (
      JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
      ConfigError,
      f"too small for {cell.name} beside the others: lower config.study.jobs, now",
    ),
    (ZeroDivisionError("1 / 0"), RuntimeError, "ZeroDivisionError: 1 / 0"),
    (Preempted("stopped", 15), Preempted, "stopped"),
  ):
    monkeypatch.setattr(jobs, "train", lambda *_, error=error: (_ for _ in ()).throw(error))
    found = jobs._error_of(config, cell, pathlib.Path("nowhere"), open_splits(config.data))
    assert type(found) is kind and text in str(found)


@pytest.mark.parametrize("fails", ["begins", "pipe"])
def test_whatever_fails_the_others_are_told_to_stop(fails, tmp_path, monkeypatch):
  config = tiny()
  config.study.jobs, stopped = 2, []
  pipes = [multiprocessing.Pipe() for _ in range(2)]
  workers = iter(contextlib.nullcontext(jobs._Worker(None, ours, set())) for ours, _ in pipes)
  monkeypatch.setattr(jobs, "_worker", lambda *_: next(workers))
  monkeypatch.setattr(jobs, "_stop", lambda workers, in_hand: stopped.append(len(in_hand)))
  if fails == "pipe":
    pipes[1][1].close()  # the second ended before it was given anything
    pipes[1][0].close()

  def begins(in_hand):
    if fails == "begins" and len(in_hand) == 2:
      raise OSError("no space left")

  with pytest.raises(
    OSError if fails == "begins" else ConfigError, match="no space|ended without a message"
  ):
    jobs.train_cells(config, tmp_path, begins)
  assert stopped == [2 if fails == "begins" else 1]
