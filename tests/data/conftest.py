"""Helper modules under any import mode, and the fixtures of the tests of preparing."""

import importlib.util
import pathlib
import sys

import pytest
import tools

sys.path.insert(0, str(pathlib.Path(__file__).parent))


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
  """The cache directory is this test's own."""
  monkeypatch.setenv("APPRENTICE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data_dir(tmp_path):
  (tmp_path / "data").mkdir()
  return tmp_path / "data"


@pytest.fixture
def without_tensorflow(monkeypatch):
  """As if it were not installed, where it is; in the core environment it is not."""
  find = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util, "find_spec", lambda name, *a: None if name == "tensorflow" else find(name, *a)
  )


@pytest.fixture
def with_tensorflow():
  return tools.module("tensorflow")


@pytest.fixture
def no_download(monkeypatch):
  """Nothing may be downloaded or generated any more."""
  from apprentice_jax.data import prepare

  monkeypatch.setattr(
    prepare, "_download", lambda *_: pytest.fail("downloads what is there already")
  )
