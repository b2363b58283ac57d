"""What a study leaves for its reader: report.md, report.html and plots."""

import pathlib
import statistics

from apprentice_jax import document, plots
from apprentice_jax.config import CELLS, references
from apprentice_jax.document import Heading, Picture, Table, Text
from apprentice_jax.study import summary, variations, verdict
from apprentice_jax.training.records import read_records
from apprentice_jax.training.report import origin

NAMES = {
  "teacher": "teacher, full precision",
  "student": "student, full precision",
  "baseline": "no distillation",
  "A": "scheme A",
  "B": "scheme B",
  "C": "scheme C",
  "C-control": "C's control (no teacher)",
}
# Columns that a table has only where one of its rows has something to say there.
OPTIONAL = ("setting", "n", "reference %", "difference")
BOPS = "bit operations for an image, millions"


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
  split, count = config.eval.final, f"{rows[0]['count']:,}"
  what = f"{split} split, {count} images, last epoch, {_seeds(rows)}"
  # Read once: curves, convergence and the teacher's part are all made of them.
  runs = {str(row["place"]): read_records(row["place"]) for row in rows}
  curves = _curves_of(runs)
  notes = [
    f"Student {_network(config.student)}, teacher {_network(config.teacher)}; {_seeds(rows)}; "
    f"the last epoch's accuracy on the {count} images of the {split} split; no epoch is picked by "
    "it."
  ]
  # Whoever picks the best of several settings by the test split has no test left.
  if split == "test" and any(row["point"] for row in rows):
    notes.append(
      "A setting chosen by this table is chosen on the test split: to choose, hold out "
      "data.validation images and set eval.final=validation."
    )
  if missing:
    notes.append(f"Not finished: {', '.join(missing)}.")
  if earlier:
    notes.append(
      f"Trained by earlier calls in the same workdir, and in no table here: {', '.join(earlier)}. "
      "Name their seeds, cells and precisions in config.study to have them in it."
    )
  beside_base = summary.variations_beside_base(entries)
  table = accuracies(config, entries, what)
  blocks = [
    Heading(f"Apprentice study on {config.data.name}", 1),
    *map(Text, notes),
    *verdict.blocks(entries, NAMES),
    Heading("Accuracy"),
    table,
    *_sources(config, entries),
    *significance("Which differences are significant", summary.comparisons(entries), what),
    *significance("What each variation changes", beside_base, what, " at the base"),
    Heading("Learning curves"),
    *_curve_plots(config, entries, curves, out),
    *convergence(entries, curves),
    *tradeoffs(entries, what, out),
    *agreement(entries, runs, what),
    *everything(entries, what),
    *origin(*folders),
  ]
  (out / "report.md").write_text(document.markdown(blocks), "utf-8")
  (out / "report.html").write_text(document.page(blocks, out), "utf-8")
  return document.table(table.columns, table.rows)


def _curves_of(runs: dict[str, list[dict]]):
  """Returns curves(row, smooth=False), the `summary.Curve` of a row's run, or None."""
  every = [curve for records in runs.values() if (curve := summary.curve(records))]
  # Validation accuracies of some runs do not compare with training accuracies of others.
  scored = all(curve.split == "validation" for curve in every)
  return lambda row, smooth=False: summary.curve(runs[str(row["place"])], smooth, scored)


def _table(caption: str, rows: list[dict[str, str]]) -> Table:
  """A table of rows that have the same keys, its columns."""
  columns = [c for c in rows[0] if c not in OPTIONAL or any(row[c] for row in rows)]
  return Table(caption, columns, [[row[c] for c in columns] for row in rows])


def _cell(entry: summary.Entry, name: str = "network") -> dict[str, str]:
  """The columns that say which cell a row is about."""
  return {name: NAMES[entry.cell], "precision": entry.precision, "setting": entry.point}


def accuracies(config, entries: list[summary.Entry], what: str) -> Table:
  """The study's table; the references stand beside the accuracies they are of."""
  cited, counted = _references(config, entries), _counted(entries)
  rows = []
  for e in entries:
    own = cited.get((e.network, e.precision), ())
    row = {
      **_cell(e),
      "n": counted(e),
      "accuracy %": _spread(e.accuracy.values()),
      "gap": "" if e.gap is None else f"{e.gap:+z.2f}",
      "size": f"{e.cost('bytes') / 1000:.1f} kB",
      "reference %": "; ".join(f"{r.accuracy:.2f}" for r in own),
      "difference": "; ".join(f"{e.mean - r.accuracy:+z.2f}" for r in own),
    }
    rows.append(row)
  return _table(
    f"Accuracy ({what}), mean ± standard deviation over seeds. Gap: to the full-precision student "
    "of the same seeds, in points. Size: the packed file's, ends in float32.",
    rows,
  )


