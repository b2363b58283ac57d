"""Folders of images, prepared datasets, and parts of them: which bytes and labels they hand out."""

import io
import pickle
import re
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from apprentice_jax.data import digits, encoded, sources
from apprentice_jax.data.formats import SUFFIXES


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  """The cache directory, this test's own."""
  monkeypatch.setenv("APPRENTICE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """A data directory with digits; tests only read it."""
  root = tmp_path_factory.mktemp("tfds") / "data"
  digits.prepare(root)
  return str(root)


def write(root, *paths):
  """Files that hold their own path."""
  for path in paths:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(path.encode())
  return str(root)


def all_of(examples):
  return list(examples.read(range(len(examples))))


# Folders.


def test_folder_is_in_alphabetical_order(tmp_path):
  root = write(
    tmp_path,
    "train/eel/b.jpg",
    "train/eel/a.png",
    "train/cat/10.jpg",
    "train/cat/9.jpg",
    "train/Dog/z.jpg",
    "train/Dog/Z.jpg",
    "val/cat/never.jpg",
  )
  folder = encoded.Folder(root, "train")
  assert folder.class_names == ("Dog", "cat", "eel")
  assert folder.labels.dtype == np.int32
  assert folder.labels.tolist() == [0, 0, 1, 1, 2, 2]
  assert len(folder) == 6
  expected = [
    "train/Dog/Z.jpg",
    "train/Dog/z.jpg",
    "train/cat/10.jpg",
    "train/cat/9.jpg",
    "train/eel/a.png",
    "train/eel/b.jpg",
  ]
  assert all_of(folder) == list(zip([path.encode() for path in expected], folder.labels.tolist()))
  assert [folder.name(i) for i in range(6)] == [f"{root}/{path}" for path in expected]


def test_folder_reads_any_examples_in_any_order(tmp_path):
  folder = encoded.Folder(
    write(tmp_path, *(f"train/{c}/{i}.jpg" for c in "ab" for i in range(3))), "train"
  )
  everything = all_of(folder)
  index = np.array([4, 0, 4, 5], np.int32)
  found = list(folder.read(index))
  assert found == [everything[i] for i in index]
  assert all(type(file) is bytes and type(label) is int for file, label in found)
  assert list(folder.read([])) == []


def test_folder_takes_images_alone_whatever_their_suffix_case(tmp_path):
  names = [f"{i}{suffix}" for i, suffix in enumerate(SUFFIXES)]
  names += ["x.JPG", "y.JPEG", "z.Png", "two.dots.jpg"]
  others = ["notes.txt", ".hidden.jpg", "Thumbs.db", "jpg", "a.jpg.part", "b.jpg~"]
  root = write(
    tmp_path,
    *(f"train/cat/{name}" for name in names + others),
    "train/.cache/a.jpg",
    "train/list.jpg",
    "train/dog/a.jpg",
  )
  (tmp_path / "train" / "cat" / "more").mkdir()
  folder = encoded.Folder(root, "train")
  assert folder.class_names == ("cat", "dog")
  assert [folder.name(i) for i in range(len(folder))] == [
    f"{root}/train/{path}" for path in sorted(f"cat/{name}" for name in names) + ["dog/a.jpg"]
  ]


def test_folder_follows_links(tmp_path):
  write(tmp_path, "elsewhere/a.jpg", "data/train/cat/b.jpg")
  (tmp_path / "data" / "train" / "dog").symlink_to(tmp_path / "elsewhere")
  folder = encoded.Folder(str(tmp_path / "data"), "train")
  assert folder.class_names == ("cat", "dog")
  assert all_of(folder) == [(b"data/train/cat/b.jpg", 0), (b"elsewhere/a.jpg", 1)]


def test_folder_in_the_home_directory(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", write(tmp_path, "photos/train/cat/a.jpg"))
  assert len(encoded.Folder("~/photos", "train")) == 1


def test_file_that_cannot_be_read_is_empty(tmp_path):
  folder = encoded.Folder(
    write(tmp_path, *(f"train/cat/{i}.jpg" for i in range(4)), "train/dog/a.jpg"), "train"
  )
  (tmp_path / "train/cat/1.jpg").unlink()
  shutil.rmtree(tmp_path / "train/dog")
  (tmp_path / "train/cat/2.jpg").unlink()
  (tmp_path / "train/cat/2.jpg").mkdir()  # Nor can a folder.
  assert all_of(folder) == [
    (b"train/cat/0.jpg", 0),
    (b"", 0),
    (b"", 0),
    (b"train/cat/3.jpg", 0),
    (b"", 1),
  ]


def test_pickled_folder_is_the_same(tmp_path):
  # Worker processes get it so.
  folder = encoded.Folder(write(tmp_path, "train/cat/a.jpg", "train/dog/a.jpg"), "train")
  again = pickle.loads(pickle.dumps(folder))
  assert all_of(again) == all_of(folder) and again.class_names == folder.class_names
  assert again.name(1) == folder.name(1)


def fails(root, split, sentence):
  with pytest.raises(ValueError) as raised:
    encoded.load("image_folder", split, root)
  assert str(raised.value) == sentence


@pytest.mark.parametrize("root", ["", None])
def test_no_data_dir(root):
  fails(root, "train", "data.dir is empty: give the folder that holds train/CLASS/*.jpg.")


def test_missing_folder(tmp_path):
  root = tmp_path / "nowhere"
  fails(
    str(root), "train", f"there is no folder {root}: images are expected in {root}/train/CLASS/."
  )
  assert not root.exists()


def test_file_in_place_of_the_folder(tmp_path):
  root = write(tmp_path, "file")
  fails(
    f"{root}/file",
    "train",
    f"there is no folder {root}/file: images are expected in {root}/file/train/CLASS/.",
  )


def test_missing_split(tmp_path):
  root = write(tmp_path, "train/cat/a.jpg", "list")
  for split in ("val", "list"):
    fails(
      root,
      split,
      f"there is no folder {root}/{split}: images are expected in {root}/{split}/CLASS/.",
    )


def test_split_without_classes(tmp_path):
  root = write(tmp_path, "train/a.jpg", "train/.git/a.jpg")
  fails(root, "train", f"{root}/train has no folders: images are expected in {root}/train/CLASS/.")


def test_class_without_images(tmp_path):
  root = write(tmp_path, "train/cat/a.jpg", "train/dog/notes.txt", "train/dog/.a.jpg")
  fails(
    root,
    "train",
    f"the class {root}/train/dog has no images (2 files are not read: 1 .txt, 1 hidden): add "
    "some, or remove the folder.",
  )


# Prepared datasets.


@pytest.mark.parametrize("split, size", [("train", 1437), ("test", 360)])
def test_records_agree_with_tfds_own_decoding(split, size, data_dir):
  records = encoded.load("digits", split, data_dir)
  assert isinstance(records, encoded.ArrayRecords)
  assert len(records) == size and records.labels is None
  assert records.class_names == tuple("0123456789")
  source = tfds.builder("digits", data_dir=data_dir).as_data_source(split)
  for (file, label), example in zip(all_of(records), source, strict=True):
    assert type(file) is bytes and type(label) is int
    np.testing.assert_array_equal(
      np.asarray(Image.open(io.BytesIO(file)))[..., None], example["image"]
    )
    assert label == example["label"]


def test_records_in_any_order(data_dir):
  records = encoded.ArrayRecords("digits", "test", data_dir)
  everything = all_of(records)
  index = np.array([300, 0, 300, 359, 7], np.int32)
  assert list(records.read(index)) == [everything[i] for i in index]
  assert list(records.read([])) == [] and list(records.read(range(0))) == []
  assert records.name(7) == "example 7 of digits/1.0.0 test"


def test_pickled_records_are_the_same(data_dir):
  records = encoded.ArrayRecords("digits", "test", data_dir)
  list(records.read([3]))  # With its files open.
  again = pickle.loads(pickle.dumps(records))
  assert list(again.read([5, 2])) == list(records.read([5, 2]))


def test_complaints_about_datasets_are_those_of_sources(data_dir):
  with pytest.raises(ValueError, match="^dataset digits/1.0.0 has no split 'val': use one of tra"):
    encoded.load("digits", "val", data_dir)
  with pytest.raises(ValueError, match=r"^unknown dataset 'digit'.*: did you mean 'digits'\?$"):
    encoded.load("digit", "test", data_dir)


# Parts.


def test_subset(tmp_path):
  folder = encoded.Folder(
    write(tmp_path, *(f"train/{c}/{i}.jpg" for c in "abc" for i in range(4))), "train"
  )
  everything, index = all_of(folder), [7, 0, 11, 2]
  for subset in (encoded.Subset(folder, index), encoded.Subset(folder, np.array(index, np.int32))):
    assert len(subset) == 4 and subset.class_names == ("a", "b", "c")
    assert all_of(subset) == [everything[i] for i in index]
    assert subset.labels.tolist() == [1, 0, 2, 0] and subset.labels.dtype == np.int32
    assert [subset.name(i) for i in range(4)] == [folder.name(i) for i in index]
    assert list(subset.read(np.array([3, 3, 0], np.int32))) == [everything[i] for i in (2, 2, 7)]
  nested = encoded.Subset(subset, [2, 1])
  assert all_of(nested) == [everything[11], everything[0]]
  assert nested.name(0) == folder.name(11)
  assert all_of(pickle.loads(pickle.dumps(nested))) == all_of(nested)


def _divided(examples, count):
  """Both parts, as places in the whole; its bytes tell examples apart."""
  whole = [file for file, _ in all_of(examples)]
  assert len(set(whole)) == len(whole)
  parts = encoded.hold_out(examples, count)
  return parts, [[whole.index(file) for file, _ in all_of(part)] for part in parts]


@pytest.mark.parametrize("count", [0, 1, 5, 12, 17, 18])
def test_hold_out_of_known_labels_chooses_as_sources_does(count, tmp_path):
  sizes = {"a": 10, "b": 5, "c": 3}
  root = write(tmp_path, *(f"train/{c}/{i}.jpg" for c, n in sizes.items() for i in range(n)))
  folder = encoded.Folder(root, "train")
  parts, places = _divided(folder, count)
  size = len(folder)
  in_memory = sources.Dataset(
    np.arange(size, dtype=np.uint8).reshape(-1, 1, 1, 1), folder.labels, folder.class_names
  )
  for part, indices, expected in zip(parts, places, sources.hold_out(in_memory, count)):
    assert indices == expected.images.ravel().tolist()
    assert part.labels.tolist() == expected.labels.tolist()
    assert part.class_names == ("a", "b", "c")


@pytest.mark.parametrize("count", [0, 100, 359, 360])
def test_hold_out_of_unknown_labels_is_disjoint_and_complete(count, data_dir):
  records = encoded.ArrayRecords("digits", "test", data_dir)
  # Some digits are alike: they are told apart by name.
  (rest, held_out), again = encoded.hold_out(records, count), encoded.hold_out(records, count)
  assert len(held_out) == count and len(rest) == 360 - count
  names = [[part.name(i) for i in range(len(part))] for part in (rest, held_out)]
  assert sorted(names[0] + names[1]) == sorted(records.name(i) for i in range(360))
  assert names == [[part.name(i) for i in range(len(part))] for part in again]
  everything = all_of(records)
  for part, its_names in zip((rest, held_out), names):
    assert part.labels is None and part.class_names == records.class_names
    places = [int(re.search(r"\d+", name)[0]) for name in its_names]
    assert places == sorted(places)
    assert all_of(part) == [everything[i] for i in places]
  if count == 100:  # Spread over the set.
    assert 10 < np.mean(np.array(places) < 180) * 100 < 90


def test_hold_out_too_many(tmp_path):
  folder = encoded.Folder(write(tmp_path, "train/a/1.jpg", "train/b/1.jpg"), "train")
  with pytest.raises(ValueError, match="^cannot hold out 3 of 2 examples.$"):
    encoded.hold_out(folder, 3)
