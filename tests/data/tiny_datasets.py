"""Tiny tfds datasets, their files in several formats, and an assertion on a refusal."""

import io
import pathlib
import re

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from apprentice_jax.data import digits
from apprentice_jax.data.prepare import prepare

SIZES = {"train": 7, "test": 4}


def encoded_image(random, size=(6, 7), file_format="PNG"):
  """The bytes of an image file of random pixels."""
  file = io.BytesIO()
  Image.fromarray(random.randint(0, 256, (*size, 3)).astype(np.uint8)).save(file, file_format)
  return file.getvalue()


class PrepareTiny(tfds.core.GeneratorBasedBuilder):
  """Random images; `failure` is raised in place of a download."""

  VERSION = tfds.core.Version("1.0.0")
  failure = None

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(shape=(6, 7, 3)),
          "label": tfds.features.ClassLabel(names=["cat", "dog", "eel"]),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    if self.failure:
      raise self.failure
    return {split: self._generate_examples(size) for split, size in SIZES.items()}

  def _generate_examples(self, size):
    random = np.random.RandomState(size)
    for i in range(size):
      yield i, {"image": encoded_image(random), "label": i % 3}


class PrepareByHand(PrepareTiny):
  """Takes a file that cannot be downloaded."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = """
      Put images.zip into manual_dir,
      see https://example.org.
  """

  def _split_generators(self, dl_manager):
    (dl_manager.manual_dir / "images.zip").read_bytes()
    return super()._split_generators(dl_manager)


def generate(data_dir, file_format):
  """Prepares the tiny dataset in two files a split; returns its folder."""
  builder = PrepareTiny(data_dir=data_dir, file_format=file_format)
  config = tfds.download.DownloadConfig(try_download_gcs=False, num_shards=2)
  builder.download_and_prepare(download_config=config)
  return pathlib.Path(builder.data_path)


def pretend(data_dir, file_format):
  """Prepares digits and renames its files, as if in another format, which takes no TensorFlow."""
  digits.prepare(data_dir)
  folder = data_dir / "digits" / "1.0.0"
  for path in folder.iterdir():
    content = path.read_bytes().replace(b'"digits"', b'"pretended"')
    content = content.replace(b'"array_record"', b'"%s"' % file_format.encode())
    path.unlink()
    name = path.name.replace("array_record", file_format).replace("digits", "pretended")
    (folder / name).write_bytes(content)
  (data_dir / "digits").rename(data_dir / "pretended")
  return data_dir / "pretended" / "1.0.0"


def state(folder):
  """The time of change and the bytes of each file, by name."""
  return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def fails(name, data_dir, sentence):
  """Asserts on the whole message."""
  with pytest.raises(ValueError) as raised:
    prepare(name, str(data_dir))
  assert re.fullmatch(sentence, str(raised.value)), str(raised.value)
