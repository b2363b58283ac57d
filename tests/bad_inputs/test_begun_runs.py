"""What stops a run that has begun, and what the same command does once the obstacle is gone."""

import re
import shutil

import pytest
from checks import CONTINUED, assert_kept, assert_same_end, assert_sentence, files, sentences
from rows import FOLDER, GO_ON, corrupt, folder, half, overwrite, steps

from apprentice_jax.training import api
from apprentice_jax.training import run as running
from apprentice_jax.training.records import read_records


@pytest.mark.slow
def test_what_was_begun_is_finished(made, command, names, tmp_path):
  # What the tests below begin with is a run like any other.
  shutil.copytree(made["begun"], tmp_path / "run")
  assert command(GO_ON) == (0, "")
  assert_same_end(tmp_path / "run", made["trained"])


def test_the_newest_checkpoint_corrupted(made, command, tmp_path):
  shutil.copytree(made["trained"], tmp_path / "run")
  (tmp_path / "run" / "result.json").unlink()
  corrupt(-1)(tmp_path / "run")
  with pytest.warns(UserWarning) as warned:
    assert command(GO_ON)[0] == 0
  (sentence,) = sentences(warned)
  assert re.fullmatch(
    r"the checkpoint of step 11 is damaged \(.* is not what was written\) and now called .*/run/"
    r"broken_checkpoint_11: continuing from step 10\.",
    sentence,
  )
  assert_same_end(tmp_path / "run", made["trained"])


def test_a_torn_result(made, command, tmp_path):
  shutil.copytree(made["trained"], tmp_path / "run")
  overwrite("result.json", half)(tmp_path / "run")
  with pytest.warns(UserWarning, match=r"/run/result\.json is damaged: it is written anew\.$"):
    assert command(GO_ON)[0] == 0
  assert_same_end(tmp_path / "run", made["trained"])


@pytest.mark.parametrize(
  "number, line",
  [(-1, b'{"step": 11, "lo'), (0, b"\0" * 40 + b"\n"), (0, b"[]\n"), (0, b"\xff\xfe\n")],
  ids=["torn", "zeros", "no record", "no text"],
)
def test_damaged_metrics(number, line, made, command, tmp_path):
  # A line that cannot be read is dropped, and no other.
  shutil.copytree(made["begun"], tmp_path / "run")
  path = tmp_path / "run" / "metrics.jsonl"
  lines = path.read_bytes().splitlines(keepends=True)
  path.write_bytes(b"".join([line, *lines] if number == 0 else [*lines, line]))
  assert command(GO_ON) == (0, "")
  assert_same_end(tmp_path / "run", made["trained"])


def test_a_loss_that_is_not_finite(made, command, names, tmp_path, monkeypatch):
  rates = running.learning_rates

  def explode(*args):
    changed = rates(*args).copy()
    changed[6] = 1e38  # in step 8 the loss is that of parameters beyond float32
    return changed

  monkeypatch.setattr(running, "learning_rates", explode)
  assert_sentence(
    command(GO_ON),
    "the loss or its gradient is nan at step 8: lower the learning rate or "
    "lengthen the warm-up; the last checkpoint before it is kept.",
    names,
  )
  assert steps(tmp_path / "run") == [5]
  monkeypatch.undo()
  assert command(GO_ON) == (0, "")
  assert_same_end(tmp_path / "run", made["trained"])


def test_a_rate_that_is_too_high(command, names, tmp_path):
  found = command(
    GO_ON + "--config.recipe.student.learning_rate=1e30 --config.recipe.student.warmup_epochs=0"
  )
  assert_sentence(
    found,
    "the loss or its gradient is nan at step 2: lower the learning rate or "
    "lengthen the warm-up; the last checkpoint before it is kept.",
    names,
  )
  assert not read_records(tmp_path / "run")


UNREADABLE = (
  "{data}/%s (Truncated File Read) is no image that can be read: replace it, or let "
  "it be skipped with --config.data.unreadable=skip."
)


def test_a_truncated_photo_to_train(made, command, names, tmp_path):
  folder(overwrite("train/b/03.jpg", half))(tmp_path, made)
  data = files(tmp_path)
  assert_sentence(command(FOLDER), UNREADABLE % "train/b/03.jpg", names)
  assert steps(tmp_path / "run") == [2]  # all that it has trained, in the midst of an epoch of 3
  assert [r["step"] for r in read_records(tmp_path / "run")] == [1, 2]
  before = files(tmp_path)
  assert before.items() >= data.items()
  assert_sentence(command(FOLDER), UNREADABLE % "train/b/03.jpg", names)  # nor does it go on
  assert_kept(before, files(tmp_path), tmp_path, CONTINUED)
  with pytest.warns(UserWarning) as warned:
    assert command(FOLDER + "--config.data.unreadable=skip")[0] == 0
  assert sentences(warned) == [
    f"skipped {tmp_path}/data/train/b/03.jpg (Truncated File Read): it cannot be read (1 so far)."
  ]
  records = read_records(tmp_path / "run")
  assert [r["step"] for r in records] == [1, 2, 3, 4, 5, 6, 6]
  assert [r["unreadable_images"] for r in records[:-1]] == [0, 0, 1, 1, 2, 2]  # once an epoch


def test_a_photo_that_is_replaced(made, command, names, tmp_path):
  folder(overwrite("train/b/03.jpg", half))(tmp_path, made)
  assert_sentence(command(FOLDER), UNREADABLE % "train/b/03.jpg", names)
  shutil.copy(made["data"] / "train" / "b" / "03.jpg", tmp_path / "data" / "train" / "b" / "03.jpg")
  assert command(FOLDER) == (0, "")
  assert_same_end(tmp_path / "run", made["of_photos"])


def test_a_truncated_photo_to_test(made, command, names, tmp_path):
  folder(overwrite("val/b/01.jpg", half))(tmp_path, made)
  assert_sentence(command(FOLDER), UNREADABLE % "val/b/01.jpg", names)
  assert steps(tmp_path / "run")[-1] == 6  # all is trained
  before = files(tmp_path)
  with pytest.warns(UserWarning) as warned:
    assert command(FOLDER + "--config.data.unreadable=skip")[0] == 0
  assert sentences(warned) == [
    f"skipped {tmp_path}/data/val/b/01.jpg (Truncated File Read): it cannot be read (1 so far)."
  ]
  assert api.result(tmp_path / "run")["test_count"] == 5
  assert_kept(
    before,
    files(tmp_path),
    tmp_path,
    CONTINUED
    + (
      "run/config.json",
      "run/data.json",
      "run/result.json",
      "run/report.md",
      "run/report.html",
      "run/curves.png",
      "run/mistakes.png",
      "run/predictions.csv",
      "run/student.*",
    ),
  )
