"""Sets of encoded images, too large for the device: tfds ArrayRecord files or a folder of images.

All of them are `Examples`: they say how many there are and hand out the bytes and label of any of
them. `data.stream` turns those into batches.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from apprentice_jax.data import order
from apprentice_jax.data.folder import FOLDER, Folder
from apprentice_jax.data.records import ArrayRecords


class Examples(Protocol):
  """A labelled set of encoded images.

  Attributes:
    class_names: one name a class.
    labels: int32 (size,), or None where knowing them would mean reading the whole set.
  """

  class_names: tuple[str, ...]
  labels: np.ndarray | None

  def __len__(self) -> int: ...

  def read(self, indices: Sequence[int]) -> Iterator[tuple[bytes, int]]:
    """The file and label of each; a file that cannot be read is empty, and no label is -1."""

  def name(self, index: int) -> str:
    """What to call an example in a message."""


def load(name: str, split: str, data_dir: str | None = None) -> Examples:
  """Opens one split without reading its images.

  Args:
    name: a tfds dataset, see `sources.load`, or "image_folder".
    split: of the tfds dataset, also a slice such as "train[:80%]"; of a folder, the name of the
      folder inside it.
    data_dir: where the dataset is prepared; or the folder.

  Raises:
    ValueError: it is not there, or not a set of labelled images.
  """
  if name == FOLDER:
    return Folder(data_dir or "", split)
  return ArrayRecords(name, split, data_dir)


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
  held = order.held_out(labels, count)
  return Subset(examples, np.flatnonzero(~held)), Subset(examples, np.flatnonzero(held))
