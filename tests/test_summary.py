"""The numbers of a study's report, beside SciPy and by hand."""

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from apprentice_jax.study import summary


def row(cell, seed, accuracy, point=""):
  """A line of results.csv."""
  return dict(
    cell=cell,
    precision="32A,32W" if cell == "student" else "8A,2W",
    point=point,
    seed=seed,
    bytes=1000,
    accuracy=accuracy,
    network="resnet20",
  )


def test_paired_tests_are_scipys_and_the_textbooks():
  one, other = {0: 91.2, 1: 90.1, 2: 92.4, 7: 50.0}, {0: 90.7, 1: 90.3, 2: 91.1, 8: 10.0}
  found = summary.paired(one, other)
  differences = [0.5, -0.2, 1.3]
  assert found.seeds == (0, 1, 2) and found.difference == pytest.approx(1.6 / 3)
  test = stats.ttest_rel([one[s] for s in range(3)], [other[s] for s in range(3)])
  assert found.p == pytest.approx(test.pvalue)
  interval = test.confidence_interval(0.95)
  assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
  # t of 2 degrees of freedom is known in closed form: F(t) = 1/2 + t / (2 sqrt(2 + t^2)).
  error = statistics.stdev(differences) / math.sqrt(3)
  t = found.difference / error
  assert found.p == pytest.approx(1 - t / math.sqrt(2 + t * t))
  assert found.high - found.difference == pytest.approx(
    4.30265 * error, rel=1e-5
  )  # from the tables


def test_paired_without_a_spread():
  assert summary.paired({0: 1.0}, {1: 1.0}) is None
  assert summary.paired({0: 90.0, 1: 80.0}, {0: 89.0}) == summary.Paired(1.0, (0,))
  alike = summary.paired({0: 100 * 0.9, 1: 100 * 0.8}, {0: 100 * 0.89, 1: 100 * 0.79})
  assert alike.p is None and alike.difference == pytest.approx(1)


def test_holm_by_hand():
  # Sorted 0.01, 0.02, 0.03, 0.8 are multiplied by 4, 3, 2 and 1; none below one before it.
  assert summary.holm([0.03, 0.8, 0.01, 0.02]) == pytest.approx([0.06, 0.8, 0.04, 0.06])
  assert summary.holm([0.9, 0.6]) == [1.0, 1.0] and summary.holm([]) == []


def test_front_by_hand():
  #        0   1   2   3   4   5   6
  costs = (5, 3, 3, 8, 8, 1, 9)
  right = (70, 60, 61, 80, 80, 50, 80)
  # 1 is worse than 2 at its cost; 3 and 4 are equal and both stay; 6 costs more than these for
  # nothing.
  assert summary.front(costs, right) == [5, 2, 0, 3, 4]
  assert summary.front([1.0], [1.0]) == [0] and summary.front([], []) == []


def test_curves_by_hand():
  # Two epochs of 25 steps in chunks of 10: the last of an epoch has 5, of which the weights are
  # half.
  training = [
    dict(step=s, epoch=s / 25, student_accuracy=a)
    for s, a in ((10, 0.1), (20, 0.2), (25, 0.6), (35, 0.5), (45, 0.7), (50, 0.9))
  ]
  raw = summary.curve(training)
  assert list(raw.epochs) == [0.4, 0.8, 1, 1.4, 1.8, 2]
  assert list(raw.accuracy) == pytest.approx([10, 20, 60, 50, 70, 90])
  smooth = summary.curve(training, smooth=True)
  assert list(smooth.epochs) == [1, 2] and smooth.split == "training"
  assert list(smooth.accuracy) == pytest.approx([(10 + 20 + 30) / 2.5, (50 + 70 + 45) / 2.5])
  scored = [
    *training,
    dict(step=25, validation_accuracy=0.3),
    dict(step=50, validation_accuracy=0.4),
  ]
  found = summary.curve(scored, smooth=True)
  assert (list(found.epochs), found.split) == ([1, 2], "validation") and list(
    found.accuracy
  ) == pytest.approx([30, 40])
  assert (
    summary.curve([]) is None and summary.curve(scored[:-1]).split == "training"
  )  # one score is no curve


