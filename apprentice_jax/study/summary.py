"""The numbers of a study summed up: means over seeds, paired tests, epochs to converge, and the
Pareto front.

Accuracies are in percent and differences in points throughout.
"""

import collections
import math
import statistics
from typing import NamedTuple

import numpy as np
from scipy import special

from apprentice_jax.study import variations

# Each kind of cell and what it is compared with, seed by seed.
COMPARISONS = (
  ("A", "baseline"),
  ("B", "baseline"),
  ("C", "baseline"),
  ("C", "C-control"),
  ("C-control", "baseline"),
  *((kind, "student") for kind in ("baseline", "A", "B", "C", "C-control")),
)
MARGIN = 0.5  # points below its end at which a run counts as converged


class Entry(NamedTuple):
  """One cell over its seeds.

  Attributes:
    cell, precision, point, network: as in results.csv.
    accuracy: seed -> accuracy of the last epoch.
    rows: of results.csv, one a seed.
    gap: mean difference to the full-precision student of the same seeds; None without one.
  """

  cell: str
  precision: str
  point: str
  network: str
  accuracy: dict[int, float]
  rows: list[dict]
  gap: float | None

  @property
  def mean(self) -> float:
    return statistics.mean(self.accuracy.values())

  @property
  def sd(self) -> float | None:
    """The standard deviation over seeds (n - 1); None of one."""
    return deviation(self.accuracy.values())

  def cost(self, field: str) -> int | None:
    """The network's "bytes" or "bops"; None where it is not known."""
    return self.rows[0][field] or None


def deviation(values) -> float | None:
  """The standard deviation of some values (n - 1); None of one."""
  values = list(values)
  return statistics.stdev(values) if len(values) > 1 else None


def entries(rows: list[dict]) -> list[Entry]:
  """One entry per cell, precision and point, precision by precision, each in the order of the
  rows."""
  groups = {}
  for row in rows:
    groups.setdefault((row["cell"], row["precision"], row["point"]), []).append(row)
  result = []
  for key, members in groups.items():
    accuracy = {r["seed"]: 100 * r["accuracy"] for r in members}
    result.append(Entry(*key, members[0]["network"], accuracy, members, None))
  # Python's sort is stable: within a precision, the order of the rows remains.
  order = {precision: i for i, precision in enumerate(dict.fromkeys(e.precision for e in result))}
  result.sort(key=lambda e: order[e.precision])
  students = [e for e in result if e.cell == "student"]
  return [e._replace(gap=_gap(e, students)) for e in result]


def _gap(entry: Entry, students: list[Entry]) -> float | None:
  for student in students:
    seeds = entry.accuracy.keys() & student.accuracy.keys()
    if entry.cell not in ("teacher", "student") and comparable(entry, student) and seeds:
      return statistics.mean(entry.accuracy[s] - student.accuracy[s] for s in seeds)
  return None


def comparable(one: Entry, other: Entry) -> bool:
  """Whether two entries agree in every field that was varied and that both read."""
  common = lambda a, b: variations.read_by(variations.changes_of(a.point), b.cell, b.precision)
  return common(one, other) == common(other, one)


class Paired(NamedTuple):
  """The difference of two cells over the seeds that both have.

  Attributes:
    difference: its mean.
    seeds: which.
    low, high: 95% confidence interval; None of one seed, or where all differences are equal.
    p: of the two-sided paired t-test; None where the interval is.
  """

  difference: float
  seeds: tuple[int, ...]
  low: float | None = None
  high: float | None = None
  p: float | None = None


def paired(one: dict[int, float], other: dict[int, float]) -> Paired | None:
  """Student's paired t-test of ``one - other`` (n - 1 degrees of freedom); None without a common
  seed."""
  seeds = tuple(sorted(one.keys() & other.keys()))
  if not seeds:
    return None
  differences = [one[s] - other[s] for s in seeds]
  mean, sd = statistics.mean(differences), deviation(differences)
  # Equal accuracies of whole images are equal; their differences in floats are so but for rounding.
  if sd is None or sd < 1e-9:
    return Paired(mean, seeds)
  n = len(seeds)
  error = sd / math.sqrt(n)
  half = special.stdtrit(n - 1, 0.975) * error
  # scipy.stats has this test too, but takes long to import.
  p = 2 * float(special.stdtr(n - 1, -abs(mean) / error))
  return Paired(mean, seeds, mean - half, mean + half, p)


class Comparison(NamedTuple):
  """Two entries, their paired difference, and its p-value after Holm's correction (None without
  one)."""

  one: Entry
  other: Entry
  test: Paired
  corrected: float | None


def comparisons(entries: list[Entry]) -> dict[str, list[Comparison]]:
  """Precision -> its COMPARISONS; the p-values of one precision are corrected together."""
  return _tested(
    (one, other)
    for one_kind, other_kind in COMPARISONS
    for one in entries
    for other in entries
    if (one.cell, other.cell) == (one_kind, other_kind)
    and (other_kind == "student" or other.precision == one.precision)
    and comparable(one, other)
  )


def variations_beside_base(entries: list[Entry]) -> dict[str, list[Comparison]]:
  """Precision -> each cell at a variation, compared with the same cell at the base."""
  return _tested(
    (one, base)
    for one in entries
    for base in entries
    if one.point and not base.point and one[:2] == base[:2]
  )


def _tested(pairs) -> dict[str, list[Comparison]]:
  """The comparisons of pairs of entries that have a seed in common, by precision."""
  result = collections.defaultdict(list)
  for one, other in pairs:
    if test := paired(one.accuracy, other.accuracy):
      result[one.precision].append(Comparison(one, other, test, None))
  # All tests of one table are corrected together, since a reader looks at all of them.
  for precision, members in result.items():
    corrected = iter(holm([c.test.p for c in members if c.test.p is not None]))
    result[precision] = [
      c if c.test.p is None else c._replace(corrected=next(corrected)) for c in members
    ]
  return dict(result)


