"""`apprentice bench`: what it measures of any config."""

import functools
import json
import pathlib
import runpy

import jax
import numpy as np
import pytest

from apprentice_jax import config as configs
from apprentice_jax.bench import step, training
from apprentice_jax.training import compiled
from apprentice_jax.training.dispatch import HOST_STEPS

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def few(monkeypatch):
  """Few and short measurements."""
  monkeypatch.setattr(step, "ROUNDS", 2)
  monkeypatch.setattr(training, "CHUNKS", 3)
  monkeypatch.setattr(training, "ENOUGH", 0.05)
  monkeypatch.setattr(
    training,
    "_first_step",
    lambda make: {"first_step_seconds": {"cold": 2.0, "warm": 0.5}, "compile_seconds": 1.0},
  )


def tiny(name, argument=""):
  config = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"](f"runlocal{argument}")
  config.student.name, config.batch_size = (
    "resnet8" if name == "digits" else config.student.name,
    32,
  )
  config.student.width = 0.125
  return configs.checked(config)


@pytest.mark.slow
def test_a_config_with_its_data():
  report = training.measure(tiny("digits", ",scheme=baseline"))
  json.dumps(report, allow_nan=False)
  assert (
    report["data"] == "digits" and report["image_shape"] == [8, 8, 1] and report["teacher"] is None
  )
  assert report["images_per_second"] == pytest.approx(32 / report["step_seconds"])
  # A program that does nothing takes less than one that does.
  assert 0 < report["dispatch_share"] < 1 and report["steps_per_dispatch"] == HOST_STEPS
  assert not report["dispatch_hidden"] and "while the step before" not in training.table(
    report
  )  # on eight devices
  assert "in each, while the step before runs" in training.table(
    {**report, "dispatch_hidden": True}
  )
  assert 0 <= report["loop"]["data_wait"] < 1 and report["loop"]["images_per_second"] > 0
  assert report["input"]["images_per_second"] > 0
  scored = report["evaluation"]
  assert scored["count"] == 360 and scored["seconds"] == pytest.approx(
    360 / scored["images_per_second"]
  )
  assert [line.split("  ")[1] for line in training.table(report).splitlines()[2:]] == [
    "step",
    "dispatch",
    "first step",
    "training loop",
    "input alone",
    "evaluation",
  ]


FIRST_STEP = training._first_step


def test_the_first_step_cold_and_warm():
  usual, traces = jax.config.jax_compilation_cache_dir, []

  def make():
    def function(x):
      traces.append(compiled.folder())
      return x @ x

    kept = compiled.Kept(jax.jit(function), "the first step")
    return lambda: kept(np.eye(3, dtype=np.float32))

  found = FIRST_STEP(make)
  assert len(traces) == 1 and traces[0] is not None  # the second time neither traced nor compiled
  assert 0 < found["compile_seconds"] < found["first_step_seconds"]["cold"]
  assert found["first_step_seconds"]["warm"] > 0
  assert jax.config.jax_compilation_cache_dir == usual and compiled.folder() is None


@pytest.mark.slow
def test_a_streamed_config():
  report = training.measure(tiny("imagenet", ",student=resnet8,scheme=baseline,precision=32A2W"))
  assert report["image_shape"] == [16, 16, 3] and report["data"] == "digits"
  assert min(report[k]["images_per_second"] for k in ("loop", "input", "evaluation")) > 0


@pytest.mark.slow
def test_without_its_data():
  config = tiny("cifar10", ",scheme=baseline")
  config.data.dir = "/nowhere"
  report = training.measure(config)
  assert report["data"].startswith("synthetic (") and "loop" not in report
  assert training.table(report).splitlines()[-1] == (
    "  first step     2.0 s without a cache (1.0 s in the compiler), 0.50 s with it"
  )


def test_idle_programs_hand_their_state_back():
  built = step.settings(tiny("digits", ",scheme=baseline"), 10)
  idle, real = (
    step.stepper(built, step.loss_weights(configs.base()), 32, (8, 8, 1), program=p)
    for p in (functools.partial(training.Program, step=training._IdleStep), training.Program)
  )
  states = []
  for taken in (idle, real):
    cell = dict(zip(taken.__code__.co_freevars, taken.__closure__))["state"]
    before = jax.device_get(cell.cell_contents.student.params)
    taken()
    states.append((before, jax.device_get(cell.cell_contents.student.params)))
  same = lambda pair: all(map(np.array_equal, *map(jax.tree.leaves, pair)))
  assert same(states[0]) and not same(states[1])
