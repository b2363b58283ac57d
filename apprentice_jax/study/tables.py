"""The tables of a study's report; `summary` has their numbers."""

import statistics
from typing import NamedTuple

from apprentice_jax.document import Heading, Table, Text
from apprentice_jax.models.imported import is_imported
from apprentice_jax.study import summary, variations
from apprentice_jax.training.recipes import FULL_PRECISION

NAMES = {
  "teacher": "teacher, full precision",
  "student": "student, full precision",
  "baseline": "no distillation",
  "A": "scheme A",
  "B": "scheme B",
  "C": "scheme C",
  "C-control": "C's control (no teacher)",
}
# Columns that say which network a row is about; the ones that differ from row to row come first.
LEADING = ("setting", "network", "difference of", "precision")
# Columns that a table has only where one of its rows has something to say there.
OPTIONAL = ("n", "reference %", "difference", "p", "p, Holm")
BASE = "base"  # the setting of a cell without a variation
NAMED = 8  # layers, at most, that a sentence names
SPREAD = "the mean ± standard deviation over seeds"


class Cost(NamedTuple):
  """What accuracy is weighed against.

  Attributes:
    field: of results.csv.
    unit: what its values are divided by.
    title, axis, file: its name in tables, in a plot, and of the plot's file.
    form: of a value in its unit.
  """

  field: str
  unit: float
  title: str
  axis: str
  file: str
  form: str


COSTS = (
  Cost("bytes", 1e3, "size", "size, kB", "size", "{:.1f} kB"),
  Cost("bops", 1e6, "bit operations", "bit operations an image, millions", "bops", "{:,.1f} M"),
)


def _table(caption: str, rows: list[dict[str, str]]) -> Table:
  """A table of rows that have the same keys, its columns."""
  shown = lambda column: column not in OPTIONAL or any(row[column] for row in rows)
  varies = lambda column: len({row[column] for row in rows}) > 1
  first = [c for c in LEADING if c in rows[0]]
  # Without variations, every row has the base's setting, which says nothing.
  if "setting" in first and {row["setting"] for row in rows} == {BASE}:
    first.remove("setting")
  first.sort(key=varies, reverse=True)
  columns = [*first, *(c for c in rows[0] if c not in LEADING and shown(c))]
  return Table(caption, columns, [[row[c] for c in columns] for row in rows])


def _cell(entry: summary.Entry) -> dict[str, str]:
  """The columns that say which cell a row is about."""
  return {
    "setting": entry.point or BASE,
    "network": NAMES[entry.cell],
    "precision": entry.precision,
  }


def accuracies(entries: list[summary.Entry], cited: dict, images: str) -> Table:
  """The study's table.

  Args:
    entries: of the study.
    cited: (network, precision) -> the references that stand beside its accuracy.
    images: which ones the accuracies are of, in words.
  """
  counted = _counted(entries)
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
    f"The accuracy is {SPREAD}, on {images}. The gap is the difference in points to the "
    f"full-precision student of the same seeds. {_size(entries)}",
    rows,
  )


def _size(entries: list[summary.Entry]) -> str:
  """What the sizes are of, in words."""
  own = {is_imported(e.network) for e in entries}
  packed = "that of the packed file"
  if own == {False}:
    return f"The size is {packed}."
  weights = "that of the weights at their bits, with float32 for scales and all the rest"
  if own == {True}:
    return f"The size is {weights}; no packed file holds a network of your own."
  return f"The size is {packed}. Of a network of your own, it is {weights}."


def layers(entries: list[summary.Entry]) -> list[Text]:
  """Which layers of the students are quantized, and which are not: a sentence for each answer."""
  found = {}
  for e in entries:
    # Results of an earlier version do not say.
    if e.precision != FULL_PRECISION and (count := e.rows[0]["layers"]):
      at = f"{e.precision} ({e.point})" if e.point else e.precision
      found.setdefault((count, e.rows[0]["full_precision"]), {})[at] = None
  return [
    Text(f"At {_listed(places)}, {_quantized(count, list(filter(None, left.split(';'))))}.")
    for (count, left), places in found.items()
  ]


def _quantized(count: int, left: list[str]) -> str:
  """How many of the layers are quantized, and the names of those that are left."""
  text = f"{count - len(left)} of {count} convolutions and dense layers are quantized"
  if not left:
    return text
  more = [f"{len(left) - NAMED} more"] if len(left) > NAMED else []
  verb = "stays" if len(left) == 1 else "stay"
  return f"{text}; {_listed([*left[:NAMED], *more])} {verb} in full precision"


def _listed(words) -> str:
  """Such as "a, b and c"."""
  *first, last = words
  return f"{', '.join(first)} and {last}" if first else last