def holm(p: list[float]) -> list[float]:
  """p-values corrected for their number.

  The i-th smallest of n is multiplied by n - i + 1, and none falls below that of a smaller one. The
  paper is Holm, "A simple sequentially rejective multiple test procedure", 1979.
  """
  order, result, least = sorted(range(len(p)), key=p.__getitem__), [0.0] * len(p), 0.0
  for rank, i in enumerate(order):
    least = max(least, min(1.0, (len(p) - rank) * p[i]))
    result[i] = least
  return result


class Curve(NamedTuple):
  """The accuracy of one run as it trained.

  Attributes:
    epochs, accuracy: of equal length.
    split: "validation", or "training" where no validation split was scored on the way.
  """

  epochs: np.ndarray
  accuracy: np.ndarray
  split: str


def curve(records: list[dict], smooth: bool = False, scored: bool = True) -> Curve | None:
  """The curve of the records of a metrics.jsonl; None without any.

  Args:
    records: in their order.
    smooth: training accuracies as their mean over each epoch, at the epoch's last step.
    scored: whether to take validation accuracies where there are any.
  """
  # Scores have a step alone; the training record of this step has the epoch.
  at = {r["step"]: r["epoch"] for r in records if "epoch" in r}
  scores = {
    at[r["step"]]: r["validation_accuracy"]
    for r in records
    if scored and "validation_accuracy" in r and r["step"] in at
  }
  # One score is that of the end, and no curve.
  if len(scores) > 1:
    return Curve(np.array(list(scores)), 100 * np.array(list(scores.values())), "validation")
  training = [r for r in records if "student_accuracy" in r and "epoch" in r]
  if not training:
    return None
  epochs, accuracy = (np.array([r[k] for r in training]) for k in ("epoch", "student_accuracy"))
  if smooth:
    # A record is the mean of the steps since the one before.
    weights = np.diff([0, *(r["step"] for r in training)])
    number = np.ceil(epochs - 1e-6)
    groups = [number == n for n in np.unique(number)]
    accuracy = np.array([np.average(accuracy[g], weights=weights[g]) for g in groups])
    epochs = np.array([epochs[g][-1] for g in groups])
  return Curve(epochs, 100 * accuracy, "training")


def taught_by(records: list[dict]) -> tuple[float, float] | None:
  """The teacher on the training images of the last epoch, as they were augmented: its accuracy in
  percent, and its cross-entropy with the labels. None where the records of a metrics.jsonl have no
  teacher."""
  taught = [r for r in records if "teacher_ce" in r]
  if not taught:
    return None
  # A record is the mean of the steps since the one before.
  weights = np.diff([0, *(r["step"] for r in taught)])
  last = np.array([r["epoch"] > taught[-1]["epoch"] - 1 for r in taught])
  mean = lambda field: float(np.average([r[field] for r in taught], weights=weights * last))
  return 100 * mean("teacher_accuracy"), mean("teacher_ce")


def epochs_to(level: float, of: Curve) -> float | None:
  """The first epoch at which a curve is at the level or above; None if it never is."""
  reached = np.flatnonzero(of.accuracy >= level)
  return float(of.epochs[reached[0]]) if len(reached) else None


class Convergence(NamedTuple):
  """Epochs of an entry, and of the one it is compared with, to the level that both end at: means
  over seeds."""

  entry: Entry
  other: Entry
  epochs: float
  other_epochs: float
  seeds: int


def convergence(entries: list[Entry], curves) -> list[Convergence]:
  """How soon each cell converges, beside scheme A of its precision (without one, beside the
  baseline).

  The level is the lower one of the last accuracies of a seed's two runs, less MARGIN. Both runs
  reach this level, whichever ends higher, and noise on the plateau does not decide. The result is
  the first epoch at which a run is there.

  Args:
    entries: of the study.
    curves: curves(row) is the smoothed `Curve` of a row's run, or None.
  """
  result = []
  for precision in dict.fromkeys(e.precision for e in entries):
    here = [e for e in entries if e.precision == precision and e.cell not in ("teacher", "student")]
    # Epochs of two precisions do not compare: each has a cell of its own to stand beside.
    kind = "A" if any(e.cell == "A" for e in here) else "baseline"
    for other in (e for e in here if e.cell == kind):
      for entry in (e for e in here if e.cell != kind and comparable(e, other)):
        pairs = [
          _epochs_of_pair(curves(a), curves(b))
          for a in entry.rows
          for b in other.rows
          if a["seed"] == b["seed"]
        ]
        if pairs := [pair for pair in pairs if pair]:
          result.append(Convergence(entry, other, *map(statistics.mean, zip(*pairs)), len(pairs)))
  return result


def _epochs_of_pair(one: Curve | None, other: Curve | None):
  if one is None or other is None or one.split != other.split:
    return None
  level = min(one.accuracy[-1], other.accuracy[-1]) - MARGIN
  return epochs_to(level, one), epochs_to(level, other)


def front(costs: list[float], accuracies: list[float]) -> list[int]:
  """Which points no other one dominates (costs no more, is no worse, and in one of these better),
  by cost."""
  dominated = lambda i: any(
    costs[j] <= costs[i]
    and accuracies[j] >= accuracies[i]
    and (costs[j] < costs[i] or accuracies[j] > accuracies[i])
    for j in range(len(costs))
  )
  return sorted((i for i in range(len(costs)) if not dominated(i)), key=lambda i: costs[i])
