"""The results of a study on the disk, and those of several studies that are parts of one."""

import csv
import io
import pathlib
from typing import Any, NamedTuple

from apprentice_jax import config as configs
from apprentice_jax.config import references
from apprentice_jax.errors import ConfigError
from apprentice_jax.files import write_whole
from apprentice_jax.study import cells
from apprentice_jax.training import workdir
from apprentice_jax.training.workdir import workdir_config

FIELDS = (
  "cell precision point seed accuracy loss count teacher_accuracy agreement epochs steps seconds "
  "parameters bytes bops peak_bytes layers full_precision network workdir"
).split()
_INTEGERS = ("seed", "count", "steps", "parameters", "bytes", "bops", "peak_bytes", "layers")
_NUMBERS = ("accuracy", "loss", "teacher_accuracy", "agreement", "epochs", "seconds")


class Study(NamedTuple):
  """A study's workdir.

  Attributes:
    folder: where it is.
    config: its config.
    rows: of its finished cells: FIELDS, and what `located` adds.
  """

  folder: pathlib.Path
  config: Any
  rows: list[dict]


def write(path: pathlib.Path, rows: list[dict]):
  """Writes rows as CSV."""
  file = io.StringIO(newline="")
  writer = csv.DictWriter(file, FIELDS, extrasaction="ignore")
  writer.writeheader()
  writer.writerows(rows)
  # Another process may be reading it.
  write_whole(path, file.getvalue(), durable=True)


def load(folder) -> Study:
  """Reads a study, finished or not.

  Raises:
    ConfigError: it is none, none of its cells is finished, or a file of it is damaged.
  """
  folder = pathlib.Path(folder)
  config = study_config(folder)
  if not (folder / "results.csv").exists() or not (rows := read(folder, config)):
    raise ConfigError(f"{folder} has no results yet: no cell of the study is finished.")
  return Study(folder, config, located(rows, config, folder))


def read(folder, config) -> list[dict]:
  """The lines of a study's results.csv: FIELDS, numbers as such, "" where there is none.

  Raises:
    ConfigError: it is damaged or cannot be read.
  """
  path = pathlib.Path(folder) / "results.csv"
  try:
    with path.open(newline="") as file:
      return [_row(line, config) for line in csv.DictReader(file)]
  except OSError as error:
    raise ConfigError(f"cannot read {path}: {error.strerror}.") from None
  except (ValueError, TypeError):
    raise ConfigError(
      f"{path} is damaged: `apprentice study` with the study's config writes it anew."
    ) from None


def located(rows: list[dict], config, folder: pathlib.Path) -> list[dict]:
  """The rows of the study in a folder, with two more fields.

  "place" is the path of the cell's workdir. "changes" has the fields of the cell's config that
  differ from the study's.
  """
  by_key = {_key_of(cell): cell for cell in cells.cells(config)}
  result = []
  for row in rows:
    # A user's own network has a path of its own; a study's folder may have been moved.
    ours, cell = row["workdir"].startswith("cells/"), by_key.get(_key(row))
    place = folder / row["workdir"] if ours else pathlib.Path(row["workdir"])
    if ours and (place / "config.json").exists():
      own = workdir.read_config(place)
    else:
      # The cell is a user's own network, or its workdir was left behind.
      own = configs.flat(cells.cell_config(config, cell)) if cell else {}
    result.append({**row, "place": place, "changes": _changes(own, config)})
  return result


def earlier(folder: pathlib.Path, config) -> list[str]:
  """The finished cells in a study's folder that are not the study's: of earlier calls with other
  cells."""
  own = {cell.name for cell in cells.cells(config)}
  finished = {path.parent.name for path in pathlib.Path(folder).glob("cells/*/result.json")}
  return sorted(finished - own)


def missing(config, rows: list[dict]) -> list[str]:
  """The names of a study's cells that have no row."""
  there = set(map(_key, rows))
  return [cell.name for cell in cells.cells(config) if _key_of(cell) not in there]


def _key_of(cell: cells.Cell) -> tuple:
  """The `_key` of a cell's row."""
  return cell.kind, cell.precision, cell.variation.label, cell.seed


def _key(row: dict) -> tuple:
  return tuple(row[field] for field in ("cell", "precision", "point", "seed"))


def _changes(own: dict, config) -> dict:
  # A config that was read from JSON has lists in place of tuples.
  listed = lambda value: list(value) if isinstance(value, tuple) else value
  return {
    key: own[key]
    for key, value in configs.flat(config).items()
    if key in own
    and listed(own[key]) != listed(value)
    and key not in configs.paths("free")
    and key not in ("seed", "scheme", "precision")
  }


def study_config(folder: pathlib.Path):
  """The config of a study's workdir; raises ConfigError where there is none."""
  config = workdir_config(folder)
  if (folder / "metrics.jsonl").exists() or (folder / "checkpoints").exists():
    raise ConfigError(f"{folder} holds a training run, not a study.")
  return config


def _row(line: dict, config) -> dict:
  """A line of results.csv, its numbers as numbers; of earlier versions, too, which had fewer
  fields."""
  row = {field: line.get(field) or "" for field in FIELDS}
  for kind, fields in ((int, _INTEGERS), (float, _NUMBERS)):
    row.update({field: kind(row[field]) for field in fields if row[field] != ""})
  # Every version wrote these: a line without them was cut off.
  for field in ("cell", "precision", "seed", "accuracy", "count", "bytes", "workdir"):
    if row[field] == "":
      raise ValueError(field)
  row["network"] = row["network"] or references.network(
    config.teacher if row["cell"] == "teacher" else config.student
  )
  return row


def merged(studies: list[Study]) -> list[dict]:
  """The rows of all parts of a study.

  Raises:
    ConfigError: they are no parts of one: a cell is in two of them, or their configs differ in what
      parts share.
  """
  first, *others = studies
  for other in others:
    _check_same(first, other)
  # The same cell twice would count as two seeds.
  rows, owner = [], {}
  for study in studies:
    for row in study.rows:
      if (other := owner.setdefault(_key(row), study)) is not study:
        parts = (row["cell"], row["precision"], row["point"], f"seed {row['seed']}")
        raise ConfigError(
          f"the cell {' '.join(filter(None, parts))} is in {other.folder} and in {study.folder}: "
          "parts of a study have no cell in common; leave one of them out, or give it other seeds "
          "or cells."
        )
      rows.append(row if len(studies) == 1 else {**row, "workdir": str(row["place"])})
  return rows


def _check_same(one: Study, other: Study):
  there, here = configs.flat(one.config), configs.flat(other.config)
  differing = [
    f"config.{key} ({there[key]!r} and {here[key]!r})"
    for key in there
    if there[key] != here[key] and key not in configs.paths("merges")
  ]
  if differing:
    raise ConfigError(
      f"{one.folder} and {other.folder} are no parts of one study, they differ in "
      f"{', '.join(differing)}."
    )
