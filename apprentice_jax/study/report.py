"""The files that a study leaves for its reader: report.md, report.html and plots."""

import pathlib

from apprentice_jax import document, plots
from apprentice_jax.config import CELLS, references
from apprentice_jax.distill.schemes import LOSS_WITH_A_TEACHER, SCHEMES
from apprentice_jax.document import Heading, Picture, Text
from apprentice_jax.study import cells, summary, tables, variations, verdict
from apprentice_jax.study.tables import NAMES
from apprentice_jax.training.origin import origin
from apprentice_jax.training.records import read_records
from apprentice_jax.training.workdir import classes, result


def write(config, out: pathlib.Path, rows: list[dict], folders, missing=(), earlier=()) -> str:
  """Writes the report of a study.

  Args:
    config: the study's.
    out: gets report.md, report.html and plots.
    rows: of its finished cells, as `results.located` makes them.
    folders: of the study, or of its parts.
    missing: names of cells that are not finished.
    earlier: names of finished cells of other calls in the same folders, which are in no table.

  Returns:
    The table of accuracies, in Markdown.
  """
  entries = summary.entries(rows)
  # Every caption names the images of its accuracies, so that a table can be quoted alone.
  images = f"the {rows[0]['count']:,} images of the {config.eval.final} split"
  # Read once: curves, convergence and the teacher's part are all made of them.
  runs = {str(row["place"]): read_records(row["place"]) for row in rows}
  curves = _curves_of(runs)
  accuracy = tables.accuracies(entries, references_of(config, entries), images)
  blocks = [
    Heading(f"Apprentice study on {config.data.name}", 1),
    *map(Text, _notes(config, rows, folders, images, missing, earlier)),
    *verdict.blocks(entries, NAMES, _class_count(rows)),
    Heading("Accuracy"),
    accuracy,
    *tables.layers(entries),
    *_sources(config, entries),
    *tables.significance("Which differences are significant", summary.comparisons(entries), images),
    *tables.significance(
      "What each variation changes", summary.variations_beside_base(entries), images, " at the base"
    ),
    Heading("Learning curves"),
    *_curve_plots(config, entries, curves, out),
    *_losses(entries),
    *tables.convergence(entries, curves),
    *_tradeoffs(entries, images, out),
    *tables.agreement(entries, runs, images),
    *tables.everything(entries, images),
    *origin(*folders),
  ]
  (out / "report.md").write_text(document.markdown(blocks), "utf-8")
  (out / "report.html").write_text(document.page(blocks, out), "utf-8")
  return document.table(accuracy.columns, accuracy.rows)


def verdict_in(folder) -> str:
  """The verdict of a folder's report.md; "" where it has none."""
  text = (pathlib.Path(folder) / "report.md").read_text("utf-8")
  return text.partition("\n## Verdict\n")[2].partition("\n## ")[0].strip()


def _class_count(rows: list[dict]) -> int:
  """How many classes a study's images have; 0 where no cell's workdir says so."""
  return next(filter(None, (len(classes(row["place"])) for row in rows)), 0)


def _notes(config, rows: list[dict], folders, images: str, missing, earlier) -> list[str]:
  """The paragraphs at the top: the conditions, and the cells that are not in the tables."""
  notes = [
    f"The student is {_network(config.student)}. The teacher is {_network(config.teacher)}. "
    f"Each network is trained with {tables.seeds(rows)}. "
    f"Accuracies are of {images} after the last epoch: no epoch is chosen by its accuracy."
  ]
  if _students_are_copies(config, folders):
    notes.append(
      "Where the settings of teacher and student are equal, the student is a copy of the teacher's "
      "training."
    )
  # Whoever picks the best of several settings by the test split has no test left.
  if config.eval.final == "test" and any(row["point"] for row in rows):
    notes.append(
      "These accuracies are of test images, so choose no setting by them. To choose, hold images "
      "out (data.validation) and score these (eval.final=validation)."
    )
  if missing:
    notes.append(f"Not finished: {', '.join(missing)}.")
  if earlier:
    notes.append(
      f"Earlier calls in this workdir trained {', '.join(earlier)}. No table has these cells. "
      "To include them, name their seeds, cells and precisions in config.study."
    )
  return notes


