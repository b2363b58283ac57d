"""One run, several processes: how they find each other, and agree.

All of them run the same program on the same inputs. Process 0 alone writes to the workdir.
Processes may differ by a disk, or by a file that one machine does not have. They agree at the start
of a run, and where it saves. A process that is lost at any other moment ends the rest: see `guard`.
"""

import importlib.util
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from apprentice_jax import environment
from apprentice_jax.errors import ConfigError

# A process that has not been heard of for so long is lost. Where process 0 is, the others see it at
# once.
HEARTBEAT_SECONDS = int(os.environ.get("APPRENTICE_HEARTBEAT_SECONDS") or 60)
START_SECONDS = 300  # for all processes to be there


def several(num_processes: int | None) -> bool:
  """Whether this is one process of several, by the flag given or by where it runs.

  TPU machines count as such: whether a slice has one host or many, jax finds out. A step of
  SLURM with several tasks (srun) counts, an allocation does not.
  """
  if num_processes is not None:
    return num_processes > 1
  # An allocation alone has SLURM_NTASKS, too; only a step has a list of its nodes.
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
  # Without an address, jax asks the pod or SLURM for all three.
  place = {"coordinator_address": address, "num_processes": num_processes, "process_id": process_id}
  limits = {
    "initialization_timeout": START_SECONDS,
    "heartbeat_timeout_seconds": HEARTBEAT_SECONDS,
  }
  try:
    jax.distributed.initialize(**(place if address else {}), **limits)
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
  # Lengths are powers of two: each shape is a program, and these are few.
  padded = np.zeros(1 << max(size - 1, 1).bit_length(), np.uint8)
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
  # An error becomes data, goes to every process, and is one again.
  outcome = share(_outcome(function) if first() else None)
  if outcome and "errno" in outcome:
    raise OSError(outcome["errno"], outcome["message"])
  if outcome:
    raise ConfigError(outcome["message"])


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

    # Arrays of one length: processes exchange nothing else.
    text = (outcome or {}).get("message", "").encode()[:1000]
    padded = np.zeros(1000, np.uint8)
    padded[: len(text)] = np.frombuffer(text, np.uint8)
    sentences = [
      bytes(row).rstrip(b"\0").decode(errors="replace") for row in process_allgather(padded)
    ]
    # The first process that failed is named where others did not, or in another way.
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
