"""Helper modules under any import mode; a trained run, and the command, for the tests of commands.

The package is imported where it is first used: most files of this folder need no training.
"""

import pathlib
import sys

import pytest

_HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(_HERE), str(_HERE.parents[1] / "results" / "deploy")]


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
  """A short ternary run on the digits, by a program that other tests have compiled.

  All files of this folder share it, so a test that changes it takes a copy.
  """
  from apprentice_jax import config as configs
  from apprentice_jax.training import api

  workdir = tmp_path_factory.mktemp("export") / "run"
  config = configs.base()
  config.update_from_flattened_dict(
    {
      "data.name": "digits",
      "data.pad": 1,
      "data.flip": False,
      "scheme": "baseline",
      "student.name": "resnet8",
      "student.width": 0.25,
      "batch_size": 64,
      "steps_per_dispatch": 5,
      "recipe.student.epochs": 1.0,
      "recipe.student.warmup_epochs": 0.2,
    }
  )
  api.train(config, workdir)
  return workdir


@pytest.fixture
def command(capsys):
  """command(*words) -> (status, stdout, stderr)."""
  from apprentice_jax import cli

  def run(*words):
    capsys.readouterr()
    status = cli.main([str(word) for word in words])
    return status, *capsys.readouterr()

  return run


@pytest.fixture
def refused(command):
  """Asserts that the command refuses the words in one line, which begins with the sentence."""

  def check(*words, sentence):
    status, _, err = command(*words)
    assert status == 2 and err.startswith("apprentice: " + sentence) and err.count("\n") == 1, err

  return check


@pytest.fixture
def exported(workdir, command, tmp_path):
  """The run's packed file; beside it are `damaged`, the same but for a bit, and `text`."""
  out = tmp_path / "student.packed"
  assert command("export", f"--workdir={workdir}", "--format=packed", f"--out={out}")[0] == 0
  damaged = bytearray(out.read_bytes())
  damaged[-1] ^= 1
  (tmp_path / "damaged").write_bytes(damaged)
  (tmp_path / "text").write_text("text")
  return out
