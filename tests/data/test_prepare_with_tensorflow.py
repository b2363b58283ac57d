"""Preparing by TensorFlow: other formats, downloads, files brought by hand, and every failure."""

import errno
import io
import pathlib
import re
import tarfile

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds
import urllib3
from tensorflow_datasets.core import dataset_info, file_adapters
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.extractor import ExtractError
from tensorflow_datasets.core.download.util import DownloadError
from tiny_datasets import SIZES, PrepareTiny, encoded_image, fails, generate, pretend, state

from apprentice_jax.data import encoded, sources
from apprentice_jax.data.prepare import prepare

pytestmark = pytest.mark.usefixtures("own_cache")


# Converting.


def _check(data_dir, tmp_path):
  """Asserts that the dataset is what preparing it as ArrayRecord in the first place gives."""
  generate(tmp_path / "direct", "array_record")
  for split, size in SIZES.items():
    dataset = sources.load("prepare_tiny", split, str(data_dir))
    direct = sources.load("prepare_tiny", split, str(tmp_path / "direct"))
    np.testing.assert_array_equal(dataset.images, direct.images)
    np.testing.assert_array_equal(dataset.labels, direct.labels)
    assert dataset.class_names == direct.class_names == ("cat", "dog", "eel")
    assert len(dataset.labels) == size


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["tfrecord", "parquet"])
def test_another_format_is_converted(file_format, data_dir, tmp_path, with_tensorflow, no_download):
  folder = generate(data_dir, file_format)
  before = state(folder)
  assert prepare("prepare_tiny", str(data_dir)) == str(folder)
  _check(data_dir, tmp_path)
  after = state(folder)
  assert len(after) == len(before) + 2 * len(SIZES)
  for name in before.keys() - {"dataset_info.json"}:
    assert after[name] == before[name]
  # TensorFlow still reads what it could read.
  read = tfds.load("prepare_tiny", split="train", data_dir=data_dir)
  assert len(list(read)) == SIZES["train"]
  prepare("prepare_tiny", str(data_dir))
  assert state(folder) == after


