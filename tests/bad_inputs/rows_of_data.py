"""Datasets that are laid out otherwise, damaged, or not the ones that a run began with."""

import json
import os
import re
import shutil
import threading

from rows import DIGITS, FOLDER, STUDY, TRAIN, Row, copy, folder, photos_since

from apprentice_jax.data import digits

SHARE = (
  "set --config.data.test_split= --config.data.test_share=0.2 to test on a fifth of the "
  "training images"
)
HELD_TO = ", or choose another --workdir."


def flat(data):
  """The images to test on, outside folders of classes."""
  for photo in sorted((data / "val").glob("*/*")):
    photo.rename(data / "val" / f"{photo.parent.name}_{photo.name}")
  for name in "abc":
    (data / "val" / name).rmdir()


def tiny_imagenet(data):
  shutil.rmtree(data / "val")
  shutil.copytree(data / "train" / "a", data / "val" / "images")


def two_test_folders(data):
  (data / "val").rename(data / "Test")
  shutil.copytree(data / "Test", data / "TESTING")


def a_text(data):
  (data / "train" / "d").mkdir()
  (data / "train" / "d" / "a.txt").write_text("a")


def exchange(data):
  """A photo of one class and one of another change places, and keep their names."""
  one, other = data / "train" / "a" / "00.jpg", data / "train" / "b" / "00.jpg"
  pixels = one.read_bytes()
  one.write_bytes(other.read_bytes() + b"\0")
  other.write_bytes(pixels)


def pipe(place, made):
  """A named pipe; who opens it all the same gets nothing, rather than waiting for ever."""
  os.mkfifo(place / "pipe.jpg")
  threading.Thread(target=lambda: (place / "pipe.jpg").open("wb").close(), daemon=True).start()


def records(change):
  """The digits, their test records changed by change(file)."""

  def make(place, made):
    digits.prepare(place / "mine")
    change(*(place / "mine").glob("digits/*/digits-test*"))

  return make


def other_digits(run):
  """A study that has trained a teacher on a test set of another checksum."""
  (run / "cells" / "teacher-32A32W-seed0" / "checkpoints" / "5").mkdir(parents=True)
  before = json.loads((run / "data.json").read_text())
  before["test"]["checksum"] += 1
  (run / "data.json").write_text(json.dumps(before))