def significance(title: str, comparisons, images: str, beside: str = "") -> list:
  """The paired tests, a table for each precision.

  Args:
    title: of the section.
    comparisons: precision -> `summary.Comparison`s.
    images: which ones the accuracies are of, in words.
    beside: what follows the names of the cells that others are compared with.
  """
  blocks = []
  for precision, members in comparisons.items():
    rows = []
    for c in members:
      # A t-test needs two seeds, and differences that spread.
      interval, p_value, corrected = "all seeds alike: no test", "", ""
      if c.test.p is not None:
        interval = f"{c.test.low:+z.2f} to {c.test.high:+z.2f}"
        p_value, corrected = p(c.test.p), p(c.corrected)
      elif len(c.test.seeds) == 1:
        interval = "one seed: no test"
      row = {
        "setting": c.one.point or BASE,
        "difference of": f"{NAMES[c.one.cell]} − {NAMES[c.other.cell]}{beside}",
        "points": f"{c.test.difference:+z.2f}",
        "95% interval": interval,
        "p": p_value,
        "p, Holm": corrected,
        "seeds": _named(c.test.seeds),
      }
      rows.append(row)
    caption = (
      f"At {precision}: the difference between two networks of the same seed, the mean over seeds, "
      f"on {images}."
    )
    if tests := sum(c.corrected is not None for c in members):
      caption += (
        " The p-value is that of the paired t-test (Student's t, n − 1 degrees of freedom). "
        f"Holm's is corrected for the {tests} tests of this table. The intervals are not "
        "corrected. With few seeds, a test may miss a difference that exists."
      )
    blocks.append(_table(caption, rows))
  return [Heading(title), *blocks] if blocks else []


def convergence(entries, curves) -> list:
  """How soon each scheme converges."""
  pairs = summary.convergence(entries, lambda row: curves(row, smooth=True))
  if not pairs:
    return []
  # The caption says which accuracy it is, since noise on training images is of another kind.
  splits = sorted({c.split for e in entries for row in e.rows if (c := curves(row))})
  how = " or ".join(splits) + " accuracy"
  if "training" in splits:
    how += ", averaged over each epoch"
  rows = [
    {
      **_cell(c.entry),
      "beside": ", ".join(filter(None, (NAMES[c.other.cell], c.other.point))),
      "epochs": f"{c.epochs:.1f}",
      "epochs there": f"{c.other_epochs:.1f}",
      "ratio": f"{c.epochs / c.other_epochs:.2f}",
      "seeds": f"{c.seeds} seed{'s' * (c.seeds > 1)}",
    }
    for c in pairs
  ]
  return [
    Heading("Which scheme converges sooner"),
    _table(
      "The epochs that a network and the one beside it take to the same level, the mean over "
      f"seeds. The level is {summary.MARGIN:g} points below the lower of their last accuracies "
      f"({how}). Epochs are as exact as the distance between two scores. A learning rate that "
      "decays decides part of them. C and its control start from a trained student.",
      rows,
    ),
  ]


def front(cost: Cost, entries: list[summary.Entry], best: list[int], images: str) -> Table:
  """The entries at the places ``best``, which no other one dominates, and their costs."""
  counted = _counted(entries)
  rows = [
    {
      **_cell(entry),
      "n": counted(entry),
      "accuracy %": _spread(entry.accuracy.values()),
      cost.title: cost.form.format(entry.cost(cost.field) / cost.unit),
    }
    for entry in (entries[place] for place in best)
  ]
  return _table(
    f"No network of the study has a higher mean accuracy than these at the same {cost.title} or "
    f"less, on {images}. The accuracy is {SPREAD}. Two means that differ by less than their spread "
    "may be equal.",
    rows,
  )


def agreement(entries, runs, images: str) -> list:
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
      **_cell(e),
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
      "The agreement is the share of images for which student and teacher name the same class, "
      f"right or wrong. It and the accuracies of both are {SPREAD}, on {images}. The last two "
      "columns are of the teacher on the augmented training images of the last epoch: its accuracy "
      "and its cross-entropy with the labels. A teacher whose cross-entropy is near 0 tells the "
      "student little more than the labels do, at a temperature of 1.",
      rows,
    ),
  ]


def everything(entries, images: str) -> list:
  """All that was run."""
  rows = []
  for e in entries:
    texts = lambda field, form="{}": [form.format(r[field]) for r in e.rows if r[field] != ""]
    distinct = lambda field: ", ".join(dict.fromkeys(texts(field)))
    row = {
      **_cell(e),
      "seeds": _named(e.accuracy),
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
      f"Accuracies, on {images}, and seconds of training are in the order of the seeds. The last "
      "column has the fields of the config that differ from the study's.",
      rows,
    ),
  ]


def _counted(entries):
  """Returns a function of an entry: how many seeds its mean is over, and which.

  It returns "" where all entries have the same seeds.
  """
  if len({tuple(sorted(e.accuracy)) for e in entries}) == 1:
    return lambda e: ""
  return lambda e: f"{len(e.accuracy)} ({seeds(e.rows)})"


def _spread(values) -> str:
  """Mean ± standard deviation, as text."""
  values = list(values)
  if not values:
    return ""
  sd = summary.deviation(values)
  return f"{statistics.mean(values):.2f}" + ("" if sd is None else f" ± {sd:.2f}")


def p(value: float) -> str:
  """A p-value, as text."""
  return f"{value:.3f}" if value >= 0.001 else "<0.001"


def seeds(rows: list[dict]) -> str:
  """The seeds of rows of results.csv, in words."""
  return _named(sorted({row["seed"] for row in rows}))


def _named(numbers) -> str:
  """Seeds in words, so that their list is not taken for a count."""
  numbers = list(numbers)
  if len(numbers) > 3 and numbers == list(range(numbers[0], numbers[-1] + 1)):
    return f"seeds {numbers[0]} to {numbers[-1]}"
  return f"seed{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
