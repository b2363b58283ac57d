"""How far a study is: a table of its cells, from what lies in its workdir."""

import pathlib
import statistics
import time
from collections.abc import Collection
from typing import NamedTuple

from apprentice_jax.study import cells, results
from apprentice_jax.study.cells import Cell
from apprentice_jax.training import recipes
from apprentice_jax.training.records import read_records
from apprentice_jax.training.workdir import LOCK, held, result

METRICS = "metrics.jsonl"
RECENT = 600.0  # seconds since its last sign of work, after which another machine's run is over


class Status(NamedTuple):
  """Of one cell.

  Attributes:
    state: "done", "running", "begun" (and interrupted), "waiting", or "given": a network of the
      user's own.
    accuracy: percent, of one that is done.
    seconds: spent on it.
    epoch, step: of the last record of one that has begun.
    age: seconds since its last record.
    copy: whether it is a copy, or is going to be one, which takes no time.
  """

  state: str
  accuracy: float | None = None
  seconds: float = 0.0
  epoch: float = 0.0
  step: int = 0
  age: float | None = None
  copy: bool = False


def read(config, workdir, running: Collection[Cell] = ()) -> dict[Cell, Status]:
  """The progress of every cell of a study; nothing is written, and another process may be at it.

  Args:
    config: the study's.
    workdir: the study's.
    running: cells that begin now, or that the caller trains.
  """
  statuses = {}
  for cell in cells.cells(config):
    if cells.own_network(config, cell.kind):
      statuses[cell] = Status("given")
    else:
      status = _read(cells.cell_dir(workdir, cell), config.eval.final, cell in running)
      statuses[cell] = status._replace(copy=cells.is_copy(config, workdir, cell))
  return statuses


def _read(place: pathlib.Path, split: str, running: bool) -> Status:
  if (end := result(place)) is not None:
    return Status("done", 100 * end[f"{split}_accuracy"], end["seconds"])
  if not running and not (place / "config.json").exists():
    return Status("waiting")
  records = [r for r in read_records(place) if "epoch" in r]
  last = records[-1] if records else {}
  age = time.time() - (place / METRICS).stat().st_mtime if records else None
  state = "running" if running or _runs(place) else "begun"
  return Status(
    state, None, last.get("seconds", 0.0), last.get("epoch", 0.0), last.get("step", 0), age
  )


def _runs(place: pathlib.Path) -> bool:
  """Whether a process trains in a workdir, as far as it can be known."""
  if (holds := held(place)) is not None:
    return holds
  # Another machine's: what it wrote last says whether it is at work.
  written = [path.stat().st_mtime for path in (place / LOCK, place / METRICS) if path.exists()]
  return time.time() - max(written, default=0.0) < RECENT


def time_left(statuses: dict[Cell, Status], at_once: int = 1) -> float | None:
  """Seconds until all cells are done, so many ``at_once``; None before one is finished.

  A cell takes the mean time of the finished cells that are most like it. Cells are most alike in
  kind, precision and variation, then in kind and precision, then in kind.
  """
  done = {cell: p.seconds for cell, p in statuses.items() if p.state == "done"}
  if not done:
    return None

  def expected(cell: Cell) -> float:
    # From the most alike to any at all.
    for alike in (
      lambda c: c._replace(seed=0) == cell._replace(seed=0),
      lambda c: c[:2] == cell[:2],
      lambda c: c.kind == cell.kind,
      lambda c: True,
    ):
      if seconds := [s for c, s in done.items() if alike(c)]:
        return statistics.mean(seconds)

  left = [
    max(expected(cell) - p.seconds, 0.0)
    for cell, p in statuses.items()
    if p.state not in ("done", "given") and not p.copy
  ]
  # Towards the end there are fewer cells than places.
  return sum(left) / max(min(at_once, len(left)), 1)


def table(statuses: dict[Cell, Status], at_once: int = 1) -> str:
  """The view of a study: what is done, and how long the rest may take.

  Each network, precision and variation has a row, and each seed a column.
  """
  trained = [p for p in statuses.values() if p.state != "given"]
  summary = f"{sum(p.state == 'done' for p in trained)} of {len(trained)} cells done"
  if left := time_left(statuses, at_once):
    summary += f", about {_clock(left)} left"
  seeds = sorted({cell.seed for cell in statuses})
  # Most studies have no variations, and no need of the column.
  names = ["network", "precision"]
  if any(cell.variation.changes for cell in statuses):
    names.append("setting")
  rows = {}
  for cell, p in statuses.items():
    key = (cell.kind, cell.precision, cell.variation.label)[: len(names)]
    rows.setdefault(key, {})[cell.seed] = p.state if p.accuracy is None else f"{p.accuracy:.2f}"
  lines = [[*names, *(f"seed {seed}" for seed in seeds)]]
  lines += [[*key, *(by_seed.get(seed, "") for seed in seeds)] for key, by_seed in rows.items()]
  # Aligned for a terminal: words to the left, numbers to the right.
  widths = [max(map(len, column)) for column in zip(*lines)]
  places = [str.ljust] * len(names) + [str.rjust] * len(seeds)
  padded = [[place(*pair) for place, *pair in zip(places, line, widths)] for line in lines]
  return "\n".join([summary, *("  ".join(line).rstrip() for line in padded)])


def status(workdir) -> str:
  """The view of the study in workdir, and the cells in hand.

  Raises:
    ConfigError: there is no study.
  """
  config = results.study_config(pathlib.Path(workdir))
  statuses = read(config, workdir)
  lines = [table(statuses, config.study.jobs)]
  for cell, p in statuses.items():
    if p.state in ("running", "begun"):
      epochs = recipes.student_recipe(cells.cell_config(config, cell)).epochs
      lines.append(f"{cell.name}: {_detail(p, epochs)}")
  return "\n".join(lines)


def _detail(p: Status, epochs: float) -> str:
  """How far a cell of so many epochs is that has begun."""
  if p.state == "begun":
    # The last record has both, so their ratio is the number of steps an epoch.
    reached = f", {p.step:,} of {round(p.step / p.epoch * epochs):,} steps" if p.step else ""
    return f"begun{reached}: the same command continues"
  if p.age is None:
    return "no records yet"
  return f"epoch {p.epoch:.2f} of {epochs:g}, last record {_clock(p.age)} ago"


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
