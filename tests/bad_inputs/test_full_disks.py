"""A disk that is full, or what is as good as one: no file may grow beyond some bytes."""

import contextlib
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys

import pytest
from checks import CONTINUED, Began, assert_kept, assert_same_end, assert_sentence, began, files
from rows import GO_ON, KEPT, steps

from apprentice_jax import cli
from apprentice_jax.training import records, report
from apprentice_jax.training import run as running
from apprentice_jax.training.loop import Loop


@contextlib.contextmanager
def largest_file(size):
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def full_during(monkeypatch, place, name, size, when=lambda *a: True):
  """No file may be larger than size while place.name runs."""
  function = getattr(place, name)

  def limited(*args, **options):
    if not when(*args):
      return function(*args, **options)
    with largest_file(size):
      return function(*args, **options)

  monkeypatch.setattr(place, name, limited)


def test_a_full_disk_at_the_start(made, command, names, tmp_path, monkeypatch):
  from apprentice_jax.training import workdir

  full_during(monkeypatch, workdir, "write_whole", 100)
  assert_sentence(
    command(GO_ON),
    re.compile(
      r"cannot write to the workdir .*/run: File too large(; what was saved before is kept, and "
      r"the same command continues from there)?\."
    ),
    names,
  )
  monkeypatch.undo()
  monkeypatch.setattr(Loop, "_advance", began)
  with pytest.raises(Began):
    command(GO_ON)


@pytest.mark.parametrize(
  "place, name, size, when",
  [
    (records.MetricsWriter, "__init__", 100, lambda *_: True),
    (records.MetricsWriter, "write", 700, lambda *_: True),
    (running, "write_whole", 10, lambda path, *_: path.name == "result.json"),
    (report, "write_run", 100, lambda *_: True),
  ],
  ids=["the records kept", "a new record", "result.json", "report.md"],
)
def test_a_full_disk_on_the_way(
  place, name, size, when, made, command, names, tmp_path, monkeypatch
):
  shutil.copytree(made["begun"], tmp_path / "run")
  before = files(tmp_path)
  full_during(monkeypatch, place, name, size, when)
  assert_sentence(command(GO_ON), "cannot write to the workdir {run}: File too large" + KEPT, names)
  after = files(tmp_path)
  assert not [k for k in after if k.endswith(".tmp")]
  assert_kept(before, {k: v for k, v in after.items() if k in before}, tmp_path, CONTINUED)
  monkeypatch.undo()
  assert command(GO_ON) == (0, "")
  assert_same_end(tmp_path / "run", made["trained"])


# In a process of its own: orbax's threads fail as well.
def test_a_full_disk_while_a_checkpoint_is_written(made, command, names, tmp_path):
  shutil.copytree(made["begun"], tmp_path / "run")
  before = files(tmp_path)
  largest = max((made["trained"] / n).stat().st_size for n in ("config.json", "metrics.jsonl"))
  code = (
    "import resource, sys; hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]; "
    f"resource.setrlimit(resource.RLIMIT_FSIZE, ({largest + 1000}, hard)); "
    "from apprentice_jax import cli; sys.exit(cli.main(sys.argv[1:]))"
  )
  process = subprocess.run(
    [sys.executable, "-c", code, *GO_ON.format(**names).split()],
    capture_output=True,
    text=True,
    timeout=200,
    check=False,
    env=dict(  # nor may it write compiled programs
      os.environ,
      JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="1000",
      TFDS_DATA_DIR=str(tmp_path),
      PYTHONPATH=os.pathsep.join(
        [str(pathlib.Path(cli.__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
      ),
    ),
  )
  assert_sentence(
    (process.returncode, process.stderr),
    "cannot write to the workdir {run}: File too large" + KEPT,
    names,
  )
  after = files(tmp_path)
  assert_kept(before, {k: v for k, v in after.items() if k in before}, tmp_path, CONTINUED)
  assert steps(tmp_path / "run") == [5, 10]
  assert command(GO_ON) == (0, "")
  assert_same_end(tmp_path / "run", made["trained"])


def test_checkpoints_that_are_read_only(made, command, names, tmp_path):
  shutil.copytree(made["begun"], tmp_path / "run")
  before = files(tmp_path)
  (tmp_path / "run" / "checkpoints").chmod(0o555)
  assert_sentence(
    command(GO_ON), "cannot write to the workdir {run}: Permission denied" + KEPT, names
  )
  after = files(tmp_path)
  assert_kept(before, {k: v for k, v in after.items() if k in before}, tmp_path, CONTINUED)
  (tmp_path / "run" / "checkpoints").chmod(0o755)
  assert command(GO_ON) == (0, "")
  assert_same_end(tmp_path / "run", made["trained"])
