"""Programs on disk as they were compiled, ahead of time: the second start of a config neither
traces nor compiles.

JAX's own cache of compiled programs spares the compiler. It does not spare tracing and lowering,
which are half of a warm start. Here a program is found by what it was made from: its settings, the
arguments' shapes, the source of this package, versions, devices, flags. A user's own network is
code of another place. Its programs are traced and lowered at every start, and found by the result;
this still spares the compiler. Where several processes run together JAX's cache is all there is.
"""

import contextlib
import functools
import hashlib
import json
import os
import pathlib
import pickle
import platform
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
from jax.experimental import serialize_executable

import apprentice_jax
from apprentice_jax import environment, files
from apprentice_jax.models.imported import ImportedNetwork
from apprentice_jax.training import cluster, progress

# Seconds for an array of the arguments, where none was compiled before: 12 for a ResNet-20's step,
# of 200 arrays, on two CPU cores.
USUAL = {"the training step": 0.06}

_folder: pathlib.Path | None = None
_seconds = 0.0


def keep_in(folder: pathlib.Path | None):
  """Keeps programs in this folder from now on; None, or a folder of others: nowhere, and it warns.

  Programs are pickled: whoever can write to their folder can run code in this process.
  """
  global _folder
  why = files.private(folder) if folder is not None else ""
  if why:
    warnings.warn(f"compiled programs are not kept: {why}")
  _folder = None if why else folder


def folder() -> pathlib.Path | None:
  """Where programs are kept; None: nowhere."""
  return _folder


def seconds() -> float:
  """How long this process has taken so far to find programs, on disk or by compiling them. A rate
  leaves it out, so as not to depend on the cache. Where programs are not kept it is not known, and
  0."""
  return _seconds


class Kept:
  """A compiled function whose program is kept on disk.

  Args:
    function: from jax.jit or jax.pmap, on the first device or on all; what it computes depends on
      its arguments and on ``made_of``.
    made_of: whose repr tells it from all other functions.
    what: is computed, for people who wait for the compiler.
    thorough: compile it for CPU at LLVM's default level, where the command has set level 1 for all
      programs. That code is faster where arrays are padded, as in gradients of filters.
  """

  def __init__(
    self, function: Callable, *made_of: Any, what: str = "a program", thorough: bool = False
  ):
    self._function, self._made_of, self.what, self.thorough = function, made_of, what, thorough
    self._programs, self._program = {}, None  # by their keys, and that of the arguments before
    self._called = False
    # Its code can change while its settings stay.
    self._traces = _is_within(made_of, ImportedNetwork)
    self.lower = function.lower

  def __call__(self, *args):
    if _folder is None or jax.process_count() > 1:
      return self._jitted(args)
    if self._program is not None:
      # Before anything runs, arguments of other shapes are a TypeError: comparing them here, too,
      # would take time in every step.
      with contextlib.suppress(TypeError):
        return self._program(*args)
    if (key := self._key(args)) not in self._programs:
      global _seconds
      began = time.monotonic()
      self._programs[key] = self._find(_folder / f"{key}.program", args)
      _seconds += time.monotonic() - began
    self._program = self._programs[key]
    return self._program(*args)

  def _jitted(self, args):
    """As jit has it; the first call compiles, as far as is known here."""
    if self._called:
      return self._function(*args)
    self._called = True
    with progress.announced(f"compiling {self.what}", said=cluster.first()):
      return self._function(*args)

  def _find(self, path: pathlib.Path, args) -> Callable:
    """The program for these arguments: from disk, or compiled and written there."""
    size = len(jax.tree.leaves(args))  # as large as the networks are deep
    try:
      ids, program = pickle.loads(path.read_bytes())
      return serialize_executable.deserialize_and_load(
        *program, execution_devices=[d for d in jax.devices() if d.id in ids]
      )
    except Exception:  # there is none, or not a whole one, or not for this machine
      hits, began = len(_hits()), time.monotonic()
      with progress.announced(f"compiling {self.what}", expected(path.parent, self.what, size)):
        compiled = self._function.lower(*args).compile(compiler_options=self._options())
    # XLA:CPU writes a program that JAX's cache has read without its functions: it is not kept.
    if len(_hits()) > hits:
      return compiled
    note(path.parent, self.what, size, time.monotonic() - began)
    try:
      ids = {d.id for s in jax.tree.leaves(compiled.input_shardings) for d in s.device_set}
      data = pickle.dumps((ids, serialize_executable.serialize(compiled)))
    except Exception:  # a device whose programs cannot be written: the next start compiles again
      return compiled
    files.keep(path, data)
    return compiled

  def _options(self) -> dict | None:
    """The compiler's, beside XLA_FLAGS; a level that the user has set stays."""
    quick = environment.compiles_quickly()
    return {"xla_backend_optimization_level": 3} if self.thorough and quick else None

  def _key(self, args) -> str:
    leaves, tree = jax.tree.flatten(args)
    shapes = [(jax.typeof(leaf).str_short(), getattr(leaf, "sharding", None)) for leaf in leaves]
    about = (self._made_of, self.thorough, tree, shapes, _surroundings())
    if self._traces:
      about += (self._function.lower(*args).as_text(),)
    return hashlib.sha256(repr(about).encode()).hexdigest()


