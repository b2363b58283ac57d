"""`apprentice plan` on TPU's own compiler, with networks that take it seconds."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
  not importlib.util.find_spec("libtpu"), reason="libtpu is not installed"
)
FLAGS = (
  f"--config={ROOT}/configs/digits.py:student=resnet8,teacher=resnet8,width=0.25,scheme=A,"
  "precision=8A2W",
  "--config.data.image_size=8",
  "--config.data.resize=8",
  "--config.batch_per_device=16",
)


def plan(cache, *flags):
  """Exit status, standard output and error of the command in a process of its own."""
  environment = {
    **os.environ,
    "XLA_FLAGS": "",
    "APPRENTICE_CACHE": str(cache),
    "PYTHONPATH": str(ROOT),
  }
  done = subprocess.run(
    [sys.executable, "-m", "apprentice_jax", "plan", *FLAGS, *flags],
    env=environment,
    capture_output=True,
    text=True,
    timeout=240,
    cwd=cache,
  )
  return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
  """The cache, the report and what was printed of a plan for two slices."""
  cache = tmp_path_factory.mktemp("plan")
  status, printed, error = plan(
    cache, "--topology=v5e:2x2,v6e:2x2", f"--out={cache}/plan.json", "--scaling"
  )
  assert status == 0, error
  return cache, json.loads((cache / "plan.json").read_text()), printed


@pytest.mark.slow
def test_side_by_side(planned):
  _, report, printed = planned
  assert [p["topology"] for p in report["plans"]] == ["v5e:2x2", "v6e:2x2"]
  assert printed.startswith("|  | v5e:2x2 | v6e:2x2 |\n")
  assert "Estimated from v6e:2x2, with 16 images a chip:" in printed
  for p in report["plans"]:
    assert p["chips"] == 4 and p["batch"] == 64 and p["fits"]
    assert p["learning_rate"] == pytest.approx(
      report["config"]["recipe.student.learning_rate"] * 64 / report["config"]["batch_size"]
    )
    assert p["needed"] == (
      p["arguments"] + p["outputs"] - p["aliased"] + p["temporaries"] + p["code"]
    )
    assert p["parameters"] + p["optimizer"] < p["arguments"] < p["needed"] < p["chip_memory"]


@pytest.mark.slow
def test_everything_is_reduced_once_and_together(planned):
  for p in planned[1]["plans"]:
    # Metrics, and a layer's health, weigh something beside networks of 70 kB.
    assert 1 <= p["all_reduced"] / p["to_reduce"] < 1.01
    assert p["all_reduces"] == 1


@pytest.mark.slow
def test_every_part_of_the_step_has_its_cycles(planned):
  for p in planned[1]["plans"]:
    assert sum(p["cycles_by_part"].values()) == p["cycles"]
    # Streamed, each step is dispatched by itself.
    assert {part for part, count in p["cycles_by_part"].items() if not count} == {"dispatch"}
    assert p["compute_seconds"] + p["all_reduce_seconds"] == pytest.approx(p["step_seconds"])


@pytest.mark.slow
def test_what_was_compiled_is_found_again(planned):
  cache, report, _ = planned
  status, _, error = plan(cache, "--topology=v5e:2x2", f"--out={cache}/again.json")
  assert status == 0, error
  (again,) = json.loads((cache / "again.json").read_text())["plans"]
  assert {**again, "weak_scaling": 0} == {
    **report["plans"][0],
    "weak_scaling": 0,
  }  # the seconds too
  assert len(list((cache / "plan").iterdir())) == 2


def test_a_slice_that_does_not_exist(tmp_path):
  status, _, error = plan(tmp_path, "--topology=v5e:3x7")
  assert status == 2 and "--topology=v5e:3x7: the compiler knows no such slice" in error
  assert len(error.splitlines()) == 1
