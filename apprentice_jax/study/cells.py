"""The cells of a study: one training run each, its config, and where it is kept."""

import itertools
import pathlib
from typing import NamedTuple

from apprentice_jax import config as configs
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.study import variations
from apprentice_jax.study.variations import BASE, Variation
from apprentice_jax.training import recipes
from apprentice_jax.training.workdir import result

ALONE = ("teacher", "student")  # cells that train at full precision and without a teacher


class Cell(NamedTuple):
  """One training run of a study.

  Attributes:
    kind: one of `config.CELLS`.
    precision: such as "8A,2W".
    seed: the run's.
    variation: the changes that the cell reads, by the name of the first variation with these.
  """

  kind: str
  precision: str
  seed: int
  variation: Variation = BASE

  @property
  def name(self) -> str:
    """The name of the cell's workdir."""
    parts = (self.kind, self.precision.replace(",", ""), self.variation.name, f"seed{self.seed}")
    return "-".join(filter(None, parts))


def of(config, kind: str, precision: str, seed: int, variation: Variation) -> Cell:
  """The study's cell of these; variations that agree in what it reads share it."""
  changes = variations.read_by(variation.changes, kind, precision)
  for other in variations.of(config):
    if variations.read_by(other.changes, kind, precision) == changes:
      return Cell(kind, precision, seed, Variation(other.name if changes else "", changes))
  raise ValueError(f"{variation} is no variation of the study")


def cells(config) -> list[Cell]:
  """The study's cells in the order in which they run: cells that others start from come first."""
  study, varied = config.study, variations.of(config)
  alone = [kind for kind in ALONE if kind in study.cells]
  schemes = [kind for kind in study.cells if kind not in ALONE]
  full = itertools.product(study.seeds, [recipes.FULL_PRECISION], varied, alone)
  low = itertools.product(study.seeds, study.precisions, varied, schemes)
  # Variations that a cell does not read give the same cell again.
  every = itertools.chain(full, low)
  return list(dict.fromkeys(of(config, kind, p, seed, v) for seed, p, v, kind in every))


def sources(config, cell: Cell) -> dict[str, Cell]:
  """The full-precision "teacher" and "student" cells that a cell starts from."""
  return {
    kind: of(config, kind, recipes.FULL_PRECISION, cell.seed, cell.variation)
    for kind in starts_from(cell.kind)
  }


def starts_from(kind: str) -> list[str]:
  """The full-precision cells whose networks a kind of cell starts from."""
  scheme = SCHEMES.get(kind)
  if scheme is None:
    return []
  return ["teacher"] * (scheme.teacher == "fixed") + ["student"] * scheme.pretrained_student


def cell_config(config, cell: Cell):
  """The config of one cell's training run."""
  c = variations.applied(config, cell.variation)
  c.seed = cell.seed
  if cell.kind in ALONE:
    return recipes.full_precision(c, cell.kind)
  c.scheme, c.precision = cell.kind, cell.precision
  # A trained student is what C starts from, a trained teacher what is fixed; the others start from
  # scratch.
  if not SCHEMES[cell.kind].pretrained_student:
    c.student.update(recipes.FROM_SCRATCH)
  if SCHEMES[cell.kind].teacher != "fixed":
    c.teacher.update(recipes.FROM_SCRATCH)
  return c


def copied_from(config, cell: Cell) -> Cell | None:
  """The teacher's cell of which a student's in full precision is to be a copy; None without one.

  Their configs are equal in everything, so the student's training would repeat the teacher's.
  """
  if cell.kind != "student" or "teacher" not in config.study.cells:
    return None
  other = of(config, "teacher", cell.precision, cell.seed, cell.variation)
  equal = configs.flat(cell_config(config, other)) == configs.flat(cell_config(config, cell))
  return other if equal and not own_network(config, "teacher") else None


def is_copy(config, workdir, cell: Cell) -> bool:
  """Whether a cell is a copy of its teacher's, or is going to be one.

  A student that has a training of its own, begun or done, is none: earlier versions trained both.
  """
  if not (source := copied_from(config, cell)):
    return False
  source, place = (cell_dir(workdir, each) for each in (source, cell))
  # The results have the seconds of the training, in which two trainings differ.
  return not place.exists() or (end := result(place)) is not None and end == result(source)


def cell_dir(workdir, cell: Cell) -> pathlib.Path:
  return pathlib.Path(workdir) / "cells" / cell.name


def own_network(config, kind: str) -> str:
  """The path of the user's own network that stands for the cells of a kind.

  It is "" where the cells are trained, if only for their new head.
  """
  return config[kind].init if kind in ALONE and config[kind].head != "new" else ""
