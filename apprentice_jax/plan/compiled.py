"""Compiling for TPUs, once: a step that was compiled before is found again."""

import gzip
import hashlib
import importlib.metadata
import json
import os
import pathlib
import re
import time
from typing import NamedTuple

from apprentice_jax.errors import ConfigError
from apprentice_jax.files import cache_dir, keep, read_or_none

VERSION = "1"  # of what is kept; also of the names of operations, which the key does not contain


class Compiled(NamedTuple):
  """What the compiler says of a step.

  Attributes:
    text: the optimized program, scheduled.
    memory: bytes on each device: "arguments", "outputs", "aliased" (outputs in place of arguments),
      "temporaries", "code".
    seconds: that it took.
  """

  text: str
  memory: dict[str, int]
  seconds: float

  @property
  def needed(self) -> int:
    """Bytes on each device."""
    m = self.memory
    return m["arguments"] + m["outputs"] - m["aliased"] + m["temporaries"] + m["code"]


class DoesNotFit(Exception):
  """The step needs more memory than the chip has; the message says how much."""


def compiled(lowered, topology: str) -> Compiled:
  """Compiles a lowered step for the slice it was lowered for, or finds it in the cache.

  Raises:
    DoesNotFit: it needs too much memory.
  """
  versions = [importlib.metadata.version(p) for p in ("jax", "jaxlib", "libtpu")]
  # The flags of the machine that compiles (threads, pretended devices) do not reach a TPU's
  # program.
  flags = [
    f
    for f in os.environ.get("XLA_FLAGS", "").split()
    if not f.startswith(("--xla_cpu_", "--xla_force_host_"))
  ]
  options = [os.environ.get("LIBTPU_INIT_ARGS", ""), " ".join(flags)]
  parts = [VERSION, topology, *versions, *options, lowered.as_text()]
  key = hashlib.sha256("\n".join(parts).encode())
  folder = cache_dir() / "plan" / key.hexdigest()[:32]
  # A step that does not fit takes as long to compile as one that does, so this is kept, too.
  figures = read_or_none(folder / "memory.json", json.loads)
  if figures and "does_not_fit" in figures:
    raise DoesNotFit(figures["does_not_fit"])
  text = read_or_none(folder / "program.txt.gz", lambda data: gzip.decompress(data).decode())
  if figures and text is not None:
    return Compiled(text, figures["memory"], figures["seconds"])
  began = time.monotonic()
  try:
    done = lowered.compile()
  except Exception as error:
    # The compiler has no error of its own for it; its message says how much it would use.
    used = re.search(r"Used ([\d.]+\w) of ([\d.]+\w) hbm", str(error))
    if not used and "RESOURCE_EXHAUSTED" not in str(error):
      raise ConfigError(f"the compiler fails: {str(error).splitlines()[0][:300]}") from error
    sentence = f"it would use {used[1]} of {used[2]}" if used else "it would use more than there is"
    _keep(folder, {"does_not_fit": sentence})
    raise DoesNotFit(sentence) from None
  m = done.memory_analysis()
  memory = {
    "arguments": m.argument_size_in_bytes,
    "outputs": m.output_size_in_bytes,
    "aliased": m.alias_size_in_bytes,
    "temporaries": m.temp_size_in_bytes,
    "code": m.generated_code_size_in_bytes,
  }
  result = Compiled(done.as_text(), memory, time.monotonic() - began)
  _keep(folder, {"memory": memory, "seconds": result.seconds}, result.text)
  return result


def _keep(folder: pathlib.Path, figures: dict, text: str = ""):
  # The figures come last: with them, the program is there.
  keep(folder / "program.txt.gz", gzip.compress(text.encode(), 6))
  keep(folder / "memory.json", json.dumps(figures))
