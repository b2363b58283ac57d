"""Bad inputs, each with the sentence it gets: the command says what is wrong, and nothing is lost.

For every row the command ends with status 2 and one line on stderr. No file changes but the
workdir's lock and those that the row names.
"""

import shutil
import sys

import pytest
import rows_of_checkpoints
import rows_of_commands
import rows_of_data
import rows_of_exports
import rows_of_fields
import rows_of_files
import rows_of_heads
import rows_of_images
import rows_of_imported
import rows_of_settings
import rows_of_starts
import rows_of_teachers
import rows_of_ternary
import rows_of_workdirs
from checks import Began, assert_kept, assert_sentence, began, files
from rows import FOLDER, GO_ON, TRAIN

from apprentice_jax.bench import training as bench
from apprentice_jax.training.loop import Loop

ROWS = [
  *rows_of_checkpoints.ROWS,
  *rows_of_commands.ROWS,
  *rows_of_data.ROWS,
  *rows_of_exports.ROWS,
  *rows_of_fields.ROWS,
  *rows_of_files.ROWS,
  *rows_of_heads.ROWS,
  *rows_of_images.ROWS,
  *rows_of_imported.ROWS,
  *rows_of_settings.ROWS,
  *rows_of_starts.ROWS,
  *rows_of_teachers.ROWS,
  *rows_of_ternary.ROWS,
  *rows_of_workdirs.ROWS,
]


def marks(row):
  return [pytest.mark.xfail(reason=row.bug, strict=True)] if row.bug else []


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name, marks=marks(row)) for row in ROWS])
def test_bad_input(row, made, names, command, tmp_path, monkeypatch):
  monkeypatch.setattr(bench, "measure", began)
  monkeypatch.setattr(Loop, "_advance", began)
  if row.absent:
    monkeypatch.setitem(sys.modules, row.absent, None)
  row.make(tmp_path, made)
  place = made["trained"].parent
  before = files(tmp_path, place)
  found = command(row.command)
  assert_sentence(found, row.sentence, names)
  tmp_path.chmod(0o755)
  assert_kept(before, files(tmp_path, place), tmp_path, (*row.changes, "run/lock"))


def test_the_table_is_one():
  assert len({row.name for row in ROWS}) == len(ROWS) >= 100
  for row in ROWS:
    assert "\n" not in getattr(row.sentence, "pattern", row.sentence), row.name


# What is refused leaves the workdir to the corrected command.
MENDED = {
  "less than a step": GO_ON,
  "an unclosed list": TRAIN,
  "a batch that devices cannot share": TRAIN,
  "a teacher nowhere": GO_ON.replace("baseline", "B"),
  "other classes to test": FOLDER,
  "another run's workdir": GO_ON + "--workdir={run}2",
}


@pytest.mark.parametrize(
  "name", [pytest.param(row.name, marks=marks(row)) for row in ROWS if row.name in MENDED]
)
def test_the_corrected_command_works(name, made, names, command, tmp_path, monkeypatch):
  monkeypatch.setattr(Loop, "_advance", began)
  (row,) = (r for r in ROWS if r.name == name)
  row.make(tmp_path, made)
  assert_sentence(command(row.command), row.sentence, names)
  if (tmp_path / "data").exists():
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(made["data"], tmp_path / "data")
  with pytest.raises(Began):
    command(MENDED[name])
