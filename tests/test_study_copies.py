"""A student with its teacher's settings is a copy of the teacher's training, or its own."""

import shutil

import pytest
from made_study import made, varied

from apprentice_jax.data.splits import open_splits
from apprentice_jax.study import outlook, report, results
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
