"""Whole image-classification datasets in memory, read through tfds without TensorFlow.

A dataset is prepared once as ArrayRecord. Its images are decoded once as well: the decoded arrays
are kept in `cache_dir() / "decoded"` (safe to delete) and memory-mapped from then on, until the size or
the time (in seconds) of a file of the dataset changes.
"""

from concurrent import futures
import contextlib
import difflib
import hashlib
import itertools
import operator
import os
import pathlib
from typing import NamedTuple
import uuid
import warnings

import numpy as np

from apprentice_jax.data import images as pictures

# tfds is imported inside the functions: it is slow to import, and hold_out has no use for it.

_BLOCK = 1024  # Records read and decoded at a time, which bounds the memory it takes.
_PART = 64  # Records that a thread decodes at a time.
_CHANNELS = (None, 1, 3, 4)  # None stands for 3.


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


def cache_dir() -> pathlib.Path:
  """Returns `$APPRENTICE_CACHE`, or else `apprentice_jax` in the user's cache directory."""
  if own := os.environ.get("APPRENTICE_CACHE"):
    return pathlib.Path(own).expanduser()
  parent = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  return pathlib.Path(parent).expanduser() / "apprentice_jax"


def load(name: str, split: str, data_dir: str | None = None) -> Dataset:
  """Loads one split of a dataset whose images all have the same size.

  Args:
    name: as tfds spells it, `name[/config][:version]`; without a version, the latest one prepared.
      "digits" is prepared on first use, all others have to be prepared beforehand.
    split: "train", "test" or another split that the dataset has.
    data_dir: folder of prepared tfds datasets. None stands for tfds's own (`$TFDS_DATA_DIR` or
      `~/tensorflow_datasets`) and, for "digits", for `cache_dir() / "tfds"`.

  Returns:
    The split in the order of its records, its arrays read-only.

  Raises:
    ValueError: if the dataset or split is not there, or cannot be loaded this way.
  """
  builder = open_builder(name, data_dir)
  check_split(builder, split)
  path = _cache_path(builder, split)
  arrays = _read_cache(path, builder.info.splits[split].num_examples)
  if arrays is None:
    arrays = _decode_split(builder, split)
    _write_cache(path, *arrays)
  images, labels = arrays
  images.flags.writeable = labels.flags.writeable = False
  return Dataset(images, labels, tuple(builder.info.features["label"].names))


def hold_out(dataset: Dataset, count: int, seed: int = 0) -> tuple[Dataset, Dataset]:
  """Splits off `count` examples, each class in proportion to its size.

  Which ones depends on the labels, `count` and `seed` alone. A class's share is rounded down, and
  the examples left to reach `count` go to the classes with the largest fractions (of equals, the
  lower label), so that every class is within one example of its exact share.

  Args:
    dataset: N examples.
    count: number to hold out, 0..N.
    seed: 0..2**32 - 1; chooses the examples of each class.

  Returns:
    (rest, held_out), N - count and count examples, both copies in the dataset's order.
  """
  labels = np.asarray(dataset.labels)
  held = held_out(labels, count, seed)
  rest, held_part = (
      Dataset(dataset.images[mask], labels[mask], dataset.class_names) for mask in (~held, held)
  )
  return rest, held_part


def held_out(labels: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
  """Which examples `hold_out` splits off: bool (N,), for labels of (N,)."""
  count = operator.index(count)
  if not 0 <= count <= len(labels):
    raise ValueError(f"cannot hold out {count} of {len(labels)} examples.")
  classes, sizes = np.unique(labels, return_counts=True)
  # Integer arithmetic, so that no rounding error decides between two classes.
  shares, fractions = np.divmod(sizes.astype(np.int64) * count, max(len(labels), 1))
  shares[np.argsort(-fractions, kind="stable")[: count - shares.sum()]] += 1
  # RandomState rather than default_rng: its stream is the same in every version of NumPy.
  random = np.random.RandomState(seed)
  held = np.zeros(len(labels), bool)
  for label, share in zip(classes, shares):
    held[random.permutation(np.flatnonzero(labels == label))[:share]] = True
  return held


def open_builder(name: str, data_dir: str | None):
  """Returns the tfds builder of a prepared dataset, or says in one sentence why there is none."""
  from etils import epath  # Like pathlib, also for gs:// and the like.
  import tensorflow_datasets as tfds

  default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
  root = epath.Path(data_dir or default).expanduser()
  if data_dir and not root.is_dir():
    raise ValueError(
        f"data_dir {root} does not exist: give the folder that holds the prepared datasets."
    )
  base = name.partition(":")[0].partition("/")[0]
  if base == "digits":
    from apprentice_jax.data import digits

    root = epath.Path(digits.prepare(data_dir))
  with contextlib.suppress(tfds.core.DatasetNotFoundError, ValueError):
    # Not tfds.builder, which insists on the version that the installed tfds would prepare where
    # the prepared files may be of another; all that reading takes is in the files.
    return tfds.core.read_only_builder.builder_from_files(name, data_dir=root)
  folders = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
  # The dataset's folder, or a version's.
  deeper = next((up for up, info in ((root, "*/dataset_info.json"), (root.parent, "dataset_info.json"))
                 if up.name == base and any(root.glob(info))), None)
  if deeper is not None:
    raise ValueError(f"data_dir {root} is a folder of {base} itself: give {deeper.parent}, which holds it.")
  if base in folders or base in tfds.list_builders(with_community_datasets=False):
    found = sorted(path.name for path in (root / base).iterdir()) if base in folders else []
    other = f" (but {', '.join(found)} is)" if found else ""  # Versions or configs.
    raise ValueError(
        f"dataset {name!r} is not prepared in {root}{other}: prepare it with "
        f"`apprentice prepare --dataset={name}`, which needs the [prepare] extra."
    )
  known = sorted({*folders, "digits", "image_folder"})
  near = difflib.get_close_matches(base.lower(), known, n=1)
  advice = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(known)}."
  raise ValueError(f"unknown dataset {name!r} (neither in {root} nor known to tfds): {advice}")


