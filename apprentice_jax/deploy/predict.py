"""Answers of a network about image files: finds the files, prepares their pixels, names classes."""

import collections
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from apprentice_jax.data import files
from apprentice_jax.data import images as pictures
from apprentice_jax.data.channels import grey
from apprentice_jax.data.crops import Crops, evaluation_image
from apprentice_jax.deploy import preprocessing
from apprentice_jax.deploy.predictor import Predictor
from apprentice_jax.errors import ConfigError

BATCH = 64  # images that are predicted at a time
CHANNELS = {1: "grey", 3: "RGB"}


class Answer(NamedTuple):
  """What a network sees on one image.

  Attributes:
    path: of the file.
    classes: (name, probability) of the likeliest ones, the most probable first.
    trouble: one sentence where there is no answer, else "".
  """

  path: str
  classes: list[tuple[str, float]]
  trouble: str = ""


class Files(NamedTuple):
  """The files of a command line.

  Attributes:
    paths: of images, each folder's in alphabetical order.
    others: (path, why) of files in folders that are no images.
  """

  paths: list[str]
  others: list[tuple[str, str]]


def find(paths: Sequence[str]) -> Files:
  """Looks for images.

  Args:
    paths: of files, which are taken whatever their names; and of folders, whose images are taken,
      and those of the folders in them; see `files.below`.

  Raises:
    ConfigError: a folder cannot be read, or has no image.
  """
  result = Files([], [])
  for path in map(os.fspath, paths):
    # Whoever names a file means it, whatever it is called.
    if not os.path.isdir(path):
      result.paths.append(path)
      continue
    try:
      whys = sorted(files.below(path))
    except ValueError as error:
      raise ConfigError(str(error)) from None
    images = [file for file, why in whys if not why]
    others = [(file, why) for file, why in whys if why]
    if not images:
      clauses = [f"there is no image in the folder {path}", *not_read(others)]
      raise ConfigError(": ".join(clauses) + ".")
    result.paths.extend(images)
    result.others.extend(others)
  return result


def not_read(others: list[tuple[str, str]]) -> list[str]:
  """A clause about the files that `find` passed over, if any: see `files.told`."""
  clause = files.told(collections.Counter(why for _, why in others), others)
  return [printable(clause)] if clause else []


def as_text(answer: Answer) -> str:
  """One line for people."""
  return f"{answer.path}: " + ", ".join(f"{name} {odds:.1%}" for name, odds in answer.classes)


def as_json(answer: Answer) -> str:
  """One line of JSON: "path", and "error" or "classes".

  Each class has a "name" and a "probability" of 6 decimals.
  """
  if answer.trouble:
    return json.dumps({"path": answer.path, "error": answer.trouble}, ensure_ascii=False)
  classes = [{"name": name, "probability": round(odds, 6)} for name, odds in answer.classes]
  return json.dumps({"path": answer.path, "classes": classes}, ensure_ascii=False)


def printable(text: str) -> str:
  """The text, with a mark for each byte of a file's name that is no UTF-8."""
  return text.encode(errors="surrogateescape").decode(errors="replace")


def predict(predictor: Predictor, paths: Sequence, top: int = 5) -> Iterator[Answer]:
  """Answers for image files, in their order; a file without an answer does not end the others'.

  Args:
    predictor: from `registry.load`.
    paths: of files in any common image format, prepared as evaluation prepares images.
    top: how many classes to name.

  Raises:
    ConfigError: the network takes no such images.
  """
  check(predictor)
  for begin in range(0, len(paths), BATCH):
    some = paths[begin : begin + BATCH]
    # The last batch is filled up: another number of images is another program to compile.
    images = np.zeros((min(BATCH, len(paths)), *predictor.image_shape), np.uint8)
    troubles = [_prepare(path, predictor, out) for path, out in zip(some, images)]
    logits = predictor.logits(images)[: len(some)].astype(np.float64)
    for path, trouble, row in zip(some, troubles, softmax(logits, -1)):
      best = [] if trouble else np.argsort(-row, kind="stable")[:top]
      yield Answer(str(path), [(predictor.class_names[i], float(row[i])) for i in best], trouble)


def check(predictor: Predictor):
  """Raises ConfigError for a network whose images are neither grey nor RGB."""
  channels = predictor.image_shape[-1]
  if channels not in CHANNELS:
    raise ConfigError(
      f"this network takes images of {channels} channels, and pictures have 1 (grey) or 3 (RGB): "
      "call it on arrays, see `apprentice_jax.load`."
    )


def _prepare(path, predictor: Predictor, out: np.ndarray) -> str:
  """Writes an image's pixels to ``out``; returns what is wrong with it."""
  try:
    out[...] = prepared(path, predictor)
  except (ConfigError, pictures.UnreadableImage) as error:
    return str(error)
  return ""


def prepared(path, predictor: Predictor) -> np.ndarray:
  """An image file as the uint8 (height, width, channels) that a network takes; see `preprocessing`.

  Raises:
    UnreadableImage: the file is no image; the message names it.
    ConfigError: the file cannot be read, or the image does not fit.
  """
  height, width, channels = predictor.image_shape
  # A pipe would wait for its writer.
  if not files.regular(path):
    raise ConfigError(f"{path} is a pipe or a device: give a file with its content.")
  try:
    encoded = pathlib.Path(path).read_bytes()
    picture = pictures.inspect(encoded)
    # An image of the network's own size is one of its dataset, which was not cropped either.
    if not predictor.resize and (picture.height, picture.width) == (height, width):
      pixels = pictures.pixels(picture)
    elif height == width:
      pixels = np.empty((height, width, 3), np.uint8)
      side = preprocessing.short_side(predictor.image_shape, predictor.resize)
      evaluation_image(encoded, Crops(height, side), pixels)
    else:
      raise ConfigError(
        f"{path} has {picture.width}x{picture.height} pixels: this network takes {width}x{height}."
      )
  except pictures.UnreadableImage as error:
    raise pictures.UnreadableImage(f"{path} is no image that can be read ({error}).") from None
  except OSError as error:
    raise ConfigError(f"cannot read {path}: {error.strerror}.") from None
  return grey(pixels) if channels == 1 else pixels
