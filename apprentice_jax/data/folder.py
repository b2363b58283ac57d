"""A folder of images: the folders of its splits, its classes, and the files that are images."""

import collections
import hashlib
import itertools
import os
import pathlib

import numpy as np

from apprentice_jax.data import files

FOLDER = "image_folder"  # the name of a folder of images, where tfds datasets have theirs
# What people call the folders of a split. Either of a line stands for the others.
SPELLINGS = (("train", "training"), ("val", "valid", "validation"), ("test", "testing"))


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
    _check_root(root, split)
    self.path = pathlib.Path(root).expanduser() / split
    if not self.path.is_dir():
      raise ValueError(
        f"there is no folder {self.path}: images are expected in {self.path}/CLASS/."
      )
    self.unread = collections.Counter()
    classes = self._read_classes()
    if not classes:
      raise NoClasses(f"{self.path} has no folders: images are expected in {self.path}/CLASS/.")
    self.class_names = tuple(classes)
    self._paths = list(itertools.chain.from_iterable(classes.values()))
    self.labels = np.repeat(
      np.arange(len(classes), dtype=np.int32), [len(paths) for paths in classes.values()]
    )

  def _read_classes(self) -> dict[str, list[str]]:
    """The paths of each class's images; counts the other files."""
    classes = {}
    # A link to any of these would read everything again, under another label.
    above = [files.place(self.path.parent), files.place(self.path)]
    for name in _classes(self.path, self.unread):
      folder = str(self.path / name)
      inside = list(files.below(folder, above))
      paths = sorted(path for path, why in inside if not why)
      unread = collections.Counter(why for _, why in inside if why)
      # Left out, an empty class would shift the labels behind it; a folder of workdirs is no class.
      if not paths and not unread[files.WORKDIR]:
        why = f" ({files.told(unread)})" if unread else ""
        raise ValueError(f"the class {folder} has no images{why}: add some, or remove the folder.")
      if paths:
        classes[name] = paths
      self.unread += unread
    return classes

  def __len__(self) -> int:
    return len(self._paths)

  def read(self, indices):
    for i in indices:
      try:
        with open(self._paths[i], "rb") as file:
          yield file.read(), int(self.labels[i])
      except OSError:
        # An unreadable image, as one that is damaged: the policy for those decides.
        yield b"", int(self.labels[i])

  def name(self, index: int) -> str:
    return self._paths[index]

  def identity(self) -> dict:
    """The number of files, and checksums of their names with classes and of their sizes.

    The names are those below the split's folder, so that the folder can be moved.
    """
    names, sizes = hashlib.sha256(), hashlib.sha256()
    for path in self._paths:
      names.update(os.fsencode(os.path.relpath(path, self.path)) + b"\0")
      sizes.update(b"%d " % _size(path))
    return {"examples": len(self), "names": names.hexdigest()[:16], "sizes": sizes.hexdigest()[:16]}


def training_folder(root: str, split: str, share: bool) -> str:
  """The name of the training images' folder in ``root``; "." where ``root`` holds the classes.

  Args:
    root: the folder of images.
    split: what the folder is to be called; another usual spelling of it will do.
    share: whether a share of the images may be the test set, so that ``root`` may hold the classes.

  Raises:
    ValueError: there is none.
  """
  if name := located(root, split):
    return name
  _check_root(root, split)
  folder, inside = pathlib.Path(root).expanduser(), _folders(root)
  # An archive often unpacks into a folder of its own: the splits are one level down.
  for child in inside:
    if located(str(folder / child), split):
      raise ValueError(
        f"there is no folder {folder / split}, but {folder / child} has one: set "
        f"--config.data.dir={folder / child}."
      )
  # Where other splits are there, the root's folders are no classes.
  if not inside or _usual(root, sum(SPELLINGS, ())):
    _missing(root, split, "data.train_split")
  if share:
    return "."
  raise ValueError(
    f"there is no folder {folder / split}: images are expected in "
    f"{folder / split}/CLASS/; where {_listed(inside)} are the classes, "
    "--config.data.test_share=0.2 tests on a fifth of the images."
  )


def test_folder(root: str, split: str, share: bool) -> str:
  """The name of the test images' folder in ``root``; "" for a share of the training images.

  Args, Raises: see `training_folder`. No ``split`` at all says that there is none.
  """
  if name := located_test(root, split):
    return name
  _check_root(root, split or "val")
  folder = pathlib.Path(root).expanduser()
  # A test set that is called otherwise must not be left out.
  others = _usual(root, SPELLINGS[1] + SPELLINGS[2])
  if share and not (split and others):
    return ""
  if not split:
    raise ValueError(
      "config.data.test_split is empty: name the test images' folder, or set "
      "--config.data.test_share=0.2 to test on a fifth of the training images."
    )
  missing = f"there is no folder {folder / split}: images are expected in {folder / split}/CLASS/; "
  if not others:
    raise ValueError(
      f"{missing}set --config.data.test_share=0.2 to test on a fifth of the training images."
    )
  needed = "" if share else " --config.data.test_share=0.2"
  raise ValueError(
    f"{missing}there is {_listed(others)}: set --config.data.test_split={others[0]} "
    f"(or --config.data.test_split={needed}, to test on a share of the training "
    "images)."
  )


