"""The verdict of a study: what low precision costs, what a teacher changes, and how sure it is."""

import pathlib
import re

import pytest
from scipy import stats

from apprentice_jax import document
from apprentice_jax.study import report, results, summary, verdict
from apprentice_jax.study.tables import NAMES

ROOT = pathlib.Path(__file__).parents[1]


# By G*Power 3.1: two-sided t-test of matched pairs, level 0.05, power 0.8.
@pytest.mark.parametrize("effect, pairs", [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_needed(effect, pairs):
  assert verdict.seeds_needed(effect) == pairs


def test_no_number_of_seeds_shows_nothing():
  assert verdict.seeds_needed(0.0) == 0 and verdict.seeds_needed(0.01) == 0
  assert verdict.seeds_needed(1e3) == 2


def entry(cell, *accuracies, precision="8A,2W", point="", count=0):
  rows = [{"count": count}] if count else []
  accuracy = dict(enumerate(accuracies))
  return summary.Entry(cell, precision, point, "resnet8", accuracy, rows, None)


def said(*entries):
  """The items of the one list under the heading, and the text after it."""
  blocks = verdict.blocks(list(entries), NAMES)
  assert [block.caption for block in blocks[1:2]] == ["At 8A,2W:"] * (len(blocks) > 0)
  return [*blocks[1].items, *(block.text for block in blocks[2:])] if blocks else []


def test_a_significant_difference():
  baseline, taught = (90.0, 90.5, 89.8, 90.2), (91.0, 92.0, 90.3, 91.1)
  found = stats.ttest_rel(taught, baseline)
  low, high = found.confidence_interval(0.95)
  assert said(entry("baseline", *baseline), entry("B", *taught)) == [
    f"Scheme B (a trained teacher) is 0.97 points above no distillation (95% interval {low:+.2f} "
    f"to {high:+.2f}, 4 seeds, p after Holm's correction {found.pvalue:.3f}). The difference "
    "is significant."
  ]


def test_a_small_p_is_not_zero():
  (text,) = said(entry("baseline", 80.0, 80.1, 80.0, 80.1), entry("B", 90.0, 90.1, 90.1, 90.1))
  assert "p after Holm's correction below 0.001)" in text


def test_what_low_precision_costs_comes_first():
  student, baseline = (92.0, 92.5, 91.9, 92.1), (90.0, 90.5, 89.8, 90.2)
  taught = (91.0, 92.0, 90.3, 91.2)
  found = stats.ttest_rel(baseline, student)
  low, high = found.confidence_interval(0.95)
  others = [stats.ttest_rel(taught, other).pvalue for other in (baseline, student)]
  assert found.pvalue < min(others)  # so Holm's correction triples it
  cost, effect, *rest = said(
    entry("B", *taught), entry("student", *student), entry("baseline", *baseline)
  )
  p = f"{3 * found.pvalue:.3f}" if 3 * found.pvalue >= 0.001 else "below 0.001"
  assert cost == (
    "No distillation (the student alone) is 2.00 points below the student in full precision (95% "
    f"interval {low:+.2f} to {high:+.2f}, 4 seeds, p after Holm's correction {p}). The difference "
    "is significant."
  )
  assert effect.startswith("Scheme B (a trained teacher) is 1.00 points above no distillation (95%")
  # Of each precision its own, and without a control that of a scheme.
  (text,) = said(entry("student", *student), entry("B", *taught, point="hot: loss.temperature=4"))
  assert text.startswith(
    "Scheme B (a trained teacher; hot: loss.temperature=4) is 1.00 points below the student in full"
  )
  lists = verdict.blocks(
    [
      entry("student", *student),
      *(entry("baseline", *baseline, precision=p) for p in ("8A,2W", "8A,4W")),
    ],
    NAMES,
  )
  assert [block.caption for block in lists[1:]] == ["At 8A,2W:", "At 8A,4W:"]


def test_other_differences_are_named_or_counted():
  baseline, taught = (90.0, 90.5, 89.8, 90.2), (91.0, 91.6, 90.9, 91.1)
  student = entry("student", 92.0, 92.5, 91.9, 92.1)
  _, _, others = said(student, entry("baseline", *baseline), entry("B", *taught))
  assert others == "Also significant: scheme B against student, full precision (-0.98)."
  schemes = [entry(kind, *(a + 2 + 0.5 * i for a in taught)) for i, kind in enumerate("ABC")]
  more = said(student, entry("baseline", *baseline), entry("C-control", *taught), *schemes)
  assert more[-1] == "6 other differences are significant: see their table below."


def test_an_insignificant_difference_names_the_seeds():
  (text,) = said(entry("baseline", 90.0, 91.0, 90.5), entry("B", 90.6, 90.9, 90.7))
  # Differences 0.6, -0.1, 0.2: mean 0.233, deviation 0.351, effect 0.664, between 0.5 and 0.8.
  assert "not significant: a test would need about 20 seeds to show" in text


def test_one_seed_and_equal_differences():
  assert said(entry("student", 92.0), entry("baseline", 90.0), entry("A", 91.0)) == [
    "No distillation (the student alone) is 2.00 points below the student in full precision with "
    "one seed.",
    "Scheme A (a teacher that trains along) is 1.00 points above no distillation with one seed.",
    "No test can tell one seed's difference from chance.",
  ]
  assert said(entry("C-control", 90.0, 91.0), entry("C", 89.0, 90.0)) == [
    "Scheme C (a trained teacher, and a start from full precision) is 1.00 points below "
    "C's control (no teacher) with each of 2 seeds."
  ]
  (text,) = said(entry("baseline", 90.0, 91.0), entry("B", 90.0, 91.0))
  assert text.endswith("is as accurate as no distillation with each of 2 seeds.")


def test_a_mean_difference_of_zero_needs_no_number_of_seeds():
  (text,) = said(entry("baseline", 90.0, 91.0, 90.5), entry("B", 90.5, 90.5, 90.5))
  low, high = stats.ttest_1samp([0.5, -0.5, 0.0], 0.0).confidence_interval(0.95)
  assert text == (
    "Scheme B (a trained teacher) is as accurate as no distillation (95% interval "
    f"{low:+.2f} to {high:+.2f}, 3 seeds). The test shows no difference."
  )


# Twice the guesses; the 95% interval of guesses by 30 images, 0.1 ± 1.96·0.0548; a ninth of the way
# from a half, and from a ninth, to one; and 0.5 ± 1.96·0.0645, by 60 images.
@pytest.mark.parametrize(
  "classes, count, share",
  [
    (10, 0, 0.2),
    (10, 10000, 0.2),
    (10, 30, 0.20735),
    (2, 0, 0.55556),
    (9, 0, 0.20988),
    (2, 60, 0.62652),
  ],
)
def test_accuracies_that_are_not_clearly_above_chance(classes, count, share):
  assert verdict.least_share(classes, count) == pytest.approx(share, abs=1e-5)

  def first(*entries):
    return verdict.blocks([*entries, entry("baseline", 50.0)], NAMES, classes)[1]

  student, teacher = (
    lambda more, kind=kind: entry(kind, 100 * share + more, precision="32A,32W", count=count)
    for kind in ("student", "teacher")
  )
  assert first(student(0.01), teacher(0.01)).caption == "At 8A,2W:"
  assert first(student(-0.01), teacher(0.01)).text == (
    f"The student, full precision, has {100 * share - 0.01:.2f}%, not clearly above the "
    f"{100 / classes:.2f}% of guesses among {classes} classes. What a student loses or a teacher "
    "adds says little then: train longer, or with other settings, first."
  )
  # The words hold below chance, too.
  below = first(entry("student", 0.5 / classes, precision="32A,32W", count=count))
  assert "%, not clearly above the " in below.text
  assert first(student(0.01), teacher(-0.01)).text.startswith("The teacher, full precision, has ")


def test_no_verdict_without_a_control():
  assert not said(entry("B", 90.0, 91.0)) and not said(
    entry("C", 90.0, 91.0), entry("baseline", 1.0, 2.0)
  )


def test_the_kept_verdict_is_what_the_command_prints():
  folder = ROOT / "results" / "digits"
  blocks = verdict.blocks(summary.entries(results.load(folder).rows), NAMES, 10)
  said = report.verdict_in(folder)
  assert document.markdown(blocks[1:]).strip() == said
  # README says the same in its own words.
  readme = " ".join((ROOT / "README.md").read_text("utf-8").split()).replace("−", "-")
  quote = readme.partition("The verdict: ")[2].partition("Digits are too easy")[0]
  numbers = re.findall(r"[\d.]+ points (?:below|above)|[+-][\d.]+ to [+-][\d.]+", said)
  assert re.findall(r"[\d.]+ points (?:below|above)|[+-][\d.]+ to [+-][\d.]+", quote) == numbers
  assert len(numbers) == 4
