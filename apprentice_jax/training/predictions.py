"""A finished run's answers to the images that it was scored on: ``predictions.csv`` in its
workdir."""

import csv
import pathlib
import types
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from apprentice_jax.distill.step import Predicted
from apprentice_jax.files import write_whole

FILE = "predictions.csv"
FIELDS = ("index", "image", "class", "predicted", "confidence")


class Answers(NamedTuple):
  """The answers that `read` returns, each a list or array of one entry an image.

  Attributes:
    index: int (images,), the image's place in its split.
    image: its file, or its number.
    label, predicted: int (images,), places in ``class_names``.
    confidence: float (images,), the softmax of the predicted class.
    class_names: in the order of the outputs.
  """

  index: np.ndarray
  image: list[str]
  label: np.ndarray
  predicted: np.ndarray
  confidence: np.ndarray
  class_names: tuple[str, ...]


def write(
  workdir: pathlib.Path, answers: Predicted, class_names: Sequence[str], name: Callable[[int], str]
):
  """Writes one line an image, in the order of the split.

  Args:
    workdir: of the run.
    answers: NumPy arrays, an image's place its number; places of label -1 are left out.
    class_names: in the order of the outputs.
    name: what to call an image, by its number.
  """
  lines = []
  # With this end of a line, the writer quotes a "\r" within a name, too. The end's own is cut off.
  file = types.SimpleNamespace(write=lambda line: lines.append(line.removesuffix("\r\n") + "\n"))
  writer = csv.writer(file, lineterminator="\r\n")
  writer.writerow(FIELDS)
  for i in np.flatnonzero(answers.label >= 0):
    # A file's name need not be text in any encoding.
    image = name(i).encode(errors="backslashreplace").decode()
    label, predicted = class_names[answers.label[i]], class_names[answers.predicted[i]]
    writer.writerow([i, image, label, predicted, f"{answers.confidence[i]:.6f}"])
  write_whole(workdir / FILE, "".join(lines), durable=True)


def read(workdir: pathlib.Path, class_names: Sequence[str]) -> Answers | None:
  """The answers of a workdir's run; None where it has left none, or the file is damaged."""
  place = {name: i for i, name in enumerate(class_names)}
  try:
    # Python's own ends of lines would split a name with a "\r" in it.
    with (workdir / FILE).open(newline="") as file:
      rows = list(csv.DictReader(file))
    answers = Answers(
      np.array([int(row["index"]) for row in rows]),
      [row["image"] for row in rows],
      np.array([place[row["class"]] for row in rows]),
      np.array([place[row["predicted"]] for row in rows]),
      np.array([float(row["confidence"]) for row in rows]),
      tuple(class_names),
    )
  except (OSError, ValueError, KeyError, TypeError):
    return None
  return answers if rows else None


def confusion(answers: Answers) -> np.ndarray:
  """How often each class was taken for each: int (classes, classes), a row a true class."""
  classes = len(answers.class_names)
  # A pair of classes as one number: counting numbers takes no loop.
  pairs = answers.label * classes + answers.predicted
  return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def mistakes(answers: Answers, most: int) -> np.ndarray:
  """The places in ``answers`` of the wrong predictions, the most confident first."""
  wrong = np.flatnonzero(answers.label != answers.predicted)
  return wrong[np.argsort(-answers.confidence[wrong], kind="stable")][:most]