def significance(title: str, comparisons, what: str, beside: str = "") -> list:
  """The paired tests, a table for each precision.

  Args:
    title: of the section.
    comparisons: precision -> `summary.Comparison`s.
    what: the images that accuracies are of.
    beside: what follows the names of the cells that others are compared with.
  """
  blocks = []
  for precision, members in comparisons.items():
    rows = []
    for c in members:
      # A t-test needs two seeds, and differences that spread.
      interval, p, corrected = "all seeds alike: no test", "", ""
      if c.test.p is not None:
        interval = f"{c.test.low:+z.2f} to {c.test.high:+z.2f}"
        p, corrected = _p(c.test.p), _p(c.corrected)
      elif len(c.test.seeds) == 1:
        interval = "one seed: no test"
      row = {
        "difference of": f"{NAMES[c.one.cell]} − {NAMES[c.other.cell]}{beside}",
        "setting": c.one.point,
        "points": f"{c.test.difference:+z.2f}",
        "95% interval": interval,
        "p": p,
        "p, Holm": corrected,
        "seeds": ", ".join(map(str, c.test.seeds)),
      }
      rows.append(row)
    tests = sum(c.corrected is not None for c in members)
    how = "of which too few seeds say nothing more."
    if tests:
      how = (
        "its 95% interval and the p-value of the paired t-test (Student's t, n − 1 degrees of "
        f"freedom). p, Holm: corrected for the {tests} tests of this table; intervals are not "
        "corrected. With few seeds a difference that is there may well not show."
      )
    caption = f"{precision} ({what}): mean difference of accuracies of the same seed, {how}"
    blocks.append(_table(caption, rows))
  return [Heading(title), *blocks] if blocks else []


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
        pictures.append(Picture(name, f"learning curves at {title}, mean over seeds"))
  return pictures or [Text("There are no records of the runs.")]


def convergence(entries, curves) -> list:
  """How soon each scheme converges."""
  pairs = summary.convergence(entries, lambda row: curves(row, smooth=True))
  if not pairs:
    return []
  # The caption says which accuracy it is, since noise on training images is of another kind.
  splits = sorted({c.split for e in entries for row in e.rows if (c := curves(row))})
  how = " or ".join(splits) + " accuracy"
  if "training" in splits:
    how += ", a mean over each epoch"
  rows = [
    {
      **_cell(c.entry, "scheme"),
      "beside": ", ".join(filter(None, (NAMES[c.other.cell], c.other.point))),
      "epochs": f"{c.epochs:.1f}",
      "epochs there": f"{c.other_epochs:.1f}",
      "ratio": f"{c.epochs / c.other_epochs:.2f}",
      "seeds": str(c.seeds),
    }
    for c in pairs
  ]
  return [
    Heading("Which scheme converges sooner"),
    _table(
      "Epochs until both runs of a seed first reach the lower one of their last accuracies "
      f"({how}) less {summary.MARGIN:g} points, a level that both come to; mean over the seeds. "
      "The grain is the distance between two scores, and a learning rate that decays decides part "
      "of it. C and its control start from a student that has trained before.",
      rows,
    ),
  ]


def tradeoffs(entries, what: str, out) -> list:
  """Accuracy against size and against bit operations, each with its front."""
  blocks, counted = [], _counted(entries)
  for field, unit, title, shown, label, file in (
    ("bytes", 1e3, "size", "{:.1f} kB", "size of the packed file, kB", "accuracy-size.png"),
    ("bops", 1e6, "bit operations", "{:,.1f} M", BOPS, "accuracy-bops.png"),
  ):
    # Results of an earlier version may not count bit operations.
    some = [e for e in entries if e.cost(field)]
    if not some:
      continue
    costs = [e.cost(field) / unit for e in some]
    best = summary.front(costs, [e.mean for e in some])
    plots.accuracy_against(some, NAMES, costs, best, label, out / file)
    rows = [
      {
        **_cell(some[i]),
        "n": counted(some[i]),
        "accuracy %": _spread(some[i].accuracy.values()),
        title: shown.format(costs[i]),
      }
      for i in best
    ]
    caption = (
      f"Not dominated ({what}): no cell of the study has a higher mean at the same {title} or "
      "less. Cells whose means differ by less than their spread (± standard deviation over seeds) "
      f"are not told apart by this. In the plot, cells of equal {title} stand side by side."
    )
    blocks += [Picture(file, f"accuracy against {title}"), _table(caption, rows)]
  return [Heading("Accuracy against cost"), *blocks]


