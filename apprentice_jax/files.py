"""Files: the cache folder, one way to read a file or get None, one way to write a file whole."""

import functools
import os
import pathlib
import stat
import uuid
import warnings
from collections.abc import Callable
from typing import BinaryIO, TypeVar

T = TypeVar("T")
Content = str | bytes | Callable[[BinaryIO], object]


def cache_dir() -> pathlib.Path:
  """Returns `$APPRENTICE_CACHE`, or else `apprentice_jax` in the user's cache directory."""
  if own := os.environ.get("APPRENTICE_CACHE"):
    return pathlib.Path(own).expanduser()
  parent = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  return pathlib.Path(parent).expanduser() / "apprentice_jax"


def read_or_none(path, parse: Callable[[bytes], T]) -> T | None:
  """The parsed contents of a file; None where the file is missing, unreadable or damaged.

  Args:
    path: the file.
    parse: takes its bytes; any exception of it stands for a damaged file.
  """
  try:
    return parse(pathlib.Path(path).read_bytes())
  # Whatever a damaged file leads to.
  except Exception:
    return None


def write_whole(path, content: Content, durable: bool = False):
  """Writes a file that is there whole or not at all, whenever the process stops.

  Args:
    path: the file; its folder exists.
    content: text (as UTF-8), bytes, or a function that writes to the open file.
    durable: wait for the disk, so that a power failure keeps the promise too.

  Raises:
    OSError: the file cannot be written; a file that was there before stays as it was.
  """
  path = pathlib.Path(path)
  # A name of its own, since others may write the same file; in the same folder, for `replace`.
  temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
  try:
    with temporary.open("xb") as file:
      if callable(content):
        content(file)
      else:
        file.write(content.encode() if isinstance(content, str) else content)
      if durable:
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def keep(path: pathlib.Path, content: Content):
  """Writes a file of the cache, and makes its folder; where that fails, it warns once a folder.

  Nothing depends on the file: a later start makes it again.
  """
  # A cache that cannot be written costs time, and is no reason to stop.
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
  except OSError as error:
    _warn_unkept(path.parent, str(error))


@functools.cache
def _warn_unkept(folder: pathlib.Path, why: str):
  warnings.warn(
    f"nothing can be kept in {folder} ({why}), so the next start makes it again: set "
    "APPRENTICE_CACHE to a folder that can be written."
  )


def private(folder: pathlib.Path) -> str:
  """Makes a folder that nobody else may write to; returns "" or one sentence on why it is not one.

  A folder of pickled programs has to be private: reading such a file runs its code.
  """
  try:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
  except OSError as error:
    return f"{folder} cannot be used ({error.strerror}): set APPRENTICE_CACHE to another folder."
  # Windows has no owners and modes of this kind.
  if not hasattr(os, "getuid"):
    return ""
  if status.st_uid != os.getuid():
    return f"{folder} belongs to another user: set APPRENTICE_CACHE to a folder of your own."
  if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
    return f"other users may write to {folder}: remove it, or set APPRENTICE_CACHE."
  return ""
