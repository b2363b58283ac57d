"""The report of one run: report.md, report.html and pictures; `study.report` writes a study's."""

import json
import math
import pathlib
import statistics
from collections.abc import Callable

import numpy as np

from apprentice_jax import document, plots
from apprentice_jax.document import Heading, Picture, Table, Text
from apprentice_jax.files import read_or_none
from apprentice_jax.training import predictions
from apprentice_jax.training.origin import origin
from apprentice_jax.training.records import read_records

LARGEST_TABLE = 12  # classes, of which a confusion matrix is a table; beyond it is a picture
LARGEST_PICTURE = 100
FEW = 1000  # scored images, below which an accuracy wants its interval
LISTED = 30  # classes or pairs of classes, at most
MISTAKES = 12  # pictures
MISTAKES_FILE = "mistakes.png"


def write_run(workdir, images: Callable[[np.ndarray], np.ndarray] | None = None) -> str:
  """Writes report.md, report.html and pictures of one finished training run.

  Args:
    workdir: of the run.
    images: gives the images at these sorted places of the scored split, uint8 (count, height,
      width, channels), for the pictures of mistakes; None: they stay as they are.

  Returns:
    The report's first part as Markdown: the results.
  """
  workdir = pathlib.Path(workdir)
  config = json.loads((workdir / "config.json").read_text())
  result = json.loads((workdir / "result.json").read_text())
  records = read_records(workdir)
  network, scheme = f"{config['student.name']} {config['precision']}", config["scheme"]
  results = [[_label(key), _value(key, value)] for key, value in result.items()]
  head = [
    Heading(f"{network}, scheme {scheme}, on {config['data.name']}", 1),
    Table("", ["result", "value"], results),
    *_caution(result, config["eval.final"], read_or_none(workdir / "classes.json", json.loads)),
  ]
  blocks = [*head]
  if plots.run_curves(records, workdir / "curves.png"):
    blocks.append(Picture("curves.png", "Learning curves."))
    if scheme in ("A", "B", "C"):
      text = (
        f"The training loss is the weighted sum of scheme {scheme}'s terms at a temperature of "
        f"{config['loss.temperature']:g}. It cannot reach 0, since the teacher is not certain."
      )
      blocks.append(Text(text))
  blocks += _answers(workdir, config["eval.final"], images)
  blocks += _health(records)
  blocks += origin(workdir)
  (workdir / "report.md").write_text(document.markdown(blocks), "utf-8")
  (workdir / "report.html").write_text(document.page(blocks, workdir), "utf-8")
  return document.markdown(head)


def _label(key: str) -> str:
  """What a figure of result.json is called."""
  words = {
    "agreement": "agreement with the teacher",
    "count": "images",
    "seconds": "seconds, without its teacher's training",
  }
  return " ".join(words.get(word, word) for word in key.split("_"))


def _value(key: str, value) -> str:
  if key.endswith(("accuracy", "agreement")):
    return f"{value:.2%}"
  return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"


def _caution(result: dict, split: str, class_names) -> list[Text]:
  """How much an accuracy of few images says."""
  count = result[f"{split}_count"]
  if count >= FEW:
    return []
  low, high = wilson(round(result[f"{split}_accuracy"] * count), count)
  text = (
    f"{count:,} images are few: on many the accuracy is likely between {low:.0%} and {high:.0%} "
    "(Wilson's 95% interval)."
  )
  if class_names:
    text += f" Guessing among {len(class_names):,} classes gives {1 / len(class_names):.1%}."
  return [Text(text)]


def wilson(right: int, count: int) -> tuple[float, float]:
  """The 95% interval of a share that was seen as ``right`` of ``count`` (E. B. Wilson, 1927)."""
  share, spread = right / count, statistics.NormalDist().inv_cdf(0.975) ** 2 / count
  centre = share + spread / 2
  half = math.sqrt(spread * (share * (1 - share) + spread / 4))
  return max(centre - half, 0) / (1 + spread), min((centre + half) / (1 + spread), 1.0)


def _answers(workdir: pathlib.Path, split: str, images) -> list:
  """Accuracy by class, the confusion matrix, and the most confident mistakes."""
  # Runs of earlier versions have left neither.
  class_names = read_or_none(workdir / "classes.json", json.loads)
  answers = predictions.read(workdir, class_names or ())
  if answers is None:
    return []
  matrix = predictions.confusion(answers)
  return [
    *_by_class(matrix, class_names, split),
    *_confusion(workdir, matrix, class_names, split),
    *_mistakes(workdir, answers, split, images),
  ]


def _by_class(matrix: np.ndarray, class_names, split: str) -> list:
  """A table of the classes that have images; of many classes, the worst."""
  count, right = matrix.sum(1), matrix.diagonal()
  shown = np.flatnonzero(count)
  caption = f"The accuracy of each class on the {split} split."
  if len(shown) > LISTED:
    shown = sorted(shown, key=lambda i: right[i] / count[i])[:LISTED]
    total = len(class_names)
    caption = f"The {LISTED} classes of {total} with the lowest accuracy on the {split} split."
  # Without the diagonal, the largest number of a row is the class most often taken for it.
  others, rows = matrix - np.diag(right), []
  for i in shown:
    worst = int(others[i].argmax())
    confused = f"{class_names[worst]} ({others[i, worst]:,})" if others[i].any() else ""
    accuracy = f"{100 * right[i] / count[i]:.2f}"
    rows.append([class_names[i], f"{count[i]:,}", f"{right[i]:,}", accuracy, confused])
  columns = ["class", "images", "right", "accuracy %", "most often taken for"]
  return [Heading("Accuracy by class"), Table(caption, columns, rows)]


