"""Being told to stop: SIGTERM (a machine is taken away) and SIGINT (Ctrl-C) save first.

A run that is told to stop finishes its dispatch, saves, and raises `Preempted`. Several processes
finish the chunk of ``steps_per_dispatch`` steps, after which they agree to stop. The command then
exits with EXIT_PREEMPTED after SIGTERM, for a launcher to start it again, and with 130 after
SIGINT. A SIGINT after the first signal acts at once, as it would without this module. Another
SIGTERM does not, since launchers and the system may both send one.
"""

import contextlib
import signal
import threading

import jax
import numpy as np

_received: int | None = None


@contextlib.contextmanager
def listening():
  """While this lasts, SIGTERM and SIGINT are noted, for `requested`, instead of ending the process.

  Does nothing inside another `listening`, and in threads other than the main one, which get no
  signals.
  """
  global _received
  listening_now = getattr(signal.getsignal(signal.SIGTERM), "ours", False)
  if listening_now or threading.current_thread() is not threading.main_thread():
    yield
    return
  before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

  def note(number, _):
    global _received
    _received = _received or number
    # Whoever presses Ctrl-C a second time does not want to wait.
    signal.signal(signal.SIGINT, before[signal.SIGINT])

  note.ours = True
  _received = None
  for number in before:
    signal.signal(number, note)
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
    _received = None


def requested(together: bool = True) -> int | None:
  """The signal that asks this run to stop, or None.

  Args:
    together: whether all processes of the run make this call. They exchange what they have
      received, get the same answer, and so stop after the same step; other calls have no answer
      where there are several processes.
  """
  if jax.process_count() == 1:
    return _received
  # A process that stops alone leaves the others waiting in a collective.
  if not together:
    return None
  # Not jax's own preemption point: it counts steps one by one, and Orbax asks it too, with others.
  from jax.experimental import multihost_utils

  return int(multihost_utils.process_allgather(np.int32(_received or 0)).max()) or None
