"""A file of logits: what any teacher says of the training images, one row an image.

The rows are in the data set's order, that of the training images before they are shuffled. An
``.npz`` file has these arrays:

- ``logits``: floats (images, classes);
- ``labels``: integers (images,); or ``labels_sha256``, the text of `labels_sha256`;
- ``classes``: the classes' names in the order of the columns, which may be missing.

A safetensors file has ``logits`` and ``labels`` as tensors, ``labels_sha256`` and ``classes`` (a
JSON list) in its metadata.
"""

import dataclasses
import hashlib
import json
import pathlib

import numpy as np

from apprentice_jax.files import write_whole
from apprentice_jax.training.teachers import sha256

_BLOCK = 65536  # rows looked at at a time
_SAMPLE = 32  # labels that are compared where knowing all of them takes reading all images


def save_logits(path, logits, labels, class_names=()):
  """Writes a file of logits, to be given as ``config.teacher.init``.

  Args:
    path: of the file, which ends in .npz.
    logits: floats (images, classes), a row for each training image in the data set's order.
    labels: integers (images,), by which the order is checked.
    class_names: of the columns; (): not known.

  Raises:
    ValueError: the arrays do not fit each other.
  """
  logits, labels = np.asarray(logits), np.asarray(labels, np.int32)
  if pathlib.Path(path).suffix != ".npz":
    raise ValueError(f"a file of logits ends in .npz, not as {path} does.")
  if logits.ndim != 2 or labels.shape != logits.shape[:1]:
    raise ValueError(f"there are logits {logits.shape}, and labels {labels.shape}.")
  if class_names and len(class_names) != logits.shape[1]:
    raise ValueError(f"{len(class_names)} names are given for {logits.shape[1]} classes.")
  arrays = {"logits": logits, "labels": labels}
  if class_names:
    arrays["classes"] = np.array(class_names, str)
  write_whole(path, lambda file: np.savez(file, **arrays))


def labels_sha256(labels) -> str:
  """The SHA-256 of labels as int32, little-endian."""
  return hashlib.sha256(np.asarray(labels, "<i4").tobytes()).hexdigest()


@dataclasses.dataclass
class Table:
  """Logits that are known.

  Attributes:
    sees_images: False: it knows the training images alone.
    path, sha256: of the file.
    outputs: columns.
    num_classes: how many of them are the data's.
    class_names: of the columns, or ().
    rows: floats (images, outputs).
    labels: int32 (images,), or None.
    labels_digest: `labels_sha256` of the labels, or "".
  """

  sees_images = False

  path: str
  sha256: str
  outputs: int
  num_classes: int
  class_names: tuple[str, ...]
  rows: np.ndarray
  labels: np.ndarray | None
  labels_digest: str

  def __getstate__(self):
    # A process that reads images reads the file, too.
    return {"path": self.path, "num_classes": self.num_classes}

  def __setstate__(self, state):
    self.__dict__.update(vars(load(state["path"])) | state)

  def of(self, num_classes: int, *_) -> "Table":
    """The table, for data of so many classes."""
    return dataclasses.replace(self, num_classes=num_classes)

  def logits(self, pixels, index: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """The logits of some images.

    Args:
      pixels: not looked at.
      index: integers (n,), the images' places in the data set.
      outputs: which columns.

    Returns:
      float32 (n, columns).
    """
    return self.rows[np.asarray(index)[:, None], outputs].astype(np.float32)

  def check(self, data):
    """Raises ValueError if the rows are not those of the images of a split."""
    if len(self.rows) != data.size:
      raise ValueError(
        f"has {len(self.rows):,} rows, and there are {data.size:,} training images: it has to have "
        "a row for each image of the split, without those that data.validation and "
        "data.test_share hold out"
      )
    if self.labels is None and not self.labels_digest:
      raise ValueError(
        "says nothing of labels, by which the order of its rows is checked: write it with "
        "apprentice_jax.save_logits"
      )
    labels, own, places = data.all_labels, self.labels, np.arange(data.size)
    if labels is None:
      # To read all images for their labels would take an epoch.
      if own is None:
        return
      places = np.unique(np.linspace(0, data.size - 1, _SAMPLE).astype(int))
      labels, own = data.labels(places), own[places]
    if own is None:
      if labels_sha256(labels) != self.labels_digest:
        raise ValueError(
          f"holds the logits of other labels than the data's, by their SHA-256: {_ORDER}"
        )
      return
    if np.any(differ := labels != own):
      first = int(np.argmax(differ))
      raise ValueError(
        f"has label {own[first]} in row {places[first]:,}, and the data's is {labels[first]}: "
        f"{_ORDER}"
      )


_ORDER = "its rows have to be in the order of the training images before they are shuffled"


def load(path: str) -> Table:
  """Reads a file of logits.

  Raises:
    ValueError: it is damaged, or holds something else; goes on from its name.
  """
  arrays, said = _safetensors(path) if path.endswith(".safetensors") else _npz(path)
  rows, labels = arrays["logits"], arrays.get("labels")
  if rows.ndim != 2 or rows.dtype.kind != "f":
    raise ValueError(
      f"has logits of type {rows.dtype} and shape {rows.shape}, which are no floats (images, "
      "classes)"
    )
  for start in range(0, len(rows), _BLOCK):
    bad = ~np.isfinite(rows[start : start + _BLOCK])
    if bad.any():
      row, column = np.argwhere(bad)[0]
      raise ValueError(
        f"has logits that are NaN or infinite, first in row {start + row:,}, column {column:,}: "
        "compute them again"
      )
  if labels is not None and (labels.shape != rows.shape[:1] or labels.dtype.kind not in "iu"):
    raise ValueError(f"has {len(rows):,} rows, and labels {labels.dtype} {labels.shape} for them")
  outputs = rows.shape[1]
  names, digest = said.get("classes", ()), said.get("labels_sha256", "")
  if names and len(names) != outputs:
    raise ValueError(f"has {outputs:,} columns, and {len(names):,} names of classes for them")
  return Table(path, sha256(path), outputs, outputs, names, rows, labels, digest)


def _npz(path: str) -> tuple[dict[str, np.ndarray], dict]:
  """The arrays of a file, and what it says of them."""
  try:
    with np.load(path, allow_pickle=False) as file:
      arrays = {name: file[name] for name in file.files}
  # A damaged archive makes zipfile and NumPy raise anything.
  except Exception as error:
    raise ValueError(f"cannot be read ({' '.join(str(error).split())[:100]})") from None
  if "logits" not in arrays:
    raise ValueError(f"has no array logits, but {', '.join(sorted(arrays)) or 'nothing'}")
  said = {}
  if "classes" in arrays:
    said["classes"] = tuple(map(str, arrays["classes"].ravel()))
  if "labels_sha256" in arrays:
    said["labels_sha256"] = str(arrays["labels_sha256"])
  return arrays, said


def _safetensors(path: str) -> tuple[dict[str, np.ndarray], dict]:
  """As `_npz`."""
  from safetensors import safe_open

  try:
    with safe_open(path, "np") as file:
      arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
      said = dict(file.metadata() or {})
    if "classes" in said:
      said["classes"] = tuple(map(str, json.loads(said["classes"])))
  except Exception as error:
    raise ValueError(f"cannot be read ({' '.join(str(error).split())[:100]})") from None
  return arrays, said
