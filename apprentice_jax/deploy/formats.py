"""The formats that a network is exported in, each a module with `write`, `load` and
`recognises`."""

import importlib

from apprentice_jax.deploy.network import Network
from apprentice_jax.deploy.predictor import BadFile, Predictor

# A module's write(network, path, **options) writes a file, load(path) gives a Predictor or raises
# BadFile, and recognises(path) says whether a file is one of its own, without reading it all.
FORMATS = {
  "packed": "apprentice_jax.deploy.packed",
  "onnx": "apprentice_jax.deploy.onnx",
  "stablehlo": "apprentice_jax.deploy.stablehlo",  # last: the file beside it says what it is
}
# What `write` can be told, by format.
OPTIONS = {"packed": ("packing",), "stablehlo": (), "onnx": ("packing", "form")}


def write(network: Network, name: str, path, **options):
  """Writes a network in the format of this name; see the modules for their options."""
  importlib.import_module(FORMATS[name]).write(network, path, **options)


def recognised(path) -> str:
  """The format of the file at path; "" if it is of none."""
  return next(
    (name for name, module in FORMATS.items() if importlib.import_module(module).recognises(path)),
    "",
  )


def load(path) -> Predictor:
  """Reads a file of any of the formats.

  Raises:
    BadFile: it is of none of them, or not as it was written.
    OSError: it cannot be read.
  """
  name = recognised(path)
  if not name:
    raise BadFile(f"it is of no format that export writes ({', '.join(FORMATS)})")
  return importlib.import_module(FORMATS[name]).load(path)
