"""Loading, the cache of decoded images, and every complaint."""

import io
import json
import os
import pathlib
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from PIL import Image

from apprentice_jax import files
from apprentice_jax.data import digits, prepared, sources


def _png(array):
  encoded = io.BytesIO()
  Image.fromarray(array).save(encoded, format="PNG")
  return encoded.getvalue()


class _Tiny(tfds.core.GeneratorBasedBuilder):
  """Five random images; subclasses say how they are spoilt."""

  VERSION = tfds.core.Version("1.2.3")
  SHAPE = (6, 7, 3)
  SIZES = ((6, 7),)
  LABELS = (0, 1, 2)
  IMAGE_KEY = "image"

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          self.IMAGE_KEY: tfds.features.Image(shape=self.SHAPE),
          "label": tfds.features.ClassLabel(names=["cat", "dog", "eel"]),
        }
      ),
      disable_shuffling=True,
    )

  def images(self):
    random = np.random.RandomState(0)
    shapes = [(*self.SIZES[i % len(self.SIZES)], 3) for i in range(5)]
    return [random.randint(0, 256, shape).astype(np.uint8) for shape in shapes]

  def _split_generators(self, dl_manager):
    return {"validation": self._generate_examples()}

  def _generate_examples(self):
    for i, image in enumerate(self.images()):
      yield i, {self.IMAGE_KEY: _png(image), "label": self.LABELS[i % len(self.LABELS)]}


class TinyColour(_Tiny):
  """Nothing is wrong with it, and its features leave the size open."""

  SHAPE = (None, None, 3)


class TinyVarying(_Tiny):
  SHAPE = (None, None, 3)
  SIZES = ((6, 7), (5, 7))


class TinyWithoutImage(_Tiny):
  IMAGE_KEY = "picture"


class TinyUnlabelled(_Tiny):
  LABELS = (-1,)