def test_epochs_to_by_hand():
  curve = summary.Curve(
    np.array([1.0, 2.0, 3.0, 4.0]), np.array([50.0, 76.0, 75.0, 78.0]), "validation"
  )
  assert [summary.epochs_to(level, curve) for level in (10, 50, 75.5, 77, 78, 78.1)] == [
    1,
    1,
    2,
    4,
    4,
    None,
  ]


def test_convergence_by_hand():
  accuracy = {
    "baseline": (20, 60, 80, 80),
    "A": (20, 50, 70, 79),
    "B": (50, 76, 78, 78),
    "C": (79.6, 80, 81, 81),
    "student": (90, 90, 90, 90),
  }
  rows = [row(kind, seed, accuracy[kind][-1]) for kind in accuracy for seed in (0, 1)]
  curve = lambda row: summary.Curve(
    np.array([1.0, 2.0, 3.0, 4.0]) * (row["seed"] + 1),
    np.array(accuracy[row["cell"]], float),
    "validation",
  )
  found = {c.entry.cell: c for c in summary.convergence(summary.entries(rows), curve)}
  assert set(found) == {"baseline", "B", "C"} and {c.other.cell for c in found.values()} == {"A"}
  # The levels are 79, 78 and 79, each less 0.5; the other seed takes twice as long.
  epochs = {kind: (c.epochs / 1.5, c.other_epochs / 1.5, c.seeds) for kind, c in found.items()}
  assert epochs == {"baseline": (3, 4, 2), "B": (3, 4, 2), "C": (1, 4, 2)}
  # Beside the baseline where there is no A; not on different splits.
  without = summary.entries([r for r in rows if r["cell"] != "A"])
  assert [
    (c.entry.cell, c.other.cell, c.epochs / 1.5, c.other_epochs / 1.5)
    for c in summary.convergence(without, curve)
  ] == [("B", "baseline", 3, 3), ("C", "baseline", 1, 3)]
  mixed = lambda row: curve(row)._replace(split="training" if row["cell"] == "B" else "validation")
  assert [c.entry.cell for c in summary.convergence(without, mixed)] == ["C"]
  assert summary.convergence(without, lambda row: None) == []


def test_entries_by_hand():
  found = summary.entries(
    [
      row("student", 0, 0.90),
      row("student", 1, 0.80),
      row("B", 0, 0.88),
      row("B", 1, 0.84),
      row("A", 0, 0.5),
    ]
  )
  by_cell = {e.cell: e for e in found}
  assert by_cell["B"].mean == pytest.approx(86) and by_cell["B"].accuracy == pytest.approx(
    {0: 88, 1: 84}
  )
  assert by_cell["B"].sd == pytest.approx(8**0.5)  # of 88 and 84, n - 1
  assert by_cell["B"].gap == pytest.approx((-2 + 4) / 2)
  assert by_cell["A"].sd is None and by_cell["A"].gap == pytest.approx(-40)
  # Each is compared with the student of its own point, where the field concerns both.
  grid = [
    row("student", 0, 0.9, "batch_size=32"),
    row("student", 0, 0.8, "batch_size=64"),
    row("A", 0, 0.7, "batch_size=32, loss.gamma=1.0"),
    row("A", 0, 0.7, "batch_size=64, loss.gamma=1.0"),
    row("baseline", 0, 0.6, "batch_size=64"),
  ]
  found = summary.entries(grid)
  assert [e.gap for e in found[2:]] == pytest.approx([-20, -10, -20])
  pairs = [
    (c.one.point, c.other.point)
    for c in summary.comparisons(found)["8A,2W"]
    if (c.one.cell, c.other.cell) == ("A", "baseline")
  ]
  assert pairs == [("batch_size=64, loss.gamma=1.0", "batch_size=64")]


def test_the_teacher_in_the_last_epoch_of_training():
  # Of the last epoch before 2.9 are the last two records, means of 6 and of 4 steps.
  records = [
    {"step": step, "epoch": epoch, "teacher_accuracy": accuracy, "teacher_ce": loss}
    for step, epoch, accuracy, loss in (
      (15, 1.5, 0.1, 9.0),
      (19, 1.9, 0.2, 9.0),
      (25, 2.5, 0.9, 0.3),
      (29, 2.9, 0.8, 0.8),
    )
  ]
  assert summary.taught_by([*records, {"step": 29, "test_accuracy": 0.5}]) == pytest.approx(
    (86.0, 0.5)
  )
  assert summary.taught_by([{"step": 1, "epoch": 0.1, "student_accuracy": 0.5}]) is None
