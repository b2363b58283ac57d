"""The words of a study before its first cell: the number of its trainings, and their time."""

from collections.abc import Collection

import jax

from apprentice_jax.data.splits import Splits, open_splits
from apprentice_jax.deploy.network import BadNetwork
from apprentice_jax.distill.schemes import LOSS_WITH_A_TEACHER, SCHEMES
from apprentice_jax.study import cells, jobs, progress
from apprentice_jax.study.cells import Cell
from apprentice_jax.training import forecast
from apprentice_jax.training.workdir import scaled


def lines(config, workdir, splits: Splits) -> list[str]:
  """Sentences on the trainings that are left of a study; [] where none is.

  Args:
    config: the study's, before it is scaled for the devices.
    workdir: the study's.
    splits: its images.
  """
  trained = {c: p for c, p in progress.read(config, workdir).items() if p.state != "given"}
  every = {cell: p for cell, p in trained.items() if not p.copy}
  # Each with the seconds that were spent on it.
  left = {cell: p.seconds for cell, p in every.items() if p.state != "done"}
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


def _time(config, workdir, splits: Splits, left: dict[Cell, float]) -> str:
  """How long cells take, to go on with after their number."""
  later = "; after each, a line says how long the rest takes" * (len(left) > 1)
  # The forecast is of a CPU.
  if jax.default_backend() != "cpu":
    return later
  try:
    stages = _stages(config, workdir, splits, left)
  except BadNetwork:
    return later
  speed = forecast.speed()
  seconds = sum(
    max(forecast.seconds([stage], speed) - spent, 0) for stage, spent in zip(stages, left.values())
  )
  lacking = (forecast.teachers_time(cells.cell_config(config, cell)) for cell in left)
  more = next(filter(None, lacking), "")
  return f": about {forecast.duration(seconds)} on this CPU, with compilation{more}{later}"


def _stages(config, workdir, splits: Splits, left: Collection[Cell]) -> list[forecast.Stage]:
  """The training of each cell; of those with one program, the first alone compiles layers."""
  trainings, found, compiled = {}, [], set()
  for cell in left:
    # Seeds take the same steps.
    if (key := cell._replace(seed=0)) not in trainings:
      run_config = scaled(cells.cell_config(config, cell), workdir)
      data = open_splits(run_config.data, splits)["train"]
      trainings[key] = forecast.stages(run_config, data)[-1]
    program = jobs.program_of(cell)
    found.append(trainings[key]._replace(layers=0) if program in compiled else trainings[key])
    compiled.add(program)
  return found
