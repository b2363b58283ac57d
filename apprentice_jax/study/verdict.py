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


def blocks(found: list[summary.Entry], names: dict[str, str]) -> list:
  """One paragraph a precision; nothing where no scheme stands beside its control.

  Args:
    found: entries of the study.
    names: of the cells, by their kind.
  """
  texts = []
  for precision, members in summary.comparisons(found).items():
    effects = [c for c in members if (c.one.cell, c.other.cell) in EFFECTS]
    if effects:
      said = (
        sentence[0].upper() + sentence[1:] for sentence in _sentences(effects, members, names)
      )
      texts.append(Text(f"{precision}: " + " ".join(said)))
  return [Heading("Verdict"), *texts] if texts else []


def _sentences(effects, members, names) -> list[str]:
  """What a precision's comparisons say, the teacher's effects first."""
  title = lambda c: names[c.one.cell] + (f" at {c.one.point}" if c.one.point else "")
  proven = lambda c: c.corrected is not None and c.corrected < LEVEL
  said = []
  for c in effects:
    f = c.found
    side = "above" if f.difference > 0 else "below"
    what = f"{title(c)} is {abs(f.difference):.2f} points {side} {names[c.other.cell]}"
    if f.p is None:
      if len(f.seeds) == 1:
        said.append(f"{what}, with one seed, which no test can tell from chance.")
      else:
        said.append(f"{what} with each of {len(f.seeds)} seeds.")
    elif proven(c):
      said.append(
        f"{what}, which is significant (95% interval {f.low:+z.2f} to {f.high:+z.2f}, "
        f"{len(f.seeds)} seeds, p after Holm's correction {c.corrected:.3f})."
      )
    else:
      said.append(
        f"{what}, which is not significant (95% interval {f.low:+z.2f} to {f.high:+z.2f}, "
        f"{len(f.seeds)} seeds); {_seeds_needed(f)}."
      )
  others = [c for c in members if c not in effects and proven(c)]
  if others:
    said.append(
      "Also significant: "
      + "; ".join(
        f"{title(c)} against {names[c.other.cell]} ({c.found.difference:+z.2f})" for c in others
      )
      + "."
    )
  return said


def _seeds_needed(found: summary.Paired) -> str:
  """How many seeds a difference of this mean and spread would take, in words."""
  n = len(found.seeds)
  spread = (found.high - found.low) / 2 / special.stdtrit(n - 1, 0.975) * math.sqrt(n)
  count = seeds_needed(abs(found.difference) / spread)
  return (
    f"a difference of this size would take about {count:,} seeds to show"
    if count
    else (f"a difference of this size would take more than {MOST_SEEDS:,} seeds to show")
  )


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
