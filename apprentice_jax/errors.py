"""The errors that a user can mend: one sentence each, and the command's exit status."""

import difflib
import signal

EXIT_INPUT = 2  # a wrong input
EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: try again
EXIT_INTERRUPTED = 130  # as shells say of SIGINT


class ApprenticeError(Exception):
  """Base of the errors that the command prints as one sentence, without a traceback.

  Attributes:
    exit_code: the command's exit status.
  """

  exit_code = EXIT_INPUT


class ConfigError(ApprenticeError, ValueError):
  """A configuration that cannot run; the message names the field and the fix."""


class NonFiniteLoss(ApprenticeError, FloatingPointError):
  """The loss became NaN or infinite; the message names the step."""


class UnreadableImage(ApprenticeError, ValueError):
  """The bytes are no image, or only half of one; the message says what the decoder found."""


class BrokenCheckpoints(ApprenticeError, ValueError):
  """There are checkpoints, and none of them can be read."""


class Preempted(ApprenticeError):
  """The run was told to stop and has saved; the message says at which step.

  Attributes:
    signal: the number of the signal.
  """

  def __init__(self, message: str, signal_number: int = signal.SIGTERM):
    super().__init__(message)
    self.signal = signal_number

  @property
  def exit_code(self) -> int:
    return EXIT_INTERRUPTED if self.signal == signal.SIGINT else EXIT_PREEMPTED


def nearest(name: str, known) -> str:
  """Returns "did you mean 'x'?" for the known name closest to name, or all known names."""
  # Half of the letters may differ: a wrong guess costs less than a list of all names.
  close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
  return f"did you mean {close[0]!r}?" if close else "choose one of " + ", ".join(map(str, known))
