"""Which examples the training, validation and test images are."""

import numpy as np
import pytest

from apprentice_jax import config as configs
from apprentice_jax.data import digits, sources, splits
from apprentice_jax.data.batches import Resident, Streamed
from apprentice_jax.data.crops import Crops
from apprentice_jax.errors import ConfigError

CROPS = Crops(8, 8, (0.08, 1.0), (0.75, 1.33), True)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("APPRENTICE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """A data directory with digits; tests only read it."""
  root = tmp_path_factory.mktemp("tfds") / "data"
  digits.prepare(root)
  return str(root)


def photos(root, **sizes):
  """Files of different content in root/SPLIT/CLASS for SPLIT_CLASS=count."""
  for where, count in sizes.items():
    folder = root.joinpath(*where.split("_"))
    folder.mkdir(parents=True)
    for i in range(count):
      (folder / f"{i:03}.jpg").write_text(f"{where} {i}")
  return str(root)


def of(name, where, train="train", test="test", validation=0.0, share=0.0, streamed=True):
  return splits.Splits(
    splits.Spec(name, where, train, test, validation, share), CROPS if streamed else None
  )


def files(part):
  return [file for file, _ in part.read(range(len(part)))]


def test_a_share_to_test_and_a_share_to_validate(tmp_path):
  sizes = {"train_cat": 60, "train_dog": 30, "train_eel": 10}
  found = of("image_folder", photos(tmp_path, **sizes), test="val", validation=0.25, share=0.2)
  parts = {role: found.part(role) for role in splits.ROLES}
  # 20% of 100; 25% of the other 80; each class in proportion.
  expected = {"test": [12, 6, 2], "validation": [12, 6, 2], "train": [36, 18, 6]}
  for role, counts in expected.items():
    assert np.bincount(parts[role].labels).tolist() == counts
    assert parts[role].class_names == ("cat", "dog", "eel")
  together = sum((files(part) for part in parts.values()), [])
  assert len(together) == len(set(together)) == 100
  again = of("image_folder", str(tmp_path), test="val", validation=0.25, share=0.2)
  assert all(files(again.part(role)) == files(parts[role]) for role in splits.ROLES)
  # The validation images are none of what is tested without them.
  assert files(of("image_folder", str(tmp_path), test="val", share=0.2).part("test")) == files(
    parts["test"]
  )
  assert list(found.sets) == ["train"]


def test_a_test_folder_comes_before_a_share(tmp_path):
  root = photos(tmp_path, train_cat=10, train_dog=10, val_cat=3, val_dog=2)
  found = of("image_folder", root, test="val", share=0.2)
  assert len(found.part("train")) == 20 and files(found.part("test"))[0] == b"val_cat 0"
  assert len(found.part("test")) == 5 and list(found.sets) == ["train", "test"]
  # Asked for, the share is taken all the same.
  assert len(of("image_folder", root, test="", share=0.2).part("test")) == 4


def test_the_test_images_alone_are_enough_to_score(tmp_path):
  found = of("image_folder", photos(tmp_path, val_cat=3, val_dog=2), test="val", share=0.2)
  assert len(found.part("test")) == 5


@pytest.mark.parametrize("validation, count", [(0.2, 287), (137.0, 137), (1.0, 1), (0.999, 1436)])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_number_or_a_share_held_out(validation, count, streamed, data_dir):
  found = of("digits", data_dir, validation=validation, streamed=streamed)
  assert splits.number(found.part("validation")) == count  # a share of 1,437, rounded
  assert splits.number(found.part("train")) == 1437 - count
  assert splits.number(found.part("test")) == 360


def test_a_share_held_out_is_the_number_held_out(data_dir):
  share, number = (
    of("digits", data_dir, validation=v, streamed=False).part("validation") for v in (0.2, 287.0)
  )
  np.testing.assert_array_equal(share.images, number.images)
  whole = sources.load("digits", "train", data_dir)
  expected = sources.hold_out(whole, 287)[1]
  np.testing.assert_array_equal(share.images, expected.images)


@pytest.mark.parametrize("validation", [1437.0, 0.0001, 5000.0])
def test_nothing_or_everything_held_out(validation, data_dir):
  with pytest.raises(
    ValueError,
    match=rf"^config.data.validation is {validation:g}, but digits has only 1437 "
    r"training examples\.$",
  ):
    of("digits", data_dir, validation=validation, streamed=False).part("train")


# Slices. tfds itself decides where they begin and end.


@pytest.mark.parametrize(
  "split", ["train[:80%]", "train[80%:]", "train[-100:]", "train[100:200]", "test[10%:50%]"]
)
@pytest.mark.parametrize("streamed", [False, True])
def test_slices_are_those_of_tfds(split, streamed, data_dir):
  import tensorflow_datasets as tfds

  expected = tfds.builder("digits", data_dir=data_dir).as_data_source(split)
  labels = [int(example["label"]) for example in expected]
  part = of("digits", data_dir, train=split, test="test[:1]", streamed=streamed).part("train")
  found = [label for _, label in part.read(range(len(part)))] if streamed else part.labels.tolist()
  assert found == labels
  if not streamed:
    np.testing.assert_array_equal(part.images[-1], expected[len(labels) - 1]["image"])


@pytest.mark.parametrize(
  "split, sentence",
  [
    ("train[:0%]", r"split 'train\[:0%\]' of digits/1.0.0 has no examples: use another\."),
    (
      "train[:2000]",
      r"split 'train\[:2000\]' of digits/1.0.0 is no slice: Requested slice .*1437 examples\.",
    ),
    ("train[", r"split 'train\[' of digits/1.0.0 is no slice: .*"),
    (
      "train[:10]+test",
      r"split 'train\[:10\]\+test' of digits/1.0.0 has several parts: use one slice\.",
    ),
    ("all", "dataset digits/1.0.0 has no split 'all': use one of train, test, .*"),
  ],
)
def test_slices_that_are_none(split, sentence, data_dir):
  for streamed in (False, True):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
      of("digits", data_dir, train=split, streamed=streamed).part("train")


@pytest.mark.parametrize(
  "train, test, common",
  [
    ("train[:80%]", "train[80%:]", False),
    ("train[:80%]", "train[79%:]", True),
    ("train", "train[:1]", True),
    ("train", "test", False),
    ("train", "train", True),
    ("train[100:200]", "train[200:]", False),
  ],
)
def test_training_and_test_images_apart(train, test, common, data_dir):
  found = of("digits", data_dir, train=train, test=test)
  if not common:
    return found.check_overlap()
  with pytest.raises(ValueError, match="have images in common: take slices apart, such as "):
    found.check_overlap()


def test_one_folder_for_both(tmp_path):
  root = photos(tmp_path, train_cat=2, train_dog=2)
  (tmp_path / "val").symlink_to(tmp_path / "train")
  for test in ("train", "val", "./train"):
    with pytest.raises(ValueError, match="have images in common: set --config.data.test_split= "):
      of("image_folder", root, test=test).check_overlap()


# What users call a split.


@pytest.mark.parametrize(
  "test, validation, names",
  [
    (
      "val",
      0.0,
      {
        "val": "test",
        "validation": "test",
        "valid": "test",
        "test": "test",
        "train": "train",
        "training": "train",
        "holiday": "holiday",
      },
    ),
    ("val", 5.0, {"val": "test", "validation": "validation", "test": "test"}),
    ("test", 5.0, {"val": "validation", "validation": "validation", "test": "test"}),
    ("test", 0.0, {"val": "val"}),
    ("validation", 0.0, {"validation": "test", "val": "test"}),
    ("validation", 5.0, {"validation": "validation"}),  # the run's own name for them
    ("train[80%:]", 0.0, {"train[80%:]": "test", "train": "train", "train[:10]": "train[:10]"}),
  ],
)
def test_names_of_splits(test, validation, names, tmp_path):
  root = photos(tmp_path, train_cat=1, **{f"{test}_cat": 1})
  found = of("image_folder", root, test=test, validation=validation)
  assert {name: found.role(name) for name in names} == names


@pytest.mark.parametrize(
  "test, validation, names",
  [
    (
      "val",
      0.0,
      {"test": "./test", "val": "test", "train": "train", "valid": "test", "testing": "testing"},
    ),
    ("val", 5.0, {"validation": "validation", "test": "./test", "valid": "validation"}),
    ("test", 5.0, {"val": "./val", "validation": "validation", "test": "test"}),
    ("", 0.0, {"test": "./test", "val": "./val"}),
  ],
)
def test_a_folder_of_its_own_is_meant_by_its_name(test, validation, names, tmp_path):
  root = photos(tmp_path, train_cat=10, train_dog=10, val_cat=2, val_dog=1, test_cat=3, test_dog=4)
  found = of("image_folder", root, test=test, validation=validation, share=0.2)
  assert {name: found.named(name) for name in names} == names
  own = found.part(found.named("test"))
  assert files(own)[0] == b"test_cat 0" and len(own) == 7
  assert all(found.role(name) == name for name in names.values() if name != "testing")
  assert found.siblings == [name for name in ("test", "val") if name != test]


def test_a_folder_for_validation_that_is_not_the_test_set(tmp_path):
  root = photos(tmp_path, train_cat=9, test_cat=2, validation_cat=3)
  found = of("image_folder", root, test="test", validation=3.0)
  assert len(found.part(found.named("validation"))) == 3
  assert files(found.part(found.named("validation")))[0] == b"validation_cat 0"
  assert files(found.part("validation"))[0].startswith(b"train_cat")  # the run's own


def test_photos_without_classes_are_no_split(tmp_path):
  """A set of photos to be named by others has no labels: "test" stays the run's own test images."""
  root = photos(tmp_path, train_cat=2, val_cat=2, test=3)
  found = of("image_folder", root, test="val")
  assert found.named("test") == "test" and found.siblings == ["test"]


def test_a_folder_called_test_is_the_test_set_where_there_is_no_other(tmp_path):
  root = photos(tmp_path, train_cat=10, train_dog=10, test_cat=3, test_dog=2)
  found = of("image_folder", root, test="val", validation=0.2, share=0.2)
  assert found.name("test") == "test" and len(found.part("test")) == 5
  assert found.named("test") == "test" and found.siblings == []
  assert found.named("val") == "validation"  # no folder has the name
  assert of("image_folder", root, test="val").named("val") == "test"


def test_val_without_a_folder_is_what_was_held_out(tmp_path):
  root = photos(tmp_path, train_cat=10)
  found = of("image_folder", root, test="val", validation=0.2, share=0.2)
  assert found.role("val") == found.role("valid") == "validation"
  assert of("image_folder", root, test="val", share=0.2).role("val") == "test"


def test_a_validation_split_that_is_none():
  with pytest.raises(
    ValueError, match=r"^there is no validation split: config.data.validation is 0\.$"
  ):
    of("digits", "").role("validation")


def test_any_split_of_a_dataset(tmp_path, data_dir):
  assert len(of("digits", data_dir).part("test[:10]")) == 10
  root = photos(
    tmp_path, train_cat=2, train_dog=2, val_cat=1, val_dog=1, holiday_cat=3, holiday_dog=1
  )
  found = of("image_folder", root, test="val")
  assert len(found.part("holiday")) == 4
  with pytest.raises(
    ValueError, match=r"there is no folder .*/tset: .*; there is holiday, train, val\.$"
  ):
    found.part("tset")


# Opened once.


def data_config(data_dir, **changes):
  config = configs.base().data
  config.update(name="digits", dir=data_dir, **changes)
  return config


def test_what_is_open_is_not_opened_again(data_dir, monkeypatch):
  loads = []
  load = sources.load
  monkeypatch.setattr(sources, "load", lambda *args: loads.append(args[1]) or load(*args))
  first = splits.open_splits(data_config(data_dir))
  assert loads == []  # not before it is asked for
  train = first["train"]
  assert isinstance(train, Resident) and (train.split, train.size) == ("train", 1437)
  # Mean and std are none of the examples; a field of them makes others.
  assert splits.open_splits(data_config(data_dir, mean=(0.1,)), first)["train"] is train
  held_out = splits.open_splits(data_config(data_dir, validation=0.1), first)
  assert held_out["train"].size < 1437 and loads == ["train", "train"]
  for others in (first, held_out):  # whichever is passed on knows the rest
    assert splits.open_splits(data_config(data_dir, validation=0.1), others) is held_out
    assert splits.open_splits(data_config(data_dir), others)["train"] is train
  streamed = splits.open_splits(data_config(data_dir, image_size=8, resize=8), first)
  assert isinstance(streamed["train"], Streamed) and loads == ["train", "train"]
  assert splits.open_splits(data_config(data_dir))["train"] is not train


def test_a_dataset_that_is_not_there_is_a_sentence_of_the_config(data_dir):
  with pytest.raises(ConfigError, match="has no split 'tset': use one of train, test"):
    splits.open_splits(data_config(data_dir))["tset"]
