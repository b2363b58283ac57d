"""C code: a network as plain C99, for machines without an operating system.

A folder has NAME.h and NAME.c, the network with the kernels that it needs. NAME_test.c prints PASS
if the code computes the numbers of `interpret`; a Makefile builds and runs it. NAME.json has sizes
and checksums. The C code allocates nothing, calls nothing but memcpy, memset, memmove and rintf,
and has no state: the caller owns its memory, one struct.

Its logits are those of `interpret` to the bit, with or without a floating-point unit. A stem or a
classifier in full precision sums floats, whose last bits depend on the order.
"""

import ctypes
import dataclasses
import hashlib
import importlib.util
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

import numpy as np

import apprentice_jax
from apprentice_jax.deploy import cost, interpret
from apprentice_jax.deploy.c import memory, plan, report, source
from apprentice_jax.deploy.network import BadNetwork, Lowered
from apprentice_jax.deploy.predictor import BadFile, Predictor
from apprentice_jax.errors import ConfigError
from apprentice_jax.files import write_whole

FLAGS = ("-std=c99", "-O2", "-ffp-contract=off")
TESTED = 2  # images in NAME_test.c


def write(network: Lowered, path, name: str = "", max_ram: str = "", max_flash: str = ""):
  """Writes the folder of a network.

  Args:
    network: of quantized activations and weights.
    path: the folder, made if it is missing.
    name: of the files and the beginning of all public names; default: the folder's.
    max_ram, max_flash: the most bytes that the network may take, such as "36KB"; "": no limit.

  Raises:
    ConfigError: the network has no such form or takes more memory, or the name is no name in C.
    OSError: the folder cannot be written.
  """
  path = pathlib.Path(path)
  name = name or re.sub(r"\W", "_", path.name)
  if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
    raise ConfigError(f"{name!r} cannot begin a name in C: give letters and digits with --name.")
  limits = report.size(max_ram, "--max_ram"), report.size(max_flash, "--max_flash")
  files = code(network, name)
  takes = report.report(network, memory.place(plan.plan(network)), files, name)
  takes.require(*limits)
  header = files[f"{name}.h"].replace(source.REPORT, "".join(f" * {s}\n" for s in takes.lines()))
  files[f"{name}.h"] = header
  images = np.random.default_rng(0).integers(0, 256, (TESTED, *network.image_shape), np.uint8)
  files[f"{name}_test.c"] = source.test(
    name, images, interpret.logits(network, images), source.exact(network)
  )
  files["Makefile"] = source.makefile(name)
  hashes = {file: hashlib.sha256(text.encode()).hexdigest() for file, text in files.items()}
  about = {
    "format": "apprentice C code",
    "name": name,
    "version": apprentice_jax.__version__,
    "architecture": network.architecture,
    "precision": network.precision,
    "image_shape": network.image_shape,
    "class_names": network.class_names,
    "resize": network.resize,
    "arena_bytes": takes.arena,
    "memory": dataclasses.asdict(takes) | {"ram": takes.ram, "flash": takes.flash},
    "layers": [layer._asdict() for layer in cost.layers(network)],
    "sha256": hashes,
  }
  files[f"{name}.json"] = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
  path.mkdir(exist_ok=True)
  for file, text in files.items():
    write_whole(path / file, text)


def code(network: Lowered, name: str) -> dict[str, str]:
  """See `source.sources`.

  Raises:
    ConfigError: the network has no form in C.
  """
  try:
    return source.sources(network, name)
  except BadNetwork as error:
    raise ConfigError(f"there is no C code of this network: {error}.") from None


def memory_lines(path) -> list[str]:
  """What the network of a folder takes, as text."""
  numbers = dict(_about(path)["memory"])
  del numbers["ram"], numbers["flash"]
  return report.Report(**numbers).lines()


def recognises(path) -> bool:
  """Whether a path is a folder that `write` has made."""
  return pathlib.Path(path).is_dir() and bool(_about(path))


def load(path) -> Predictor:
  """Compiles a folder's code; see `compiler`.

  Raises:
    BadFile: the code is not there, was changed, or does not compile.
    ConfigError: there is no C compiler.
  """
  path, about = pathlib.Path(path), _about(path)
  name = about["name"]
  for file, expected in about["sha256"].items():
    try:
      text = (path / file).read_bytes()
    except FileNotFoundError:
      raise BadFile(f"{file} is not there: export it again") from None
    if hashlib.sha256(text).hexdigest() != expected:
      raise BadFile(f"{file} is not as it was exported: export it again")
  folder = tempfile.TemporaryDirectory()  # the library is loaded from it until the process ends
  library = pathlib.Path(folder.name) / "network.so"
  command = [*compiler(), *FLAGS, "-fPIC", "-shared", path / f"{name}.c", "-o", library, "-lm"]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  if done.returncode:
    lines = [line for line in done.stderr.splitlines() if "error" in line]
    raise BadFile(f"it does not compile: {[*lines, f'{command[0]} failed'][0]}")
  code, arena = ctypes.CDLL(str(library)), ctypes.create_string_buffer(about["arena_bytes"] + 8)
  classes = tuple(about["class_names"])

  def logits(images: np.ndarray, folder=folder) -> np.ndarray:
    images = np.ascontiguousarray(images, np.uint8)
    result = np.empty((len(images), len(classes)), np.float32)
    for image, row in zip(images, result):
      getattr(code, f"{name}_logits")(
        image.ctypes.data_as(ctypes.c_void_p), row.ctypes.data_as(ctypes.c_void_p), arena
      )
    return result

  return Predictor(tuple(about["image_shape"]), classes, about["resize"], logits)


def compiler() -> list[str]:
  """The command of a C compiler: $CC, cc, gcc, clang, or that of the package ziglang.

  Raises:
    ConfigError: there is none, or CC names none.
  """
  # CC may have arguments, as in "ccache gcc".
  named = shlex.split(os.environ.get("CC", ""))
  if named and not shutil.which(named[0]):
    raise ConfigError(f"CC names the C compiler {named[0]}, which is not there.")
  for command in (named, ["cc"], ["gcc"], ["clang"]):
    if command and shutil.which(command[0]):
      return command
  if importlib.util.find_spec("ziglang"):
    return [sys.executable, "-m", "ziglang", "cc"]
  raise ConfigError(
    "C code takes a C compiler: install gcc or clang, name one in CC, or pip install "
    "'apprentice-jax[c]'."
  )


def _about(path) -> dict:
  """What a folder's JSON file says; {} where there is none."""
  for file in pathlib.Path(path).glob("*.json"):
    try:
      about = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
      continue
    if isinstance(about, dict) and about.get("format") == "apprentice C code":
      return about
  return {}
