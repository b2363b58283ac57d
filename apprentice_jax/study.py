"""The paper's table on the user's data: every scheme and its control, side by side."""

import csv
import pathlib
import time
from typing import NamedTuple

from apprentice_jax import config as configs
from apprentice_jax import export, report
from apprentice_jax.config import ConfigError
from apprentice_jax.deploy import cost
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.training import inputs, loop, preemption, processes, start
from apprentice_jax.training.workdir import claim, local, result, write_config, writing

FIELDS = ("cell", "precision", "seed", "accuracy", "loss", "count", "teacher_accuracy", "epochs",
          "seconds", "parameters", "bytes", "bops", "peak_bytes", "workdir")


class Cell(NamedTuple):
  """One training run of a study: "teacher" and "student" are at full precision, without a teacher."""
  kind: str
  precision: str
  seed: int

  @property
  def name(self) -> str:
    return f"{self.kind}-{self.precision.replace(',', '')}-seed{self.seed}"


def cells(config) -> list[Cell]:
  """The study's cells in the order in which they run: what others start from comes first."""
  kinds, result = tuple(config.study.cells), []
  for seed in config.study.seeds:
    result += [Cell(k, start.FULL_PRECISION, seed) for k in ("teacher", "student") if k in kinds]
  for seed in config.study.seeds:
    result += [Cell(k, p, seed) for p in config.study.precisions for k in kinds
               if k not in ("teacher", "student")]
  return result


def cell_config(config, cell: Cell):
  """The config of one cell's training run."""
  c = config.copy_and_resolve_references()
  c.seed = cell.seed
  if cell.kind in ("teacher", "student"):
    return start.full_precision(c, cell.kind)
  c.scheme, c.precision = cell.kind, cell.precision
  if not SCHEMES[cell.kind].pretrained_student:
    c.student.init = ""  # a given student is what C starts from; the others start from scratch
  return c


def cell_dir(workdir: pathlib.Path, cell: Cell) -> pathlib.Path:
  return pathlib.Path(workdir) / "cells" / cell.name


def run(config, workdir) -> str:
  """Runs the cells that are not finished, then writes the report.

  Args:
    config: ``config.study`` lists precisions, seeds and cells; the rest is every cell's config.
    workdir: gets ``cells/NAME`` (a training workdir each), results.csv, report.md and plots.

  Returns:
    The report's table as text.

  Raises:
    ConfigError: the config cannot run, or workdir belongs to another study.
  """
  config = configs.checked(config, config.study.precisions)
  for kind in config.study.cells:
    for other in _starts_from(kind):
      if other not in config.study.cells and not config[other].init:
        raise ConfigError(f"config.study.cells has {kind!r} without {other!r}, which it starts from: "
                          f"add it, or set config.{other}.init.")
  workdir = local(workdir)
  if (workdir / "metrics.jsonl").exists():
    raise ConfigError(f"{workdir} holds a training run: choose another --workdir.")
  config = processes.agreed(lambda: start.scaled(config, workdir))
  trained = lambda kind: kind in config.study.cells and not (
      kind in ("teacher", "student") and config[kind].init)
  recipes = sorted({SCHEMES[k].recipe if k in SCHEMES else k for k in configs.CELLS if trained(k)})
  start.preflight(config, recipes)
  with writing(workdir), preemption.listening():
    processes.on_first(lambda: claim(workdir, config))
    processes.on_first(lambda: write_config(workdir, config))
    rows = _rows(config, workdir)
  return report.write_study(config, workdir, rows) if processes.first() else ""


def _rows(config, workdir: pathlib.Path) -> list[dict]:
  """The results of all cells; trains those that are not finished."""
  rows, todo, began = [], cells(config), time.monotonic()
  for number, cell in enumerate(todo, 1):
    place = cell_dir(workdir, cell)
    if result(place) is None and processes.first():
      spent = time.monotonic() - began
      print(f"[{number}/{len(todo)}, {spent:.0f} s] {cell.name}", flush=True)
    rows.append(_row(config, cell, workdir, place))
    if processes.first():
      _write_csv(workdir / "results.csv", rows)
  return rows


def _starts_from(kind: str) -> list[str]:
  """The full-precision cells whose networks a cell starts from."""
  scheme = SCHEMES.get(kind)
  if scheme is None:
    return []
  return (["teacher"] * (scheme.teacher == "fixed") + ["student"] * scheme.pretrained_student)


def _row(config, cell: Cell, workdir, place) -> dict:
  run_config = cell_config(config, cell)
  given = config[cell.kind].init if cell.kind in ("teacher", "student") else ""
  if given:  # the user's own network: scored, not trained
    scores = loop.evaluate_network(run_config, given, config.eval.final)
    found = {f"{config.eval.final}_{k}": v for k, v in scores.items()}
  else:
    paths = {kind: config[kind].init or str(
        cell_dir(workdir, Cell(kind, start.FULL_PRECISION, cell.seed)))
             for kind in _starts_from(cell.kind)}
    found = loop.train(run_config, place, **paths)
  data = inputs.split(config, "train")
  model = start.model(run_config, "student", len(data.class_names))
  costs, final = cost.total(export.blank(run_config, data)), config.eval.final
  return {
      "cell": cell.kind, "precision": cell.precision, "seed": cell.seed,
      "accuracy": found[f"{final}_accuracy"], "loss": found[f"{final}_loss"],
      "count": found[f"{final}_count"],
      "teacher_accuracy": found.get(f"{final}_teacher_accuracy", ""),
      "epochs": round(found.get("examples", 0) / data.size, 2),
      "seconds": round(found.get("seconds", 0), 1),
      "parameters": cost.parameters(model, data.image_shape),
      "bytes": costs.bytes, "bops": costs.bops, "peak_bytes": costs.peak_bytes,
      "workdir": given or f"cells/{cell.name}"}


def _write_csv(path: pathlib.Path, rows: list[dict]):
  with path.open("w", newline="") as file:
    writer = csv.DictWriter(file, FIELDS)
    writer.writeheader()
    writer.writerows(rows)
