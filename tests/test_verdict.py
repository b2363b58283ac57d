"""The verdict of a study: which differences are significant, and how many seeds the others would
take."""

import pytest
from scipy import stats

from apprentice_jax.study import summary, verdict
from apprentice_jax.study.tables import NAMES


# By G*Power 3.1: two-sided t-test of matched pairs, level 0.05, power 0.8.
@pytest.mark.parametrize("effect, pairs", [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_needed(effect, pairs):
  assert verdict.seeds_needed(effect) == pairs


def test_no_number_of_seeds_shows_nothing():
  assert verdict.seeds_needed(0.0) == 0 and verdict.seeds_needed(0.01) == 0
  assert verdict.seeds_needed(1e3) == 2


def entry(cell, *accuracies, precision="8A,2W"):
  return summary.Entry(cell, precision, "", "resnet8", dict(enumerate(accuracies)), [], None)


def said(*entries):
  """The items of the one list under the heading."""
  blocks = verdict.blocks(list(entries), NAMES)
  assert [block.caption for block in blocks[1:]] == ["At 8A,2W:"] * (len(blocks) > 0)
  return list(blocks[1].items) if blocks else []


def test_a_significant_difference():
  baseline, taught = (90.0, 90.5, 89.8, 90.2), (91.0, 92.0, 90.3, 91.1)
  found = stats.ttest_rel(taught, baseline)
  low, high = found.confidence_interval(0.95)
  assert said(entry("baseline", *baseline), entry("B", *taught)) == [
    f"Scheme B is 0.97 points above no distillation (95% interval {low:+.2f} to {high:+.2f}, "
    f"4 seeds, p after Holm's correction {found.pvalue:.3f}). The difference is significant."
  ]


def test_a_small_p_is_not_zero():
  (text,) = said(entry("baseline", 80.0, 80.1, 80.0, 80.1), entry("B", 90.0, 90.1, 90.1, 90.1))
  assert "p after Holm's correction below 0.001)" in text


def test_other_differences_are_named_or_counted():
  baseline, taught = (90.0, 90.5, 89.8, 90.2), (91.0, 91.6, 90.9, 91.1)
  student = entry("student", 92.0, 92.5, 91.9, 92.1)
  effect, others = said(student, entry("baseline", *baseline), entry("B", *taught))
  assert others == (
    "Also significant: no distillation against student, full precision (-2.00); "
    "scheme B against student, full precision (-0.98)."
  )
  schemes = [entry(kind, *(a + 2 + 0.5 * i for a in taught)) for i, kind in enumerate("ABC")]
  more = said(student, entry("baseline", *baseline), entry("C-control", *taught), *schemes)
  assert more[-1] == "7 other differences are significant: see their table below."


def test_an_insignificant_difference_names_the_seeds():
  (text,) = said(entry("baseline", 90.0, 91.0, 90.5), entry("B", 90.6, 90.9, 90.7))
  # Differences 0.6, -0.1, 0.2: mean 0.233, deviation 0.351, effect 0.664, between 0.5 and 0.8.
  assert "not significant: a test would need about 20 seeds to show" in text


def test_one_seed_and_equal_differences():
  (text,) = said(entry("baseline", 90.0), entry("A", 91.0))
  assert text.endswith("with one seed. No test can tell one seed's difference from chance.")
  assert said(entry("C-control", 90.0, 91.0), entry("C", 89.0, 90.0)) == [
    "Scheme C is 1.00 points below C's control (no teacher) with each of 2 seeds."
  ]


def test_no_verdict_without_a_control():
  assert not said(entry("B", 90.0, 91.0)) and not said(
    entry("C", 90.0, 91.0), entry("baseline", 1.0, 2.0)
  )
