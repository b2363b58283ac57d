"""A page: a network as one HTML file that runs it in a browser, from a disk and without a network.

The engine is the C code of `deploy.c` and the resize of `predict`, compiled to WebAssembly. The
page has it twice, with and without SIMD; both share their last section, which has the weights.
Logits are those of `interpret` to the bit where the C code's are.
"""

import atexit
import base64
import hashlib
import html
import importlib.util
import json
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import NamedTuple

import numpy as np

import apprentice_jax
from apprentice_jax.deploy import c, predict
from apprentice_jax.deploy.network import Lowered
from apprentice_jax.deploy.predictor import BadFile, Predictor
from apprentice_jax.errors import ConfigError
from apprentice_jax.files import write_whole

_FOLDER = pathlib.Path(__file__).parent
_TARGET = ("-target", "wasm32-wasi")
# What browsers had before SIMD: all of it is older.
_PROCESSOR = "mvp+bulk_memory+nontrapping_fptoint+sign_ext"
FLAGS = (*c.FLAGS, "-fno-math-errno")
_LINK = ("--no-entry", "--strip-all", "-z", "stack-size=65536")
_DATA = 11  # the id of a module's section of constants
HEADING = "What is in the picture?"
# Of the classes' names that stand on top: how many at most, how many of more, and their characters.
_NAMED, _EXAMPLES, _LONGEST = 12, 3, 40
_MARK = b'<meta name="generator" content="apprentice page">'


class Engine(NamedTuple):
  """WebAssembly modules, each without its last section.

  Attributes:
    simd, plain: code that computes with and without vectors.
    data: the last section of both, with weights and tables.
  """

  simd: bytes
  plain: bytes
  data: bytes


def write(network: Lowered, path, title: str = ""):
  """Writes a network's page.

  Args:
    network: of quantized activations and weights, and of grey or RGB images.
    path: the HTML file.
    title: the page's heading; "": `HEADING`.

  Raises:
    ConfigError: the network has no such form, or the compiler is missing.
    OSError: the file cannot be written.
  """
  write_whole(path, page(network, engine(network), title))


def page(network: Lowered, made: Engine, title: str = "") -> str:
  """The text of a network's page."""
  height, width, channels = network.image_shape
  about = {
    "version": apprentice_jax.__version__,
    "architecture": network.architecture,
    "precision": network.precision,
    "height": height,
    "width": width,
    "channels": channels,
    "resize": network.resize,
    "classes": network.class_names,
    "bytes": {"network": len(made.data), "simd": len(made.simd), "plain": len(made.plain)},
    "sha256": hashlib.sha256(made.simd + made.data).hexdigest(),
  }
  read = lambda *names: "".join((_FOLDER / name).read_text("utf-8") for name in names)
  parts = {
    "title": html.escape(title or HEADING),
    "lead": _lead(network.class_names),
    "knows": _knows(network.class_names),
    "style": read("page.css"),
    "script": read("png.js", "pictures.js", "page.js"),
    # Nothing in a class's name can end the element that it stands in.
    "about": json.dumps(about, ensure_ascii=False).replace("<", "\\u003c"),
    **{name: base64.b64encode(part).decode() for name, part in made._asdict().items()},
  }
  return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], read("page.html"))


def _lead(names: tuple[str, ...]) -> str:
  """What a network tells apart: a sentence of HTML."""
  # A <bdi> keeps the direction of a name's script to itself.
  shown = [f"<bdi>{html.escape(_shortened(name))}</bdi>" for name in names]
  if len(names) == 2:
    return f"This page tells {shown[0]} from {shown[1]}."
  listed = shown if len(names) <= _NAMED else shown[:_EXAMPLES]
  words = ":" if listed is shown else ", such as"
  return f"This page knows {len(names):,} classes{words} {', '.join(listed[:-1])} and {listed[-1]}."


def _knows(names: tuple[str, ...]) -> str:
  """The element that the page's script fills with all names, where the lead has not all of them."""
  if len(names) <= _NAMED and all(name == _shortened(name) for name in names):
    return ""
  summary = f"The {len(names):,} classes that it knows"
  return f'<details id="knows"><summary>{summary}</summary><ul></ul></details>\n'


def _shortened(name: str) -> str:
  return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def engine(network: Lowered) -> Engine:
  """Compiles a network's engine.

  Raises:
    ConfigError: see `write`.
  """
  predict.check(Predictor(network.image_shape, network.class_names, network.resize, None))
  code = c.code(network, "network")
  compiler()
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    for name, text in code.items():
      (folder / name).write_text(text)
    simd = _module(folder, f"{_PROCESSOR}+simd128", network.resize)
    plain = _module(folder, _PROCESSOR, network.resize)
  (simd, data), (plain, again) = _split(simd), _split(plain)
  # The linker puts the same constants at the same addresses.
  assert data == again, "the modules have other constants"
  return Engine(simd, plain, data)