def located_test(root: str, split: str) -> str:
  """The name of the test images' folder in ``root``; "" of none.

  Where a folder for validation is asked for, and a folder called test is all there is, it is that.
  """
  if name := located(root, split):
    return name
  validation, test = SPELLINGS[1:]
  if split.casefold() in validation and not _usual(root, validation):
    return located(root, test[0])
  return ""


def own_folder(root: str, name: str) -> str:
  """A name for the folder ``name`` in ``root`` which is no role's; "" if it holds no classes."""
  folder = pathlib.Path(root).expanduser() / name
  return os.path.join(".", name) if name and _folders(folder) else ""


def same(root: str, *names: str) -> bool:
  """Whether two names of folders in ``root`` are of one folder; an empty name is of none."""
  one, other = (pathlib.Path(root).expanduser() / name for name in names)
  return all(names) and one.is_dir() and other.is_dir() and one.samefile(other)


def siblings(root: str, own: list[str]) -> list[str]:
  """The folders in ``root`` that are called as splits are, and are none of a run's own."""
  is_own = lambda name: any(same(root, name, other) for other in own)
  # Where the root itself is a split, its folders are classes.
  if is_own("."):
    return []
  return [name for name in _usual(root, sum(SPELLINGS, ())) if not is_own(name)]


def spellings(name: str) -> tuple[str, ...]:
  """The usual names of the split that a name stands for; () where it is no usual one."""
  return next((group for group in SPELLINGS if name.casefold() in group), ())


def split_folder(root: str, split: str) -> str:
  """The name of any split's folder in ``root``.

  Raises:
    ValueError: there is none; the message says which there are.
  """
  _check_root(root, split)
  return located(root, split) or _missing(root, split, "")


def _missing(root: str, split: str, field: str):
  folder, inside = pathlib.Path(root).expanduser(), _folders(root)
  there = f"; there is {_listed(inside)}" if inside else ""
  if "[" in split:
    there += (
      "; slices are for tfds datasets (of a folder, config.data.validation and test_share "
      "are shares)"
    )
  advice = f": name the folder with --config.{field}" if inside and field else ""
  raise ValueError(
    f"there is no folder {folder / split}: images are expected in "
    f"{folder / split}/CLASS/{there}{advice}."
  )


def _check_root(root: str, split: str):
  if not root:
    raise ValueError("data.dir is empty: give the folder that holds train/CLASS/*.jpg.")
  folder = pathlib.Path(root).expanduser()
  if not folder.is_dir():
    raise ValueError(
      f"there is no folder {folder}: images are expected in {folder / split}/CLASS/."
    )


def located(root: str, split: str) -> str:
  """The name of a split's folder in ``root``, also in another usual spelling; "" of none."""
  folder = pathlib.Path(root).expanduser()
  if not split or not folder.is_dir():
    return ""
  if _may_be_split(folder / split):
    return split
  # The spelling to the letter first: on some disks "Train" and "train" are two folders.
  alike = spellings(split)
  names = [name for name in alike if _may_be_split(folder / name)]
  names = names or _usual(root, alike)
  return names[0] if len(names) == 1 else ""


def _usual(root: str, names: tuple[str, ...]) -> list[str]:
  """The folders in ``root`` of these names, whatever the case of their letters."""
  folder = pathlib.Path(root).expanduser()
  return [n for n in _folders(root) if n.casefold() in names and _may_be_split(folder / n)]


def _may_be_split(folder: pathlib.Path) -> bool:
  return folder.is_dir() and not files.of_runs(folder)


def _folders(root: str | os.PathLike[str]) -> list[str]:
  folder = pathlib.Path(root).expanduser()
  if not folder.is_dir():
    return []
  return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not files.passed_over(e))


def _listed(names: list[str]) -> str:
  return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _classes(folder: pathlib.Path, unread: collections.Counter) -> list[str]:
  """The names of the folders in a split's folder; counts the files beside them."""
  names = []
  with os.scandir(folder) as entries:
    for entry in entries:
      if why := files.passed_over(entry):
        unread[why] += 1
      elif entry.is_dir():
        names.append(entry.name)
      else:
        unread["outside the classes' folders"] += 1
  # The names are written into JSON files, which are UTF-8.
  for name in names:
    try:
      name.encode()
    except UnicodeEncodeError:
      raise ValueError(
        f"the class {os.fsencode(name)!r} in {folder} has a name that is not UTF-8: "
        "rename the folder."
      ) from None
  return sorted(names)


def _size(path: str) -> int:
  try:
    return os.stat(path).st_size
  except OSError:
    return -1
