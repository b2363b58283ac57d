"""The files of a folder: pictures, and why others are passed over."""

import collections
import contextlib
import os
import threading

import pytest

from apprentice_jax.data import files


@contextlib.contextmanager
def pipe(path):
  """A named pipe. Who opens it to read gets nothing from it, rather than waiting for ever."""
  os.mkfifo(path)
  writer = threading.Thread(target=lambda: open(path, "wb").close(), daemon=True)
  writer.start()
  yield path
  reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # lets go of the writer
  writer.join(10)
  os.close(reader)


def write(root, *paths):
  for path in paths:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(b"x")
  return str(root)


def run(workdir, *more):
  """The files of a run's workdir, as far as their names matter."""
  write(workdir, "config.json", "lock", *more)


def kinds(root):
  return collections.Counter(why for _, why in files.below(root))


def test_pictures_and_the_others(tmp_path):
  root = write(
    tmp_path, "a.jpg", "in/b.png", "in/c.txt", ".hidden/d.jpg", "in/@eaDir/b.png", "e.nef"
  )
  found = dict(files.below(root))
  assert {os.path.relpath(path, root): why for path, why in found.items()} == {
    "a.jpg": "",
    "in/b.png": "",
    "in/c.txt": ".txt",
    ".hidden": "hidden",
    "in/@eaDir": "of the system",
    "e.nef": ".nef (it is a camera's raw photo: convert it to JPEG)",
  }


@pytest.mark.parametrize("name", ["b.jpg", "b"])
@pytest.mark.parametrize("linked", [False, True])
def test_pipes_are_not_opened(name, linked, tmp_path):
  (tmp_path / "photos").mkdir()
  with pipe(tmp_path / ("pipe" if linked else f"photos/{name}")) as path:
    if linked:
      (tmp_path / "photos" / name).symlink_to(path)
    assert kinds(str(tmp_path / "photos")) == {"no files but pipes or devices": 1}
    assert not files.regular(path)
  assert files.regular(tmp_path) and files.regular(tmp_path / "none")


def test_links_that_lead_nowhere_or_around(tmp_path):
  root = write(tmp_path, "in/a.jpg")
  (tmp_path / "in" / "all").symlink_to(tmp_path)
  (tmp_path / "gone.jpg").symlink_to(tmp_path / "none")
  assert sorted(os.path.relpath(path, root) for path, _ in files.below(root)) == [
    "gone.jpg",
    "in/a.jpg",
  ]


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
  def refuse(path):
    raise PermissionError(13, "Permission denied", path)

  monkeypatch.setattr(files.os, "scandir", refuse)
  with pytest.raises(ValueError, match=rf"^cannot read {tmp_path}: Permission denied\.$"):
    list(files.below(str(tmp_path)))


def test_workdirs_are_passed_over_at_any_depth(tmp_path):
  run(tmp_path / "runs" / "deep" / "x", "curves.png", "teacher/config.json", "teacher/curves.png")
  assert kinds(str(tmp_path)) == {files.WORKDIR: 1}
  assert files.of_runs(tmp_path / "runs") and files.of_runs(tmp_path / "runs" / "deep" / "x")
  write(tmp_path, "runs/mine.png", "config.json")  # a name that other programs use
  assert kinds(str(tmp_path)) == {files.WORKDIR: 1, "": 1, ".json": 1}
  assert not files.of_runs(tmp_path / "runs")


@pytest.mark.parametrize(
  "name", ["data.json", "metrics.jsonl", "cells/A/config.json", "checkpoints/5/x"]
)
def test_what_a_workdir_is_known_by(name, tmp_path):
  write(tmp_path, name)
  assert not files.is_workdir(tmp_path)
  write(tmp_path, "config.json")
  assert files.is_workdir(tmp_path)


def test_told_with_paths():
  others = [("a.txt", ".txt"), *((f"{i}.md", ".md") for i in range(6))]
  unread = collections.Counter(why for _, why in others)
  assert files.told(unread, others) == (
    "7 files are not read: 6 .md (0.md, 1.md, 2.md, 3.md, 4.md, ...), 1 .txt (a.txt)"
  )
  assert files.told(unread) == "7 files are not read: 6 .md, 1 .txt"
  assert files.told(collections.Counter()) == ""
