"""Rows: what is wrong is in the data, or in the datasets that `prepare` makes."""

import re
import shutil

from rows import (
  FOLDER,
  TRAIN,
  Row,
  file,
  folder,
  overwrite,
  permit,
)

ROWS = [
  # Data.
  Row(
    "unknown dataset",
    TRAIN + "--config.data.name=digit",
    "unknown dataset 'digit' (neither in {place}/tfds nor known to tfds): did you mean 'digits'?",
  ),
  Row(
    "a folder's name misspelt",
    FOLDER + "--config.data.name=imagefolder",
    "unknown dataset 'imagefolder' (neither in {data} nor known to tfds): did you mean "
    "'image_folder'?",
    folder(lambda data: None),
  ),
  Row(
    "a dataset that is not prepared",
    TRAIN + "--config.data.name=cifar10",
    "dataset 'cifar10' is not prepared in {place}/tfds: prepare it with `apprentice prepare "
    "--dataset=cifar10`, which needs the [prepare] extra.",
  ),
  Row(
    "no such folder of datasets",
    TRAIN + "--config.data.dir={place}/none",
    "data_dir {place}/none does not exist: give the folder that holds the prepared datasets.",
  ),
  Row(
    "no such training split",
    TRAIN + "--config.data.train_split=trian",
    "dataset digits/1.0.0 has no split 'trian': use one of train, test, or a slice such as "
    "train[80%:].",
  ),
  Row(
    "no such test split",
    TRAIN + "--config.data.test_split=validation",
    "dataset digits/1.0.0 has no split 'validation': use one of train, test, or a slice such as "
    "train[80%:].",
  ),
  Row(
    "photos nowhere",
    FOLDER,
    "there is no folder {data}: images are expected in {data}/train/CLASS/.",
  ),
  Row(
    "no folder given",
    FOLDER + "--config.data.dir=",
    "data.dir is empty: give the folder that holds train/CLASS/*.jpg.",
  ),
  Row(
    "no training photos",
    FOLDER,
    "there is no folder {data}/train: images are expected in {data}/train/CLASS/; there is val: "
    "name the folder "
    "with --config.data.train_split.",
    folder(lambda data: shutil.rmtree(data / "train")),
  ),
  Row(
    "no validation photos",
    FOLDER + "--config.data.test_share=0",
    "there is no folder {data}/val: images are expected in {data}/val/CLASS/; set "
    "--config.data.test_share=0.2 "
    "to test on a fifth of the training images.",
    folder(lambda data: shutil.rmtree(data / "val")),
  ),
  Row(
    "photos without classes",
    FOLDER,
    "{data}/train has no folders: images are expected in {data}/train/CLASS/.",
    folder(lambda data: [shutil.rmtree(c) for c in (data / "train").iterdir()]),
  ),
  Row(
    "an empty class",
    FOLDER,
    "the class {data}/train/d has no images: add some, or remove the folder.",
    folder(lambda data: (data / "train" / "d").mkdir()),
  ),
  Row(
    "one class",
    FOLDER,
    "image_folder has one class, 'a': there is nothing to tell apart.",
    folder(lambda data: [shutil.rmtree(data / s / c) for s in ("train", "val") for c in "bc"]),
  ),
  Row(
    "other classes to test",
    FOLDER,
    "the train and val images of image_folder are not of the same classes: c, d differ.",
    folder(lambda data: (data / "val" / "c").rename(data / "val" / "d")),
  ),
  Row(
    "a class fewer to test",
    FOLDER,
    "the train and val images of image_folder are not of the same classes: c differ.",
    folder(lambda data: shutil.rmtree(data / "val" / "c")),
  ),
  Row(
    "no photo that can be read",
    FOLDER,
    "none of the first 10 images can be read: "
    "{data}/train/a/00.jpg cannot be read (cannot identify image file).",
    folder(overwrite("train/*/*.jpg", b"hello")),
  ),
  Row(
    "no photo to test that can be read",
    FOLDER,
    "none of the first 6 images can be read: "
    "{data}/val/a/00.jpg cannot be read (cannot identify image file).",
    folder(overwrite("val/*/*.jpg", b"")),
  ),
  Row(
    "a class that may not be read",
    FOLDER,
    "cannot read {data}/train/a: Permission denied.",
    folder(permit("train/a", 0)),
  ),
  # Preparing.
  Row("prepare nothing", "prepare", "this command needs --dataset=...; see apprentice --help."),
  Row(
    "prepare an unknown dataset",
    "prepare --dataset=cifr10 --data_dir={place}/tfds",
    re.compile(r"tfds has no dataset 'cifr10': did you mean 'cifar10'.*\?"),
  ),
  Row(
    "prepare without TensorFlow",
    "prepare --dataset=cifar10 --data_dir={place}/tfds",
    re.compile(r".*'cifar10'.* TensorFlow.*: pip install 'apprentice-jax\[prepare\]'\."),
    absent="tensorflow",
  ),
  Row(
    "prepare below a file",
    "prepare --dataset=digits --data_dir={place}/file",
    re.compile(
      r"'digits' cannot be prepared in .*/file \(.*\): give a data_dir that can be "
      r"written, or none\."
    ),
    file("file"),
  ),
]
