"""A folder of images: the folders of its splits, its classes, and the files that are images."""

import collections
from collections.abc import Iterator
import hashlib
import os
import pathlib

import numpy as np

from apprentice_jax.data import formats

FOLDER = "image_folder"  # the name of a folder of images, where tfds datasets have theirs
# What people call the folders of a split. Either of a line stands for the others.
SPELLINGS = (("train", "training"), ("val", "valid", "validation"), ("test", "testing"))
_SYSTEM = ("__macosx", "@eadir", "thumbs.db", "ehthumbs.db", "desktop.ini", "lost+found",
           "$recycle.bin", "system volume information")
_KINDS = 6  # of files that are not read, which a sentence names


class NoClasses(ValueError):
  """A split's folder that holds no folders."""


class Folder:
  """``root/split/CLASS/*.jpg`` (or another picture), classes and files in alphabetical order.

  Folders inside a class are read too, and links are followed, except to a folder that they lie in.

  Attributes:
    path: of the split's folder.
    class_names, labels: see `encoded.Examples`.
    unread: how many files are not read, by reason: a suffix, or a clause.
  """

  def __init__(self, root: str, split: str):
    """Raises ValueError: there is no such folder, or a class without images."""
    self.path = _existing(root, split)
    self.unread = collections.Counter()
    self.class_names = _classes(self.path, self.unread)
    self._paths, labels = [], []
    # A link to any of these would read everything again, under another label.
    above = frozenset(map(_place, (self.path.parent, self.path)))
    for label, name in enumerate(self.class_names):
      unread, folder = collections.Counter(), str(self.path / name)
      files = sorted(_pictures(folder, unread, above | {_place(folder)}))
      if not files:
        why = f" ({told(unread)})" if unread else ""
        raise ValueError(f"the class {folder} has no images{why}: add some, or remove the folder.")
      self._paths += files
      self.unread += unread
      labels += [label] * len(files)
    self.labels = np.asarray(labels, np.int32)

  def __len__(self) -> int:
    return len(self._paths)

  def read(self, indices):
    for i in indices:
      try:
        with open(self._paths[i], "rb") as file:
          yield file.read(), int(self.labels[i])
      except OSError:
        yield b"", int(self.labels[i])

  def name(self, index: int) -> str:
    return self._paths[index]

  def identity(self) -> dict:
    """The number of files, and checksums of their names with classes and of their sizes.

    The names are those below the split's folder, so that the folder can be moved.
    """
    names, sizes = hashlib.sha256(), hashlib.sha256()
    for path in self._paths:
      names.update(os.fsencode(path[len(str(self.path)):]) + b"\0")
      sizes.update(b"%d " % _size(path))
    return {"examples": len(self), "names": names.hexdigest()[:16], "sizes": sizes.hexdigest()[:16]}


def told(unread: collections.Counter) -> str:
  """A clause about the files that are not read: how many, and why; "" of none."""
  if not unread:
    return ""
  most = sorted(unread.items(), key=lambda item: (-item[1], item[0]))
  kinds = [f"{count:,} {why}" for why, count in most[:_KINDS]]
  if rest := sum(count for _, count in most[_KINDS:]):
    kinds.append(f"{rest:,} others")
  total = unread.total()
  return f"{total:,} file{'s are' if total > 1 else ' is'} not read: {', '.join(kinds)}"


def training_folder(root: str, split: str, share: bool) -> str:
  """The name of the training images' folder in ``root``; "." where ``root`` holds the classes.

  Args:
    root: the folder of images.
    split: what the folder is to be called; another usual spelling of it will do.
    share: whether a share of the images may be the test set, so that ``root`` may hold the classes.

  Raises:
    ValueError: there is none.
  """
  if name := _located(root, split):
    return name
  _check_root(root, split)
  folder, inside = pathlib.Path(root).expanduser(), _folders(root)
  for child in inside:
    if _located(str(folder / child), split):
      raise ValueError(f"there is no folder {folder / split}, but {folder / child} has one: set "
                       f"--config.data.dir={folder / child}.")
  if not inside or any(child.casefold() in sum(SPELLINGS, ()) for child in inside):
    _missing(root, split, "data.train_split")
  if share:
    return "."
  raise ValueError(f"there is no folder {folder / split}: images are expected in "
                   f"{folder / split}/CLASS/; where {_listed(inside)} are the classes, "
                   "--config.data.test_share=0.2 tests on a fifth of the images.")


