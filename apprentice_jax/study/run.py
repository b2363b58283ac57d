"""The paper's table on the user's data: every scheme and its control, side by side."""

import pathlib
import sys

from apprentice_jax import config as configs
from apprentice_jax.config import references
from apprentice_jax.deploy import cost
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.errors import ConfigError
from apprentice_jax.study import grid, jobs, progress, report, results
from apprentice_jax.study.cells import (
  ALONE,
  Cell,
  cell_config,
  cell_dir,
  cells,
  given,
  points,
  starts_from,
)
from apprentice_jax.training import (
  api,
  export,
  inputs,
  inventory,
  preemption,
  processes,
  start,
  starts,
  warmups,
)
from apprentice_jax.training.workdir import claim, local, result, trouble, write_config, writing


def run(config, workdir) -> str:
  """Runs the cells that are not finished, then writes the report.

  Args:
    config: ``config.study`` lists precisions, seeds, cells and a grid of further fields; the rest
      is every cell's config.
    workdir: gets ``cells/NAME`` (a training workdir each), results.csv, report.md, report.html and
      plots.

  On one GPU, ``config.study.jobs`` above 1 wants `devices.start` to have been told of it, as the
  command does.

  Returns:
    The report's table as text.

  Raises:
    ConfigError: the config cannot run, or workdir belongs to another study.
  """
  config = configs.checked(config, config.study.precisions)
  grid.check(config, config.study.precisions)
  for kind in config.study.cells:
    for other in starts_from(kind):
      if other not in config.study.cells and not (
        config[other].init and config[other].head != "new"
      ):
        raise ConfigError(
          f"config.study.cells has {kind!r} without {other!r}, which it starts from: "
          f"add it, or set config.{other}.init."
        )
  workdir = local(workdir)
  config = start.named(config, workdir)
  if (workdir / "metrics.jsonl").exists():
    raise ConfigError(f"{workdir} holds a training run: choose another --workdir.")
  shared = processes.agreed(lambda: start.scaled(config, workdir))
  trained = lambda kind: (
    kind in config.study.cells
    and not (kind in ALONE and config[kind].init and config[kind].head != "new")
  )
  recipes = sorted({SCHEMES[k].recipe if k in SCHEMES else k for k in configs.CELLS if trained(k)})
  at_points = [_preflight(config, point, workdir, recipes) for point in points(config)]
  inventory.announce(shared)
  if config.note and processes.first():
    print(config.note, flush=True)
  with writing(workdir), preemption.listening(), trouble(workdir), inventory.replaceable(workdir):
    processes.on_first(lambda: claim(workdir, shared))
    processes.on_first(lambda: inventory.claim_data(workdir, shared))
    processes.on_first(lambda: write_config(workdir, shared))
    processes.on_first(lambda: starts.record(workdir))
    if processes.first():
      for at in at_points:
        warmups.warn(at, [kind for kind in config.study.cells if kind in SCHEMES], recipes)
    rows = _rows(config, workdir)
    if not processes.first():
      return ""
    return report.write(
      shared,
      workdir,
      results.located(rows, shared, workdir),
      points(config),
      [workdir],
      earlier=results.earlier(workdir, shared),
    )


def _preflight(config, point: grid.Point, workdir, recipes):
  """The config at a point of the grid, if it can run."""
  at = processes.agreed(lambda: start.scaled(grid.applied(config, point), workdir))
  if point:  # its quantizers need not be able to do the config's own precision
    at.precision = config.study.precisions[0]
  try:
    start.preflight(at, recipes)
  except ConfigError as error:
    raise ConfigError(
      f"config.study.grid at {grid.label(point)}: {error}" if point else str(error)
    ) from None
  return at


def _rows(config, workdir: pathlib.Path) -> list[dict]:
  """The results of all cells; trains those that are not finished.

  Args:
    config: before it is scaled for the devices: a learning rate of the grid is scaled as any other.
    workdir: the study's.
  """
  rows = {}

  def note():
    """Adds the rows of the cells that are done, and writes all of them."""
    done = processes.share(
      [
        cell in rows or bool(given(config, cell)) or result(cell_dir(workdir, cell)) is not None
        for cell in every
      ]
    )
    rows.update(
      {cell: _row(config, cell, workdir) for cell, d in zip(every, done) if d and cell not in rows}
    )
    if processes.first():
      results.write(workdir / "results.csv", [rows[cell] for cell in every if cell in rows])

  def begins(in_hand: list[Cell]):
    note()
    if processes.first():
      found = progress.read(config, workdir, in_hand)
      view = progress.table(found, jobs.count(config))
      if not sys.stdout.isatty():  # in a log the first line is enough; the whole comes at the end
        view = view.partition("\n")[0]
      print("\n".join([view, *(c.name for c in in_hand)]), flush=True)

  every = cells(config)
  if jobs.count(config) > 1:
    jobs.run(config, workdir, begins)
  for cell in every:
    if not given(config, cell) and processes.share(result(cell_dir(workdir, cell)) is None):
      begins([cell])
      rows[cell] = _row(config, cell, workdir)
  note()
  if processes.first():
    print(progress.table(progress.read(config, workdir)), flush=True)
  return [rows[cell] for cell in every]


def _row(config, cell: Cell, workdir) -> dict:
  run_config = processes.agreed(lambda: start.scaled(cell_config(config, cell), workdir))
  own, final = given(config, cell), config.eval.final
  if own:  # the user's own network: scored, not trained
    scores = api.evaluate_network(run_config, own, final)
    found = {f"{final}_{k}": v for k, v in scores.items()}
  else:
    found = jobs.train(config, cell, workdir)
  data = inputs.split(run_config, "train")
  model = start.model(run_config, "student", len(data.class_names))
  costs = cost.total(export.blank(run_config, data))
  return {
    "cell": cell.kind,
    "precision": cell.precision,
    "point": cell.at,
    "seed": cell.seed,
    "accuracy": found[f"{final}_accuracy"],
    "loss": found[f"{final}_loss"],
    "count": found[f"{final}_count"],
    "teacher_accuracy": found.get(f"{final}_teacher_accuracy", ""),
    "agreement": found.get(f"{final}_agreement", ""),
    "epochs": round(found.get("examples", 0) / data.size, 2),
    "steps": found.get("steps", 0),
    "seconds": round(found.get("seconds", 0), 1),
    "parameters": cost.parameters(model, data.image_shape),
    "bytes": costs.bytes,
    "bops": costs.bops,
    "peak_bytes": costs.peak_bytes,
    "network": references.network(run_config.student),
    "workdir": own or f"cells/{cell.name}",
  }
