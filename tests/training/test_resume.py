"""Interrupted runs end as unbroken ones: killed, told to stop, or with a damaged checkpoint."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image
from runs import assert_same_run, begin, final_state, scheme_config, tiny, untimed

from apprentice_jax import config as configs
from apprentice_jax.data import order
from apprentice_jax.errors import ConfigError, NonFiniteLoss, Preempted
from apprentice_jax.training import api, loop, run
from apprentice_jax.training.loop import Loop
from apprentice_jax.training.records import read_records

RECORDS = [5, 10, 15, 20, 25, 27, 27]  # chunks of five steps; the last is the test score
KILLED_AT = 25  # past the end of an epoch, between the checkpoints of steps 20 and 27


# At the end: after the last checkpoint, before the result is written.
@pytest.mark.parametrize(
  "kind, killed_at, left, saved",
  [
    ("A", KILLED_AT, RECORDS[:5], 20),
    ("B", KILLED_AT, RECORDS[:5], 20),
    ("C", "end", RECORDS, 27),
    ("A streamed", KILLED_AT, RECORDS[:5], 20),
  ],
)
def test_an_interrupted_run_ends_as_an_unbroken_one(
  kind, killed_at, left, saved, unbroken, pretrained, tmp_path, monkeypatch
):
  config = scheme_config(kind, pretrained)
  begin(config, tmp_path, monkeypatch, killed_at)
  assert [r["step"] for r in read_records(tmp_path)] == left
  assert final_state(tmp_path)[0] == saved
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 27, "lo')  # and torn in the middle of a line
  config.data.threads = 3  # how many read the images is of no account
  api.train(config, tmp_path)
  assert_same_run(tmp_path, unbroken(kind))
  seconds = [r["seconds"] for r in read_records(tmp_path) if "seconds" in r]
  assert seconds == sorted(seconds)  # the clock goes on from where it was
  assert [r["examples"] for r in read_records(tmp_path)[:-1]] == [64 * s for s in RECORDS[:-1]]


@pytest.mark.parametrize("kind", ["B", "A streamed"])
def test_the_position_in_the_data_matters(kind, unbroken, pretrained, tmp_path, monkeypatch):
  # What the tests above would find if a run began the data anew: other weights.
  config, examples, expected = scheme_config(kind, pretrained), order.examples, unbroken(kind)
  begin(config, tmp_path, monkeypatch, KILLED_AT)
  monkeypatch.setattr(
    order, "examples", lambda seed, size, start, count: examples(seed, size, start - 20 * 64, count)
  )
  api.train(config, tmp_path)
  with pytest.raises(AssertionError, match="Arrays are not equal"):
    assert_same_run(tmp_path, expected)


@pytest.mark.slow
def test_a_run_killed_by_the_system_ends_as_an_unbroken_one(unbroken, pretrained, tmp_path):
  # SIGKILL, while a checkpoint may be half written.
  config = scheme_config("B", pretrained)
  (tmp_path / "flat.json").write_text(json.dumps(configs.flat(config)))
  workdir = tmp_path / "run"
  code = textwrap.dedent(f"""
      import json, os, signal, sys
      from apprentice_jax import config as configs
      from apprentice_jax.training import api
      from apprentice_jax.training.records import MetricsWriter
      config = configs.base()
      flat = json.load(open(sys.argv[1]))
      config.update_from_flattened_dict(
          {{k: tuple(v) if isinstance(v, list) else v for k, v in flat.items()}})
      write = MetricsWriter.write
      def killed(self, step, record):
        write(self, step, record)
        if step == {KILLED_AT}:
          os.kill(os.getpid(), signal.SIGKILL)
      MetricsWriter.write = killed
      api.train(config, sys.argv[2])
  """)
  process = subprocess.run(
    [sys.executable, "-c", code, tmp_path / "flat.json", workdir],
    capture_output=True,
    text=True,
    env=dict(os.environ),
  )
  assert process.returncode == -signal.SIGKILL, process.stderr
  assert api.result(workdir) is None
  api.train(config, workdir)
  assert_same_run(workdir, unbroken("B"))


@pytest.mark.parametrize(
  "kind, number, code", [("C", signal.SIGTERM, 75), ("A streamed", signal.SIGINT, 130)]
)
def test_a_run_that_is_told_to_stop_saves_at_once(
  kind, number, code, unbroken, pretrained, tmp_path, monkeypatch
):
  config, advance = scheme_config(kind, pretrained), Loop._advance

  def interrupted(self, batch, end):
    # Within the chunk of steps 11 to 15, of which one dispatch takes four; of a stream a step each.
    if self.now.step == (13 if "streamed" in kind else 10):
      signal.raise_signal(number)
    return advance(self, batch, end)

  with monkeypatch.context() as patch:
    patch.setattr(Loop, "_advance", interrupted)
    with pytest.raises(
      Preempted, match=f"stopped by {number.name} and saved at step 14 of 27"
    ) as stop:
      api.train(config, tmp_path)
  assert stop.value.exit_code == code
  assert final_state(tmp_path)[0] == 14
  assert [r["step"] for r in read_records(tmp_path)] == [5, 10]
  assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)
  api.train(config, tmp_path)
  assert_same_run(tmp_path, unbroken(kind))


@pytest.mark.slow
def test_a_run_that_is_told_to_stop_while_it_scores_scores_later(pretrained, tmp_path, monkeypatch):
  config = scheme_config("B", pretrained)
  config.data.validation, config.eval.every_epochs, config.eval.final = 137, 0.5, "validation"
  config.recipe.student.epochs, config.eval.batch_size = 1.0, 64
  api.train(config, tmp_path / "unbroken")
  score = loop.score

  def interrupted(*args):
    if not (tmp_path / "run" / "checkpoints" / "15").exists():
      signal.raise_signal(signal.SIGTERM)
    return score(*args)

  with monkeypatch.context() as patch:
    patch.setattr(loop, "score", interrupted)
    with pytest.raises(Preempted, match="saved at step 15"):
      api.train(config, tmp_path / "run")
  records = [read_records(tmp_path / name) for name in ("run", "unbroken")]
  assert [r["step"] for r in records[0]] == [5, 10, 15]  # step 15 is not scored
  api.train(config, tmp_path / "run")
  records = [[untimed(r) for r in read_records(tmp_path / name)] for name in ("run", "unbroken")]
  assert records[0] == records[1] and [r["step"] for r in records[0]] == [
    5,
    10,
    15,
    15,
    20,
    20,
    20,
  ]  # the end adds the teacher


def damage(folder, how):
  """Damages the largest file of a checkpoint's state."""
  file = max(
    (p for p in (folder / "state").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
  )
  content = bytearray(file.read_bytes())
  if how == "half written":
    file.write_bytes(content[: len(content) // 2])
  elif how == "a flipped bit":
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
  elif how == "a file gone":
    file.unlink()
  elif how == "no state":
    shutil.rmtree(folder / "state")
  elif how == "no position":
    shutil.rmtree(folder / "meta")


@pytest.mark.parametrize(
  "how", ["half written", "a flipped bit", "a file gone", "no state", "no position"]
)
def test_a_damaged_checkpoint_is_passed_over(how, unbroken, pretrained, tmp_path, monkeypatch):
  config = scheme_config("B", pretrained)
  begin(config, tmp_path, monkeypatch, KILLED_AT)
  damage(tmp_path / "checkpoints" / "20", how)
  with pytest.warns(
    UserWarning, match="checkpoint of step 20 is damaged .* continuing from step 10"
  ):
    api.train(config, tmp_path)
  assert_same_run(tmp_path, unbroken("B"))
  assert (tmp_path / "broken_checkpoint_20").is_dir()  # nothing is deleted


def test_a_run_without_a_good_checkpoint_is_refused(pretrained, tmp_path, monkeypatch):
  config = scheme_config("B", pretrained)
  begin(config, tmp_path, monkeypatch, KILLED_AT)
  for step in ("10", "20"):
    damage(tmp_path / "checkpoints" / step, "a file gone")
  kept = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
  with pytest.raises(ValueError, match="none of the checkpoints in .* can be read"):
    api.train(config, tmp_path)
  assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == kept


@pytest.mark.parametrize(
  "precision, im2col", [("32A,32W", True), ("32A,2W", True), ("32A,32W", False)]
)
def test_a_run_without_health_is_told_to_stop(precision, im2col, tmp_path, monkeypatch):
  config = tiny(scheme="baseline", precision=precision, recipe__student__epochs=0.3, im2col=im2col)
  api.train(config, tmp_path / "unbroken")
  advance = Loop._advance

  def interrupted(self, batch, end):
    if self.now.step == 0:
      signal.raise_signal(signal.SIGTERM)
    return advance(self, batch, end)

  with monkeypatch.context() as patch:
    patch.setattr(Loop, "_advance", interrupted)
    with pytest.raises(
      Preempted, match="saved at step 1 of 7"
    ):  # the first dispatch is of one step
      api.train(config, tmp_path / "run")
  api.train(config, tmp_path / "run")
  states = [final_state(tmp_path / name)[1] for name in ("run", "unbroken")]
  for name, leaf in states[1].items():
    np.testing.assert_array_equal(states[0][name], leaf)
  records = [[untimed(r) for r in read_records(tmp_path / name)] for name in ("run", "unbroken")]
  assert records[0] == records[1]


def test_a_spoiled_state_is_not_saved_within_a_chunk(tmp_path, monkeypatch):
  # Step 12 makes the loss of step 13 infinite, and steps 11 to 14, which are one dispatch, are told
  # to stop.
  config = tiny(scheme="baseline", precision="32A,32W")
  rates, advance, told = run.learning_rates, Loop._advance, []

  def explode(*args):
    changed = rates(*args).copy()
    changed[11] = 1e38
    return changed

  def interrupted(self, batch, end):
    if self.now.step == 10:
      told.append(signal.raise_signal(signal.SIGTERM))
    return advance(self, batch, end)

  monkeypatch.setattr(run, "learning_rates", explode)
  monkeypatch.setattr(Loop, "_advance", interrupted)
  with pytest.raises(NonFiniteLoss, match="at step 13"):
    api.train(config, tmp_path)
  assert told and final_state(tmp_path)[0] == 10


def test_another_teacher_or_other_data_is_noticed(pretrained, tmp_path, monkeypatch):
  config = scheme_config("B", pretrained)
  teacher = tmp_path / "teacher"
  shutil.copytree(pretrained, teacher)
  config.teacher.init = str(teacher)
  begin(config, tmp_path / "run", monkeypatch, 15)
  shutil.rmtree(teacher)
  api.train(
    tiny(scheme="baseline", precision="32A,32W", recipe__student__epochs=0.5, seed=1), teacher
  )
  with pytest.raises(ConfigError, match="its fixed teacher is not the one it began with"):
    api.train(config, tmp_path / "run")
  damage(teacher / "checkpoints" / "11", "half written")
  with pytest.raises(ConfigError, match="the last checkpoint of .*, of step 11, is damaged"):
    with pytest.warns(UserWarning, match="damaged"):
      api.train(config, tmp_path / "run")


def test_a_dataset_that_changed_is_noticed(tmp_path):
  photos = tmp_path / "photos"
  for split, count in (("train", 20), ("val", 2)):
    for name in ("cat", "dog"):
      (photos / split / name).mkdir(parents=True)
      for i in range(count):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(photos / split / name / f"{i}.png")
  config = tiny(
    scheme="baseline",
    precision="32A,32W",
    data__name="image_folder",
    batch_size=8,
    data__dir=str(photos),
    data__test_split="val",
    data__image_size=8,
    data__resize=8,
    recipe__student__epochs=3.0,
  )
  with pytest.MonkeyPatch.context() as patch:
    begin(config, tmp_path / "run", patch, 10)
  classes = (tmp_path / "run" / "classes.json").read_text()
  assert json.loads(classes) == ["cat", "dog"]
  shutil.copy(photos / "train" / "cat" / "0.png", photos / "train" / "cat" / "more.png")
  with pytest.raises(ConfigError, match="began with 40 training images, and there are 41 now"):
    api.train(config, tmp_path / "run")
  for split in ("train", "val"):
    (photos / split / "cat").rename(photos / split / "zebra")
  for call in (
    lambda: api.train(config, tmp_path / "run"),
    lambda: api.evaluate(tmp_path / "run"),
  ):
    with pytest.raises(ConfigError, match="classes .*cat.*zebra"):
      call()
  assert (tmp_path / "run" / "classes.json").read_text() == classes
