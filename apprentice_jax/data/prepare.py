"""Preparing a public dataset once, as ArrayRecord, so that training needs no TensorFlow."""

import contextlib
import difflib
import importlib.util
import os
import re
import textwrap
from collections.abc import Iterator

from apprentice_jax.data import digits, prepared

# tfds and TensorFlow are imported inside the functions: they are slow to import, and TensorFlow may
# be missing.

_FORMAT = "array_record"
# tfds skips the splits whose archives are missing, and what is left would then count as prepared.
_IMAGENET_ARCHIVE = r"ILSVRC2012_\w+\.tar"


def prepare(name: str, data_dir: str = "") -> str:
  """Prepares a tfds dataset as ArrayRecord; does nothing if it is there.

  A dataset that is there in another file format is converted, not downloaded again. The dataset's
  folder then holds both formats, so readers of the other one go on.

  Args:
    name: as tfds spells it, such as "cifar10"; "digits" needs no download and no TensorFlow.
    data_dir: where to; "": tfds's own folder.

  Returns:
    The folder the dataset is in.

  Raises:
    ValueError: TensorFlow or another package is missing, the dataset does not exist, it has to be
      downloaded by hand (with tfds's instructions), or the network or the disk fails.
  """
  data_dir = os.path.expanduser(data_dir) or None
  if prepared.base_name(name) == "digits":
    return str(prepared.open_builder(name, str(digits.prepare(data_dir))).data_path)
  builder = _prepared(name, data_dir)
  if not _is_array_record(builder):
    folder = _make(name, data_dir, builder)
    builder = _prepared(name, data_dir)
    # tfds leaves alone whatever is where the dataset belongs.
    if not _is_array_record(builder):
      raise ValueError(f"{folder} holds no whole dataset: move it away or use another data_dir.")
  return str(builder.data_path)


def _prepared(name: str, data_dir: str | None):
  """Returns the builder of the dataset that is there, in whichever format, or None."""
  # ImportError: tfds asks the dataset's code for its default config. OSError: files are missing.
  with contextlib.suppress(ValueError, ImportError, OSError):
    return prepared.open_builder(name, data_dir)
  return None


def _is_array_record(builder) -> bool:
  formats = builder.info.available_file_formats() if builder is not None else ()
  return _FORMAT in [file_format.value for file_format in formats]


def _make(name: str, data_dir: str | None, builder) -> str:
  """Converts the prepared dataset of the builder or, without one, downloads it.

  Returns:
    The folder of the dataset.
  """
  # A wrong name first: nobody should install TensorFlow for a typing error.
  if builder is None:
    _check_known(name)
  if importlib.util.find_spec("tensorflow") is None:
    raise ValueError(
      f"preparing {name!r} takes TensorFlow, once: pip install 'apprentice-jax[prepare]'."
    )
  with _one_sentence(name):
    if builder is None:
      builder = _download(name, data_dir)
    else:
      _convert(name, builder)
  return str(builder.data_path)


def _check_known(name: str) -> None:
  """Raises a ValueError with the names that are near if tfds has no such dataset."""
  import tensorflow_datasets as tfds

  known, base = tfds.list_builders(with_community_datasets=False), prepared.base_name(name)
  if base not in known:
    near = " or ".join(map(repr, difflib.get_close_matches(base.lower(), known)))
    advice = f"did you mean {near}?" if near else "see tensorflow.org/datasets/catalog."
    raise ValueError(f"tfds has no dataset {base!r}: {advice}")


@contextlib.contextmanager
def _one_sentence(name: str) -> Iterator[None]:
  """Makes a ValueError of what packages, the network and the disk do wrong."""
  import tensorflow as tf
  import tensorflow_datasets as tfds

  downloads = tfds.core.download
  failures = (
    OSError,  # Also those of requests.
    RuntimeError,  # ArrayRecord's writer.
    AssertionError,  # How tfds refuses.
    tf.errors.OpError,
    downloads.util.DownloadError,
    downloads.download_manager.NonMatchingChecksumError,
    downloads.extractor.ExtractError,
  )
  try:
    yield
  except ImportError as error:
    raise ValueError(f"preparing {name!r} takes a missing package: {_line(error)}") from error
  except failures as error:
    # Of urllib3's retries, the reason for the last one says all.
    cause = getattr(error.args[0] if error.args else None, "reason", error)
    raise ValueError(f"{name!r} cannot be prepared: {_line(cause)}") from error


