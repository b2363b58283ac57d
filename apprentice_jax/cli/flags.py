"""Types of flags, the flags that several commands take, and the commands' first steps."""

import argparse
import os
import pathlib
import sys
from collections.abc import Callable

from apprentice_jax.errors import ConfigError

# Flags of one of several processes; see `training.cluster`.
PROCESS_FLAGS = ("coordinator_address", "num_processes", "process_id")

# Types: each takes a flag's text and returns its value, or raises ArgumentTypeError.


def whole(least: int) -> Callable[[str], int]:
  """The type of a whole number that is at least ``least``, 0 or 1."""

  def read(text: str) -> int:
    try:
      number = int(text)
    except ValueError:
      raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < least:
      kind = "positive" if least else "non-negative"
      raise argparse.ArgumentTypeError(f"{number} is not a {kind} integer")
    return number

  return read


def one_of(names) -> dict:
  """The arguments of `add_argument` for a flag with one of ``names``, by default the first."""

  def read(text: str) -> str:
    if text not in names:
      raise argparse.ArgumentTypeError(f"value should be one of <{'|'.join(names)}>")
    return text

  return dict(type=read, default=next(iter(names)), metavar="|".join(names))


def switch(text: str) -> bool:
  """The type of a flag that is on or off; the parser reads the bare flag as on."""
  if text.lower() not in ("true", "t", "1", "false", "f", "0"):
    raise argparse.ArgumentTypeError("write true or false, or the flag alone")
  return text.lower() in ("true", "t", "1")


SWITCH = dict(type=switch, default=False, nargs="?", metavar="true|false")

# Flags.


def config(parser):
  parser.add_argument(
    "--config",
    metavar="NAME|FILE[:key=value,...]",
    help="a config by its name, which `apprentice config --help` lists, or its file",
  )
  parser.add_argument_group(
    "the config",
    "Arguments after the colon: student, teacher, precision (8A2W), scheme, width, preset,\n"
    "runlocal; digits also has all_schemes. --config.FIELD=VALUE sets any field, as in\n"
    "--config.recipe.student.epochs=5; `apprentice config --config=NAME --all` lists the\n"
    "fields.",
  )


def data_dir(parser):
  parser.add_argument(
    "--data_dir", metavar="DIR", help="the folder of the images, in place of the config's"
  )


def processes(parser):
  """The flags of one of several processes."""
  add = parser.add_argument
  several = ", where several processes train one network"
  # 0 is a value of its own, so a flag that was left out is None.
  number = dict(type=whole(0), default=None)
  add("--coordinator_address", metavar="HOST:PORT", help="the address of process 0" + several)
  add("--num_processes", **number, metavar="N", help="the number of processes" + several)
  add("--process_id", **number, metavar="I", help="the number of this process, from 0" + several)
  parser.epilog = "On TPU pods and under SLURM the processes find each other without these flags."


# First steps.


def need(given, *names: str):
  """Raises ConfigError unless the flags of these names have values."""
  for name in names:
    if not getattr(given, name):
      raise ConfigError(f"this command needs --{name}=...; see apprentice --help.")


def model(given):
  """Puts the path of a file in place of ``--model``, which may be the name of a network of the zoo.

  Returns:
    The network's card; None of a file of the user's own.

  Raises:
    ConfigError: there is neither; see `registry.find`.
  """
  from apprentice_jax.deploy import registry

  file = registry.find(given.model)
  if file.note:
    # Not among the answers, which programs read.
    print(f"note: {file.note}", file=sys.stderr)
  given.model = file.path
  return file.card


def check_folder(out: str):
  """Raises ConfigError where the folder of a file to write does not exist."""
  folder = pathlib.Path(out).parent
  if out and not folder.is_dir():
    raise ConfigError(f"cannot write {out}: there is no folder {folder}.")


def unused(given, name: str, why: str, file=None):
  """Says that a flag changes nothing, if it is among those given."""
  if name in given.names:
    note(f"--{name} changes nothing: {why}.", file)


def note(sentence: str, file=None):
  """Prints a sentence that a reader of the command's output should see first."""
  print(f"note: {sentence}", flush=True, file=file or sys.stdout)


def without_devices():
  """Keeps jax on the CPU: the command computes nothing, and a device may be in use."""
  # jax reads the variable once, when it starts.
  os.environ["JAX_PLATFORMS"] = "cpu"


def join(given):
  """Joins the other processes of the run, where there are several."""

  from apprentice_jax.training import cluster

  joined = [getattr(given, name) for name in PROCESS_FLAGS]
  cluster.check(*joined)
  cluster.join(*joined)
