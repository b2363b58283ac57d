"""The flags of the command line, and the sentences about wrong ones."""

import pathlib
import runpy
import traceback
import warnings

import ml_collections
from absl import flags
from ml_collections import config_flags

from apprentice_jax.bench import MOVED
from apprentice_jax.config import base, expanded, flat
from apprentice_jax.config.saved import REMOVED
from apprentice_jax.deploy.network import ENDS
from apprentice_jax.deploy.registry import FORMATS
from apprentice_jax.errors import ConfigError, nearest

# Of one of several processes; see `training.processes`.
PROCESS_FLAGS = ("coordinator_address", "num_processes", "process_id")
# What each command takes; a "config" can be changed by --config.a.b=value.
FLAGS = {
  "train": ("config", "workdir", "data_dir", *PROCESS_FLAGS),
  "study": ("config", "workdir", "data_dir", "status", *PROCESS_FLAGS),
  "report": ("workdir", "out"),
  "eval": ("config", "workdir", "model", "split", "data_dir", "lowered", "layers", *PROCESS_FLAGS),
  "export": ("workdir", "format", "out", "ends", "packing", "form", "layers", "data_dir"),
  "predict": ("model", "workdir", "image", "top", "json", "data_dir"),
  "bench": ("config", "out"),
  "prepare": ("dataset", "data_dir"),
  "plan": ("config", "topology", "max_batch", "scaling", "examples", "classes", "out"),
}


# Flags whose values are paths; `config.checked` sees to the fields of a config.
PATH_FLAGS = ("--config", "--workdir", "--model", "--data_dir", "--out", "--image")


def parse(command: str, arguments: list[str]) -> flags.FlagValues:
  """Parses the arguments of a command.

  Of a flag that is given more than once the last value counts, with a warning where the values
  differ. A config file is given once, and an image as often as there are images.

  Raises:
    ConfigError: one of them is wrong, or the config file is.
  """
  if command == "predict":  # its words are files
    arguments = [a if a.startswith("--") else f"--image={a}" for a in arguments]
  arguments = [_spelled(a) for a in arguments]
  _check(command, arguments)
  arguments = _last_of_each(arguments)
  values = flags.FlagValues()
  config_flags.DEFINE_config_file(
    "config",
    None,
    "config file",
    flag_values=values,
    lock_config=True,
    sys_argv=["apprentice", *arguments],
  )
  for name in ("workdir", "model", "data_dir", "out", "dataset", *PROCESS_FLAGS[:1]):
    flags.DEFINE_string(name, "", "", flag_values=values)
  flags.DEFINE_list("topology", [], "", flag_values=values)
  flags.DEFINE_multi_string("image", [], "", flag_values=values)
  for name in ("max_batch", "scaling", "lowered", "layers", "status", "json"):
    flags.DEFINE_bool(name, False, "", flag_values=values)
  for name in ("examples", "classes"):
    flags.DEFINE_integer(name, 0, "", lower_bound=0, flag_values=values)
  flags.DEFINE_integer("top", 5, "", lower_bound=1, flag_values=values)
  for name in PROCESS_FLAGS[1:]:
    flags.DEFINE_integer(name, None, "", lower_bound=0, flag_values=values)
  flags.DEFINE_string("split", "", "", flag_values=values)
  flags.DEFINE_enum("format", "packed", list(FORMATS), "", flag_values=values)
  flags.DEFINE_enum("ends", "float", list(ENDS), "", flag_values=values)
  flags.DEFINE_enum("packing", "bits", ["bits", "base3"], "", flag_values=values)
  flags.DEFINE_enum("form", "auto", ["auto", "exact", "fast"], "", flag_values=values)
  try:
    values(["apprentice", *arguments])
  except Exception as error:  # of any flag: a value of the wrong type, say
    raise ConfigError(" ".join(str(error).split("ConfigError: ")[-1].split())) from None
  return values


def _spelled(argument: str) -> str:
  """The argument with underscores for dashes in its name, and ``~`` expanded where it is a path."""
  name, equals, value = argument.partition("=")
  if name.startswith("--") and not name.startswith("--config"):
    name = "--" + name[2:].replace("-", "_")
  if name == "--workdir":  # several of them where a report is of a study's parts
    value = ",".join(map(expanded, value.split(",")))
  elif name in PATH_FLAGS:
    value = expanded(value)
  return name + equals + value


def _last_of_each(arguments: list[str]) -> list[str]:
  """The arguments without the earlier ones of each flag, whose lists absl would join; images are
  all kept."""
  names = [argument.partition("=")[0] for argument in arguments]
  last = dict(zip(names, arguments))
  for name in sorted({n for n, a in zip(names, arguments) if n != "--image" and a != last[n]}):
    warnings.warn(f"{name} is given more than once: the last one counts, {last[name]}.")
  return [
    a for i, (n, a) in enumerate(zip(names, arguments)) if n == "--image" or n not in names[i + 1 :]
  ]


def _check(command: str, arguments: list[str]):
  known = [f"--{name}" for names in FLAGS.values() for name in names]
  known += [f"--config.{key}" for key in flat(base())]
  names = [argument.partition("=")[0] for argument in arguments]
  for argument, name in zip(arguments, names):
    if not argument.startswith("--"):
      raise ConfigError(f"unexpected argument {argument!r}: flags are written --name=value.")
    if name == "--what" and command == "bench":
      raise ConfigError(_moved(argument.partition("=")[2]))
    if (field := name.removeprefix("--config.")) in REMOVED:
      raise ConfigError(f"flag {name} has gone: {REMOVED[field][1]}.")
    if name not in known:
      raise ConfigError(f"flag {name} does not exist: {nearest(name, known)}")
    if name.removeprefix("--").partition(".")[0] not in FLAGS[command]:
      raise ConfigError(f"{command} takes no {name}: see apprentice --help.")
    if name == "--config":
      if "=" not in argument:
        raise ConfigError("a config is given as --config=FILE, with an equals sign.")
      if names.count(name) > 1:
        raise ConfigError("--config is given more than once.")
      _try_config(*argument.partition("=")[2].partition(":")[::2])
    elif name.startswith("--config.") and "--config" not in names:
      raise ConfigError(f"{name} changes a config: give one with --config=FILE.")


def _moved(what: str) -> str:
  """The sentence about `bench --what=...`, which has become a program of its own."""
  if what in MOVED:
    return f"bench --what={what} is now `{MOVED[what]}`, in the project's repository."
  return "bench takes no --what: it measures the training of a config."


def _try_config(path: str, argument: str):
  """Raises ConfigError, saying where it is, if a config file fails: absl would say so in a
  traceback."""
  if not pathlib.Path(path).is_file():
    raise ConfigError(f"there is no config file {path!r}.")
  try:
    get_config = runpy.run_path(path).get("get_config")
    if get_config is None:
      raise ConfigError(f"config file {path} has no get_config(argument).")
    config = get_config(argument) if argument else get_config()
  except ConfigError:
    raise
  except Exception as error:
    if isinstance(error, SyntaxError):
      lines = [error.lineno]
    else:
      lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    where = f", line {lines[-1]}" if lines else ""
    what = error.msg if isinstance(error, SyntaxError) else error
    raise ConfigError(
      f"config file {path}{where}: {type(error).__name__}: "
      + " ".join(str(what).split()).rstrip(".")
      + "."
    ) from None
  if not isinstance(config, ml_collections.ConfigDict):
    raise ConfigError(
      f"config file {path}: get_config returns no config, but {type(config).__name__}."
    )
