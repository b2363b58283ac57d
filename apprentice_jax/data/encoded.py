"""Sets of encoded images, too large for the device: tfds ArrayRecord files or a folder of images.

All of them are `Examples`: they say how many there are and hand out the bytes and label of any of
them. `data.stream` turns those into batches.
"""

from collections.abc import Iterator, Sequence
import os
import pathlib
from typing import Optional, Protocol

import numpy as np

from apprentice_jax.data import sources

FOLDER = "image_folder"  # the name of a folder of images, where tfds datasets have theirs
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm")


class Examples(Protocol):
  """A labelled set of encoded images.

  Attributes:
    class_names: one name a class.
    labels: int32 (size,), or None where knowing them would mean reading the whole set.
  """
  class_names: tuple[str, ...]
  labels: Optional[np.ndarray]

  def __len__(self) -> int:
    ...

  def read(self, indices: Sequence[int]) -> Iterator[tuple[bytes, int]]:
    """The file and label of each; a file that cannot be read is empty."""

  def name(self, index: int) -> str:
    """What to call an example in a message."""


def load(name: str, split: str, data_dir: Optional[str] = None) -> Examples:
  """Opens one split without reading its images.

  Args:
    name: a tfds dataset, see `sources.load`, or "image_folder".
    split: of the tfds dataset; of a folder, the name of the folder inside it.
    data_dir: where the dataset is prepared; or the folder.

  Raises:
    ValueError: it is not there, or not a set of labelled images.
  """
  if name == FOLDER:
    return Folder(data_dir or "", split)
  return ArrayRecords(name, split, data_dir)


class Folder:
  """``root/split/CLASS/*.jpg`` (or another of SUFFIXES), classes and files in alphabetical order."""

  def __init__(self, root: str, split: str):
    folder = pathlib.Path(root).expanduser() / split
    if not root:
      raise ValueError("data.dir is empty: give the folder that holds train/CLASS/*.jpg.")
    for needed in (folder.parent, folder):
      if not needed.is_dir():
        raise ValueError(f"there is no folder {needed}: images are expected in {folder}/CLASS/.")
    self.class_names = tuple(sorted(e.name for e in os.scandir(folder) if _is_class(e)))
    if not self.class_names:
      raise ValueError(f"{folder} has no folders: images are expected in {folder}/CLASS/.")
    self._paths, labels = [], []
    for label, name in enumerate(self.class_names):
      files = sorted(e.path for e in os.scandir(folder / name)
                     if e.name.lower().endswith(SUFFIXES) and not e.name.startswith("."))
      if not files:
        raise ValueError(f"the class {folder / name} has no images ({', '.join(SUFFIXES)}).")
      self._paths += files
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


class ArrayRecords:
  """A split of a tfds dataset that is prepared as ArrayRecord, whose images may vary in size."""

  labels = None

  def __init__(self, name: str, split: str, data_dir: Optional[str] = None):
    import tensorflow_datasets as tfds  # here, not above: it is slow to import
    builder = sources.open_builder(name, data_dir)
    sources.check_split(builder, split)
    self._records = builder.as_data_source(
        split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
        file_format="array_record")
    self._name = f"{builder.info.full_name} {split}"
    self.class_names = tuple(builder.info.features["label"].names)
    if len(self) and next(self.read([0]))[1] < 0:
      raise ValueError(f"split {split!r} of {builder.info.full_name} has no labels: use another.")

  def __len__(self) -> int:
    return len(self._records)

  def read(self, indices):
    # tfds's own parser takes fifty times as long: it goes through all features of a dataset.
    from tensorflow_datasets.proto import tf_example_pb2
    for record in self._records.__getitems__([int(i) for i in indices]):
      feature = tf_example_pb2.Example.FromString(record).features.feature
      yield feature["image"].bytes_list.value[0], int(feature["label"].int64_list.value[0])

  def name(self, index: int) -> str:
    return f"example {index} of {self._name}"


class Subset:
  """Some examples of a set, in the order of ``indices``."""

  def __init__(self, examples: Examples, indices: np.ndarray):
    self._examples, self._indices = examples, np.asarray(indices)
    self.class_names = examples.class_names
    self.labels = None if examples.labels is None else examples.labels[self._indices]

  def __len__(self) -> int:
    return len(self._indices)

  def read(self, indices):
    return self._examples.read([self._indices[i] for i in indices])

  def name(self, index: int) -> str:
    return self._examples.name(int(self._indices[index]))


def hold_out(examples: Examples, count: int) -> tuple[Subset, Subset]:
  """As `sources.hold_out`; where labels are not known, classes are not kept in proportion."""
  labels = np.zeros(len(examples), np.int32) if examples.labels is None else examples.labels
  held = sources.held_out(labels, count)
  return Subset(examples, np.flatnonzero(~held)), Subset(examples, np.flatnonzero(held))


def _is_class(entry: os.DirEntry) -> bool:
  return entry.is_dir() and not entry.name.startswith(".")
