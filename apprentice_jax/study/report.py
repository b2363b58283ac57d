"""What a study leaves for its reader: report.md, report.html and plots."""

import pathlib
import statistics

from apprentice_jax import document, plots
from apprentice_jax.config import CELLS, references
from apprentice_jax.document import Heading, Picture, Table, Text
from apprentice_jax.study import grid, summary, verdict
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


def write(
  config,
  out: pathlib.Path,
  rows: list[dict],
  points: list[grid.Point],
  folders,
  missing=(),
  earlier=(),
) -> str:
  """Writes the report of a study.

  Args:
    config: the study's.
    out: gets report.md, report.html and plots.
    rows: of its finished cells, as `results.located` makes them.
    points: of its grid.
    folders: of the study, or of its parts.
    missing: names of cells that are not finished.
    earlier: names of finished cells of other calls in the same folders, which are in no table.

  Returns:
    The table of accuracies, in Markdown.
  """
  found = summary.entries(rows)
  what = f"{config.eval.final} split, {rows[0]['count']:,} images, last epoch, {_seeds(rows)}"
  runs = {str(row["place"]): read_records(row["place"]) for row in rows}
  # Not validation accuracies of some runs beside training accuracies of others.
  scored = all(
    summary.curve(records).split == "validation"
    for records in runs.values()
    if summary.curve(records)
  )
  curves = lambda row, smooth=False: summary.curve(runs[str(row["place"])], smooth, scored)
  table = accuracies(config, found, what)
  blocks = [
    Heading(f"Apprentice study on {config.data.name}", 1),
    Text(
      f"Student {_network(config.student)}, teacher {_network(config.teacher)}; {_seeds(rows)}; "
      "the last epoch's "
      f"accuracy on the {rows[0]['count']:,} images of the {config.eval.final} split; no epoch is "
      "picked by it."
    ),
    *(
      [
        Text(
          "A setting chosen by this table is chosen on the test split: to choose, hold out "
          "data.validation images "
          "and set eval.final=validation."
        )
      ]
      if config.eval.final == "test" and len(points) > 1
      else []
    ),
    *([Text("Not finished: " + ", ".join(missing) + ".")] if missing else []),
    *(
      [
        Text(
          "Trained by earlier calls in the same workdir, and in no table here: "
          + ", ".join(earlier)
          + ". Name "
          "their seeds, cells and precisions in config.study to have them in it."
        )
      ]
      if earlier
      else []
    ),
    *verdict.blocks(found, NAMES),
    Heading("Accuracy"),
    table,
    *_sources(config, found),
    *significance(found, what),
    Heading("Learning curves"),
    *_curve_plots(found, points, curves, out),
    *convergence(found, curves),
    *tradeoffs(found, what, out),
    *agreement(found, runs, what),
    *everything(found, what),
    *origin(*folders),
  ]
  (out / "report.md").write_text(document.markdown(blocks), "utf-8")
  (out / "report.html").write_text(document.page(blocks, out), "utf-8")
  return document.table(table)


def accuracies(config, found: list[summary.Entry], what: str) -> Table:
  """The study's table; with columns for the point of the grid and for references where there are
  any."""
  at, over, known = _at(found), _over(found), _references(config, found)
  columns = ["network", "precision", *at[0], *over[0], "accuracy %", "gap", "size"]
  columns += ["reference %", "difference"] if known else []
  rows = []
  for e in found:
    own = known.get((e.network, e.precision), ())
    gap = "" if e.gap is None else f"{e.gap:+z.2f}"
    rows.append(
      [
        NAMES[e.cell],
        e.precision,
        *at[1](e),
        *over[1](e),
        _spread(e.accuracy.values()),
        gap,
        _size(e.cost("bytes")),
      ]
    )
    if known:
      rows[-1] += [
        "; ".join(f"{r.accuracy:.2f}" for r in own),
        "; ".join(f"{e.mean - r.accuracy:+z.2f}" for r in own),
      ]
  return Table(
    f"Accuracy ({what}), mean ± standard deviation over seeds. Gap: to the full-precision student "
    "of the "
    "same seeds, in points. Size: the packed file's, ends in float32.",
    columns,
    rows,
  )


