"""Prepared tfds datasets: where one is, which examples a split names, and the files they are in."""

import contextlib
import difflib
import os
from typing import NamedTuple

import numpy as np

# tfds and array_record are imported inside the functions: they are slow to import.

_CHANNELS = (None, 1, 3, 4)  # None stands for 3.


class Part(NamedTuple):
  """Examples ``start`` to ``stop`` of a split."""

  split: str
  start: int
  stop: int

  def overlaps(self, other: "Part") -> bool:
    """Whether the two have examples in common."""
    return self.split == other.split and max(self.start, other.start) < min(self.stop, other.stop)


def open_builder(name: str, data_dir: str | None):
  """Returns the tfds builder of a prepared dataset, or says in one sentence why there is none."""
  import tensorflow_datasets as tfds
  from etils import epath  # Like pathlib, also for gs:// and the like.

  # As tfds itself looks for them.
  default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
  root = epath.Path(data_dir or default).expanduser()
  if data_dir and not root.is_dir():
    raise ValueError(
      f"data_dir {root} does not exist: give the folder that holds the prepared datasets."
    )
  base = base_name(name)
  # The one dataset that is made on the way: it downloads nothing.
  if base == "digits":
    from apprentice_jax.data import digits

    root = epath.Path(digits.prepare(data_dir))
  with contextlib.suppress(tfds.core.DatasetNotFoundError, ValueError):
    # Not tfds.builder, which insists on the version that the installed tfds would prepare where
    # the prepared files may be of another; all that reading takes is in the files.
    return tfds.core.read_only_builder.builder_from_files(name, data_dir=root)
  # There is none: all that follows looks for the reason.
  folders = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
  # The dataset's folder, or a version's.
  for up, info in ((root, "*/dataset_info.json"), (root.parent, "dataset_info.json")):
    if up.name == base and any(root.glob(info)):
      raise ValueError(
        f"data_dir {root} is a folder of {base} itself: give {up.parent}, which holds it."
      )
  if base in folders or base in tfds.list_builders(with_community_datasets=False):
    # Other versions or configs of it.
    others = sorted(path.name for path in (root / base).iterdir()) if base in folders else []
    other = f" (but {', '.join(others)} is)" if others else ""
    raise ValueError(
      f"dataset {name!r} is not prepared in {root}{other}: prepare it with "
      f"`apprentice prepare --dataset={name}`, which needs the [prepare] extra."
    )
  known = sorted({*folders, "digits", "image_folder"})
  near = difflib.get_close_matches(base.lower(), known, n=1)
  advice = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(known)}."
  raise ValueError(f"unknown dataset {name!r} (neither in {root} nor known to tfds): {advice}")


def base_name(name: str) -> str:
  """Returns a dataset's name without config and version."""
  return name.partition(":")[0].partition("/")[0]


def check_split(builder, split: str) -> Part:
  """Finds the examples of a split or of a slice of one, such as "train[80%:]" or "train[:-5000]".

  The grammar and the rounding of percentages are tfds's:
  https://www.tensorflow.org/datasets/splits.

  Raises:
    ValueError: the split cannot be loaded; one sentence says why.
  """
  import tensorflow_datasets as tfds

  # First the dataset, as no split of it would do; then the files; then the split itself.
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
  # A whole split needs no grammar; a slice goes through tfds's own.
  size = lambda name: info.splits[name].num_examples
  if split in info.splits:
    part = Part(split, 0, size(split))
  elif split.partition("[")[0] not in info.splits:
    example = f"{next(iter(info.splits), 'train')}[80%:]"
    raise ValueError(
      f"dataset {info.full_name} has no split {split!r}: use one of {', '.join(info.splits)}, or "
      f"a slice such as {example}."
    )
  else:
    try:
      piece, *others = tfds.core.ReadInstruction.from_spec(split).to_absolute(info.splits)
    except ValueError as error:
      raise ValueError(
        f"split {split!r} of {info.full_name} is no slice: {first_line(error)}."
      ) from None
    if others:
      raise ValueError(f"split {split!r} of {info.full_name} has several parts: use one slice.")
    stop = size(piece.splitname) if piece.to is None else piece.to
    part = Part(piece.splitname, piece.from_ or 0, stop)
  if part.start >= part.stop:
    raise ValueError(f"split {split!r} of {info.full_name} has no examples: use another.")
  return part


def first_line(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def record_files(split_info) -> list:
  """The ArrayRecord files of a split, which need not be the format that it was prepared in
  first."""
  template = split_info.filename_template.replace(filetype_suffix="array_record")
  return template.sharded_filepaths(len(split_info.shard_lengths))


def existing_files(builder, split: str) -> list[tuple]:
  """The ArrayRecord files of a split, each with the number of its records.

  Raises:
    ValueError: one is missing.
  """
  info = builder.info.splits[split]
  files = record_files(info)
  # One sentence for all of them, before the first is opened.
  if missing := [file for file in files if not file.exists()]:
    raise ValueError(
      f"{len(missing)} of the {len(files)} record files of {builder.info.full_name} "
      f"{split} are missing, such as {missing[0]}: bring them back, or prepare the "
      "dataset again."
    )
  return list(zip(files, info.shard_lengths, strict=True))


def damage(file, count: int) -> str:
  """A sentence about an ArrayRecord file that does not hold so many records; "" if it does."""
  from array_record.python import array_record_module

  try:
    reader = array_record_module.ArrayRecordReader(str(file))
    found = reader.num_records()
    # Closing says what is wrong, if nothing did before.
    reader.close()
  # RuntimeError; others for other kinds of disks.
  except Exception as error:
    return (
      f"the record file {file} is cut off or damaged ({first_line(error)[:120]}): bring it "
      "back, or prepare the dataset again."
    )
  if found == count:
    return ""
  return (
    f"the record file {file} holds {found:,} records instead of {count:,}: bring it back, or "
    "prepare the dataset again."
  )
