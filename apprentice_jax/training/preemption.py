"""Being told to stop: SIGTERM (a machine is taken away) and SIGINT (Ctrl-C) save first.

A run that was told to stop finishes the step it is at, saves, and raises `Preempted`; the command then
exits with EXIT_PREEMPTED after SIGTERM, for a launcher to start it again, and with 130 after SIGINT. A
second signal acts at once, as it would have without this module.
"""

import contextlib
import signal
import threading
from typing import Optional

import jax

EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: try again
EXIT_INTERRUPTED = 130  # as shells say of SIGINT


class Preempted(Exception):
  """The run was told to stop and has saved; the message says at which step.

  Attributes:
    signal: that told it.
  """

  def __init__(self, message: str, signal_number: int = signal.SIGTERM):
    super().__init__(message)
    self.signal = signal_number

  @property
  def exit_code(self) -> int:
    return EXIT_INTERRUPTED if self.signal == signal.SIGINT else EXIT_PREEMPTED


_received: Optional[int] = None
_polls = 0


@contextlib.contextmanager
def listening():
  """While this lasts, SIGTERM and SIGINT are noted, for `requested`, instead of ending the process.

  Does nothing inside another `listening`; in threads other than the main one, which get no signals;
  and among several processes, where jax.distributed listens and tells all of them.
  """
  global _received
  if (threading.current_thread() is not threading.main_thread() or _listening()
      or jax.process_count() > 1):
    yield
    return
  before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

  def note(number, _):
    global _received
    _received = number
    for n, handler in before.items():
      signal.signal(n, handler)  # the next one acts at once

  _received, note.ours = None, True
  for number in before:
    signal.signal(number, note)
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
    _received = None


def _listening() -> bool:
  return _received is not None or getattr(signal.getsignal(signal.SIGINT), "ours", False)


def requested() -> Optional[int]:
  """The signal that asks this run to stop, or None.

  Among several processes, all of them get the same answer at the same call, provided that all of them
  call it equally often: they stop after the same step.
  """
  if jax.process_count() == 1:
    return _received
  from jax.experimental import multihost_utils
  global _polls
  _polls += 1
  return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(_polls) else None
