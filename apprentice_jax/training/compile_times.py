"""How long a program may take to compile, by those that were compiled on this machine."""

import json
import pathlib

import jax

from apprentice_jax import files

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
  text = json.dumps({**_read(folder), _key(what): seconds / size})
  files.keep(folder / "seconds.json", text)


def _read(folder: pathlib.Path) -> dict[str, float]:
  numbers = lambda data: {key: float(value) for key, value in json.loads(data).items()}
  return files.read_or_none(folder / "seconds.json", numbers) or {}


def _key(what: str) -> str:
  return f"{what} on {jax.devices()[0].device_kind}"


def _about(seconds: float) -> str:
  if seconds < 45:
    return f"about {max(10, round(seconds, -1)):.0f} seconds"
  if seconds < 90:
    return "about a minute"
  return f"about {seconds / 60:.0f} minutes"
