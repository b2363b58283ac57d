"""One run, several processes: how they find each other, agree, and end together.

All of them run the same program on the same inputs. What only one may do (write to the workdir)
process 0 does; what may turn out differently (a disk, a file that one machine does not have) is
agreed on where a run begins and where it saves. A process that is lost at any other moment ends the
rest: see `guarded`.
"""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from apprentice_jax import environment
from apprentice_jax.errors import ConfigError

# A process that has not been heard of for so long is lost. Where process 0 is, the others see it at
# once.
HEARTBEAT_SECONDS = int(os.environ.get("APPRENTICE_HEARTBEAT_SECONDS") or 60)
START_SECONDS = 300  # for all processes to be there
_GUARDED = "APPRENTICE_GUARDED"  # set in the process that does the work


def several(num_processes: int | None) -> bool:
  """Whether this is one process of several, by the flag given or by where it runs.

  TPU machines count as such: whether a slice has one host or many, jax finds out. Of SLURM it takes
  a step with several tasks (srun), not an allocation.
  """
  if num_processes is not None:
    return num_processes > 1
  if "SLURM_STEP_NODELIST" in os.environ:
    return int(os.environ.get("SLURM_NTASKS") or 1) > 1
  wanted = (os.environ.get("JAX_PLATFORMS") or "tpu").split(",")
  return bool("tpu" in wanted and importlib.util.find_spec("libtpu") and environment.has_tpu())


def check(address: str, num_processes: int | None, process_id: int | None):
  """Raises ConfigError unless all of the flags are given, or none, and they make sense."""
  given = {
    "coordinator_address": address or None,
    "num_processes": num_processes,
    "process_id": process_id,
  }
  missing = [f"--{k}" for k, v in given.items() if v is None]
  if len(missing) == 3:
    return
  if missing:
    raise ConfigError(
      f"{' and '.join(missing)} missing: several processes take --coordinator_address, "
      "--num_processes and --process_id; TPU pods and SLURM need none."
    )
  host, _, port = address.rpartition(":")
  if not host or not port.isdigit():
    raise ConfigError(
      f"--coordinator_address is {address!r}: write HOST:PORT, of process 0's machine."
    )
  if process_id >= num_processes:
    raise ConfigError(f"--process_id is {process_id}: it counts from 0 to {num_processes - 1}.")


def join(address: str = "", num_processes: int | None = None, process_id: int | None = None):
  """Joins the other processes of a run; before any device is used. Does nothing for a single one.

  Raises:
    ConfigError: they do not come together.
    NotTogether: nor do those that a pod or SLURM started: it may be that one is late.
  """
  import jax

  if not several(num_processes):
    return
  arguments = {}
  if address:
    arguments = dict(
      coordinator_address=address, num_processes=num_processes, process_id=process_id
    )
  try:
    jax.distributed.initialize(
      **arguments, initialization_timeout=START_SECONDS, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
    )
  except Exception as error:
    why = f"the processes of the run did not come together ({str(error).splitlines()[0][:200]})"
    if address:
      raise ConfigError(
        f"{why}: start as many as --num_processes says, with the address of process 0."
      ) from None
    raise NotTogether(f"{why}: one may be missing, or late.") from None


class NotTogether(ConfigError):
  """Processes that started by themselves did not find each other; worth another try."""

  exit_code = 75


def out_of_memory(error: Exception) -> bool:
  """Whether a device has too little memory, for a program or its data."""
  return type(error).__name__ == "JaxRuntimeError" and "RESOURCE_EXHAUSTED" in str(error)


def peer_lost(error: Exception) -> bool:
  """Whether an error of jax says that another process of the run is gone: that a collective's other
  side, or the coordinating process, does not answer."""
  return type(error).__name__ == "JaxRuntimeError" and bool(
    re.search(
      r"UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED|Gloo|NCCL|"
      r"Connection (reset|closed|refused)|"
      r"coordination service|heartbeat",
      str(error),
      re.IGNORECASE,
    )
  )


def guarded(arguments: list[str]) -> int | None:
  """Runs the command in a process of its own, and returns its exit status; None in that process.

  When another process of the run is lost, jax aborts this one, from whatever it is waiting in and
  with a C++ trace: at once where process 0 is gone, else after HEARTBEAT_SECONDS. The guard
  says so in one sentence and turns it into the status that asks for a restart, 75. It passes
  SIGTERM and SIGINT on.
  """
  if os.environ.get(_GUARDED):
    end_with_parent()
    return None
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
  if status == -signal.SIGABRT:
    print(f"apprentice: {LOST}", file=sys.stderr, flush=True)
    return 75
  return status if status >= 0 else 128 - status


LOST = (
  "another process of the run was lost (its own output says why): the same command on all of them "
  "continues from the last checkpoint."
)


def end_with_parent():
  """Has the system end this process with the one that started it."""
  if sys.platform == "linux":  # a guard that is killed takes the work along, as one process would
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def first() -> bool:
  """Whether this is the process that writes."""
  import jax

  return jax.process_index() == 0


def share(value: Any) -> Any:
  """Process 0's value, JSON-able, on every process."""
  import jax

  if jax.process_count() == 1:
    return value
  from jax.experimental.multihost_utils import broadcast_one_to_all

  data = np.frombuffer(json.dumps(value).encode(), np.uint8) if first() else np.zeros(0, np.uint8)
  size = int(broadcast_one_to_all(np.int32(len(data))))
  padded = np.zeros(1 << max(size - 1, 1).bit_length(), np.uint8)  # few shapes: each is a program
  padded[: len(data)] = data
  return json.loads(np.asarray(broadcast_one_to_all(padded))[:size].tobytes())


def sum_of(value: int) -> int:
  """The sum of every process's value."""
  import jax

  if jax.process_count() == 1:
    return value
  from jax.experimental.multihost_utils import process_allgather

  return int(process_allgather(np.int32(value)).sum())


def on_first(function: Callable[[], Any]):
  """Runs a function on process 0; every process goes on when it is done, or raises what it raised.

  Raises:
    ConfigError, OSError: what the function raised.
  """
  import jax

  if jax.process_count() == 1:
    function()
    return
  outcome = share(_outcome(function) if first() else None)
  _raise(outcome)


def agreed(function: Callable[[], Any]) -> Any:
  """Runs a function on every process; if it fails on any, all raise that one's sentence.

  Raises:
    ConfigError: it failed.
  """
  import jax

  if jax.process_count() == 1:
    return function()
  value = []
  outcome = _outcome(lambda: value.append(function()))
  failed = sum_of(outcome is not None)
  if failed:
    from jax.experimental.multihost_utils import process_allgather

    text = (outcome or {}).get("message", "").encode()[:1000]
    padded = np.zeros(1000, np.uint8)
    padded[: len(text)] = np.frombuffer(text, np.uint8)
    sentences = [
      bytes(row).rstrip(b"\0").decode(errors="replace") for row in process_allgather(padded)
    ]
    number = next(i for i, s in enumerate(sentences) if s)
    alike = all(s == sentences[number] for s in sentences)
    raise ConfigError(sentences[number] if alike else f"process {number}: {sentences[number]}")
  return value[0]


def _outcome(function) -> dict | None:
  try:
    function()
  except ConfigError as error:
    return {"message": str(error)}
  except OSError as error:
    return {"message": error.strerror or str(error), "errno": error.errno or 0}
  return None


def _raise(outcome: dict | None):
  if outcome is not None:
    raise (
      OSError(outcome["errno"], outcome["message"])
      if "errno" in outcome
      else ConfigError(outcome["message"])
    )