def _students_are_copies(config, folders) -> bool:
  """Whether every finished student whose settings equal its teacher's is a copy of the teacher."""
  found = [
    cells.is_copy(config, folder, cell)
    for folder in folders
    for cell in cells.cells(config)
    if cells.copied_from(config, cell) and result(cells.cell_dir(folder, cell))
  ]
  return bool(found) and all(found)


def _network(network) -> str:
  # A teacher's file has no name of ours.
  if not network.name:
    return pathlib.Path(network.init).name
  return f"{network.name} at width {network.width:g}"


def _curves_of(runs: dict[str, list[dict]]):
  """Returns curves(row, smooth=False), the `summary.Curve` of a row's run, or None."""
  every = [curve for records in runs.values() if (curve := summary.curve(records))]
  # Validation accuracies of some runs do not compare with training accuracies of others.
  scored = all(curve.split == "validation" for curve in every)
  return lambda row, smooth=False: summary.curve(runs[str(row["place"])], smooth, scored)


def _curve_plots(config, entries, curves, out) -> list:
  """A picture for each precision and variation whose cells no earlier picture has."""
  pictures, drawn = [], []
  for precision in dict.fromkeys(e.precision for e in entries):
    number = 0
    for variation in variations.of(config):
      changes = variations.changes_of(variation.label)
      here = [
        e
        for e in entries
        if e.precision == precision
        and variations.changes_of(e.point) == variations.read_by(changes, e.cell, precision)
      ]
      # A variation that no cell of this precision reads would draw the base's picture again.
      if not here or here in drawn:
        continue
      drawn.append(here)
      number += 1
      name = f"curves-{precision.replace(',', '')}{f'-{number}' if number > 1 else ''}.png"
      # Some cells read a part of the changes: the longest text has all of them.
      shared = max((e.point for e in here), key=len)
      title = ", ".join(filter(None, (precision, shared)))
      # The order of CELLS, so that all pictures have one legend.
      here = sorted(here, key=lambda e: CELLS.index(e.cell))
      by_cell = {e.cell: [c for row in e.rows if (c := curves(row))] for e in here}
      by_cell = {cell: own for cell, own in by_cell.items() if own}
      if plots.study_curves(by_cell, NAMES, title, out / name):
        pictures.append(Picture(name, f"Learning curves at {title}, the mean over seeds."))
  return pictures or [Text("There are no records of the runs.")]


def _losses(entries) -> list[Text]:
  """What a reader of the runs' losses has to know."""
  taught = [e for e in entries if e.cell in SCHEMES and SCHEMES[e.cell].distills]
  return [Text(LOSS_WITH_A_TEACHER)] if taught else []


def _tradeoffs(entries, images: str, out) -> list:
  """Accuracy against size and against bit operations, each with its front."""
  blocks = []
  for cost in tables.COSTS:
    # Results of an earlier version may not count bit operations.
    some = [e for e in entries if e.cost(cost.field)]
    if not some:
      continue
    costs = [e.cost(cost.field) / cost.unit for e in some]
    best = summary.front(costs, [e.mean for e in some])
    file = f"accuracy-{cost.file}.png"
    plots.accuracy_against(some, NAMES, costs, best, cost.axis, out / file)
    caption = f"Accuracy against {cost.title}. Networks of equal {cost.title} stand side by side."
    blocks.append(Picture(file, caption))
    blocks.append(tables.front(cost, some, best, images))
  return [Heading("Accuracy against cost"), *blocks]


def references_of(config, entries) -> dict:
  """(network, precision) -> the references for it, of those that the study has."""
  cited = {}
  for reference in map(references.parse, config.study.references):
    if any((e.network, e.precision) == reference[:2] for e in entries):
      cited.setdefault(reference[:2], []).append(reference)
  return cited


def _sources(config, entries) -> list:
  """Where the references come from, and which of them no cell is compared with."""
  cited, used, unused = references_of(config, entries), [], []
  for r in map(references.parse, config.study.references):
    # A reference that no cell matches is listed, too: its network may be misspelt.
    line = f"{r.accuracy:.2f} ({r.network} {r.precision}: {r.source})"
    (used if r[:2] in cited else unused).append(line)
  texts = []
  if used:
    texts.append(
      "References are published accuracies, which this study did not measure. The difference is "
      f"this study's accuracy less the reference: {'; '.join(used)}."
    )
  if unused:
    texts.append(f"References to no cell of this study: {'; '.join(unused)}.")
  return list(map(Text, texts))