ROWS = [
  Row(
    "a folder too far up",
    FOLDER + "--config.data.dir={place}",
    "there is no folder {place}/train, but {place}/data has one: set "
    "--config.data.dir={place}/data.",
    folder(lambda data: None),
  ),
  Row(
    "classes without splits and without a share",
    FOLDER + "--config.data.dir={data}/train --config.data.test_share=0",
    "there is no folder {data}/train/train: images are expected in {data}/train/train/CLASS/; "
    "where a, b, c are the classes, --config.data.test_share=0.2 tests on a fifth of the "
    "images.",
    folder(lambda data: None),
  ),
  Row(
    "two test folders of other names",
    FOLDER,
    "there is no folder {data}/val: images are expected in {data}/val/CLASS/; there is "
    "TESTING, Test: set --config.data.test_split=TESTING (or --config.data.test_split=, to "
    "test on a share of the training images).",
    folder(two_test_folders),
  ),
  Row(
    "photos to test without classes",
    FOLDER,
    "{data}/val has no folders: images are expected in {data}/val/CLASS/; or " + SHARE + ".",
    folder(flat),
  ),
  Row(
    "a list of the test photos' classes",
    FOLDER,
    "the train and val images of image_folder have no class in common: a, b, c, images differ; "
    "sort the test images into folders of the same names, or "
    "" + SHARE + ".",
    folder(tiny_imagenet),
  ),
  Row(
    "a slice of a folder",
    FOLDER + "--config.data.train_split=train[:80%]",
    "there is no folder {data}/train[:80%]: images are expected in {data}/train[:80%]/CLASS/; "
    "there is train, val; slices are for tfds datasets (of a folder, config.data.validation "
    "and test_share are shares): name the folder with "
    "--config.data.train_split.",
    folder(lambda data: None),
  ),
  Row(
    "no test split at all",
    TRAIN + "--config.data.test_split=",
    "config.data.test_split is empty: name a split, or a slice such as train[80%:], or set "
    "--config.data.test_share=0.2 to test on a fifth of the training images.",
  ),
  Row(
    "photos that are no pictures",
    FOLDER,
    "the class {data}/train/d has no images (1 file is not read: 1 .txt): add some, or remove "
    "the folder.",
    folder(a_text),
  ),
  Row(
    "a class whose name is not UTF-8",
    FOLDER,
    "the class b'caf\\xe9' in {data}/train has a name that is not UTF-8: rename the folder.",
    folder(lambda data: os.mkdir(os.fsencode(data / "train") + b"/caf\xe9")),
  ),
  Row(
    "a class in other letters to test",
    FOLDER,
    "the train and val images of image_folder are not of the same classes: 'c' and 'C' differ "
    "only in letter case.",
    folder(lambda data: (data / "val" / "c").rename(data / "val" / "C")),
  ),
  Row(
    "a class with a blank more to test",
    FOLDER,
    "the train and val images of image_folder are not of the same classes: 'c' and 'c ' differ "
    "only in blanks.",
    folder(lambda data: (data / "val" / "c").rename(data / "val" / "c ")),
  ),
  Row(
    "a class of another normal form to test",
    FOLDER,
    "the train and val images of image_folder are not of the same classes: '\xe9' (\\xe9) and "
    "'e\u0301' (e\\u0301) differ only in Unicode normal form.",
    folder(
      lambda data: [
        (data / split / "c").rename(data / split / name)
        for split, name in (("train", "\xe9"), ("val", "e\u0301"))
      ]
    ),
  ),
  # Shares and slices.
  Row(
    "half an example held out",
    TRAIN + "--config.data.validation=2.5",
    "config.data.validation is 2.5: below 1 it is a share of the training images, from 1 on a "
    "whole number of them.",
  ),
  Row(
    "a share of next to nothing",
    TRAIN + "--config.data.validation=0.0001",
    "config.data.validation is 0.0001, but digits has only 1437 training examples.",
  ),
  Row(
    "all to test",
    FOLDER + "--config.data.test_share=1.0",
    "config.data.test_share is 1.0: it is a share of the images, below 1.",
    folder(lambda data: None),
  ),
  Row(
    "slices that overlap",
    TRAIN + "--config.data.train_split=train[:80%] --config.data.test_split=train[70%:]",
    "config.data.train_split 'train[:80%]' and config.data.test_split 'train[70%:]' have "
    "images in common: take slices apart, such as train[:80%] and train[80%:], or "
    "" + SHARE + ".",
  ),
  Row(
    "a folder to train and to test",
    FOLDER + "--config.data.test_split=train",
    "config.data.train_split 'train' and config.data.test_split 'train' have images in common: "
    "" + SHARE + ".",
    folder(lambda data: None),
  ),
  Row(
    "an unclosed slice",
    TRAIN + "--config.data.train_split=train[:80%",
    re.compile(r"split 'train\[:80%' of digits/1\.0\.0 is no slice: Error parsing split .*\."),
  ),
  Row(
    "a slice longer than its split",
    TRAIN + "--config.data.train_split=train[:2000]",
    "split 'train[:2000]' of digits/1.0.0 is no slice: Requested slice [:2000] incompatible "
    "with 1437 examples.",
  ),
  Row(
    "a slice of nothing",
    TRAIN + "--config.data.train_split=train[:0%]",
    "split 'train[:0%]' of digits/1.0.0 has no examples: use another.",
  ),
  Row(
    "score a folder that is not there",
    "eval --workdir={of_photos} --data_dir={data} --split=tset",
    "there is no folder {data}/tset: images are expected in {data}/tset/CLASS/; there is "
    "train, val.",
    folder(lambda data: None),
  ),
  Row(
    "name a pipe's classes",
    "predict --workdir={of_photos} {place}/pipe.jpg",
    "{place}/pipe.jpg is a pipe or a device: give a file with its content.",
    pipe,
  ),
  # Record files.
  Row(
    "missing records",
    TRAIN + "--data_dir={place}/mine",
    "1 of the 1 record files of digits/1.0.0 test are missing, such as "
    "{place}/mine/digits/1.0.0/digits-test.array_record-00000-of-00001: bring them back, or "
    "prepare the dataset again.",
    records(lambda file: file.unlink()),
  ),
  Row(
    "records that were cut off",
    f"study {DIGITS} --workdir={{run}} --data_dir={{place}}/mine",
    re.compile(
      r"the record file .*/mine/digits/1\.0\.0/digits-test.* is cut off or damaged "
      r"\(.*\): bring it back, or prepare the dataset again\."
    ),
    records(lambda file: file.write_bytes(file.read_bytes()[:-70_000])),
  ),
  # Images that are not those that a run began with; of fewer tell the rows of workdirs.
  Row(
    "another photo for one of the start",
    FOLDER,
    "{run} cannot continue: the names or classes of its training images are not those that it "
    "began with: bring them back" + HELD_TO,
    photos_since(lambda data: (data / "train/a/00.jpg").rename(data / "train/a/z.jpg")),
  ),
  Row(
    "photos of two classes exchanged since the start",
    FOLDER,
    "{run} cannot continue: files of its training images are not those that it began with "
    "(their sizes differ): bring them back" + HELD_TO,
    photos_since(exchange),
  ),
  Row(
    "a photo to test fewer than at the start",
    FOLDER,
    "{run} cannot continue: it began with 6 test images, and there are 5 now: bring them "
    "back" + HELD_TO,
    photos_since(lambda data: (data / "val" / "a" / "00.jpg").unlink()),
  ),
  Row(
    "no folder to test since the start",
    FOLDER,
    "{run} cannot continue: the folder of its test images is gone: bring it back" + HELD_TO,
    photos_since(lambda data: shutil.rmtree(data / "val")),
  ),
  Row(
    "a study's other test images",
    STUDY,
    "{run} cannot continue: its test images or their labels are not those that it began with "
    "(their checksums differ): bring them back" + HELD_TO,
    copy("study", other_digits),
  ),
  Row(
    "a torn data.json",
    FOLDER,
    "{run}/data.json is damaged: bring it back from a copy, or delete it to have it written anew.",
    lambda place, made: (
      photos_since(lambda data: None)(place, made),
      (place / "run" / "data.json").write_text('{"train": '),
    ),
  ),
]
