"""`digits`: scikit-learn's bundled handwritten digits as a tfds dataset.

1,797 real 8x8 greyscale images (the test part of the UCI "Optical Recognition of Handwritten
Digits" data). They come with scikit-learn, so nothing is downloaded, and the images are written
as PNG bytes, so TensorFlow is not needed. Importing this module registers the tfds builder.
"""

import contextlib
import functools
import io
import logging
import os
import pathlib
import tempfile
import warnings
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from apprentice_jax import files
from apprentice_jax.data import order

TEST_SIZE = 360  # Of 1,797; the other 1,437 are the train split.


def scale(pixels: np.ndarray) -> np.ndarray:
  """Maps the values 0..16 to uint8 0..255: `v * 255 / 16`, halves rounded up.

  In integers, `(255 * v + 8) // 16`: 0 -> 0, 1 -> 16, 8 -> 128, 16 -> 255. No two values share
  an image, so the original is recovered exactly by `(16 * p + 127) // 255`.

  Args:
    pixels: any shape, integers 0..16 of any dtype.

  Returns:
    The scaled values, the same shape, uint8.
  """
  return ((255 * np.asarray(pixels).astype(np.int64) + 8) // 16).astype(np.uint8)


class Digits(tfds.core.GeneratorBasedBuilder):
  """The handwritten digits, split into train (1,437) and test (360), each class in proportion."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description="1,797 handwritten digits of 8x8 pixels, 0..16 scaled to 0..255.",
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(shape=(8, 8, 1)),
          "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
        }
      ),
      supervised_keys=("image", "label"),
      homepage="https://archive.ics.uci.edu/dataset/80",
      # Each split keeps scikit-learn's order; loaders shuffle anyway.
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # Nothing to download.
    from sklearn import datasets  # Only preparing needs scikit-learn, reading does not.

    data = datasets.load_digits()
    images = scale(data.images)[..., None]
    labels = data.target.astype(np.int32)
    test = order.held_out(labels, TEST_SIZE)
    return {
      split: self._generate_examples(images[mask], labels[mask])
      for split, mask in (("train", ~test), ("test", test))
    }

  def _generate_examples(self, images: np.ndarray, labels: np.ndarray):
    for key, (image, label) in enumerate(zip(images, labels)):
      encoded = io.BytesIO()
      Image.fromarray(image[..., 0]).save(encoded, format="PNG")
      yield key, {"image": encoded.getvalue(), "label": int(label)}


@functools.cache
def _temporary_dir() -> tempfile.TemporaryDirectory[str]:
  """One for the life of the process, removed as it ends."""
  return tempfile.TemporaryDirectory(prefix="digits_")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Holds back what tfds reports of a download: here there is none, and it is over in a second."""
  logger = logging.getLogger("absl")
  level = logger.level
  logger.setLevel(logging.ERROR)
  tfds.disable_progress_bar()
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    tfds.enable_progress_bar()
    logger.setLevel(level)


def _write(data_dir: pathlib.Path) -> None:
  """Writes the dataset under `data_dir` as ArrayRecord, unless it is there already."""
  # tfds wants a folder for downloads, which stays empty.
  with _quiet(), tempfile.TemporaryDirectory() as downloads:
    if Digits(data_dir=data_dir).is_prepared():
      return
    try:
      Digits(data_dir=data_dir).download_and_prepare(
        file_format="array_record",
        download_dir=downloads,
        download_config=tfds.download.DownloadConfig(try_download_gcs=False),
      )
    except OSError:
      # Of two processes at it, tfds lets only one move its finished folder into place.
      if not Digits(data_dir=data_dir).is_prepared():
        raise


def prepare(data_dir: str | os.PathLike[str] | None = None) -> pathlib.Path:
  """Prepares the dataset as ArrayRecord, unless it is there already.

  Args:
    data_dir: tfds data directory, made if it is missing. None stands for `cache_dir() / "tfds"`
      or, where that cannot be written, a temporary directory, with a warning.

  Returns:
    The data directory that it is in.

  Raises:
    ValueError: if `data_dir` cannot be written.
  """
  root = pathlib.Path(data_dir).expanduser() if data_dir else files.cache_dir() / "tfds"
  # A folder of the user's own is not replaced by another; the cache is.
  try:
    _write(root)
  except OSError as error:
    if data_dir:
      raise ValueError(
        f"'digits' cannot be prepared in {root} ({error}): give a data_dir that can be written, "
        "or none."
      ) from None
    warnings.warn(
      f"'digits' cannot be kept in {root} ({error}) and will be prepared again next time: set "
      "APPRENTICE_CACHE to a folder that can be written."
    )
    root = pathlib.Path(_temporary_dir().name)
    _write(root)
  return root
