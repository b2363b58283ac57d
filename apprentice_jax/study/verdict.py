"""A study's verdict: what the low precision costs, what the teacher changes, which of it is
significant, and how many seeds would show it."""

import math

import numpy as np
from scipy import special

from apprentice_jax.document import Heading, List, Text
from apprentice_jax.study import summary
from apprentice_jax.study.cells import ALONE

# What the low precision costs: the first of these that a precision has, beside full precision.
COSTS = ("baseline", "C-control", "A", "B", "C")
# The teacher's effect: each scheme and its control.
EFFECTS = (("A", "baseline"), ("B", "baseline"), ("C", "C-control"))
# How a cell trains, for a reader of the verdict alone.
HOW = {
  "baseline": "the student alone",
  "A": "a teacher that trains along",
  "B": "a trained teacher",
  "C": "a trained teacher, and a start from full precision",
}
LEVEL, POWER = 0.05, 0.8
MOST_SEEDS = 1000
NAMED = 4  # differences, at most, that a sentence names


def blocks(entries: list[summary.Entry], names: dict[str, str], classes: int = 0) -> list:
  """A list of sentences for each precision; nothing where no cell stands beside another.

  Args:
    entries: of the study.
    names: of the cells, by their kind.
    classes: number of them; 0 where it is not known.
  """
  lists, alone = [], False
  for precision, members in summary.comparisons(entries).items():
    beside_full = [c.one.cell for c in members if c.other.cell == "student"]
    cost = next((kind for kind in COSTS if kind in beside_full), None)
    costs = [c for c in members if (c.one.cell, c.other.cell) == (cost, "student")]
    effects = [c for c in members if (c.one.cell, c.other.cell) in EFFECTS]
    if first := costs + effects:
      items = [_difference(c, names) for c in first] + _others(first, members, names)
      lists.append(List(f"At {precision}:", items))
      alone |= any(len(c.test.seeds) == 1 for c in first)
  if not lists:
    return []
  one_seed = [Text("No test can tell one seed's difference from chance.")] if alone else []
  return [Heading("Verdict"), *map(Text, _untrained(entries, names, classes)), *lists, *one_seed]


def _untrained(entries: list[summary.Entry], names, classes: int) -> list[str]:
  """A sentence on networks in full precision that are not clearly better than guesses."""
  found = [
    f"{names[e.cell]}, has {e.mean:.2f}%"
    for e in entries
    if e.cell in ALONE and not e.point and classes
    if e.mean < 100 * least_share(classes, _count(e))
  ]
  if not found:
    return []
  guesses = f"{100 / classes:.2f}% of guesses among {classes:,} classes"
  return [
    f"The {' and the '.join(found)}, not clearly above the {guesses}. What a student loses or a "
    "teacher adds says little then: train longer, or with other settings, first."
  ]


def _count(entry: summary.Entry) -> int:
  """How many images an accuracy is of."""
  return entry.rows[0]["count"] if entry.rows else 0


def least_share(classes: int, count: int) -> float:
  """The share of right answers from which a network is clearly better than guesses.

  The share is at least twice that of guesses. With up to nine classes, a ninth of the way from
  guesses to no mistake is less than twice, and enough. The share also lies above the 95% interval
  of guesses.

  Args:
    classes: number of them.
    count: images that are scored; 0 where it is not known.
  """
  guess = 1 / classes
  spread = 1.96 * math.sqrt(guess * (1 - guess) / count) if count else 0.0
  return max(min(2 * guess, guess + (1 - guess) / 9), guess + spread)


def _difference(c: summary.Comparison, names) -> str:
  """One comparison in words: what a precision costs, or a teacher's effect."""
  test = c.test
  seeds, points = len(test.seeds), f"{abs(test.difference):.2f}"
  title = _title(c, names, HOW.get(c.one.cell, ""))
  other = "the student in full precision" if c.other.cell == "student" else names[c.other.cell]
  side = "above" if test.difference > 0 else "below"
  text = f"{title[0].upper()}{title[1:]} is {points} points {side} {other}"
  if points == "0.00":
    text = f"{title[0].upper()}{title[1:]} is as accurate as {other}"
  if test.p is None:
    return f"{text} with {'one seed' if seeds == 1 else f'each of {seeds} seeds'}."
  # The corrected p-value decides, and the interval, which is not corrected, stands beside it.
  interval = f"(95% interval {test.low:+z.2f} to {test.high:+z.2f}, {seeds} seeds"
  if _proven(c):
    p = "below 0.001" if c.corrected < 0.001 else f"{c.corrected:.3f}"
    return f"{text} {interval}, p after Holm's correction {p}). The difference is significant."
  if points == "0.00":
    return f"{text} {interval}). The test shows no difference."
  return f"{text} {interval}). The difference is not significant: {_seeds_needed(test)}."


def _others(said, members, names) -> list[str]:
  """The other significant differences, in one sentence."""
  others = [c for c in members if c not in said and _proven(c)]
  if len(others) > NAMED:
    return [f"{len(others)} other differences are significant: see their table below."]
  texts = [
    f"{_title(c, names)} against {names[c.other.cell]} ({c.test.difference:+z.2f})" for c in others
  ]
  return [f"Also significant: {'; '.join(texts)}."] if texts else []


def _title(c: summary.Comparison, names, how: str = "") -> str:
  about = "; ".join(filter(None, (how, c.one.point)))
  return names[c.one.cell] + (f" ({about})" if about else "")


def _proven(c: summary.Comparison) -> bool:
  return c.corrected is not None and c.corrected < LEVEL


def _seeds_needed(test: summary.Paired) -> str:
  """How many seeds a difference of this mean and spread would take, in words."""
  n = len(test.seeds)
  # The standard deviation, from the interval that was made of it.
  spread = (test.high - test.low) / 2 / special.stdtrit(n - 1, 0.975) * math.sqrt(n)
  count = seeds_needed(abs(test.difference) / spread)
  seeds = f"about {count:,}" if count else f"more than {MOST_SEEDS:,}"
  return f"a test would need {seeds} seeds to show a difference of this size"


def seeds_needed(effect: float) -> int:
  """The least number of pairs with which a two-sided paired t-test has POWER at LEVEL.

  The power is that of the noncentral t distribution (Cohen, "Statistical Power Analysis", 1988).

  Args:
    effect: the mean difference over the standard deviation of differences.

  Returns:
    The number; 0 if it is above MOST_SEEDS.
  """
  n = np.arange(2, MOST_SEEDS + 1)
  critical, shift = special.stdtrit(n - 1, 1 - LEVEL / 2), effect * np.sqrt(n)
  power = 1 - special.nctdtr(n - 1, shift, critical) + special.nctdtr(n - 1, shift, -critical)
  # scipy has no value where next to nothing of a distribution lies below the critical value.
  enough = n[np.nan_to_num(power, nan=1.0) >= POWER]
  return int(enough[0]) if len(enough) else 0
