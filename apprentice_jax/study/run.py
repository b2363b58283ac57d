"""The paper's table on the user's data: every scheme and its control, side by side."""

import pathlib
import sys

from apprentice_jax import config as configs
from apprentice_jax.config import references
from apprentice_jax.data.splits import Splits, open_splits
from apprentice_jax.deploy import cost
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.errors import ConfigError
from apprentice_jax.models.precision import FULL, Precision
from apprentice_jax.study import cells, jobs, outlook, progress, report, results, variations
from apprentice_jax.study.cells import Cell, cell_config, cell_dir, own_network
from apprentice_jax.training import (
  api,
  cluster,
  export,
  forecast,
  identity,
  inventory,
  networks,
  preemption,
  preflight,
  teachers,
)
from apprentice_jax.training.workdir import (
  claim,
  disk_errors,
  local,
  record_start,
  result,
  scaled,
  write_config,
  writing,
)


def run_study(config, workdir) -> str:
  """Trains the cells that are not finished, then writes the report.

  On one GPU with ``config.study.jobs`` above 1, `devices.start` has to know of it before, as the
  command does.

  Args:
    config: ``config.study`` lists precisions, seeds, cells and variations; the rest is every cell's
      config.
    workdir: gets ``cells/NAME`` (a training workdir each), results.csv, report.md, report.html and
      plots.

  Returns:
    The report's table as text.

  Raises:
    ConfigError: the config cannot run, or workdir belongs to another study.
  """
  config = configs.checked(config, config.study.precisions)
  variations.check(config)
  kinds = config.study.cells
  for kind in kinds:
    for other in cells.starts_from(kind):
      if other not in kinds and not own_network(config, other):
        raise ConfigError(
          f"config.study.cells has {kind!r} without {other!r}, which it starts from: "
          f"add it, or set config.{other}.init."
        )
  if "teacher" in kinds and teachers.kind(config.teacher.init):
    raise ConfigError(
      f"config.study.cells has 'teacher', and config.teacher.init={config.teacher.init} holds none "
      "of our networks, so it has no row: leave 'teacher' out."
    )
  workdir = local(workdir)
  config = networks.named(config, workdir)
  if (workdir / "metrics.jsonl").exists():
    raise ConfigError(f"{workdir} holds a training run: choose another --workdir.")
  shared = cluster.agreed(lambda: scaled(config, workdir))
  trained = [kind for kind in kinds if not own_network(config, kind)]
  recipes = sorted({SCHEMES[kind].recipe if kind in SCHEMES else kind for kind in trained})
  splits = open_splits(shared.data)
  # Every variation has to be able to run, before the first cell trains for hours.
  varied = [_preflight(config, v, workdir, splits, recipes) for v in variations.of(config)]
  inventory.announce(shared, splits)
  if cluster.first():
    for line in forecast.note(config):
      print(line, flush=True)
  with (
    writing(workdir),
    preemption.listening(),
    disk_errors(workdir),
    identity.replaceable(workdir),
  ):
    # The first to claim the folder owns it: another config's study gets an error here.
    cluster.on_first(lambda: claim(workdir, shared))
    cluster.on_first(lambda: identity.claim_data(workdir, splits))
    cluster.on_first(lambda: write_config(workdir, shared))
    cluster.on_first(lambda: record_start(workdir))
    if cluster.first():
      for each in varied:
        size = open_splits(each.data, splits)["train"].size
        preflight.warn_of_warmups(each, size, [kind for kind in kinds if kind in SCHEMES], recipes)
      for line in outlook.lines(config, workdir, splits):
        print(line, flush=True)
    rows = _rows(config, workdir, splits)
    if not cluster.first():
      return ""
    located = results.located(rows, shared, workdir)
    earlier = results.earlier(workdir, shared)
    return report.write(shared, workdir, located, [workdir], earlier=earlier)


def _preflight(config, variation: variations.Variation, workdir, splits: Splits, recipes):
  """The config at a variation, if it can run."""
  varied = cluster.agreed(lambda: scaled(variations.applied(config, variation), workdir))
  # Its quantizers need not be able to do the config's own precision, if no cell has it.
  if variation.changes:
    varied.precision = config.study.precisions[0]
  with variations.naming(variation):
    preflight.check(varied, open_splits(varied.data, splits), recipes)
  return varied


