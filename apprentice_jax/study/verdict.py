"""A study's verdict: the teacher's effect, whether it is significant, and how many seeds would
show it."""

import math

import numpy as np
from scipy import special

from apprentice_jax.document import Heading, List
from apprentice_jax.study import summary

# The teacher's effect: each scheme and its control.
EFFECTS = (("A", "baseline"), ("B", "baseline"), ("C", "C-control"))
LEVEL, POWER = 0.05, 0.8
MOST_SEEDS = 1000
NAMED = 6  # differences, at most, that a sentence names


def blocks(entries: list[summary.Entry], names: dict[str, str]) -> list:
  """A list of sentences for each precision; nothing where no scheme stands beside its control.

  Args:
    entries: of the study.
    names: of the cells, by their kind.
  """
  lists = []
  for precision, members in summary.comparisons(entries).items():
    effects = [c for c in members if (c.one.cell, c.other.cell) in EFFECTS]
    if effects:
      items = [_effect(c, names) for c in effects] + _others(effects, members, names)
      lists.append(List(f"At {precision}:", items))
  return [Heading("Verdict"), *lists] if lists else []


def _effect(c: summary.Comparison, names) -> str:
  """The teacher's effect in one comparison."""
  test = c.test
  seeds, side = len(test.seeds), "above" if test.difference > 0 else "below"
  one, other = _title(c, names), names[c.other.cell]
  text = f"{one[0].upper()}{one[1:]} is {abs(test.difference):.2f} points {side} {other}"
  if test.p is None and seeds == 1:
    return f"{text} with one seed. No test can tell one seed's difference from chance."
  if test.p is None:
    return f"{text} with each of {seeds} seeds."
  # The corrected p-value decides, and the interval, which is not corrected, stands beside it.
  interval = f"(95% interval {test.low:+z.2f} to {test.high:+z.2f}, {seeds} seeds"
  if _proven(c):
    p = "below 0.001" if c.corrected < 0.001 else f"{c.corrected:.3f}"
    return f"{text} {interval}, p after Holm's correction {p}). The difference is significant."
  return f"{text} {interval}). The difference is not significant: {_seeds_needed(test)}."


def _others(effects, members, names) -> list[str]:
  """The other significant differences, in one sentence."""
  others = [c for c in members if c not in effects and _proven(c)]
  if len(others) > NAMED:
    return [f"{len(others)} other differences are significant: see their table below."]
  texts = [
    f"{_title(c, names)} against {names[c.other.cell]} ({c.test.difference:+z.2f})" for c in others
  ]
  return [f"Also significant: {'; '.join(texts)}."] if texts else []


def _title(c: summary.Comparison, names) -> str:
  return names[c.one.cell] + (f" ({c.one.point})" if c.one.point else "")


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
