"""The formats of exported files: writing one, telling which one a file has, and loading it.

Each format is a module of this package. A module's `write(network, path, **options)` writes a file,
and `load(path)` gives a Predictor or raises BadFile. The function `recognises(path)` tells whether
a file is of the format, without reading all of it.
"""

import importlib
import os
import pathlib
import stat
from types import ModuleType
from typing import NamedTuple

from apprentice_jax import zoo
from apprentice_jax.deploy.network import Lowered
from apprentice_jax.deploy.predictor import BadFile, Predictor
from apprentice_jax.errors import ConfigError, nearest

# The options of each format's `write`. StableHLO comes last: the file beside it says what it is.
FORMATS = {
  "packed": ("packing",),
  "onnx": ("packing", "form"),
  "c": ("name", "max_ram", "max_flash"),
  "web": ("title",),
  "stablehlo": (),
}


def _module(name: str) -> ModuleType:
  return importlib.import_module(f"apprentice_jax.deploy.{name}")


def usual_ends(name: str) -> str:
  """The ends, see `lower.lower`, with which a format is written unless a user names others."""
  # C code computes with integers alone; a page runs it.
  return "8bit" if name in ("c", "web") else "float"


def write(network: Lowered, name: str, path, /, **options):
  """Writes a network in the format of this name; see the format's module for its options.

  Raises:
    ConfigError: the file cannot be written.
  """
  try:
    _module(name).write(network, path, **options)
  except OSError as error:
    raise ConfigError(f"cannot write {path}: {error.strerror}.") from None


def recognised(path) -> str:
  """The format of the file at path; "" if it is of none, or there is no file.

  Raises:
    ConfigError: the file cannot be read.
  """
  try:
    path = pathlib.Path(path)
    formats = FORMATS if path.is_file() else ("c",) if path.is_dir() else ()
    return next((name for name in formats if _module(name).recognises(path)), "")
  except OSError as error:
    raise ConfigError(f"cannot read {path}: {error.strerror}.") from None


class ModelFile(NamedTuple):
  """What the value of ``--model`` stands for.

  Attributes:
    path: of a file or a folder, which may be missing.
    card: of a network of the zoo; of any other file None.
    note: one sentence on which was taken, where there are both; else "".
  """

  path: str
  card: zoo.Card | None = None
  note: str = ""


def find(model) -> ModelFile:
  """The file that a user means: an existing path, or else a network of the zoo by its name.

  Args:
    model: the path of a file or of a folder of C code, or the name.

  Raises:
    ConfigError: there is neither, and ``model`` names no folder that a file could be missing from.
  """
  name = os.fspath(model)
  if name in zoo.names():
    which = f"the network {name} of `apprentice models`"
    if os.path.isfile(name) or recognised(name):
      return ModelFile(name, note=f"--model is the {name} in this folder, not {which}.")
    note = f"--model is {which}: the {name} in this folder is no exported file."
    return ModelFile(str(zoo.path(name)), zoo.card(name), note if os.path.exists(name) else "")
  if name == os.path.basename(name) and not os.path.exists(name):
    raise ConfigError(
      f"there is no file {name}, and no network of this name: {nearest(name, zoo.names())}"
    )
  return ModelFile(name)


def load(model) -> Predictor:
  """Reads an exported file of any format, or a network of the zoo by its name; see `find`.

  Raises:
    ConfigError: the file cannot be read, is damaged, or is of no format.
  """
  path = find(model).path
  # Extensions decide nothing: users rename files.
  name = recognised(path)
  try:
    if name:
      return _module(name).load(path)
    if stat.S_ISDIR(pathlib.Path(path).stat().st_mode):
      raise BadFile("it is a folder; `apprentice predict --workdir=DIR` takes a workdir")
    raise BadFile(f"it is of no format that export writes ({', '.join(FORMATS)})")
  except (BadFile, OSError) as error:
    raise _unreadable(path, error) from None


def network(model) -> Lowered:
  """The network in a packed file, from which a file of any format can be written; see `find`.

  Raises:
    ConfigError: the file cannot be read, is damaged, or is no packed file.
  """
  path = find(model).path
  try:
    if recognised(path) == "packed":
      return _module("packed").read(path)
    # A path that is not there says so.
    pathlib.Path(path).stat()
    raise BadFile("it is no packed file, which --model of export takes; --workdir takes a workdir")
  except (BadFile, OSError) as error:
    raise _unreadable(path, error) from None


def _unreadable(path, error: BadFile | OSError) -> ConfigError:
  why = error.strerror if isinstance(error, OSError) else error
  return ConfigError(f"cannot read {path}: {why}.")


def size(path) -> int:
  """The bytes of an exported file, or of all files in an exported folder."""
  path = pathlib.Path(path)
  return sum(f.stat().st_size for f in path.iterdir()) if path.is_dir() else path.stat().st_size