def significance(found: list[summary.Entry], what: str) -> list:
  """The paired tests, a table for each precision."""
  blocks, at = [], _at(found)
  for precision, members in summary.comparisons(found).items():
    rows = []
    for c in members:
      f = c.found
      numbers = (
        [f"{f.low:+z.2f} to {f.high:+z.2f}", _p(f.p), _p(c.corrected)]
        if f.p is not None
        else ["one seed: no test" if len(f.seeds) == 1 else "all seeds alike: no test", "", ""]
      )
      rows.append(
        [
          f"{NAMES[c.one.cell]} − {NAMES[c.other.cell]}",
          *at[1](c.one),
          f"{f.difference:+z.2f}",
          *numbers,
          ", ".join(map(str, f.seeds)),
        ]
      )
    tests = sum(c.corrected is not None for c in members)
    columns = ["difference of", *at[0], "points", "95% interval", "p", "p, Holm", "seeds"]
    how = (
      "its 95% interval and the p-value of the paired t-test (Student's t, n − 1 degrees of "
      "freedom). p, Holm: "
      f"corrected for the {tests} tests of this table; intervals are not corrected. With few seeds "
      "a difference that "
      "is there may well not show."
      if tests
      else "of which too few seeds say nothing more."
    )
    blocks.append(
      Table(
        f"{precision} ({what}): mean difference of accuracies of the same seed, {how}",
        columns,
        rows,
      )
    )
  return [Heading("Which differences are significant"), *blocks] if blocks else []


def _curve_plots(found, points, curves, out) -> list:
  pictures, drawn = [], []
  for precision in dict.fromkeys(e.precision for e in found):
    number = 0
    for point in points:
      here = [
        e
        for e in found
        if e.precision == precision
        and e.point == grid.label(grid.restricted(point, e.cell, precision))
      ]
      if not here or here in drawn:
        continue
      drawn.append(here)
      number += 1
      name = f"curves-{precision.replace(',', '')}{f'-{number}' if number > 1 else ''}.png"
      shared = max((e.point for e in here), key=len)  # of full precision the part that concerns it
      by_cell = {
        e.cell: [c for row in e.rows if (c := curves(row))]
        for e in sorted(here, key=lambda e: CELLS.index(e.cell))
      }
      title = f"{precision}{', ' if shared else ''}{shared}"
      if plots.study_curves({k: v for k, v in by_cell.items() if v}, NAMES, title, out / name):
        pictures.append(Picture(name, f"learning curves at {title}, mean over seeds"))
  return pictures or [Text("There are no records of the runs.")]


def convergence(found, curves) -> list:
  """How soon each scheme converges."""
  entries, at = summary.convergence(found, lambda row: curves(row, smooth=True)), _at(found)
  if not entries:
    return []
  splits = sorted({c.split for e in found for row in e.rows if (c := curves(row))})
  rows = [
    [
      NAMES[c.entry.cell],
      c.entry.precision,
      *at[1](c.entry),
      NAMES[c.other.cell] + (f", {c.other.point}" if c.other.point else ""),
      f"{c.epochs:.1f}",
      f"{c.other_epochs:.1f}",
      f"{c.epochs / c.other_epochs:.2f}",
      str(c.seeds),
    ]
    for c in entries
  ]
  how = (
    " or ".join(splits) + " accuracy" + (", a mean over each epoch" if "training" in splits else "")
  )
  return [
    Heading("Which scheme converges sooner"),
    Table(
      "Epochs until both runs of a seed first reach the lower one of their last accuracies "
      f"({how}) less "
      f"{summary.MARGIN:g} points, a level that both come to; mean over the seeds. The grain is "
      "the distance between "
      "two scores, and a learning rate that decays decides part of it. C and its control start "
      "from a student that has "
      "trained before.",
      ["scheme", "precision", *at[0], "beside", "epochs", "epochs there", "ratio", "seeds"],
      rows,
    ),
  ]


def tradeoffs(found, what: str, out) -> list:
  """Accuracy against size and against bit operations, each with its front."""
  blocks, at, over = [], _at(found), _over(found)
  for field, title, label, file, shown in (
    ("bytes", "size", "size of the packed file, kB", "accuracy-size.png", _size),
    (
      "bops",
      "bit operations",
      "bit operations for an image, millions",
      "accuracy-bops.png",
      lambda n: f"{n / 1e6:,.1f} M",
    ),
  ):
    some = [e for e in found if e.cost(field)]
    if not some:  # results of a version that did not count them
      continue
    costs = [e.cost(field) / (1e3 if field == "bytes" else 1e6) for e in some]
    best = summary.front(costs, [e.mean for e in some])
    plots.accuracy_against(some, NAMES, costs, best, label, out / file)
    rows = [
      [
        NAMES[e.cell],
        e.precision,
        *at[1](e),
        *over[1](e),
        _spread(e.accuracy.values()),
        shown(e.cost(field)),
      ]
      for e in (some[i] for i in best)
    ]
    blocks += [
      Picture(file, f"accuracy against {title}"),
      Table(
        f"Not dominated ({what}): no cell of the study has a higher mean at the same {title} or "
        "less. Cells whose "
        "means differ by less than their spread (± standard deviation over seeds) are not told "
        "apart by this. In the "
        f"plot, cells of equal {title} stand side by side.",
        ["network", "precision", *at[0], *over[0], "accuracy %", title],
        rows,
      ),
    ]
  return [Heading("Accuracy against cost"), *blocks]


