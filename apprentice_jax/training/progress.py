"""A run's messages while it works: its progress by time, and the tasks that take longer than a
moment."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable

EVERY = 10.0  # seconds between lines in a log; people read them, and files keep them
LIVE = 0.3  # between looks of a line on a terminal, which is rewritten in place
MOMENT = 2.0  # what takes less is not announced


class Progress:
  """The progress of a run: a line rewritten in place on a terminal, a new one every few seconds
  elsewhere.

  The first line comes with the first step, which already says how long the run may take.

  Args:
    name: of the run.
    steps: its last.
    first_step: where it begins, or continues.
    batch: images of a step.
    role: "student" or "teacher", what the network is that trains.
    spent: seconds of this process that are no part of a step, such as those of compilers.
    out: where to; the default is standard output.
    announced: whether to say so when it begins.
    clock: seconds.
  """

  def __init__(
    self,
    name: str,
    steps: int,
    first_step: int,
    batch: int,
    *,
    role: str = "student",
    spent: Callable[[], float] = lambda: 0.0,
    out=None,
    announced: bool = True,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._name, self._role, self._batch = name, role, batch
    self._steps, self._first = steps, first_step
    self._out, self._clock, self._spent = out or sys.stdout, clock, spent
    self._live = self._out.isatty()
    self._began, self._shown = clock() - spent(), None
    self._last, self._width, self._scores, self._speed = first_step, 0, [], ""
    if announced and first_step < steps:
      what = f"{steps:,} steps to train"
      if first_step:
        what = f"continuing from step {first_step:,} of {steps:,}"
      print(f"{name}: {what}", file=self._out, flush=True)

  def record(self, step: int, record: dict):
    """Shows a step's record, and from then on its loss and accuracies, if it is time."""
    self._scores = [f"loss {record['loss']:.3f}", f"{self._role} {record['student_accuracy']:.1%}"]
    if "teacher_accuracy" in record:
      self._scores.append(f"teacher {record['teacher_accuracy']:.1%}")
    self._speed = _speed(record["images_per_second"])
    self._show(step)

  def step(self, step: int):
    """Shows that a step is done, if it is time; records come after many of them."""
    if step < self._steps:  # the last one comes with its record
      self._show(step)

  def _show(self, step: int):
    now = self._clock()
    # A record is of a step before: the line never goes back.
    self._last = max(step, self._last)
    every = LIVE if self._live else EVERY
    due = self._shown is None or now - self._shown >= every or step == self._steps
    if not due or self._last == self._first:
      return
    self._shown = now
    # Of this start alone: the steps before it may have been taken on another machine.
    trained = max(now - self._spent() - self._began, 1e-9)
    a_step = trained / (self._last - self._first)
    parts = [
      f"{self._name} step {self._last}/{self._steps}",
      *self._scores,
      self._speed or _speed(self._batch / a_step),
      f"{clock_time(a_step * (self._steps - self._last))} left",
    ]
    # On a terminal the line is rewritten in place; a shorter one covers what was there.
    line = "  ".join(parts)
    end = "\r" if self._live and step < self._steps else "\n"
    print(line.ljust(self._width), end=end, file=self._out, flush=True)
    self._width = len(line) if end == "\r" else 0


def _speed(rate: float) -> str:
  return f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.1f} images/s"


def clock_time(seconds: float) -> str:
  """Such as 0:07, 12:30 or 1:05:00."""
  minutes, seconds = divmod(int(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@contextlib.contextmanager
def announced(
  what: str, more: str = "", said: bool = True, after: float = MOMENT, every: float = 3 * EVERY
):
  """Says what is being done where it takes longer than a moment, and now and then that it goes on.

  Args:
    what: is being done.
    more: for the first line.
    said: whether by this process.
    after, every: seconds to the first line, and between those that follow.
  """
  done, began = threading.Event(), time.monotonic()
  clear = "\r\033[K" if sys.stdout.isatty() else ""  # a line of progress may be there

  def say():
    if done.wait(after):
      return
    print(f"{clear}{what}{more}", flush=True)
    while not done.wait(every):
      print(f"{clear}{what}: {clock_time(time.monotonic() - began)} so far", flush=True)

  thread = threading.Thread(target=say, daemon=True)
  if said:
    thread.start()
  try:
    yield
  finally:
    done.set()
    if said:
      thread.join()