@pytest.mark.slow
@pytest.mark.parametrize("stop", [0, 1, 3, "info"])
def test_interrupted(stop, data_dir, tmp_path, monkeypatch, with_tensorflow, no_download):
  folder = generate(data_dir, "tfrecord")
  before, written = state(folder), []
  write = file_adapters.ArrayRecordFileAdapter.write_examples

  def interrupted_write(path, iterator):
    if len(written) == stop:
      pathlib.Path(path).write_bytes(b"half a file")
      raise KeyboardInterrupt
    written.append(path)
    return write(path, iterator)

  def interrupt(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(file_adapters.ArrayRecordFileAdapter, "write_examples", interrupted_write)
    if stop == "info":
      patch.setattr(dataset_info, "get_dataset_info_json", interrupt)
    with pytest.raises(KeyboardInterrupt):
      prepare("prepare_tiny", str(data_dir))
  halfway = state(folder)
  assert {name: halfway.get(name) for name in before} == before
  assert not [name for name in halfway if "incomplete" in name]
  assert len(halfway) == len(before) + len(written)
  with pytest.raises(ValueError, match="prepared as tfrecord, not as ArrayRecord"):
    sources.load("prepare_tiny", "train", str(data_dir))
  prepare("prepare_tiny", str(data_dir))
  _check(data_dir, tmp_path)
  after = state(folder)  # What was written is not written again.
  assert all(after[name] == halfway[name] for name in halfway.keys() - {"dataset_info.json"})


@pytest.mark.slow
def test_a_file_that_lacks_examples(data_dir, with_tensorflow, no_download):
  folder = generate(data_dir, "tfrecord")
  path = folder / "prepare_tiny-train.tfrecord-00001-of-00002"
  records = list(with_tensorflow.data.TFRecordDataset(str(path)).as_numpy_iterator())
  with with_tensorflow.io.TFRecordWriter(str(path)) as writer:
    for record in records[1:]:
      writer.write(record)
  fails(
    "prepare_tiny",
    data_dir,
    rf"'prepare_tiny' cannot be prepared: {path} holds {len(records) - 1} examples instead of "
    f"{len(records)}",
  )
  assert not (folder / path.name.replace("tfrecord", "array_record")).exists()


@pytest.mark.slow
def test_a_damaged_file(data_dir, with_tensorflow, no_download):
  path = generate(data_dir, "tfrecord") / "prepare_tiny-train.tfrecord-00001-of-00002"
  path.write_bytes(path.read_bytes()[:-5])
  fails("prepare_tiny", data_dir, "'prepare_tiny' cannot be prepared: .*truncated record.*")
  path.unlink()
  fails("prepare_tiny", data_dir, f"'prepare_tiny' cannot be prepared: .*{path.name}; No such .*")


@pytest.mark.slow
def test_a_format_that_cannot_be_read(data_dir, with_tensorflow, no_download):
  pretend(data_dir, "riegeli")
  fails("pretended", data_dir, "preparing 'pretended' takes a missing package: .*'riegeli'")


# Downloading.


@pytest.mark.slow
def test_download(data_dir, tmp_path, with_tensorflow):
  assert prepare("prepare_tiny", str(data_dir / "new")) == str(
    data_dir / "new" / "prepare_tiny" / "1.0.0"
  )
  _check(data_dir / "new", tmp_path)


@pytest.mark.slow
def test_home(tmp_path, monkeypatch, with_tensorflow):
  monkeypatch.setenv("HOME", str(tmp_path))
  assert prepare("prepare_tiny", "~/data") == str(tmp_path / "data" / "prepare_tiny" / "1.0.0")
  assert not pathlib.Path("~").exists()
  _check(tmp_path / "data", tmp_path)


def _retried():
  """What requests raises when it cannot reach a server."""
  reason = urllib3.exceptions.NewConnectionError(None, "no such server")
  return requests.ConnectionError(urllib3.exceptions.MaxRetryError(None, "/file", reason))


@pytest.mark.parametrize(
  "failure, sentence",
  [
    (_retried(), "'prepare_tiny' cannot be prepared: .*no such server"),
    (requests.Timeout("too slow"), "'prepare_tiny' cannot be prepared: too slow"),
    (DownloadError("HTTP code: 404."), "'prepare_tiny' cannot be prepared: HTTP code: 404."),
    (NonMatchingChecksumError("x:\n  bad"), "'prepare_tiny' cannot be prepared: x: bad"),
    (ExtractError("bad zip"), "'prepare_tiny' cannot be prepared: bad zip"),
    (OSError(errno.ENOSPC, "disk is full"), "'prepare_tiny' cannot be prepared: .*disk is full"),
    (RuntimeError("write() failed"), r"'prepare_tiny' cannot be prepared: write\(\) failed"),
    (AssertionError("too old"), "'prepare_tiny' cannot be prepared: too old"),
    (ImportError("no zzz"), "preparing 'prepare_tiny' takes a missing package: no zzz"),
  ],
)
def test_failures(failure, sentence, data_dir, monkeypatch, with_tensorflow):
  monkeypatch.setattr(PrepareTiny, "failure", failure)
  fails("prepare_tiny", data_dir, sentence)
  monkeypatch.setattr(PrepareTiny, "failure", None)
  prepare("prepare_tiny", str(data_dir))  # It goes through once the cause is gone.


@pytest.mark.slow
def test_a_folder_that_cannot_be_written(tmp_path, with_tensorflow):
  (tmp_path / "file").touch()
  sentence = "'prepare_tiny' cannot be prepared: .*Not a directory.*"
  fails("prepare_tiny", tmp_path / "file", sentence)


@pytest.mark.slow
@pytest.mark.parametrize("left", [(), ("features.json", "label.labels.txt")])
def test_a_folder_that_is_taken(left, data_dir, with_tensorflow):
  folder = generate(data_dir, "array_record")
  for path in folder.iterdir():
    if path.name not in left:
      path.unlink()
  sentence = f"{folder} holds no whole dataset: move it away or use another data_dir."
  fails("prepare_tiny", data_dir, sentence)


@pytest.mark.slow
def test_no_such_version_or_config(data_dir, with_tensorflow):
  fails(
    "prepare_tiny:9.9.9",
    data_dir,
    r"'prepare_tiny:9.9.9' cannot be prepared: Dataset prepare_tiny cannot be loaded at version "
    r"9.9.9, only: 1.0.0\.",
  )
  fails(
    "imagenet_resized/9x9",
    data_dir,
    "'imagenet_resized/9x9' cannot be prepared: BuilderConfig 9x9 not found .* 8x8.*",
  )
  assert not list(data_dir.iterdir())


# By hand.

_BY_HAND = """'prepare_by_hand' has to be downloaded by hand:
  Put images.zip into manual_dir,
  see https://example.org.
manual_dir is {folder} ({state}). Run the same command again afterwards."""


@pytest.mark.slow
def test_by_hand(data_dir, with_tensorflow):
  folder = data_dir / "downloads" / "manual"
  message = re.escape(_BY_HAND.format(folder=folder, state="STATE"))
  fails("prepare_by_hand", data_dir, message.replace("STATE", "which is empty"))
  folder.mkdir()
  (folder / "another").touch()
  fails("prepare_by_hand", data_dir, message.replace("STATE", ".*No such file.*images.zip.*"))
  (folder / "images.zip").touch()
  prepare("prepare_by_hand", str(data_dir))
  assert len(sources.load("prepare_by_hand", "train", str(data_dir)).labels) == SIZES["train"]


def _tar(path, files):
  with tarfile.open(path, "w") as tar:
    for name, content in files.items():
      entry = tarfile.TarInfo(name)
      entry.size = len(content)
      tar.addfile(entry, io.BytesIO(content))


@pytest.mark.slow
def test_imagenet(data_dir, with_tensorflow):
  folder = data_dir / "downloads" / "manual"
  train, val = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
  message = (
    r"'imagenet2012' has to be downloaded by hand:\n  manual_dir should contain two files: "
    rf"{train} and\n  {val}.\n  .* https://image-net.org/download-images (.|\n)*\n"
    rf"manual_dir is {folder} \(without STATE\). Run the same command again afterwards\."
  )
  fails("imagenet2012", data_dir, message.replace("STATE", f"{train} and {val}"))
  assert not list(data_dir.iterdir())
  random = np.random.RandomState(0)
  folder.mkdir(parents=True)
  names = [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, 4)]
  _tar(folder / val, {name: encoded_image(random, (30, 40), "JPEG") for name in names})
  # tfds alone would prepare the other split and be content.
  fails("imagenet2012", data_dir, message.replace("STATE", train))
  wnids = {"n01440764": 2, "n15075141": 3}
  for wnid, count in wnids.items():
    images = {f"{wnid}_{i}.JPEG": encoded_image(random, (30 + i, 40), "JPEG") for i in range(count)}
    _tar(folder / f"{wnid}.tar", images)
  _tar(folder / train, {f"{wnid}.tar": (folder / f"{wnid}.tar").read_bytes() for wnid in wnids})
  prepare("imagenet2012", str(data_dir))
  examples = encoded.load("imagenet2012", "train", str(data_dir))
  assert sorted(label for _, label in examples.read(range(5))) == [0, 0, 999, 999, 999]
  assert len(encoded.load("imagenet2012", "validation", str(data_dir))) == 3