def check_split(builder, split: str) -> None:
  """Raises a ValueError that says why the split cannot be loaded, if that is so."""
  import tensorflow_datasets as tfds

  info = builder.info
  features = dict(info.features.items())
  image, label = features.get("image"), features.get("label")
  if not (
      isinstance(image, tfds.features.Image)
      and isinstance(label, tfds.features.ClassLabel)
      and label.num_classes
      and image.np_dtype == np.uint8
      and image.shape[-1] in _CHANNELS
  ):
    raise ValueError(
        f"dataset {info.full_name} has the features {', '.join(sorted(features))}: only image "
        "classification is supported, which takes an 8-bit `image` and a class `label`."
    )
  formats = sorted(file_format.value for file_format in info.available_file_formats())
  if "array_record" not in formats:
    raise ValueError(
        f"dataset {info.full_name} in {builder.data_path} is prepared as {' and '.join(formats)}, "
        f"not as ArrayRecord: convert it with `apprentice prepare --dataset={info.name} "
        "--data_dir=...`, which needs the [prepare] extra."
    )
  if split not in info.splits:
    raise ValueError(
        f"dataset {info.full_name} has no split {split!r}: use one of {', '.join(info.splits)}."
    )


def _decode_split(builder, split: str) -> tuple[np.ndarray, np.ndarray]:
  """Reads and decodes a split: images uint8 (N, H, W, C) and labels int32 (N,)."""
  import tensorflow_datasets as tfds

  info, images = builder.info, None
  channels = info.features["image"].shape[-1] or 3
  # tfds itself would decode one image after another.
  source = builder.as_data_source(
      split, decoders={"image": tfds.decode.SkipDecoding()}, file_format="array_record")
  labels = np.empty(len(source), np.int32)

  def decode(part):
    try:
      return [pictures.whole(example["image"], channels) for example in part]
    except pictures.UnreadableImage as error:
      raise ValueError(f"an image of {info.full_name} {split} cannot be read: {error}.") from None

  with futures.ThreadPoolExecutor() as pool:
    for start in range(0, len(source), _BLOCK):
      block = source.__getitems__(range(start, min(start + _BLOCK, len(source))))
      # In parts, as handing a small image to a thread takes as long as decoding it. Threads speed
      # up large images; on small ones, which hold the interpreter's lock, they cost nothing.
      parts = pool.map(decode, (block[i : i + _PART] for i in range(0, len(block), _PART)))
      decoded = itertools.chain.from_iterable(parts)
      for i, (example, image) in enumerate(zip(block, decoded), start):
        size = image.shape[:2]
        if images is None:
          images = np.empty((len(source), *size, channels), np.uint8)
        if size != images.shape[1:3]:
          raise ValueError(
              f"the images of {info.full_name} vary in size ({images.shape[1:3]} and {size}), and "
              "only sets of one image size can be loaded: prepare it with resized images."
          )
        images[i], labels[i] = image, example["label"]
  if images is None or labels.min() < 0:
    raise ValueError(f"split {split!r} of {info.full_name} has no labelled images: use another.")
  return images, labels


def record_files(split_info) -> list:
  """The ArrayRecord files of a split, which need not be the format that it was prepared in first."""
  template = split_info.filename_template.replace(filetype_suffix="array_record")
  return template.sharded_filepaths(len(split_info.shard_lengths))


def _cache_path(builder, split: str) -> pathlib.Path:
  """Returns where the decoded split is kept; data prepared elsewhere, or anew, has another path."""
  info_file = builder.data_path / "dataset_info.json"
  # The records too: whoever replaces their files may leave the description as it is.
  files = [info_file, *record_files(builder.info.splits[split])]
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
  except Exception:  # Whatever a damaged file leads to: it is made anew.
    return None
  good = images.dtype == np.uint8 and images.ndim == 4 and labels.dtype == np.int32
  good = good and images.shape[:1] == labels.shape == (count,)
  return (np.asarray(images), labels) if good else None


def _write_cache(path: pathlib.Path, images: np.ndarray, labels: np.ndarray) -> None:
  """Writes both arrays, one after the other, to one file, which is there whole or not at all."""
  partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      with open(partial, "xb") as file:
        np.lib.format.write_array(file, images)
        np.lib.format.write_array(file, labels)
      os.replace(partial, path)
    finally:
      partial.unlink(missing_ok=True)
  except OSError as error:
    warnings.warn(
        f"the decoded images cannot be kept ({error}) and will be decoded again next time: set "
        "$APPRENTICE_CACHE to a folder that can be written."
    )
