"""What a run says while it works: by time, not by steps."""

import io
import threading

import pytest

from apprentice_jax.training import compiled, progress
from apprentice_jax.training.progress import Progress, clock_time


class Terminal(io.StringIO):
  def isatty(self):
    return True


class Run:
  """A run whose steps take ``seconds`` each, with a record after every ``chunk`` steps."""

  def __init__(self, seconds, steps=100, first=0, chunk=20, out=None, compiling=0.0, **fields):
    self.now, self.compiled, self.out = 0.0, 0.0, out or io.StringIO()
    self.progress = Progress(
      "run",
      steps,
      first,
      32,
      spent=lambda: self.compiled,
      out=self.out,
      clock=lambda: self.now,
      **fields,
    )
    self.now, self.compiled = compiling, compiling
    for step in range(first + 1, steps + 1):
      self.now += seconds
      if step % chunk == 0 or step == steps:
        self.progress.record(
          step, {"loss": 1.0, "student_accuracy": 0.5, "images_per_second": 32 / seconds}
        )
      self.progress.step(step)

  @property
  def lines(self):
    return self.out.getvalue().splitlines()


def test_the_first_line_comes_with_the_first_step_and_says_how_long_it_will_take():
  lines = Run(3.0, compiling=1000.0).lines
  assert lines[0] == "run: 100 steps to train"
  assert lines[1] == "run step 1/100  11 images/s  4:57 left"  # the compiler's time aside


@pytest.mark.parametrize(
  "seconds, lines",
  [
    (0.01, 2),  # the first step, and the last
    (3.0, 26),  # every fourth step, at 12 seconds: the first that comes after 10
    (30.0, 100),
  ],
)  # every step
def test_lines_come_by_time_and_not_by_steps(seconds, lines):
  assert len(Run(seconds).lines) == 1 + lines
  assert len(Run(seconds, chunk=1).lines) == 1 + lines  # records do not matter


def test_loss_and_accuracy_are_the_newest_records():
  lines = Run(6.0).lines
  before = [line for line in lines if int(line.partition("step ")[2].partition("/")[0] or 0) < 20]
  assert before and not any("loss" in line for line in before)
  assert "run step 100/100  loss 1.000  student 50.0%  5.3 images/s  0:00 left" == lines[-1]


def test_a_teacher_is_called_so():
  lines = Run(6.0, role="teacher").lines
  assert "teacher 50.0%" in lines[-1] and not any("student" in line for line in lines)


def test_a_run_that_continues_says_from_where():
  lines = Run(2.0, steps=20, first=8).lines
  assert lines[0] == "run: continuing from step 8 of 20"
  assert lines[1] == "run step 9/20  16 images/s  0:22 left"  # of its own steps


def test_a_terminal_has_one_line():
  text = Run(0.2, out=Terminal()).out.getvalue()
  first, rest = text.split("\n", 1)
  assert (
    first == "run: 100 steps to train" and rest.count("\n") == 1 and rest.endswith("0:00 left\n")
  )
  shown = rest.split("\r")
  assert len(shown) > 40
  for before, after in zip(shown, shown[1:]):  # nothing of a longer line is left
    assert len(after.rstrip("\n")) >= len(before.rstrip())


def test_a_finished_run_says_nothing():
  assert Run(1.0, steps=8, first=8).lines == []


@pytest.mark.parametrize(
  "seconds, text", [(7.9, "0:07"), (750, "12:30"), (3900, "1:05:00"), (90061, "25:01:01")]
)
def test_times(seconds, text):
  assert clock_time(seconds) == text


def test_what_takes_long_is_announced_and_goes_on(capsys, monkeypatch):
  said, enough = [], threading.Event()

  def note(*args, **_):
    said.append(*args)
    if len(said) == 3:
      enough.set()

  monkeypatch.setattr(progress, "print", note, raising=False)
  with progress.announced("compiling the step", ": about a minute", after=0.0, every=0.001):
    assert enough.wait(60)
  count = len(said)
  assert said[0] == "compiling the step: about a minute" and said[1].startswith(
    "compiling the step: 0:0"
  )
  with progress.announced("a moment", after=3600.0):
    pass
  with progress.announced("another process", said=False, after=0.0, every=0.001):
    pass
  assert len(said) == count


def test_how_long_the_compiler_may_take(tmp_path):
  what = "the training step"
  expected = lambda size: compiled.expected(tmp_path / "programs", what, size)
  assert expected(200) == ", first time on this machine: about 10 seconds"  # the usual, on CPU
  compiled.note(tmp_path / "programs", what, 100, 60.0)
  assert expected(100) == ", first time on this machine: about a minute"
  assert expected(500) == ", first time on this machine: about 5 minutes"
  assert (
    compiled.expected(tmp_path / "programs", "something else", 100)
    == ", first time on this machine"
  )
  (tmp_path / "programs" / "seconds.json").write_text('["damaged"')
  assert expected(200) == ", first time on this machine: about 10 seconds"
