"""Files that are there whole or not at all, and the folder of pickled programs."""

import os
import pathlib
import stat

import pytest

from apprentice_jax import files
from apprentice_jax.training import compiled


def test_a_file_is_whole_or_as_it_was(tmp_path):
  path = tmp_path / "a.txt"
  files.write_whole(path, "one")

  def fails(file):
    file.write(b"half of tw")
    raise OSError("No space left on device")

  with pytest.raises(OSError, match="No space"):
    files.write_whole(path, fails)
  assert path.read_text() == "one" and os.listdir(tmp_path) == ["a.txt"]
  files.write_whole(path, b"two", durable=True)
  assert path.read_bytes() == b"two"


def test_read_or_none(tmp_path):
  path = tmp_path / "n"
  assert files.read_or_none(path, int) is None
  path.write_text("7")
  assert files.read_or_none(path, int) == 7
  path.write_text("seven")
  assert files.read_or_none(path, int) is None


def test_a_cache_that_cannot_be_written_is_warned_of_once(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.warns(UserWarning, match="nothing can be kept in .*set APPRENTICE_CACHE") as warned:
    for name in "ab":
      files.keep(tmp_path / "file" / name, "text")
  assert len(warned) == 1


def test_pickled_programs_of_others_are_refused(tmp_path, monkeypatch):
  own = tmp_path / "programs"
  assert files.private(own) == "" and stat.S_IMODE(own.stat().st_mode) == 0o700
  for mode in (0o770, 0o707):
    own.chmod(mode)
    assert files.private(own).startswith("other users may write to")
  monkeypatch.setattr(compiled, "_folder", None)
  with pytest.warns(UserWarning, match="compiled programs are not kept: other users may write"):
    compiled.keep_in(own)
  assert compiled.folder() is None
  own.chmod(0o755)
  compiled.keep_in(own)
  assert compiled.folder() == own
  monkeypatch.setattr(os, "getuid", lambda: own.stat().st_uid + 1)
  assert files.private(own).startswith(f"{own} belongs to another user")
  assert files.private(pathlib.Path(__file__) / "x").startswith(f"{__file__}/x cannot be used")
