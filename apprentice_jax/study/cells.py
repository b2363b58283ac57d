"""The cells of a study: one training run each, its config, and where it is kept."""

import pathlib
from typing import NamedTuple

from apprentice_jax import config as configs
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.study import grid
from apprentice_jax.training import start

ALONE = (
  "teacher",
  "student",
)  # the kinds of cells that train at full precision and without a teacher


class Cell(NamedTuple):
  """One training run of a study.

  Attributes:
    kind: one of `config.CELLS`.
    precision: such as "8A,2W".
    seed: the run's.
    point: what of a point of the grid concerns it; see `grid.restricted`.
  """

  kind: str
  precision: str
  seed: int
  point: grid.Point = ()

  @property
  def name(self) -> str:
    """The name of its workdir."""
    at = grid.name(self.point) + "-" if self.point else ""
    return f"{self.kind}-{self.precision.replace(',', '')}-{at}seed{self.seed}"

  @property
  def at(self) -> str:
    """Its point as text."""
    return grid.label(self.point)

  def source(self, which: str) -> "Cell":
    """The cell of the full-precision "teacher" or "student" that this one starts from."""
    return of(which, start.FULL_PRECISION, self.seed, self.point)


def of(kind: str, precision: str, seed: int, point: grid.Point) -> Cell:
  """The cell that has these at a point of the grid."""
  return Cell(kind, precision, seed, grid.restricted(point, kind, precision))


def points(config) -> list[grid.Point]:
  """The points of the study's grid."""
  return grid.points(config.study.grid, configs.flat(configs.base()))


def cells(config) -> list[Cell]:
  """The study's cells in the order in which they run: what others start from comes first."""
  kinds, at, result = tuple(config.study.cells), points(config), []
  for seed in config.study.seeds:
    result += [of(k, start.FULL_PRECISION, seed, p) for p in at for k in ALONE if k in kinds]
  for seed in config.study.seeds:
    result += [
      of(k, precision, seed, p)
      for precision in config.study.precisions
      for p in at
      for k in kinds
      if k not in ALONE
    ]
  return list(dict.fromkeys(result))  # what is at several points the same is there once


def cell_config(config, cell: Cell):
  """The config of one cell's training run."""
  c = grid.applied(config, cell.point)
  c.seed = cell.seed
  if cell.kind in ALONE:
    return start.full_precision(c, cell.kind)
  c.scheme, c.precision = cell.kind, cell.precision
  # A trained student is what C starts from, a trained teacher what is fixed; the others start from
  # scratch.
  if not SCHEMES[cell.kind].pretrained_student:
    c.student.update(start.FROM_SCRATCH)
  if SCHEMES[cell.kind].teacher != "fixed":
    c.teacher.update(start.FROM_SCRATCH)
  return c


def cell_dir(workdir, cell: Cell) -> pathlib.Path:
  return pathlib.Path(workdir) / "cells" / cell.name


def given(config, cell: Cell) -> str:
  """The path of the user's own network that stands for the cell; "": the cell is trained, if only
  for its new head."""
  return config[cell.kind].init if cell.kind in ALONE and config[cell.kind].head != "new" else ""


def starts_from(kind: str) -> list[str]:
  """The full-precision cells whose networks a cell starts from."""
  scheme = SCHEMES.get(kind)
  if scheme is None:
    return []
  return ["teacher"] * (scheme.teacher == "fixed") + ["student"] * scheme.pretrained_student
