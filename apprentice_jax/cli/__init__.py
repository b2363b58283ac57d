"""The command line: ``apprentice COMMAND --flags``, also ``python -m apprentice_jax COMMAND``.

`parser` reads the flags. Each command is a module of this package with its flags, the help of each,
and ``run``, which calls the library.
"""

import os
import sys
import traceback
import warnings

from apprentice_jax import environment
from apprentice_jax.cli import parser
from apprentice_jax.errors import EXIT_INPUT, EXIT_PREEMPTED, ApprenticeError, Preempted

EXIT_PIPE = 141  # as shells say of SIGPIPE


def command() -> int:
  """The process's own command: `main`, in a process that has glibc's memory settings."""
  environment.restart_with_memory_settings()
  return main()


def main(argv: list[str] | None = None) -> int:
  """Runs a command.

  Args:
    argv: its name and flags; None: those of the process.

  Returns:
    The exit status. 0; 2 after one sentence about a wrong input; 75 when SIGTERM stopped a run,
    which saved (the same command continues it: see `training.preemption`); 130 after SIGINT.
  """
  argv = list(sys.argv[1:] if argv is None else argv)
  # `plan` does not compile for CPU.
  environment.set_xla_flags(quick=argv[:1] != ["plan"])
  # These libraries warn of their own affairs, which no user can change.
  warnings.filterwarnings("ignore", module="orbax|tensorflow_datasets|etils")
  usual, warnings.formatwarning = warnings.formatwarning, _format_warning
  try:
    return _run(argv)
  except ApprenticeError as error:
    print(f"apprentice: {error}", file=sys.stderr)
    # All processes were told to stop, so all of them end.
    return _ended(error.exit_code, together=isinstance(error, Preempted))
  except BrokenPipeError:
    # Whoever read the output has read enough, as `| head` does. Python flushes stdout at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _ended(EXIT_PIPE)
  except Exception as error:
    return _failed(error)
  finally:
    warnings.formatwarning = usual


def _run(argv: list[str]) -> int:
  if (text := parser.help_text(argv)) is not None:
    print(text)
    return 0
  given = parser.parse(argv)
  # Before jax is imported, which would look for a TPU.
  if not environment.has_tpu():
    environment.without_tpu()
  if "num_processes" in given:
    from apprentice_jax.training import cluster, guard

    # One process of several works under a guard, which starts this command again.
    if cluster.several(given.num_processes):
      if (status := guard.guarded(argv)) is not None:
        return status
  # The process that works says this, not its guard.
  for sentence in given.repeated:
    warnings.warn(sentence)
  return given.run(given) or 0


def _failed(error: Exception) -> int:
  """The status after an error that is not the user's to mend; raises one that is a bug."""
  from apprentice_jax.training import guard

  line = (str(error).splitlines() or [""])[0][:200]
  if guard.out_of_memory(error):
    print(
      f"apprentice: the memory of a device is too small for this run ({line}): take a smaller "
      "batch_size (or batch_per_device).",
      file=sys.stderr,
    )
    return _ended(EXIT_INPUT)
  # A process alone shows the whole traceback; several first say whether another one was lost.
  if not _one_of_several():
    raise error
  if guard.peer_lost(error):
    print(f"apprentice: {guard.LOST} ({line})", file=sys.stderr)
    return _ended(EXIT_PREEMPTED)
  traceback.print_exception(error)
  return _ended(1)


def _one_of_several() -> bool:
  jax = sys.modules.get("jax")  # a wrong flag ends the command before jax is imported
  return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


def _ended(status: int, together: bool = False) -> int:
  """Ends this process at once if it is one of several, unless all of them end ``together``.

  Exiting would wait for the other processes, which wait for this one.
  """
  if _one_of_several() and not together:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
  return status


def _format_warning(message, *_, **__):
  return f"apprentice: {message}\n"  # without the place in the code