def _confusion(workdir: pathlib.Path, matrix: np.ndarray, class_names, split: str) -> list:
  """The confusion matrix, as a table or a picture; of very many classes, the pairs."""
  caption = (
    f"The confusion matrix of the {split} split: images of a row's true class that the network "
    "takes for a column's class."
  )
  # A reader takes in a dozen columns; a picture shows a hundred, and of more only pairs are left.
  heading = Heading("Which class is taken for which")
  if len(class_names) <= LARGEST_TABLE:
    rows = [[name, *(f"{n:,}" if n else "" for n in row)] for name, row in zip(class_names, matrix)]
    return [heading, Table(caption, ["true class", *class_names], rows)]
  if len(class_names) <= LARGEST_PICTURE:
    numbers = plots.numbers(class_names)
    labels = [numbers.get(i, name) for i, name in enumerate(class_names)]
    plots.confusion(matrix, labels, workdir / "confusion.png")
    blocks = [heading, Picture("confusion.png", caption)]
    if numbers:
      rows = [[number, class_names[i]] for i, number in numbers.items()]
      caption = "The picture has numbers for the classes whose names it cannot show."
      blocks.append(Table(caption, ["number", "class"], rows))
    return blocks
  others = matrix - np.diag(matrix.diagonal())
  worst = np.argsort(-others, axis=None, kind="stable")[:LISTED]
  pairs = [divmod(int(i), len(class_names)) for i in worst if others.flat[i]]
  rows = [[class_names[i], class_names[j], f"{others[i, j]:,}"] for i, j in pairs]
  caption = f"The most frequent mistakes on the {split} split."
  return [heading, Table(caption, ["true class", "prediction", "images"], rows)]


def _mistakes(workdir: pathlib.Path, answers: predictions.Answers, split: str, images) -> list:
  """The most confident mistakes, as small pictures and as a table."""
  places = predictions.mistakes(answers, MISTAKES)
  heading = Heading("The most confident mistakes")
  if not len(places):
    return [heading, Text(f"The network classifies every image of the {split} split correctly.")]
  names, numbers = answers.class_names, plots.numbers(answers.class_names)
  wrong = [(answers.label[i], answers.predicted[i], answers.confidence[i]) for i in places]
  path = workdir / MISTAKES_FILE
  if images is not None:
    index = answers.index[places]
    # `images` takes sorted places: files are read once, from front to back.
    order = np.argsort(index)
    pixels = dict(zip(index[order].tolist(), images(index[order])))
    label = lambda place: numbers.get(place, names[place])
    told = [(label(true), label(predicted), confidence) for true, predicted, confidence in wrong]
    plots.mistakes([pixels[i] for i in index.tolist()], told, path)
  picture = [Picture(path.name, "The images, in the order of the table.")] if path.exists() else []
  # Behind a name stands its number in the picture.
  cell = lambda place: names[place] + (f" ({numbers[place]})" if place in numbers else "")
  rows = [
    [answers.image[i], cell(true), cell(predicted), f"{confidence:.1%}"]
    for i, (true, predicted, confidence) in zip(places, wrong)
  ]
  caption = f"The wrong predictions on the {split} split with the highest confidence (softmax)."
  columns = ["image", "true class", "prediction", "confidence"]
  return [heading, *picture, Table(caption, columns, rows)]


def _health(records: list[dict]) -> list:
  """The health of every layer in the last steps: see `models.health`.

  A run may end at a learning rate of 0, with which weights stay as they are. Flips are of the last
  record before these steps.
  """
  training = [r for r in records if "loss" in r]
  if not training:
    return []
  last = training[-1]
  learning = ([r for r in training if r.get("learning_rate", 1)] or training)[-1]
  record = {"zeros": last, "flips": learning, "saturation": last}
  # The layers in the order in which their first number comes.
  keys = [key.partition("/") for kind in record for key in record[kind] if key.startswith(kind)]
  names = list(dict.fromkeys(name for _, _, name in keys if name))
  if not names:
    return []
  percent = lambda v: "" if v is None else f"{100 * v:.3g}%"
  cells = lambda name: [percent(record[kind].get(f"{kind}/{name}")) for kind in record]
  at = f"step {last['step']}"
  if learning is not last:
    at += f" (flips: step {learning['step']}, the last record with a learning rate above 0)"
  caption = (
    f"Health in the steps before {at}. Zeros are weights and activations that are zero. "
    "Flips are weights whose level changed in a step. "
    "Saturated activations are at the end of their range."
  )
  rows = [[name, *cells(name)] for name in names]
  return [Heading("Health of the layers"), Table(caption, ["layer", *record], rows)]