def _is_within(tree: Any, kind: type) -> bool:
  """Whether nested tuples hold an object of a class."""
  if isinstance(tree, tuple):
    return any(_is_within(part, kind) for part in tree)
  return isinstance(tree, kind)


@functools.cache
def _hits() -> list:
  """Grows with every program that JAX's own cache has had."""
  hits = []
  jax.monitoring.register_event_listener(
    lambda event, **_: hits.append(event) if event == "/jax/compilation_cache/cache_hits" else None
  )
  return hits


@functools.cache
def _surroundings() -> str:
  """All that a program depends on beside what it is made of and for."""
  import flax
  import jaxlib
  import optax

  device = jax.devices()[0]
  # The source stands for what is traced: a change anywhere in the package makes all programs anew.
  source = hashlib.sha256()
  for path in sorted(pathlib.Path(apprentice_jax.__file__).parent.rglob("*.py")):
    source.update(path.read_bytes())
  flags = {k: v for k, v in os.environ.items() if k.startswith(("XLA_", "LIBTPU_", "NVIDIA_TF32"))}
  return repr(
    (
      source.hexdigest(),
      [m.__version__ for m in (jax, jaxlib, flax, optax)],
      platform.python_version(),
      jax.device_count(),
      device.device_kind,
      device.client.platform_version,
      _processor(),
      flags,
      sorted(jax.config.values.items(), key=str),
    )
  )


def _processor() -> str:
  """The instructions that this machine's processor has; programs for CPU are made of them."""
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    return platform.processor()
  # A line for each core: a set, since most are alike.
  return "".join(sorted({s for s in lines if s.startswith(("model name", "flags", "Features"))}))


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
  usual = USUAL[what] if jax.devices()[0].platform == "cpu" else 0
  rate = _read_seconds(folder).get(_kind(what), usual)
  return ", first time on this machine" + (f": {_about(rate * size)}" if rate else "")


def note(folder: pathlib.Path, what: str, size: int, seconds: float):
  """Keeps how long a program took, for the next of its kind."""
  text = json.dumps({**_read_seconds(folder), _kind(what): seconds / size})
  files.keep(folder / "seconds.json", text)


def _read_seconds(folder: pathlib.Path) -> dict[str, float]:
  # Other processes write the file, too: what is no number in it counts as no file.
  numbers = lambda data: {key: float(value) for key, value in json.loads(data).items()}
  return files.read_or_none(folder / "seconds.json", numbers) or {}


def _kind(what: str) -> str:
  return f"{what} on {jax.devices()[0].device_kind}"


def _about(seconds: float) -> str:
  if seconds < 45:
    return f"about {max(10, round(seconds, -1)):.0f} seconds"
  if seconds < 90:
    return "about a minute"
  return f"about {seconds / 60:.0f} minutes"