def compiler() -> list[str]:
  """The command of the compiler for WebAssembly.

  Raises:
    ConfigError: it is not there.
  """
  if not importlib.util.find_spec("ziglang"):
    raise ConfigError(
      "a page takes the compiler of the package ziglang: pip install 'apprentice-jax[c]'."
    )
  return [sys.executable, "-m", "ziglang"]


def _module(folder: pathlib.Path, processor: str, resize: int) -> bytes:
  """A module of the code in a folder; it imports nothing."""
  objects = [folder / "network.o", folder / "engine.o"]
  for source, target in zip((folder / "network.c", _FOLDER / "engine.c"), objects):
    flags = [*_TARGET, f"-mcpu={processor}", *FLAGS, f"-I{folder}", f"-DNETWORK_RESIZE={resize}"]
    _run("cc", *flags, "-c", source, "-o", target)
  # By the linker itself: the compiler would build a C library first, of which nothing is needed.
  _run("wasm-ld", *_LINK, *objects, "-o", folder / "network.wasm")
  return (folder / "network.wasm").read_bytes()


def _run(*words):
  done = subprocess.run([*compiler(), *words], capture_output=True, text=True, check=False)
  if done.returncode:
    lines = [line for line in done.stderr.splitlines() if "error" in line]
    raise ConfigError(f"the engine does not compile: {[*lines, f'{words[0]} failed'][0]}.")


def _split(module: bytes) -> tuple[bytes, bytes]:
  """A module up to its last section, and this section, which has its constants."""
  at = 8
  while module[at] != _DATA:
    at += 1
    size, at = _number(module, at)
    at += size
  return module[:at], module[at:]


def _number(module: bytes, at: int) -> tuple[int, int]:
  """A number of seven bits a byte, the lowest first, and where it ends."""
  result = shift = 0
  while True:
    byte = module[at]
    result |= (byte & 127) << shift
    at, shift = at + 1, shift + 7
    if byte < 128:
      return result, at


def recognises(path) -> bool:
  """Whether a file is a page that `write` has made."""
  with pathlib.Path(path).open("rb") as file:
    return _MARK in file.read(1024)


def read(path) -> tuple[dict, bytes]:
  """What a page says about its network, and its engine with SIMD.

  Raises:
    BadFile: the page is damaged.
  """
  text = pathlib.Path(path).read_text("utf-8", errors="replace")
  element = lambda name: re.search(f'<script type="[a-z/]*" id="{name}">(.*?)</script>', text)[1]
  try:
    about = json.loads(element("about"))
    module = b"".join(base64.b64decode(element(name)) for name in ("simd", "data"))
  except (TypeError, ValueError):
    raise BadFile("damaged: a part of the page is missing") from None
  if hashlib.sha256(module).hexdigest() != about.get("sha256"):
    raise BadFile("damaged: the engine is not as it was exported")
  return about, module


def load(path) -> Predictor:
  """Runs a page's engine by the package wasmtime, as a browser does.

  Raises:
    BadFile: the page is damaged.
    ConfigError: wasmtime is not there.
  """
  return predictor(*read(path))


def predictor(about: dict, module: bytes) -> Predictor:
  """Runs an engine by the package wasmtime; see `load`.

  Args:
    about: what the page says about its network.
    module: the engine, with its constants.
  """
  if not importlib.util.find_spec("wasmtime"):
    raise ConfigError(
      "a page runs in a browser, or here by the package wasmtime: pip install 'apprentice-jax[c]'."
    )
  import wasmtime

  store = wasmtime.Store()
  exports = wasmtime.Instance(store, wasmtime.Module(store.engine, module), []).exports(store)
  kept, classes = [store, exports], tuple(about["classes"])
  # Wasmtime cannot free its objects while Python ends.
  atexit.register(kept.clear)

  def logits(images: np.ndarray) -> np.ndarray:
    store, exports = kept
    memory, place = exports["memory"], exports["image"](store)
    result = np.empty((len(images), len(classes)), np.float32)
    for image, row in zip(np.ascontiguousarray(images, np.uint8), result):
      memory.write(store, image.tobytes(), place)
      start = exports["run"](store)
      row[:] = np.frombuffer(memory.read(store, start, start + row.nbytes), np.float32)
    return result

  shape = tuple(about[side] for side in ("height", "width", "channels"))
  return Predictor(shape, classes, about["resize"], logits)