def test_folder(root: str, split: str, share: bool) -> str:
  """The name of the test images' folder in ``root``; "" for a share of the training images.

  Args, Raises: see `training_folder`. No ``split`` at all says that there is none.
  """
  if name := _located(root, split):
    return name
  _check_root(root, split or "val")
  folder = pathlib.Path(root).expanduser()
  # A test set that is called otherwise must not be left out.
  others = [child for child in _folders(root) if child.casefold() in SPELLINGS[1] + SPELLINGS[2]]
  if share and not (split and others):
    return ""
  if not split:
    raise ValueError("config.data.test_split is empty: name the test images' folder, or set "
                     "--config.data.test_share=0.2 to test on a fifth of the training images.")
  missing = (f"there is no folder {folder / split}: images are expected in "
             f"{folder / split}/CLASS/; ")
  if not others:
    raise ValueError(f"{missing}set --config.data.test_share=0.2 to test on a fifth of the "
                     "training images.")
  needed = "" if share else " --config.data.test_share=0.2"
  raise ValueError(f"{missing}there is {_listed(others)}: set --config.data.test_split={others[0]} "
                   f"(or --config.data.test_split={needed}, to test on a share of the training "
                   "images).")


def split_folder(root: str, split: str) -> str:
  """The name of any split's folder in ``root``.

  Raises:
    ValueError: there is none; the message says which there are.
  """
  _check_root(root, split)
  return _located(root, split) or _missing(root, split, "")


def _missing(root: str, split: str, field: str):
  folder, inside = pathlib.Path(root).expanduser(), _folders(root)
  there = f"; there is {_listed(inside)}" if inside else ""
  if "[" in split:
    there += ("; slices are for tfds datasets (of a folder, config.data.validation and test_share "
              "are shares)")
  advice = f": name the folder with --config.{field}" if inside and field else ""
  raise ValueError(f"there is no folder {folder / split}: images are expected in "
                   f"{folder / split}/CLASS/{there}{advice}.")


def _check_root(root: str, split: str):
  if not root:
    raise ValueError("data.dir is empty: give the folder that holds train/CLASS/*.jpg.")
  folder = pathlib.Path(root).expanduser()
  if not folder.is_dir():
    raise ValueError(f"there is no folder {folder}: images are expected in "
                     f"{folder / split}/CLASS/.")


def _existing(root: str, split: str) -> pathlib.Path:
  _check_root(root, split)
  folder = pathlib.Path(root).expanduser() / split
  if not folder.is_dir():
    raise ValueError(f"there is no folder {folder}: images are expected in {folder}/CLASS/.")
  return folder


def _located(root: str, split: str) -> str:
  """The name of a split's folder in ``root``, also in another usual spelling; "" of none."""
  folder = pathlib.Path(root).expanduser()
  if not split or not folder.is_dir():
    return ""
  if (folder / split).is_dir():
    return split
  alike = next((group for group in SPELLINGS if split.casefold() in group), ())
  names = [name for name in alike if (folder / name).is_dir()]
  names = names or [name for name in _folders(root) if name.casefold() in alike]
  return names[0] if len(names) == 1 else ""


def _folders(root: str) -> list[str]:
  folder = pathlib.Path(root).expanduser()
  if not folder.is_dir():
    return []
  return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not _skipped(e.name))


def _listed(names: list[str]) -> str:
  return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _classes(folder: pathlib.Path, unread: collections.Counter) -> tuple[str, ...]:
  """The names of the classes in a split's folder; counts the files beside them."""
  names = []
  with os.scandir(folder) as entries:
    for entry in entries:
      if why := _skipped(entry.name):
        unread[why] += 1
      elif entry.is_dir():
        names.append(entry.name)
      else:
        unread["outside the classes' folders"] += 1
  if not names:
    raise NoClasses(f"{folder} has no folders: images are expected in {folder}/CLASS/.")
  for name in names:
    try:
      name.encode()
    except UnicodeEncodeError:
      raise ValueError(f"the class {os.fsencode(name)!r} in {folder} has a name that is not UTF-8: "
                       "rename the folder.") from None
  return tuple(sorted(names))


def _pictures(folder: str, unread: collections.Counter, above: frozenset) -> Iterator[str]:
  """The paths of the pictures in a folder and the folders inside it; counts the other files.

  Args:
    folder: its path.
    unread: is added to.
    above: the places of the folder and of those that it lies in.
  """
  with os.scandir(folder) as entries:
    for entry in entries:
      if why := _skipped(entry.name):
        unread[why] += 1
      elif entry.is_dir():
        if (place := _place(entry.path)) not in above:
          yield from _pictures(entry.path, unread, above | {place})
      elif not entry.is_file() and not entry.is_symlink():  # to open a pipe would wait for ever
        unread["no files but pipes or devices"] += 1
      elif why := formats.why_not(entry.path):
        suffix = os.path.splitext(entry.name)[1].lower() or "without a suffix"
        unread[suffix if why == formats.OTHER else f"{suffix} ({why})"] += 1
      else:
        yield entry.path


def _skipped(name: str) -> str:
  """Why an entry is neither a class nor an image, whatever it holds; "" if it may be one."""
  if name.startswith("."):
    return "hidden"
  return "of the system" if name.casefold() in _SYSTEM else ""


def _place(path) -> tuple:
  """What a folder is, whatever its path."""
  found = os.stat(path)
  return found.st_dev, found.st_ino or os.path.realpath(path)  # not every file system has numbers


def _size(path: str) -> int:
  try:
    return os.stat(path).st_size
  except OSError:
    return -1
