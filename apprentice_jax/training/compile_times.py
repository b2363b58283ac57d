"""How long a program may take to compile, by those that were compiled on this machine."""

import json
import os
import pathlib
import uuid

import jax

# Seconds for an array of the arguments, where none was compiled before: 12 for a ResNet-20's step,
# of 200 arrays, on two CPU cores.
USUAL = {"the training step": 0.06}


def expected(folder: pathlib.Path, what: str, size: int) -> str:
  """The end of a line that says what is being compiled, with how long it may take if that is known.

  Args:
    folder: where compiled programs are kept.
    what: the program computes.
    size: how many arrays its arguments have, to which the time is taken to be proportional.

  Returns:
    Such as ", first time on this machine: about a minute".
  """
  if what not in USUAL:  # short ones, whose arguments do not tell their size
    return ", first time on this machine"
  rate = _read(folder).get(_key(what), USUAL[what] if jax.devices()[0].platform == "cpu" else 0)
  return ", first time on this machine" + (f": {_about(rate * size)}" if rate else "")


def note(folder: pathlib.Path, what: str, size: int, seconds: float):
  """Keeps how long a program took, for the next of its kind."""
  temporary = folder / f"{uuid.uuid4().hex}.tmp"
  try:
    folder.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps({**_read(folder), _key(what): seconds / size}))
    os.replace(temporary, folder / "seconds.json")
  except OSError:  # a full disk: nothing is known, then
    temporary.unlink(missing_ok=True)


def _read(folder: pathlib.Path) -> dict[str, float]:
  try:
    found = json.loads((folder / "seconds.json").read_text())
    return {key: float(value) for key, value in found.items()}
  except (OSError, ValueError, AttributeError, TypeError):  # there is none, or it is damaged
    return {}


def _key(what: str) -> str:
  return f"{what} on {jax.devices()[0].device_kind}"


def _about(seconds: float) -> str:
  if seconds < 45:
    return f"about {max(10, round(seconds, -1)):.0f} seconds"
  if seconds < 90:
    return "about a minute"
  return f"about {seconds / 60:.0f} minutes"