def _prepare(builder_cls, data_dir):
  builder_cls(data_dir=data_dir).download_and_prepare(
    file_format="array_record",
    download_dir=data_dir.parent / "downloads",
    download_config=tfds.download.DownloadConfig(try_download_gcs=False),
  )


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  """The cache directory, this test's own."""
  monkeypatch.setenv("APPRENTICE_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """A data directory with digits and the tiny datasets; tests only read it."""
  root = tmp_path_factory.mktemp("tfds") / "data"
  digits.prepare(root)
  for builder_cls in (TinyColour, TinyVarying, TinyWithoutImage, TinyUnlabelled):
    _prepare(builder_cls, root)
  return str(root)


def _equal(a, b):
  np.testing.assert_array_equal(a.images, b.images)
  np.testing.assert_array_equal(a.labels, b.labels)
  assert a.class_names == b.class_names
  assert [x.dtype for x in a[:2]] == [x.dtype for x in b[:2]] == [np.uint8, np.int32]


def _fails(name, split, data_dir, sentence):
  """Asserts on the whole message, and that no other traceback is shown above it."""
  with pytest.raises(ValueError) as raised:
    sources.load(name, split, data_dir)
  assert re.fullmatch(sentence, str(raised.value)), str(raised.value)
  assert raised.value.__suppress_context__ or raised.value.__context__ is None


# Loading.


@pytest.mark.parametrize("name", ["tiny_colour", "tiny_colour:1.2.3", "tiny_colour:1.*.*"])
def test_images_come_as_they_were_written(name, data_dir):
  dataset = sources.load(name, "validation", data_dir)
  np.testing.assert_array_equal(dataset.images, TinyColour(data_dir=data_dir).images())
  assert dataset.labels.tolist() == [0, 1, 2, 0, 1]
  assert dataset.class_names == ("cat", "dog", "eel")


def test_more_records_than_a_block(data_dir, monkeypatch):
  whole = sources.load("digits", "test", data_dir)
  monkeypatch.setattr(sources, "_BLOCK", 100)
  monkeypatch.setattr(sources, "_PART", 7)
  builder = prepared.open_builder("digits", data_dir)
  images, labels = sources._decode_split(builder, "test")
  np.testing.assert_array_equal(images, whole.images)
  np.testing.assert_array_equal(labels, whole.labels)


def test_agrees_with_tfds_own_decoding(data_dir):
  dataset = sources.load("digits", "test", data_dir)
  source = tfds.builder("digits", data_dir=data_dir).as_data_source("test")
  for image, label, example in zip(dataset.images, dataset.labels, source, strict=True):
    np.testing.assert_array_equal(image, example["image"])
    assert label == example["label"]


def test_data_dir_of_tfds_is_the_default(data_dir, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", data_dir)
  assert len(sources.load("tiny_colour", "validation").labels) == 5


def test_reads_files_without_the_builders_code(data_dir):
  code = (
    "from apprentice_jax.data import sources\n"
    f"assert len(sources.load('tiny_colour', 'validation', {data_dir!r}).labels) == 5\n"
  )
  subprocess.run([sys.executable, "-c", code], check=True)


# The cache.


def test_cache_dir(monkeypatch):
  monkeypatch.setenv("HOME", "/home/somebody")
  monkeypatch.delenv("APPRENTICE_CACHE")
  monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
  assert files.cache_dir() == pathlib.Path("/home/somebody/.cache/apprentice_jax")
  monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
  assert files.cache_dir() == pathlib.Path("/var/cache/apprentice_jax")
  monkeypatch.setenv("APPRENTICE_CACHE", "~/own")
  assert files.cache_dir() == pathlib.Path("/home/somebody/own")


def test_hit_equals_miss_and_decodes_nothing(data_dir, cache, monkeypatch):
  miss = sources.load("digits", "test", data_dir)
  (file,) = (cache / "decoded").iterdir()  # No temporary file is left either.
  assert file.name.startswith("digits-1.0.0-test-")
  monkeypatch.setattr(sources, "_decode_split", None)
  hit = sources.load("digits", "test", data_dir)
  _equal(hit, miss)
  for array in (*miss[:2], *hit[:2]):
    assert type(array) is np.ndarray and not array.flags.writeable


def test_splits_and_data_dirs_do_not_collide(data_dir, cache, tmp_path):
  other = tmp_path / "other"
  digits.prepare(other)
  for split, where in (("train", data_dir), ("test", data_dir), ("test", str(other))):
    sources.load("digits", split, where)
  assert len(list((cache / "decoded").iterdir())) == 3


@pytest.mark.parametrize("converted", [False, True])
def test_records_that_were_replaced_are_read_anew(converted, cache, tmp_path):
  where = digits.prepare(tmp_path)
  if converted:  # Prepared as TFRecord, whose files are not needed any more.
    (description,) = tmp_path.glob("**/dataset_info.json")
    info = json.loads(description.read_text())
    info.update(fileFormat="tfrecord", alternativeFileFormats=["array_record"])
    for split in info["splits"]:
      split["filepathTemplate"] = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    description.write_text(json.dumps(info))
  first = sources.load("digits", "test", where)
  (records,) = tmp_path.glob("**/digits-test*")
  reader = array_record_module.ArrayRecordReader(str(records))
  turned = [reader.read([i])[0] for i in reversed(range(reader.num_records()))]
  reader.close()
  writer = array_record_module.ArrayRecordWriter(str(records), "group_size:1")
  for record in turned:
    writer.write(record)
  writer.close()
  os.utime(records, (2e9, 2e9))  # Times of files count in seconds.
  second = sources.load("digits", "test", where)
  np.testing.assert_array_equal(second.images, first.images[::-1])
  np.testing.assert_array_equal(second.labels, first.labels[::-1])


@pytest.mark.parametrize("damage", ["empty", "garbage", "images", "labels", "other", "types"])
def test_damaged_file_is_made_anew(damage, data_dir, cache):
  good = sources.load("digits", "test", data_dir)
  (file,) = (cache / "decoded").iterdir()
  whole = file.read_bytes()
  file.unlink()  # The loaded images are no map of it, but be sure to spoil a new file.
  if damage == "empty":
    file.write_bytes(b"")
  elif damage == "garbage":
    file.write_bytes(b"\x93NUMPY\x01\x00" + bytes(range(256)) * 4)
  elif damage == "images":
    file.write_bytes(whole[: len(whole) // 2])
  elif damage == "labels":
    file.write_bytes(whole[:-1])
  elif damage == "other":  # Sound, but of another number of images.
    files.keep(file, sources._arrays(good.images[:-1], good.labels[:-1]))
  else:
    files.keep(file, sources._arrays(good.images.astype(np.float32), good.labels))
  _equal(sources.load("digits", "test", data_dir), good)
  assert file.read_bytes() == whole


def test_many_at_once(data_dir, cache):
  loaded = []
  run = lambda: loaded.append(sources.load("digits", "test", data_dir))
  threads = [threading.Thread(target=run) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(loaded) == 4
  for dataset in loaded:
    _equal(dataset, loaded[0])
  assert len(list((cache / "decoded").iterdir())) == 1


def test_write_that_fails_leaves_nothing(data_dir, cache, monkeypatch):
  def full(*args, **kwargs):
    raise OSError("No space left on device")

  monkeypatch.setattr(np.lib.format, "write_array", full)
  with pytest.warns(UserWarning, match=r"kept in .*\(No space left.*set APPRENTICE_CACHE"):
    assert len(sources.load("digits", "test", data_dir).labels) == 360
  assert not list((cache / "decoded").iterdir())


# Complaints.


def test_unknown_dataset(data_dir, tmp_path):
  where = re.escape(data_dir)
  _fails(
    "tiny_color",
    "train",
    data_dir,
    rf"unknown dataset 'tiny_color' \(neither in {where} nor known to tfds\): "
    r"did you mean 'tiny_colour'\?",
  )
  _fails("Digit:1.0.0", "train", str(tmp_path), r"unknown dataset .*: did you mean 'digits'\?")
  _fails(
    "qqqqqq",
    "train",
    data_dir,
    r"unknown dataset .*: use one of digits, image_folder, tiny_colour, .*\.",
  )
  _fails("", "train", data_dir, r"unknown dataset '' .*: use one of .*\.")


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_data_dir_does_not_exist(name, tmp_path):
  missing = tmp_path / "missing"
  _fails(name, "test", str(missing), r"data_dir .*missing does not exist: give the folder .*\.")
  assert not missing.exists()


def test_not_prepared(data_dir):
  how = r"prepare it with `apprentice prepare --dataset=%s`, which needs the \[prepare\] extra\."
  where = re.escape(data_dir)
  _fails("mnist", "test", data_dir, rf"dataset 'mnist' is not prepared in {where}: {how % 'mnist'}")
  _fails(
    "tiny_colour:9.9.9",
    "validation",
    data_dir,
    rf"dataset 'tiny_colour:9.9.9' is not prepared in {where} \(but 1.2.3 is\): "
    + how % "tiny_colour:9.9.9",
  )
  for deeper in ("tiny_colour", "tiny_colour/1.2.3"):
    _fails(
      "tiny_colour",
      "validation",
      f"{data_dir}/{deeper}",
      rf"data_dir {where}/{deeper} is a folder of tiny_colour itself: give {where}, "
      r"which holds it\.",
    )


def test_no_such_split(data_dir):
  sentence = (
    r"dataset digits/1.0.0 has no split '%s': use one of train, test, "
    r"or a slice such as train\[80%%:\]\."
  )
  _fails("digits", "validation", data_dir, sentence % "validation")
  _fails("digits", "trian[:10]", data_dir, sentence % r"trian\[:10\]")


def test_tfrecord(data_dir, tmp_path):
  # tfds needs TensorFlow to write one; what tells them apart is what the folder says of itself.
  folder = tmp_path / "data" / "digits" / "1.0.0"
  folder.mkdir(parents=True)
  for path in (pathlib.Path(data_dir) / "digits" / "1.0.0").iterdir():
    content = path.read_bytes().replace(b'"array_record"', b'"tfrecord"')
    (folder / path.name.replace("array_record", "tfrecord")).write_bytes(content)
  _fails(
    "digits",
    "test",
    str(tmp_path / "data"),
    r"dataset digits/1.0.0 in .*1.0.0 is prepared as tfrecord, not as ArrayRecord: convert it "
    r"with `apprentice prepare --dataset=digits --data_dir=\.\.\.`, which needs the "
    r"\[prepare\] extra\.",
  )


def test_not_image_classification(data_dir):
  _fails(
    "tiny_without_image",
    "validation",
    data_dir,
    r"dataset tiny_without_image/1.2.3 has the features label, picture: only image "
    r"classification is supported, which takes an 8-bit `image` and a class `label`\.",
  )


def test_varying_sizes(data_dir, cache):
  _fails(
    "tiny_varying",
    "validation",
    data_dir,
    r"the images of tiny_varying/1.2.3 vary in size \(\(6, 7\) and \(5, 7\)\), "
    r"and only sets of one image size can be loaded: prepare it with resized images\.",
  )
  assert not cache.exists()


def test_unlabelled(data_dir):
  _fails(
    "tiny_unlabelled",
    "validation",
    data_dir,
    r"split 'validation' of tiny_unlabelled/1.2.3 has no labelled images: use another\.",
  )
