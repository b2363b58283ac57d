"""Whole image-classification datasets in memory, read through tfds without TensorFlow.

A dataset is prepared once as ArrayRecord. The images are decoded once as well. The decoded arrays
are kept in `cache_dir() / "decoded"`, which is safe to delete, and memory-mapped from then on. They
are decoded anew when the size or the time (in seconds) of a file of the dataset changes.
"""

import hashlib
import itertools
import pathlib
import zlib
from concurrent import futures
from typing import NamedTuple

import numpy as np

from apprentice_jax.data import images as pictures
from apprentice_jax.data import order, prepared
from apprentice_jax.files import cache_dir, keep

# tfds is imported inside the functions: it is slow to import, and hold_out has no use for it.

_BLOCK = 1024  # Records read and decoded at a time, which bounds the memory it takes.
_PART = 64  # Records that a thread decodes at a time.


class Dataset(NamedTuple):
  """Images with their labels.

  Attributes:
    images: uint8 (N, H, W, C).
    labels: int32 (N,), each in 0..len(class_names) - 1.
    class_names: one name a class.
  """

  images: np.ndarray
  labels: np.ndarray
  class_names: tuple[str, ...]

  def checksum(self) -> int:
    """The CRC-32 of all images, and then all labels."""
    images = zlib.crc32(np.ascontiguousarray(self.images))
    return zlib.crc32(np.ascontiguousarray(self.labels), images)

  def identity(self) -> dict:
    """The number of examples, and `checksum`."""
    return {"examples": len(self.labels), "checksum": self.checksum()}


def load(name: str, split: str, data_dir: str | None = None) -> Dataset:
  """Loads one split of a dataset whose images all have the same size.

  Args:
    name: as tfds spells it, `name[/config][:version]`; without a version, the latest one prepared.
      "digits" is prepared on first use, all others have to be prepared beforehand.
    split: "train", "test" or another split that the dataset has, or a slice such as "train[:80%]".
    data_dir: folder of prepared tfds datasets. None stands for tfds's own (`$TFDS_DATA_DIR` or
      `~/tensorflow_datasets`) and, for "digits", for `cache_dir() / "tfds"`.

  Returns:
    The split in the order of its records, its arrays read-only.

  Raises:
    ValueError: if the dataset or split is not there, or cannot be loaded this way.
  """
  builder = prepared.open_builder(name, data_dir)
  part = prepared.check_split(builder, split)
  # Slices of a split share what is decoded.
  path = _cache_path(builder, part.split)
  arrays = _read_cache(path, builder.info.splits[part.split].num_examples)
  if arrays is None:
    arrays = _decode_split(builder, part.split)
    keep(path, _arrays(*arrays))
  images, labels = (array[part.start : part.stop] for array in arrays)
  # As those of a mapped file are: the first start then behaves as the next ones.
  images.flags.writeable = labels.flags.writeable = False
  return Dataset(images, labels, tuple(builder.info.features["label"].names))


def hold_out(dataset: Dataset, count: int, seed: int = 0) -> tuple[Dataset, Dataset]:
  """Splits off `count` examples, each class in proportion to its size.

  Which ones depends on the labels, `count` and `seed` alone. A class's share is rounded down. The
  examples left to reach `count` go to the classes with the largest fractions; of equals, to the
  lower label. So every class is within one example of its exact share.

  Args:
    dataset: N examples.
    count: number to hold out, 0..N.
    seed: 0..2**32 - 1; chooses the examples of each class.

  Returns:
    (rest, held_out), N - count and count examples, both copies in the dataset's order.
  """
  labels = np.asarray(dataset.labels)
  held = order.held_out(labels, count, seed)
  part = lambda mask: Dataset(dataset.images[mask], labels[mask], dataset.class_names)
  return part(~held), part(held)


