"""A parent process that guards one of several: it says in a sentence that another was lost.

jax aborts a process whose peer is gone, from whatever it is waiting in and with a C++ trace.
"""

import os
import re
import signal
import subprocess
import sys

_GUARDED = "APPRENTICE_GUARDED"  # set in the process that does the work
LOST = (
  "another process of the run was lost (its own output says why): the same command on all of them "
  "continues from the last checkpoint."
)


def guarded(arguments: list[str]) -> int | None:
  """Runs the command in a process of its own, and returns its exit status; None in that process.

  When another process of the run is lost, jax aborts this one: at once where process 0 is gone,
  else after `cluster.HEARTBEAT_SECONDS`. The guard says so in one sentence and turns it into the
  status that asks for a restart, 75. It passes SIGTERM and SIGINT on.
  """
  if os.environ.get(_GUARDED):
    end_with_parent()
    return None
  # A group of its own: Ctrl-C in a terminal reaches the guard alone, which passes it on once.
  child = subprocess.Popen(
    [sys.executable, "-m", "apprentice_jax", *arguments],
    env={**os.environ, _GUARDED: "1"},
    process_group=0,
  )
  pass_on = lambda number, _: child.send_signal(number)
  usual = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
  try:
    status = child.wait()
  finally:
    for number, handler in usual.items():
      signal.signal(number, handler)
  # jax ends a process whose peer is lost so; nothing else of ours does.
  if status == -signal.SIGABRT:
    print(f"apprentice: {LOST}", file=sys.stderr, flush=True)
    return 75
  return status if status >= 0 else 128 - status


def end_with_parent():
  """Has the system end this process with the one that started it."""
  # A guard that is killed takes the work along, as one process would.
  if sys.platform == "linux":
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def peer_lost(error: Exception) -> bool:
  """Whether an error of jax says that another process of the run is gone. It says so where a
  collective's other side, or the coordinating process, does not answer."""
  return type(error).__name__ == "JaxRuntimeError" and bool(
    re.search(
      r"UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED|Gloo|NCCL|"
      r"Connection (reset|closed|refused)|"
      r"coordination service|heartbeat",
      str(error),
      re.IGNORECASE,
    )
  )


def out_of_memory(error: Exception) -> bool:
  """Whether a device has too little memory, for a program or its data."""
  return type(error).__name__ == "JaxRuntimeError" and "RESOURCE_EXHAUSTED" in str(error)
