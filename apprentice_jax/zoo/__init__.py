"""Trained networks that come with the package: a packed file each, and a card beside it.

A card is a JSON file with the fields of `Card`. ``python results/zoo.py`` makes both files from a
finished run, so that no figure on a card is typed by hand.
"""

import json
import pathlib
import statistics
from typing import NamedTuple

from apprentice_jax import document
from apprentice_jax.errors import ConfigError, nearest

FOLDER = pathlib.Path(__file__).parent


class Card(NamedTuple):
  """What is known about a network.

  Attributes:
    name: of the network, and of its two files.
    architecture, precision, image_shape, classes, parameters: of the network.
    bytes, sha256: of the packed file.
    macs: multiply-accumulates for one image by precision, such as "8A,2W".
    data: the config's fields that say which images `eval` scores.
    source: where the images come from, and their licence.
    score: of the packed file on the test set: "accuracy" (0 to 1), "loss", "count".
    runs: trainings that differ in the seed alone: "seed", "accuracy" (0 to 1), "folder" of results.
    training: of the packed file: "seed" and why it ("chosen"), "scheme", "epochs", "teacher" and
      its accuracy (0 to 1) with "teacher_source", "commit", "command", "file": the packed file that
      was copied, whose classes may be numbers.
  """

  name: str
  architecture: str
  precision: str
  image_shape: list[int]
  classes: int
  parameters: int
  bytes: int
  sha256: str
  macs: dict[str, int]
  data: dict
  source: str
  score: dict
  runs: list[dict]
  training: dict


def names() -> list[str]:
  """The names of all networks, in alphabetical order."""
  return sorted(path.stem for path in FOLDER.glob("*.json"))


def path(name: str) -> pathlib.Path:
  """The packed file of a network."""
  return FOLDER / f"{name}.packed"


def card(name: str) -> Card:
  """The card of a network.

  Raises:
    ConfigError: there is no network of this name.
  """
  if name not in names():
    raise ConfigError(f"there is no network {name!r}: {nearest(name, names())}")
  return Card(**json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))


def table(cards: list[Card]) -> str:
  """The networks as a Markdown table."""
  columns = ("name", "network", "data", "accuracy", "bytes", "multiply-adds", "seeds' mean ± sd")
  return document.table(columns, [_row(card) for card in cards])


def _row(card: Card) -> list[str]:
  return [
    card.name,
    f"{card.architecture} {card.precision}",
    card.data["data.name"],
    f"{card.score['accuracy']:.2%}",
    f"{card.bytes:,}",
    f"{sum(card.macs.values()):,}",
    _spread(card),
  ]


def _spread(card: Card) -> str:
  """Mean and standard deviation over the seeds, in percent; of one seed, its accuracy."""
  accuracies = [100 * run["accuracy"] for run in card.runs]
  if len(accuracies) == 1:
    return f"{accuracies[0]:.2f} (one seed)"
  return f"{statistics.mean(accuracies):.2f} ± {statistics.stdev(accuracies):.2f}"


def text(card: Card) -> str:
  """The card for people."""
  training, runs = card.training, card.runs
  shape = "x".join(map(str, card.image_shape))
  seeds = ", ".join(f"{run['accuracy']:.2%} (seed {run['seed']})" for run in runs)
  teacher = "no teacher"
  if training["teacher"]:
    accuracy, source = training["teacher_accuracy"], training["teacher_source"]
    teacher = f"teacher {training['teacher']} of {accuracy:.2%}" + (source and f", {source}")
  rows = {
    "network": f"{card.architecture} {card.precision}: images of {shape}, {card.classes} classes",
    "accuracy": f"{card.score['accuracy']:.2%} of the {card.score['count']:,} test images of "
    f"{card.data['data.name']}, loss {card.score['loss']:.4f}: this file, from seed "
    f"{training['seed']}",
    "as trained": seeds + (f": {_spread(card)}" if len(runs) > 1 else ""),
    "the seed": training["chosen"],
    "file": f"{card.bytes:,} bytes, SHA-256 {card.sha256}",
    "parameters": f"{card.parameters:,}",
    "multiply-adds": ", ".join(f"{count:,} at {kind}" for kind, count in card.macs.items()),
    "training": f"scheme {training['scheme']}, {training['epochs']:g} epochs, {teacher}",
    "command": training["command"],
    "commit": training["commit"],
    "results": ", ".join(run["folder"] for run in runs),
    "data": card.source,
    "score it": f"apprentice eval --model={card.name} --data_dir=DIR",
  }
  width = max(map(len, rows)) + 2
  return "\n".join([card.name, *(f"  {key:{width}}{value}" for key, value in rows.items())])