def _rows(config, workdir: pathlib.Path, splits: Splits) -> list[dict]:
  """The results of all cells; trains those that are not finished.

  Args:
    config: before it is scaled for the devices: a variation's learning rate is scaled as any other.
    workdir: the study's.
    splits: its images.
  """
  every, rows = cells.cells(config), {}
  is_done = lambda cell: (
    bool(own_network(config, cell.kind)) or result(cell_dir(workdir, cell)) is not None
  )

  def note():
    """Adds the rows of the cells that are done, and writes all of them."""
    # A row may take all processes, so they have to agree on which are due.
    done = cluster.share([cell in rows or is_done(cell) for cell in every])
    for cell, cell_done in zip(every, done):
      if cell_done and cell not in rows:
        rows[cell] = _row(config, cell, workdir, splits)
    if cluster.first():
      results.write(workdir / "results.csv", [rows[cell] for cell in every if cell in rows])

  def begins(in_hand: list[Cell]):
    note()
    if cluster.first():
      view = progress.table(progress.read(config, workdir, in_hand), jobs.count(config))
      # In a log the first line is enough; the whole comes at the end.
      if not sys.stdout.isatty():
        view = view.partition("\n")[0]
      print("\n".join([view, *(c.name for c in in_hand)]), flush=True)

  # What the jobs leave is nothing, or, with one job at a time, everything.
  if jobs.count(config) > 1:
    jobs.train_cells(config, workdir, begins)
  for cell in every:
    if cluster.share(not is_done(cell)):
      begins([cell])
      rows[cell] = _row(config, cell, workdir, splits)
  note()
  if cluster.first():
    print(progress.table(progress.read(config, workdir)), flush=True)
  return [rows[cell] for cell in every]


def _row(config, cell: Cell, workdir, splits: Splits) -> dict:
  """The line of results.csv for a cell, which is trained if it is not finished."""
  run_config = cluster.agreed(lambda: scaled(cell_config(config, cell), workdir))
  own, final = own_network(config, cell.kind), config.eval.final
  # The user's own network is scored, not trained.
  if own:
    scores = api.evaluate_network(run_config, own, final, splits=splits)
    ended = {f"{final}_{k}": v for k, v in scores.items()}
  else:
    ended = jobs.train(config, cell, workdir, splits)
  data = open_splits(run_config.data, splits)["train"]
  model = networks.model(run_config, "student", len(data.class_names))
  blank = export.blank(run_config, data)
  costs, layers = cost.total(blank), cost.layers(blank)
  return {
    "cell": cell.kind,
    "precision": cell.precision,
    "point": cell.variation.label,
    "seed": cell.seed,
    "accuracy": ended[f"{final}_accuracy"],
    "loss": ended[f"{final}_loss"],
    "count": ended[f"{final}_count"],
    "teacher_accuracy": ended.get(f"{final}_teacher_accuracy", ""),
    "agreement": ended.get(f"{final}_agreement", ""),
    "epochs": round(ended.get("examples", 0) / data.size, 2),
    "steps": ended.get("steps", 0),
    "seconds": round(ended.get("seconds", 0), 1),
    "parameters": cost.parameters(model, data.image_shape),
    "bytes": costs.bytes,
    "bops": costs.bops,
    "peak_bytes": costs.peak_bytes or "",
    "layers": len(layers),
    "full_precision": ";".join(_left(layers, cell.precision)),
    "network": references.network(run_config.student),
    "workdir": own or f"cells/{cell.name}",
  }


def _left(layers: list[cost.LayerCost], precision: str) -> list[str]:
  """The names of the layers that are not quantized at a precision."""
  # Weights of 32 bits may have inputs of 8. A layer counts by its weights, unless no weights are
  # quantized.
  by_weights = Precision.parse(precision).weights != FULL
  return [
    layer.path
    for layer in layers
    if layer.weight_bits == FULL and (by_weights or layer.activation_bits == FULL)
  ]