def agreement(found, runs, what: str) -> list:
  """How often student and teacher say the same, and how sure the teacher is of what the student
  learns from."""
  percent = lambda e, field: [100 * row[field] for row in e.rows if row[field] != ""]
  at, over, rows = _at(found), _over(found), []
  for e in found:
    if percent(e, "agreement"):
      seen = list(filter(None, (summary.taught_by(runs[str(row["place"])]) for row in e.rows)))
      accuracy, loss = map(statistics.mean, zip(*seen)) if seen else ("", "")
      rows.append(
        [
          NAMES[e.cell],
          e.precision,
          *at[1](e),
          *over[1](e),
          _spread(percent(e, "agreement")),
          _spread(e.accuracy.values()),
          _spread(percent(e, "teacher_accuracy")),
          *([f"{accuracy:.2f}", f"{loss:.4f}"] if seen else ["", ""]),
        ]
      )
  return rows and [
    Heading("Agreement of student and teacher"),
    Table(
      f"Share of images ({what}) of which student and teacher name the same class, right or wrong, "
      "beside the accuracy "
      "of each; mean ± standard deviation over seeds. In training: the teacher on the augmented "
      "training images of the last "
      "epoch, its accuracy and its cross-entropy with the labels. One near 0 leaves it, at a "
      "temperature of 1, next to nothing "
      "to say that the labels do not.",
      [
        "scheme",
        "precision",
        *at[0],
        *over[0],
        "agreement %",
        "student %",
        "teacher %",
        "teacher in training %",
        "cross-entropy",
      ],
      rows,
    ),
  ]


def everything(found, what: str) -> list:
  """All that was run."""
  at = _at(found)
  rows = []
  for e in found:
    listed = lambda field, form: ", ".join(form.format(r[field]) for r in e.rows if r[field] != "")
    same = lambda field: ", ".join(dict.fromkeys(str(r[field]) for r in e.rows if r[field] != ""))
    each = ", ".join(f"{a:.2f}" for a in e.accuracy.values())
    rows.append(
      [
        NAMES[e.cell],
        e.precision,
        *at[1](e),
        same("seed"),
        each,
        same("epochs"),
        same("steps"),
        listed("seconds", "{:,.0f}"),
        grid.label(tuple(e.rows[0]["changes"].items())),
      ]
    )
  return [
    Heading("All that was run"),
    Table(
      f"Every cell, the accuracy ({what}) and the training seconds of each seed in their order, "
      "and the fields of its "
      "config that differ from the study's.",
      [
        "network",
        "precision",
        *at[0],
        "seeds",
        "accuracies %",
        "epochs",
        "steps",
        "seconds",
        "config",
      ],
      rows,
    ),
  ]


def _at(found):
  """The column for points of the grid, and what an entry has there; none where there is no grid."""
  gridded = any(e.point for e in found)
  return (["setting"], lambda e: [e.point]) if gridded else ([], lambda e: [])


def _over(found):
  """The column for the number of seeds that a mean is over, and which; none where all cells have
  the same."""
  if len({tuple(sorted(e.accuracy)) for e in found}) == 1:
    return [], lambda e: []
  return ["n"], lambda e: [f"{len(e.accuracy)} ({_seeds(e.rows)})"]


def _references(config, found) -> dict:
  """(network, precision) -> the references for it, of those that the study has."""
  result = {}
  for reference in map(references.parse, config.study.references):
    if any((e.network, e.precision) == reference[:2] for e in found):
      result.setdefault(reference[:2], []).append(reference)
  return result


def _sources(config, found) -> list:
  known = _references(config, found)
  all_ = list(map(references.parse, config.study.references))
  line = lambda r: f"{r.accuracy:.2f} ({r.network} {r.precision}: {r.source})"
  used, unused = [r for r in all_ if r[:2] in known], [r for r in all_ if r[:2] not in known]
  return (
    [
      Text(
        "References, as published, not run here; the difference is ours less theirs: "
        + "; ".join(map(line, used))
        + "."
      )
    ]
    if used
    else []
  ) + (
    [Text("References to no cell of this study: " + "; ".join(map(line, unused)) + ".")]
    if unused
    else []
  )


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


def _size(count: int) -> str:
  return f"{count / 1000:.1f} kB"


def _network(network) -> str:
  return f"{network.name} at width {network.width:g}"
