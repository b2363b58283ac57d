"""A study says before its first cell how many trainings there are, and how long they take."""

import pytest
from made_study import made, varied

from apprentice_jax.data.splits import open_splits
from apprentice_jax.distill.schemes import LOSS_WITH_A_TEACHER
from apprentice_jax.study import cells, outlook
from apprentice_jax.training import forecast

LATER = "after each, a line says how long the rest takes."


@pytest.fixture(autouse=True)
def speed(monkeypatch):
  monkeypatch.setattr(forecast, "speed", lambda: 1e9)


def config_of(*texts, **fields):
  fields = dict(cells=("teacher", "student", "baseline", "B"), seeds=(0, 1)) | fields
  config = varied(*texts, **fields)
  config.teacher.name = "resnet14"
  config.recipe.teacher.epochs = 3.0
  return config


def lines(config, workdir):
  return outlook.lines(config, workdir, open_splits(config.data))


def test_the_time_is_the_sum_of_the_forecasts(tmp_path, monkeypatch):
  config, seconds = config_of("hot: loss.temperature=2"), []
  duration = lambda count: seconds.append(count) or "a day"
  monkeypatch.setattr(forecast, "duration", duration)
  assert lines(config, tmp_path) == [
    f"10 trainings to do: about a day on this CPU, with compilation; {LATER}",
    LOSS_WITH_A_TEACHER,
  ]
  # Each seed takes the steps; a program is compiled once, and at another variation again.
  data, wanted = open_splits(config.data)["train"], 0
  for kind, times in (("teacher", 1), ("student", 1), ("baseline", 1), ("B", 2)):
    precision = "32A,32W" if kind in cells.ALONE else "8A,2W"
    stage = forecast.stages(cells.cell_config(config, cells.Cell(kind, precision, 0)), data)[-1]
    assert stage.epochs == (3.0 if kind == "teacher" else 30.0)
    once = forecast.seconds([stage], 1e9)
    wanted += times * (2 * once - forecast.COMPILATION * stage.layers)
  assert seconds == [pytest.approx(wanted)]


def test_what_is_done_and_what_trains_nothing_does_not_count(tmp_path, monkeypatch):
  config = config_of(cells=("teacher", "student", "baseline"), jobs=2)
  study = made(tmp_path / "study", config, leave=lambda c: c.kind == "baseline" and c.seed)
  (line,) = lines(config, study)  # no scheme has a teacher
  assert line.startswith("1 of 6 trainings to do: about ") and "after each" not in line
  assert lines(config, tmp_path)[0].startswith("6 trainings to do, 2 at a time: about ")
  made(tmp_path / "whole", config)
  assert lines(config, tmp_path / "whole") == []
  # A student like its teacher is trained once with it.
  config.teacher.update(config.student)
  config.recipe.teacher.update(config.recipe.student)
  assert lines(config, tmp_path)[0].startswith("4 trainings to do for 6 cells, 2 at a time")
  config.student.init = "runs/mine"
  # The teacher's and the baseline's.
  assert lines(config, tmp_path)[0].startswith("4 trainings to do, 2 at a time: about ")
  monkeypatch.setattr("jax.default_backend", lambda: "gpu")
  assert lines(config, tmp_path) == [f"4 trainings to do, 2 at a time; {LATER}"]


def test_a_begun_cell_takes_the_rest_of_its_time(tmp_path, monkeypatch):
  config, seconds = config_of(cells=("student", "baseline"), seeds=(0, 1)), []
  monkeypatch.setattr(forecast, "duration", lambda count: seconds.append(count) or "a day")
  begin = lambda cell: (cells.cell_dir(study, cell) / "result.json").unlink()
  study = made(tmp_path / "study", config)
  begun = cells.Cell("baseline", "8A,2W", 0)
  begin(begun)
  # Four seconds are in the records of a made run.
  data = open_splits(config.data)["train"]
  whole = forecast.seconds(forecast.stages(cells.cell_config(config, begun), data)[-1:], 1e9)
  lines(config, study)
  assert seconds.pop() == pytest.approx(whole - 4) and whole > 4
  # One that took longer than the forecast takes nothing from another's time.
  with (cells.cell_dir(study, begun) / "metrics.jsonl").open("a") as file:
    file.write('{"step": 50, "epoch": 5.0, "seconds": 1e6}\n')
  begin(cells.Cell("student", "32A,32W", 0))
  lines(config, study)
  alone = forecast.stages(cells.cell_config(config, cells.Cell("student", "32A,32W", 0)), data)
  assert seconds == [pytest.approx(forecast.seconds(alone[-1:], 1e9) - 4)]


def test_the_time_of_a_file_is_not_known(tmp_path):
  config = config_of(cells=("student", "baseline", "B"), seeds=(0,))
  file = tmp_path / "teacher.onnx"
  file.touch()
  config.teacher.init = str(file)
  study = tmp_path / "study"
  assert ", with compilation, and the teacher's own time; after" in lines(config, study)[0]
  config.study.cells = ("student", "baseline")
  assert ", with compilation; after" in lines(config, study)[0]