def agreement(entries, runs, what: str) -> list:
  """How often student and teacher say the same, and how sure the teacher is of what the student
  learns from."""
  # Cells without a teacher have no agreement, and no row.
  percent = lambda e, field: [100 * row[field] for row in e.rows if row[field] != ""]
  counted, rows = _counted(entries), []
  for e in entries:
    if not percent(e, "agreement"):
      continue
    taught = list(filter(None, (summary.taught_by(runs[str(row["place"])]) for row in e.rows)))
    accuracy, loss = map(statistics.mean, zip(*taught)) if taught else (None, None)
    row = {
      **_cell(e, "scheme"),
      "n": counted(e),
      "agreement %": _spread(percent(e, "agreement")),
      "student %": _spread(e.accuracy.values()),
      "teacher %": _spread(percent(e, "teacher_accuracy")),
      "teacher in training %": f"{accuracy:.2f}" if taught else "",
      "cross-entropy": f"{loss:.4f}" if taught else "",
    }
    rows.append(row)
  return rows and [
    Heading("Agreement of student and teacher"),
    _table(
      f"Share of images ({what}) of which student and teacher name the same class, right or wrong, "
      "beside the accuracy of each; mean ± standard deviation over seeds. In training: the teacher "
      "on the augmented training images of the last epoch, its accuracy and its cross-entropy with "
      "the labels. One near 0 leaves it, at a temperature of 1, next to nothing to say that the "
      "labels do not.",
      rows,
    ),
  ]


def everything(entries, what: str) -> list:
  """All that was run."""
  rows = []
  for e in entries:
    texts = lambda field, form="{}": [form.format(r[field]) for r in e.rows if r[field] != ""]
    distinct = lambda field: ", ".join(dict.fromkeys(texts(field)))
    row = {
      **_cell(e),
      "seeds": distinct("seed"),
      "accuracies %": ", ".join(f"{a:.2f}" for a in e.accuracy.values()),
      "epochs": distinct("epochs"),
      "steps": distinct("steps"),
      "seconds": ", ".join(texts("seconds", "{:,.0f}")),
      "config": variations.Variation("", tuple(e.rows[0]["changes"].items())).label,
    }
    rows.append(row)
  return [
    Heading("All that was run"),
    _table(
      f"Every cell, the accuracy ({what}) and the training seconds of each seed in their order, "
      "and the fields of its config that differ from the study's.",
      rows,
    ),
  ]


def _counted(entries):
  """Returns a function of an entry: how many seeds its mean is over, and which.

  It returns "" where all entries have the same seeds.
  """
  if len({tuple(sorted(e.accuracy)) for e in entries}) == 1:
    return lambda e: ""
  return lambda e: f"{len(e.accuracy)} ({_seeds(e.rows)})"


def _references(config, entries) -> dict:
  """(network, precision) -> the references for it, of those that the study has."""
  result = {}
  for reference in map(references.parse, config.study.references):
    if any((e.network, e.precision) == reference[:2] for e in entries):
      result.setdefault(reference[:2], []).append(reference)
  return result


def _sources(config, entries) -> list:
  """Where the references come from, and which of them no cell is compared with."""
  cited, used, unused = _references(config, entries), [], []
  for r in map(references.parse, config.study.references):
    # A reference that no cell matches is listed, too: its network may be misspelt.
    line = f"{r.accuracy:.2f} ({r.network} {r.precision}: {r.source})"
    (used if r[:2] in cited else unused).append(line)
  texts = []
  if used:
    texts.append(
      "References, as published, not run here; the difference is ours less theirs: "
      f"{'; '.join(used)}."
    )
  if unused:
    texts.append(f"References to no cell of this study: {'; '.join(unused)}.")
  return list(map(Text, texts))


def _spread(values) -> str:
  """Mean ± standard deviation, as text."""
  values = list(values)
  if not values:
    return ""
  sd = summary.deviation(values)
  return f"{statistics.mean(values):.2f}" + ("" if sd is None else f" ± {sd:.2f}")


def _p(value: float) -> str:
  return f"{value:.3f}" if value >= 0.001 else "<0.001"


def _seeds(rows) -> str:
  seeds = sorted({row["seed"] for row in rows})
  return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _network(network) -> str:
  # A teacher's file has no name of ours.
  if not network.name:
    return pathlib.Path(network.init).name
  return f"{network.name} at width {network.width:g}"
