"""The words of a study before its first cell: the number of its trainings, and their time."""

import collections

import jax

from apprentice_jax.data.splits import Splits, open_splits
from apprentice_jax.deploy.network import BadNetwork
from apprentice_jax.distill.schemes import LOSS_WITH_A_TEACHER, SCHEMES
from apprentice_jax.study import cells, jobs
from apprentice_jax.study.cells import Cell
from apprentice_jax.training import forecast
from apprentice_jax.training.workdir import result, scaled


def lines(config, workdir, splits: Splits) -> list[str]:
  """Sentences on the trainings that are left of a study; [] where none is.

  Args:
    config: the study's, before it is scaled for the devices.
    workdir: the study's.
    splits: its images.
  """
  trained = [c for c in cells.cells(config) if not cells.own_network(config, c.kind)]
  every = [cell for cell in trained if not cells.is_copy(config, workdir, cell)]
  left = [cell for cell in every if result(cells.cell_dir(workdir, cell)) is None]
  if not left:
    return []
  of = f" of {len(every)}" if len(left) < len(every) else ""
  at_once = min(jobs.count(config), len(left))
  how = f", {at_once} at a time" if at_once > 1 else ""
  # The progress counts cells, of which some are copies.
  copies = f" for {len(trained)} cells" if len(trained) > len(every) else ""
  time = _time(config, workdir, splits, left)
  said = [f"{len(left)}{of} training{'s' * (len(every) > 1)} to do{copies}{how}{time}."]
  if any(cell.kind in SCHEMES and SCHEMES[cell.kind].distills for cell in left):
    said.append(LOSS_WITH_A_TEACHER)
  return said


def _time(config, workdir, splits: Splits, left: list[Cell]) -> str:
  """How long cells take, to go on with after their number."""
  later = "; after each, a line says how long the rest takes" * (len(left) > 1)
  # The forecast is of a CPU.
  if jax.default_backend() != "cpu":
    return later
  try:
    found = _stages(config, workdir, splits, left)
  except BadNetwork:
    return later
  seconds = forecast.seconds(found, forecast.speed())
  return f": about {forecast.duration(seconds)} on this CPU, with compilation{later}"


def _stages(config, workdir, splits: Splits, left: list[Cell]) -> list[forecast.Stage]:
  """The training of each cell; of those with one program, one alone compiles layers."""
  counts = collections.Counter(cell._replace(seed=0) for cell in left)
  found, compiled = [], set()
  for cell, count in counts.items():
    run_config = scaled(cells.cell_config(config, cell), workdir)
    data = open_splits(run_config.data, splits)["train"]
    stage = forecast.stages(run_config, data)[-1]
    again = stage._replace(layers=0)
    program = jobs.program_of(cell)
    found += [again if program in compiled else stage, *[again] * (count - 1)]
    compiled.add(program)
  return found
