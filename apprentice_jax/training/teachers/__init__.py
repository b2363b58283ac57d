"""Fixed teachers from files that hold no parameters of ours: programs, and logits.

| file | module | where it runs |
|---|---|---|
| of `jax.export` | `stablehlo` | inside the compiled step |
| ONNX | `onnx` | ONNX Runtime: ahead of training, or in the threads that read images |
| logits, .npz or .safetensors | `table` | nowhere: they are known |

A teacher of the first kind stands where a Flax module stands. One of the others is on the host:
`logits(pixels, index, outputs)` gives what it says of some images.
"""

import functools
import hashlib
import importlib
import json
import mmap
import os
import pathlib

import numpy as np

from apprentice_jax.distill.step import Network
from apprentice_jax.errors import ConfigError
from apprentice_jax.models import heads

_MODULES = {"program": "stablehlo", "onnx": "onnx", "logits": "table"}
_ENDINGS = {".stablehlo": "program", ".onnx": "onnx", ".npz": "logits"}
_BYTECODE = b"ML\xefR"  # MLIR's, which every file of jax.export holds
# Files that cannot be of jax.export: of torch.save, and safetensors behind its length.
_OTHERS = (b"PK", b"\x80")
ON_HOST = ("onnx", "logits")


def kind(path: str) -> str:
  """The kind of a teacher's file: "program", "onnx" or "logits"; "" of anything else."""
  file = pathlib.Path(path)
  if not path or not file.is_file():
    return ""
  if file.suffix in _ENDINGS:
    return _ENDINGS[file.suffix]
  try:
    with file.open("rb") as opened:
      start = opened.read(8)
      if file.suffix == ".safetensors":
        size = min(int.from_bytes(start, "little"), 1 << 26)
        return "logits" if "logits" in json.loads(opened.read(size)) else ""
      if len(start) < 8 or start.startswith(_OTHERS):
        return ""
      with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return "program" if content.find(_BYTECODE) >= 0 else ""
  # Whoever reads the file as a checkpoint says what is wrong.
  except (OSError, ValueError):
    return ""


def model(path: str, num_classes: int, normalisation, threads: int = 0):
  """The teacher in a file, as `kind` knows it.

  Args:
    path: of the file.
    num_classes: of the data.
    normalisation: mean and standard deviation of its images, where they are floats.
    threads: of ONNX Runtime; 0: as many as there are cores.

  Raises:
    ConfigError: the file is damaged, or holds no network of images.
  """
  status = os.stat(path)
  opened = _opened(path, status.st_mtime_ns, status.st_size)
  return opened.of(num_classes, normalisation, threads)


@functools.lru_cache(maxsize=4)
def _opened(path: str, *_):
  """The teacher in a file of this time and size."""
  module = importlib.import_module(f"{__name__}.{_MODULES[kind(path)]}")
  try:
    return module.load(path)
  except (ValueError, OSError) as error:
    why = error.strerror if isinstance(error, OSError) else error
    raise ConfigError(f"{path} {why}.") from None


def network(teacher, head: heads.Head, data) -> Network:
  """What of a file's teacher is an argument of programs.

  The SHA-256 of the file is a parameter, so that another file is another network to whatever
  compares checksums.

  Args:
    teacher: from `model`.
    head: which outputs stand for the data's classes.
    data: the training split.

  Returns:
    A network whose parameters are "outputs", int32 (classes,), the output of each class, and
    "sha256", uint8 (32,).

  Raises:
    ConfigError: the file does not fit the data or this machine.
  """
  head = head._replace(theirs=head.theirs or teacher.class_names, parameters=False)
  try:
    teacher.check(data)
    outputs = heads.outputs(teacher.outputs, head)
  except ValueError as error:
    raise ConfigError(f"{teacher.path} {error}.") from None
  return blank(teacher)._replace(params={"outputs": outputs, "sha256": _bytes(teacher.sha256)})


def blank(teacher) -> Network:
  """`network` of any file, for its shapes."""
  outputs = np.arange(teacher.num_classes, dtype=np.int32)
  return Network({"outputs": outputs, "sha256": np.zeros(32, np.uint8)}, {})


def on_host(teacher) -> bool:
  """Whether a teacher, of a file or a Flax module, has `logits` on the host."""
  return hasattr(teacher, "logits")


def sha256(path: str) -> str:
  """The SHA-256 of a file."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _bytes(digest: str) -> np.ndarray:
  return np.frombuffer(bytes.fromhex(digest), np.uint8)
