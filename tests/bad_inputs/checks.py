"""What a refused command must have said and left as it was, and when two runs are the same."""

import contextlib
import ctypes
import fnmatch
import os
import pathlib
import struct

import jax
import numpy as np

from apprentice_jax.training import api
from apprentice_jax.training.checkpoint import Checkpoints
from apprentice_jax.training.records import read_records


class Began(BaseException):
  """Training began: the input was taken for a good one."""


def began(*_, **__):
  raise Began


@contextlib.contextmanager
def obeying_permissions():
  """Root may read and write anywhere: gives that up (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)."""
  if os.geteuid():
    yield
    return
  libc, header = ctypes.CDLL(None), struct.pack("=Ii", 0x20080522, 0)
  data = ctypes.create_string_buffer(24)
  assert libc.capget(header, data) == 0
  before = data.raw
  effective, *rest = struct.unpack("=6I", before)
  assert libc.capset(header, struct.pack("=6I", effective & ~0b110, *rest)) == 0
  try:
    yield
  finally:
    assert libc.capset(header, before) == 0


def files(*folders):
  """What is in folders: the bytes of every file, None for a folder."""
  return {
    str(p): p.read_bytes() if p.is_file() else None
    for folder in folders
    for p in sorted(pathlib.Path(folder).rglob("*"))
  }


def assert_kept(before, after, place, changes):
  changed = {k for k in before.keys() | after.keys() if before.get(k, "") != after.get(k, "")}
  unexpected = {
    k for k in changed if not any(fnmatch.fnmatch(k, f"{place}/{pattern}") for pattern in changes)
  }
  assert not unexpected


def assert_sentence(found, sentence, names):
  status, err = found
  lines = err.splitlines()
  assert status == 2 and len(lines) == 1 and lines[0].startswith("apprentice: ")
  said = lines[0].removeprefix("apprentice: ")
  if isinstance(sentence, str):
    assert said == sentence.format(**names)
  else:
    assert sentence.fullmatch(said), said


# What a run writes that goes on from its checkpoints 5 and 10, of which it keeps the newer one.
CONTINUED = (
  "run/lock",
  "run/tensorboard/*",
  "run/metrics.jsonl",
  "run/checkpoints/5*",
  "run/checksums/11.json",
  "run/starts.jsonl",
)


TIMING = ("seconds", "images_per_second", "data_wait", "host_memory")


def untimed(record):
  return {k: v for k, v in record.items() if k not in TIMING}


def assert_same_end(workdir, expected):
  """The same results, records and weights, apart from the clock."""
  assert untimed(api.result(workdir)) == untimed(api.result(expected))
  found, wanted = ([untimed(r) for r in read_records(w)] for w in (workdir, expected))
  assert found == wanted
  states = []
  for place in (workdir, expected):
    with Checkpoints(place) as checkpoints:
      state, meta = checkpoints.contents()
      leaves = jax.tree_util.tree_leaves_with_path(state)
      states.append({jax.tree_util.keystr(k): np.asarray(v).tobytes() for k, v in leaves})
      states[-1]["step"] = meta["step"]
  assert states[0] == states[1]


def sentences(warned):
  """Of our warnings, not those of libraries that are about to change."""
  return [str(w.message) for w in warned if w.category is UserWarning]
