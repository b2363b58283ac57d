"""A student with its teacher's settings is a copy of the teacher's training, or its own."""

import errno
import shutil

import pytest
from made_study import made, varied

from apprentice_jax.data.splits import open_splits
from apprentice_jax.errors import ConfigError
from apprentice_jax.study import cells, jobs, outlook, progress, report, results
from apprentice_jax.training import forecast

KINDS = ("teacher", "student", "baseline")
SENTENCE = "the student is a copy of the teacher's training."


def alike(*texts, **fields):
  """A config whose teacher and student are equal in everything."""
  config = varied(*texts, **(dict(cells=KINDS, seeds=(0, 1)) | fields))
  config.recipe.teacher.update(config.recipe.student)
  return config


def place_of(workdir, kind, seed=0):
  return workdir / "cells" / f"{kind}-32A32W-seed{seed}"


def copy(workdir, seed):
  """As the study itself would: made studies have a student of its own."""
  shutil.rmtree(place_of(workdir, "student", seed))
  shutil.copytree(place_of(workdir, "teacher", seed), place_of(workdir, "student", seed))


@pytest.fixture(autouse=True)
def speed(monkeypatch):
  monkeypatch.setattr(forecast, "speed", lambda: 1e9)


def trainings(config, workdir):
  """The number of trainings in the words before the first cell."""
  lines = outlook.lines(config, workdir, open_splits(config.data))
  return lines[0].partition(":")[0] if lines else ""


def test_a_begun_student_of_its_own_is_a_training_to_do(tmp_path):
  config = alike()
  study = made(tmp_path / "study", config)
  assert trainings(config, study) == ""
  (place_of(study, "student") / "result.json").unlink()
  assert trainings(config, study) == "1 of 6 trainings to do"
  # A student that has not begun will be a copy, and is no training.
  shutil.rmtree(place_of(study, "student"))
  (study / "cells" / "baseline-8A2W-seed1" / "result.json").unlink()
  assert trainings(config, study) == "1 of 5 trainings to do for 6 cells"
  copy(study, 1)
  assert trainings(config, study) == "1 of 4 trainings to do for 6 cells"


def test_the_report_calls_copies_what_is_a_copy(tmp_path):
  config = alike("wide: teacher.width=0.5")
  study = made(tmp_path / "study", config)

  def says():
    rows = results.load(study).rows
    return SENTENCE in " ".join(report._notes(config, rows, [study], "images", (), ()))

  # An earlier version trained both.
  assert not says()
  copy(study, 0)
  assert not says()
  copy(study, 1)
  assert says()
  config.recipe.teacher.epochs /= 2
  assert not says()


def test_a_full_disk_while_copying_is_said_in_a_sentence(tmp_path, monkeypatch):
  config = alike(seeds=(0,))
  study = made(tmp_path / "study", config)
  shutil.rmtree(place_of(study, "student"))

  def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(shutil, "copyfile", full)
  cell = cells.Cell("student", "32A,32W", 0)
  error = jobs._error_of(config, cell, study, open_splits(config.data))
  assert type(error) is ConfigError
  assert str(error).startswith(f"cannot write to the workdir {study}: [Errno 28] No space left on")
  assert str(error).count("No space") == 1 and not place_of(study, "student").exists()


def test_a_copy_takes_none_of_the_time_left(tmp_path):
  config = alike(seeds=(0, 1))
  study = made(tmp_path / "study", config, leave=lambda cell: cell.seed == 1)
  # The teacher and the baseline of the second seed take ten seconds each; with three places two
  # work.
  for at_once, seconds in ((1, 20), (2, 10), (3, 10)):
    assert progress.time_left(progress.read(config, study), at_once) == seconds
  # A student of its own takes its time.
  place_of(study, "student", 1).mkdir()
  assert progress.time_left(progress.read(config, study)) == 30
