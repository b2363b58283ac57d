"""Runs that several files of this folder look at, trained once."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # for the helper module, in any import mode

from runs import scheme_config, tiny  # pylint: disable=g-import-not-at-top

from apprentice_jax.training import api


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory):
  """A workdir with a full-precision network, for teacher and student alike."""
  workdir = tmp_path_factory.mktemp("pretrained")
  config = tiny(scheme="baseline", precision="32A,32W", recipe__student__epochs=0.5)
  result = api.train(config, workdir)
  assert result["steps"] == 11
  return workdir


@pytest.fixture(scope="session")
def unbroken(pretrained, tmp_path_factory):
  """unbroken(kind) -> the workdir of a run of `scheme_config` that nothing interrupted."""
  done = {}

  def run(kind):
    if kind not in done:
      done[kind] = tmp_path_factory.mktemp(f"unbroken-{kind.replace(' ', '-')}")
      api.train(scheme_config(kind, pretrained), done[kind])
    return done[kind]

  return run