def _decode_split(builder, split: str) -> tuple[np.ndarray, np.ndarray]:
  """Reads and decodes a split: images uint8 (N, H, W, C) and labels int32 (N,)."""
  import tensorflow_datasets as tfds

  info, images = builder.info, None
  channels, count = info.features["image"].shape[-1] or 3, len(info.features["label"].names)
  # Before anything is read, so that the sentence names the file and not one of its examples.
  for file, records in prepared.existing_files(builder, split):
    if sentence := prepared.damage(file, records):
      raise ValueError(sentence)
  # tfds itself would decode one image after another.
  source = builder.as_data_source(
    split, decoders={"image": tfds.decode.SkipDecoding()}, file_format="array_record"
  )
  labels = np.empty(len(source), np.int32)

  def decode(start, part):
    images = []
    for i, example in enumerate(part, start):
      try:
        images.append(pictures.whole(example["image"], channels))
      except pictures.UnreadableImage as error:
        raise ValueError(
          f"example {i} of {info.full_name} {split} is no image that can be read "
          f"({error}): prepare the dataset again."
        ) from None
    return images

  with futures.ThreadPoolExecutor() as pool:
    for start in range(0, len(source), _BLOCK):
      try:
        block = source.__getitems__(range(start, min(start + _BLOCK, len(source))))
      # A damaged record makes ArrayRecord and protobuf raise anything.
      except Exception as error:
        raise ValueError(
          f"an example of {info.full_name} {split} from {start} on is damaged "
          f"({prepared.first_line(error)}): prepare the dataset again."
        ) from None
      # In parts, as handing a small image to a thread takes as long as decoding it. Threads speed
      # up large images; on small ones, which hold the interpreter's lock, they cost nothing.
      places = range(0, len(block), _PART)
      parts = pool.map(decode, (start + i for i in places), (block[i : i + _PART] for i in places))
      decoded = itertools.chain.from_iterable(parts)
      for i, (example, image) in enumerate(zip(block, decoded), start):
        size = image.shape[:2]
        # The first image tells the size of all.
        if images is None:
          images = np.empty((len(source), *size, channels), np.uint8)
        if size != images.shape[1:3]:
          raise ValueError(
            f"the images of {info.full_name} vary in size ({images.shape[1:3]} and {size}), and "
            "only sets of one image size can be loaded: prepare it with resized images."
          )
        images[i], labels[i] = image, example["label"]
  # tfds marks a hidden label with -1, as of a test set whose labels nobody publishes.
  unlabelled = int(np.sum((labels < 0) | (labels >= count)))
  if unlabelled == len(labels):
    raise ValueError(f"split {split!r} of {info.full_name} has no labelled images: use another.")
  if unlabelled:
    raise ValueError(
      f"{unlabelled:,} of the {len(labels):,} examples of split {split!r} of "
      f"{info.full_name} have no label: use another split, or prepare the dataset "
      "without them."
    )
  return images, labels


def _cache_path(builder, split: str) -> pathlib.Path:
  """Returns where the decoded split is kept; data prepared elsewhere, or anew, has another path."""
  info_file = builder.data_path / "dataset_info.json"
  # The records too: whoever replaces their files may leave the description as it is.
  files = [info_file, *(file for file, _ in prepared.existing_files(builder, split))]
  stats = [(stat.mtime, stat.length) for stat in (file.stat() for file in files)]
  source = f"{builder.data_path.resolve()}\n{stats}\n{info_file.read_text()}"
  digest = hashlib.sha256(source.encode()).hexdigest()[:16]
  file_name = f"{builder.info.full_name}-{split}-{digest}.npy".replace("/", "-")
  return cache_dir() / "decoded" / file_name


def _read_cache(path: pathlib.Path, count: int) -> tuple[np.ndarray, np.ndarray] | None:
  """Returns images, memory-mapped, and labels, or None if there is no good file of `count`."""
  try:
    images = np.lib.format.open_memmap(path, mode="r")
    with open(path, "rb") as file:
      file.seek(images.offset + images.nbytes)
      labels = np.lib.format.read_array(file)
  # Whatever a damaged file leads to: it is made anew.
  except Exception:
    return None
  good = images.dtype == np.uint8 and images.ndim == 4 and labels.dtype == np.int32
  good = good and images.shape[:1] == labels.shape == (count,)
  return (np.asarray(images), labels) if good else None


def _arrays(images: np.ndarray, labels: np.ndarray):
  """A writer of both arrays, one after the other, to one file."""

  def write(file):
    np.lib.format.write_array(file, images)
    np.lib.format.write_array(file, labels)

  return write
