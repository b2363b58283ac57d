"""The config that ``--config`` names, with the fields that ``--config.a.b=value`` changes."""

import pathlib
import runpy
import traceback

import apprentice_jax
from apprentice_jax.errors import ConfigError, nearest

FOLDER = pathlib.Path(apprentice_jax.__file__).parent / "configs"  # of the installed ones


def load(given, data_dir: str = "", study: bool = False):
  """The config of a command's flags, ready to run.

  Args:
    given: the flags, from `parser.parse`.
    data_dir: in place of ``config.data.dir``; "": as the config has it.
    study: whether the config has to be able to run at each of the study's precisions too.

  Raises:
    ConfigError: the file, an argument, or a field is wrong.
  """
  from apprentice_jax.config import checked

  config = read(given.config, given.fields)
  if data_dir:
    config.data.dir = data_dir
  return checked(config, config.study.precisions if study else ())


def installed() -> dict[str, pathlib.Path]:
  """The configs that come with the package, by name."""
  return {path.stem: path for path in sorted(FOLDER.glob("[!_]*.py"))}


def find(name: str) -> str:
  """The path of a config: of a file, or of an installed one.

  Raises:
    ConfigError: there is none.
  """
  if pathlib.Path(name).is_file():
    return name
  if name in installed():
    return str(installed()[name])
  if "/" in name or name.endswith(".py"):
    raise ConfigError(f"there is no config file {name!r}.")
  raise ConfigError(f"there is no config {name!r}: {nearest(name, installed())}")


def read(argument: str, fields: list[str]):
  """The config of ``--config=ARGUMENT`` and of flags ``--config.a.b=value``, by absl.

  Raises:
    ConfigError: the file, an argument, or the type of a field is wrong.
  """
  from absl import flags
  from ml_collections import config_flags

  name, _, rest = argument.partition(":")
  config = _from_file(find(name), rest)
  values = flags.FlagValues()
  argv = ["apprentice", *fields]
  # absl's own set of flags would keep this config for a second command of the process.
  config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
  try:
    values(argv)
  except Exception as error:
    # A value is of the wrong type, say; absl puts its own prefix before the sentence.
    raise ConfigError(" ".join(str(error).split("ConfigError: ")[-1].split())) from None
  return values.config


def _from_file(path: str, argument: str):
  """The config that a file's get_config returns; ConfigError says in which line the file fails."""
  import ml_collections

  try:
    get_config = runpy.run_path(path).get("get_config")
    if get_config is None:
      raise ConfigError(f"config file {path} has no get_config(argument).")
    config = get_config(argument) if argument else get_config()
  except ConfigError:
    raise
  except Exception as error:
    # The last line of the traceback that is in the file, not in what the file calls.
    frames = traceback.extract_tb(error.__traceback__)
    what, lines = error, [frame.lineno for frame in frames if frame.filename == path]
    if isinstance(error, SyntaxError):
      what, lines = error.msg, [error.lineno]
    where = f", line {lines[-1]}" if lines else ""
    sentence = " ".join(str(what).split()).rstrip(".")
    raise ConfigError(f"config file {path}{where}: {type(error).__name__}: {sentence}.") from None
  if not isinstance(config, ml_collections.ConfigDict):
    raise ConfigError(
      f"config file {path}: get_config returns no config, but {type(config).__name__}."
    )
  return config
