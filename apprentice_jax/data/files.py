"""The files of a folder: which are pictures, which are passed over, and why."""

import collections
import os
import stat
from collections.abc import Collection, Iterator, Sequence

from apprentice_jax.data import formats

WORKDIR = "of a run's workdir"
_SYSTEM = (
  "__macosx,@eadir,thumbs.db,ehthumbs.db,desktop.ini,lost+found,$recycle.bin,"
  "system volume information"
).split(",")
# A workdir has a config.json beside one of these, the first before anything is trained.
_OF_RUNS = ("lock", "data.json", "classes.json", "metrics.jsonl", "checkpoints", "cells")
_KINDS = 6  # of files that are not read, which a sentence names
_NAMED = 5  # files of a kind, whose paths a sentence gives


def below(folder: str, above: Collection[tuple] = ()) -> Iterator[tuple[str, str]]:
  """The files of a folder and of the folders inside it.

  Links are followed, except to a folder that they lie in.

  Args:
    folder: its path.
    above: the places of other folders that no link is followed to; see `place`.

  Yields:
    (path, why): why is "" for a picture, else a suffix or a clause. A folder that is passed over
    counts as one file.

  Raises:
    ValueError: a folder cannot be read.
  """
  # A link to a folder that it lies in would never end.
  above = {*above, place(folder)}
  # The whole list at once: a folder's handle stays open no longer than that, however deep the tree.
  try:
    with os.scandir(folder) as entries:
      inside = list(entries)
  except OSError as error:
    raise ValueError(f"cannot read {folder}: {error.strerror}.") from None
  for entry in inside:
    if why := passed_over(entry):
      yield entry.path, why
    elif not entry.is_dir():
      yield entry.path, _why_not(entry.path)
    elif place(entry.path) not in above:
      yield from below(entry.path, above)


def passed_over(entry: os.DirEntry) -> str:
  """Why an entry of a folder counts for nothing, whatever it holds; "" if it may count."""
  if entry.name.startswith("."):
    return "hidden"
  if entry.name.casefold() in _SYSTEM:
    return "of the system"
  return WORKDIR if entry.is_dir() and is_workdir(entry.path) else ""


def is_workdir(folder: str | os.PathLike[str]) -> bool:
  """Whether a folder is the workdir of a run or study, as far as its files' names tell."""
  within = lambda name: os.path.exists(os.path.join(folder, name))
  return within("config.json") and any(map(within, _OF_RUNS))


def of_runs(folder: str | os.PathLike[str]) -> bool:
  """Whether a folder is a workdir, or holds workdirs and no pictures beside them."""
  if is_workdir(folder):
    return True
  # The first picture ends the search: a set of images may have millions.
  found = False
  for _, why in below(os.fspath(folder)):
    if not why:
      return False
    found = found or why == WORKDIR
  return found


def regular(path: str | os.PathLike[str]) -> bool:
  """Whether a path may be opened: to open a pipe waits for ever. A missing file says so itself."""
  try:
    mode = os.stat(path).st_mode
  except OSError:
    return True
  return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def told(unread: collections.Counter, others: Sequence[tuple[str, str]] = ()) -> str:
  """A clause about the files that are not read: how many, and why; "" of none.

  Args:
    unread: how many there are, by reason.
    others: (path, why) of those whose paths are to be given.
  """
  if not unread:
    return ""
  paths = {}
  for path, why in others:
    paths.setdefault(why, []).append(path)
  # The most frequent first; of equals by name, so that the sentence is the same each time.
  most = sorted(unread.items(), key=lambda item: (-item[1], item[0]))
  kinds = [f"{count:,} {why}{_some(paths.get(why))}" for why, count in most[:_KINDS]]
  if rest := sum(count for _, count in most[_KINDS:]):
    kinds.append(f"{rest:,} others")
  total = unread.total()
  return f"{total:,} file{'s are' if total > 1 else ' is'} not read: {', '.join(kinds)}"


def place(path) -> tuple:
  """What a folder is, whatever its path."""
  status = os.stat(path)
  # Not every file system numbers its files.
  return status.st_dev, status.st_ino or os.path.realpath(path)


def _some(paths) -> str:
  if not paths:
    return ""
  return f" ({', '.join(paths[:_NAMED])}{', ...' if len(paths) > _NAMED else ''})"


def _why_not(path: str) -> str:
  if not regular(path):
    return "no files but pipes or devices"
  why = formats.why_not(path)
  if not why:
    return ""
  suffix = os.path.splitext(path)[1].lower() or "without a suffix"
  return suffix if why == formats.OTHER else f"{suffix} ({why})"
