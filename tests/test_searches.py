"""Each cell of a study is trained at its variations; each trial of the recipe searches can run."""

import pathlib
import runpy

import pytest
from made_study import varied

from apprentice_jax import config as configs
from apprentice_jax.cli import config_file, parser
from apprentice_jax.study import cells, jobs, variations
from apprentice_jax.study.run import run_study


def test_every_cell_is_trained_at_its_variations_with_rates_for_the_devices(tmp_path, monkeypatch):
  config = varied(
    "rate: recipe.student.learning_rate=0.2",
    "gamma: loss.gamma=0.25",
    seeds=(0,),
    cells=("teacher", "student", "baseline", "B"),
  )
  # Tests have eight devices.
  config.update_from_flattened_dict({"batch_size": 32, "batch_per_device": 8})
  trained = {}

  def train(run_config, place, **starts):
    assert place.name not in trained
    trained[place.name] = (
      run_config,
      {k: pathlib.Path(v).name for k, v in starts.items() if k in ("teacher", "student")},
    )
    return {"test_accuracy": 0.5, "test_loss": 1.0, "test_count": 360}

  monkeypatch.setattr(jobs.api, "train", train)
  run_study(config, tmp_path)
  rate = lambda name: trained[name][0].recipe.student.learning_rate
  assert set(trained) == {
    "teacher-32A32W-seed0",
    *(f"{kind}-seed0" for kind in ("student-32A32W", "baseline-8A2W", "B-8A2W")),
    *(f"{kind}-rate-seed0" for kind in ("student-32A32W", "baseline-8A2W", "B-8A2W")),
    "B-8A2W-gamma-seed0",
  }
  # The batch is twice what the rates are for.
  for at, expected in (("", 0.2), ("-rate", 0.4)):
    assert trained[f"baseline-8A2W{at}-seed0"][0].batch_size == 64
    for kind in ("student-32A32W", "baseline-8A2W", "B-8A2W"):
      assert rate(f"{kind}{at}-seed0") == pytest.approx(expected)
    assert trained[f"B-8A2W{at}-seed0"][1] == {"teacher": "teacher-32A32W-seed0"}
  gamma = trained["B-8A2W-gamma-seed0"][0]
  assert gamma.loss.gamma == 0.25 and gamma.recipe.student.learning_rate == pytest.approx(0.2)


def test_the_recipe_search_is_a_study_of_variations():
  root = pathlib.Path(__file__).parents[1]
  config = runpy.run_path(str(root / "results/recipe/search.py"))["get_config"]()
  config = configs.checked(config, config.study.precisions)
  variations.check(config)
  found = {}
  for cell in cells.cells(config):
    if cell.seed == 1:
      found.setdefault(cell.kind, []).append(cell)
  # Eleven variations concern both, nine the teacher, two of them the teacher's own training.
  assert {kind: len(members) for kind, members in found.items()} == {
    "teacher": 1 + 2,
    "baseline": 1 + 11,
    "B": 1 + 11 + 9,
  }
  steps = next(c for c in found["B"] if c.variation.name == "steps")
  assert cells.cell_config(config, steps).recipe.student.schedule == "step"
  deeper = next(c for c in found["B"] if c.variation.name == "deeper-teacher")
  teacher = cells.sources(config, deeper)["teacher"]
  assert cells.cell_config(config, teacher).student.name == "resnet20"


def test_every_trial_of_the_search_on_resnet8_is_a_config_that_can_run(monkeypatch):
  for name in ("DATA", "TEACHERS", "WORKDIR"):
    monkeypatch.setenv(name, f"/{name.lower()}")
  search = runpy.run_path(str(pathlib.Path(__file__).parents[1] / "results/recipe/resnet8.py"))
  runs = search["runs"](search["TRIALS"])
  for run in (r for r in runs if r.seed == 1):
    flags = [f"--config.{field}={value}" for field, value in search["settings"](run).items()]
    given = parser.parse(["train", f"--config=mlperf_tiny:scheme={run.scheme}", *flags])
    config = config_file.read(given.config, given.fields)
    configs.validate(config)
    assert (config.seed, config.eval.final, config.data.validation) == (1, "validation", 5000)
  # A change of the teacher's alone has base's control; each network comes before those it teaches.
  assert search["control_of"]("no-label") == "base"
  assert search["control_of"]("no-decay") == "no-decay"
  names = [run.name for run in runs]
  for run in runs:
    for value in search["settings"](run).values():
      if value.startswith("/workdir/"):
        assert names.index(value.removeprefix("/workdir/")) < names.index(run.name)
