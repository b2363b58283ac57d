"""A study's verdict in sentences: which differences are significant, and how many seeds the others
would take."""

import math

import numpy as np
from scipy import special

from apprentice_jax.document import Heading, Text
from apprentice_jax.study import summary

# The teacher's effect: each scheme and its control.
EFFECTS = (("A", "baseline"), ("B", "baseline"), ("C", "C-control"))
LEVEL, POWER = 0.05, 0.8
MOST_SEEDS = 1000


def blocks(entries: list[summary.Entry], names: dict[str, str]) -> list:
  """One paragraph a precision; nothing where no scheme stands beside its control.

  Args:
    entries: of the study.
    names: of the cells, by their kind.
  """
  texts = []
  for precision, members in summary.comparisons(entries).items():
    effects = [c for c in members if (c.one.cell, c.other.cell) in EFFECTS]
    if effects:
      sentences = [s[0].upper() + s[1:] for s in _sentences(effects, members, names)]
      texts.append(Text(f"{precision}: {' '.join(sentences)}"))
  return [Heading("Verdict"), *texts] if texts else []


def _sentences(effects, members, names) -> list[str]:
  """What a precision's comparisons say, the teacher's effects first."""
  title = lambda c: names[c.one.cell] + (f" at {c.one.point}" if c.one.point else "")
  proven = lambda c: c.corrected is not None and c.corrected < LEVEL
  result = []
  # The corrected p-value decides, and the interval, which is not corrected, stands beside it.
  for c in effects:
    test = c.test
    seeds, difference = len(test.seeds), abs(test.difference)
    side = "above" if test.difference > 0 else "below"
    sentence = f"{title(c)} is {difference:.2f} points {side} {names[c.other.cell]}"
    if test.p is None and seeds == 1:
      sentence += ", with one seed, which no test can tell from chance."
    elif test.p is None:
      sentence += f" with each of {seeds} seeds."
    else:
      interval = f"(95% interval {test.low:+z.2f} to {test.high:+z.2f}, {seeds} seeds"
      if proven(c):
        corrected = f"p after Holm's correction {c.corrected:.3f}"
        sentence += f", which is significant {interval}, {corrected})."
      else:
        sentence += f", which is not significant {interval}); {_seeds_needed(test)}."
    result.append(sentence)
  others = [
    f"{title(c)} against {names[c.other.cell]} ({c.test.difference:+z.2f})"
    for c in members
    if c not in effects and proven(c)
  ]
  if others:
    result.append(f"Also significant: {'; '.join(others)}.")
  return result


def _seeds_needed(test: summary.Paired) -> str:
  """How many seeds a difference of this mean and spread would take, in words."""
  n = len(test.seeds)
  # The standard deviation, from the interval that was made of it.
  spread = (test.high - test.low) / 2 / special.stdtrit(n - 1, 0.975) * math.sqrt(n)
  count = seeds_needed(abs(test.difference) / spread)
  seeds = f"about {count:,}" if count else f"more than {MOST_SEEDS:,}"
  return f"a difference of this size would take {seeds} seeds to show"


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