def _line(error: BaseException) -> str:
  return " ".join(str(error).split())


def _download(name: str, data_dir: str | None):
  """Downloads and prepares a dataset; returns its builder."""
  import tensorflow as tf
  import tensorflow_datasets as tfds

  try:
    builder = tfds.builder(name, data_dir=data_dir, file_format=_FORMAT)
  except (AssertionError, ValueError) as error:  # There is no such config or version.
    reason = _line(error).rpartition('}": ')[2]  # Without tfds's list of its arguments.
    raise ValueError(f"{name!r} cannot be prepared: {reason}") from None
  # Some archives have to be fetched by hand: tfds goes on without those that are missing.
  folder = builder.data_dir_root / "downloads" / "manual"
  archives = re.findall(_IMAGENET_ARCHIVE, builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "")
  if missing := [archive for archive in archives if not (folder / archive).exists()]:
    raise ValueError(_by_hand(name, builder, folder, f"without {' and '.join(missing)}"))
  try:
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=folder))
  except (AssertionError, FileNotFoundError, tf.errors.NotFoundError) as error:
    # Without instructions the file is missing for another reason: see `_one_sentence`.
    if not builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
      raise
    filled = folder.is_dir() and any(folder.iterdir())
    state = _line(error) if filled else "which is empty"
    raise ValueError(_by_hand(name, builder, folder, state)) from error
  return builder


def _by_hand(name: str, builder, folder: os.PathLike[str], state: str) -> str:
  """Returns how to download a dataset by hand, into a folder in the state described."""
  instructions = textwrap.dedent(builder.MANUAL_DOWNLOAD_INSTRUCTIONS).strip()
  return (
    f"{name!r} has to be downloaded by hand:\n{textwrap.indent(instructions, '  ')}\n"
    f"manual_dir is {folder} ({state}). Run the same command again afterwards."
  )


def _convert(name: str, builder) -> None:
  """Writes the files of a prepared dataset once more, as ArrayRecord, into the same folder.

  Not with tfds's `convert_format`: it takes Apache Beam, and interrupted before it has written that
  the format is there, it never does so again.
  """
  from tensorflow_datasets.core import dataset_info, file_adapters, utils

  old = file_adapters.ADAPTER_FOR_FORMAT[builder.info.file_format]
  new = file_adapters.ADAPTER_FOR_FORMAT[file_adapters.FileFormat(_FORMAT)]
  # A file is there whole or not at all, and only what the info lists counts as prepared: an
  # interrupted conversion goes on where it was.
  for source, target, count in utils.tqdm(_files(builder), f"Converting {name}", unit=" files"):
    if target.exists():
      continue
    with utils.incomplete_file(target) as partial:
      new.write_examples(partial, enumerate(old.make_tf_data(source).as_numpy_iterator()))
      # A source that is cut off reads as a shorter one.
      if (written := new.num_examples(partial)) != count:
        raise OSError(f"{source} holds {written} examples instead of {count}")
  # Last of all, since this makes the format count as prepared.
  info = dataset_info.read_proto_from_builder_dir(builder.data_path)
  info.alternative_file_formats.append(_FORMAT)
  with utils.incomplete_file(dataset_info.dataset_info_path(builder.data_path)) as partial:
    partial.write_text(dataset_info.get_dataset_info_json(info))


def _files(builder) -> list[tuple[str, os.PathLike[str], int]]:
  """Returns (file, the same as ArrayRecord, examples in it) of all splits."""
  files = []
  for split in builder.info.splits.values():
    sources = map(os.fspath, split.filepaths)
    files += zip(sources, prepared.record_files(split), split.shard_lengths, strict=True)
  return files
