"""The report of a study: every number, beside SciPy and by hand."""

import base64
import csv
import re

import numpy as np
import pytest
from made_study import accuracy, config_of, made, table_after
from pages import Page
from scipy import stats

from apprentice_jax.study import cells, merge, report, summary, tables
from apprentice_jax.study.tables import NAMES
from apprentice_jax.study.variations import Variation

QUARTER = "quarter: loss.gamma=0.25"


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
  """(workdir, text, table) of a study with a variation and references."""
  workdir = made(
    tmp_path_factory.mktemp("report") / "study",
    config_of(
      variations=("quarter: loss.gamma=0.25",),
      references=(
        "resnet20|8A2W|83.5|TTQ, best epoch",
        "resnet20|8A,2W|84|another",
        "resnet20|32A,32W|92.6|a | b",
        "resnet56|32A,2W|93.56|of no cell",
      ),
    ),
  )
  table = merge.report_on([str(workdir)])
  return workdir, (workdir / "report.md").read_text(), table


def test_every_number_of_the_significance_table(reported):
  workdir, text, _ = reported
  with (workdir / "results.csv").open() as file:
    rows = list(csv.DictReader(file))
  by = lambda cell, point: [
    100 * float(r["accuracy"]) for r in rows if (r["cell"], r["point"]) == (cell, point)
  ]
  names = {name: kind for kind, name in NAMES.items()}
  columns, lines = table_after(text, "## Which differences are significant")
  # The setting and the pair differ from row to row, and come first.
  assert columns == ["setting", "difference of", "points", "95% interval", "p", "p, Holm", "seeds"]
  # Three schemes at the base and the variation against two others, C against its control, and the
  # two that the variation does not concern.
  assert len(lines) == 3 * 2 * 2 + 2 + 1 + 2
  values = []
  for line in lines:
    point, what, points, interval, p, _, seeds = line.values()
    one, other = (names[n] for n in what.split(" − "))
    point = "" if point == "base" else point
    test = stats.ttest_rel(by(one, point), by(other, ""))
    low, high = test.confidence_interval(0.95)
    assert (
      points == f"{np.mean(by(one, point)) - np.mean(by(other, '')):+.2f}"
      and seeds == "seeds 0, 1, 2"
    )
    assert interval == f"{low:+.2f} to {high:+.2f}"
    shown = lambda value: f"{value:.3f}" if value >= 0.001 else "<0.001"
    assert p == shown(test.pvalue)
    values.append(test.pvalue)
  # Holm's, as the largest of what smaller ones and itself come to.
  steps = [min(1, q * sum(other >= q for other in values)) for q in values]
  assert [line["p, Holm"] for line in lines] == [
    shown(max(s for s, q in zip(steps, values) if q <= p)) for p in values
  ]
  assert "Holm's is corrected for the 17 tests of this table" in text


def test_each_variation_stands_beside_the_base(reported):
  workdir, text, _ = reported
  with (workdir / "results.csv").open() as file:
    rows = list(csv.DictReader(file))
  columns, lines = table_after(text, "## What each variation changes")
  # Here, all rows have the one setting, and differences that are alike have no test.
  assert columns == ["difference of", "setting", "points", "95% interval", "seeds"]
  assert [(line["difference of"], line["setting"]) for line in lines] == [
    (f"scheme {kind} − scheme {kind} at the base", QUARTER) for kind in "ABC"
  ]
  for kind, line in zip("ABC", lines):
    at = lambda point, kind=kind: {
      r["seed"]: 100 * float(r["accuracy"])
      for r in rows
      if (r["cell"], r["point"]) == (kind, point)
    }
    one, base = at(QUARTER), at("")
    assert one.keys() == base.keys() == {"0", "1", "2"} and line["seeds"] == "seeds 0, 1, 2"
    assert line["points"] == f"{np.mean([one[s] - base[s] for s in one]):+.2f}"


def test_sizes_and_layers_are_explained(reported):
  _, text, _ = reported
  assert "The size is that of the packed file.\n" in text
  # The variation quantizes no other layers, so the precision has two places in one sentence.
  assert (
    f"\n\nAt 8A,2W and 8A,2W ({QUARTER}), 20 of 22 convolutions and dense layers are quantized; "
    "stem and head stay in full precision.\n\n" in text
  )


def entry(network, precision, layers="", left=""):
  rows = [{"bytes": 1000, "layers": layers, "full_precision": left}]
  return summary.Entry("baseline", precision, "", network, {0: 50.0}, rows, None)


def test_losses_with_a_teacher_are_explained(reported):
  assert "The loss of schemes A, B and C contains tau² times the distillation term" in reported[1]
  assert report._losses([entry("resnet8", "8A,2W")]) == []


def test_one_seed_has_no_columns_of_tests():
  found = summary.comparisons(
    [entry("n", "8A,2W"), entry("n", "32A,32W")._replace(cell="student", accuracy={0: 60.0})]
  )
  _, table = tables.significance("Title", found, "images")
  assert table.columns == ["difference of", "points", "95% interval", "seeds"]
  assert table.rows[0][1:] == ["-10.00", "one seed: no test", "seed 0"]


@pytest.mark.parametrize(
  "numbers, words",
  [
    ([7], "seed 7"),
    ([0, 1, 2], "seeds 0, 1, 2"),
    ([3, 4, 5, 6], "seeds 3 to 6"),
    ([0, 1, 2, 4], "seeds 0, 1, 2, 4"),
  ],
)
def test_seeds_in_words(numbers, words):
  assert tables.seeds([{"seed": number} for number in reversed(numbers)]) == words


def test_an_own_network_has_no_packed_file():
  caption = lambda *entries: tables.accuracies(entries, {}, "images").caption
  own, ours = entry("mynet:make at width 0.5", "8A,2W"), entry("resnet8", "8A,2W")
  assert caption(ours).endswith("The size is that of the packed file.")
  assert caption(own).endswith(
    "The size is that of the weights at their bits, with float32 for scales and all the rest; no "
    "packed file holds a network of your own."
  )
  assert caption(ours, own).endswith(
    "The size is that of the packed file. Of a network of your own, it is that of the weights at "
    "their bits, with float32 for scales and all the rest."
  )


def test_which_layers_are_quantized():
  said = lambda *entries: [block.text for block in tables.layers(entries)]
  left = [f"block{i}/conv" for i in range(10)]
  assert (
    said(
      entry("n", "32A,32W", 12, ";".join(left)),  # of which nobody asks
      entry("n", "8A,2W", 12, "block0/conv"),
      entry("n", "4A,4W", 12, "block0/conv"),
      entry("n", "8A,4W", 12, ""),
      entry("n", "8A,8W", 12, ";".join(left)),
      entry("n", "2A,2W"),  # of an earlier version
    )
    == [
      "At 8A,2W and 4A,4W, 11 of 12 convolutions and dense layers are quantized; block0/conv stays "
      "in full precision.",
      "At 8A,4W, 12 of 12 convolutions and dense layers are quantized.",
      f"At 8A,8W, 2 of 12 convolutions and dense layers are quantized; {', '.join(left[:8])} and 2 "
      "more stay in full precision.",
    ]
  )


def test_references_stand_beside_what_they_are_of(reported):
  _, text, table = reported
  columns, lines = table_after(table, "|")
  assert columns[-2:] == ["reference %", "difference"]
  for line in lines:
    mean = float(line["accuracy %"].split(" ± ")[0])
    expected = {"32A,32W": (92.6,), "8A,2W": (83.5, 84)}[line["precision"]]
    assert line["reference %"] == "; ".join(f"{r:.2f}" for r in expected)
    assert [float(d) for d in line["difference"].split("; ")] == pytest.approx(
      [mean - r for r in expected], abs=0.011
    )
  assert (
    "83.50 (resnet20 8A,2W: TTQ, best epoch)" in text and "92.60 (resnet20 32A,32W: a | b)" in text
  )
  assert "References to no cell of this study: 93.56 (resnet56 32A,2W: of no cell)." in text


def test_agreement_fronts_convergence_and_the_list_of_runs(reported):
  workdir, text, _ = reported
  for line in table_after(text, "## Agreement")[1]:
    setting, network, _, *numbers = line.values()
    assert network in ("scheme A", "scheme B", "scheme C") and setting in ("base", QUARTER)
    assert numbers[0] == "91.00 ± 1.00" and numbers[2] == "95.00 ± 0.00"
    assert numbers[3:] == ["98.00", "0.0250"]  # of the fourth epoch
  for title in ("accuracy-size.png", "accuracy-bops.png"):
    # C at the variation is the best of its size, by the formula; full precision is larger and
    # worse.
    (line,) = table_after(text, title)[1]
    assert (line["network"], line["setting"]) == ("scheme C", QUARTER)
  by_cell = lambda heading: {
    (line["network"], line["setting"]): list(line.values())[3:]
    for line in table_after(text, heading)[1]
  }
  converged = by_cell("## Which scheme converges")
  numbers = ["3.0", "4.0", "0.75", "3 seeds"]
  assert converged["scheme B", "base"] == ["scheme A", *numbers]
  assert converged["scheme B", QUARTER] == [f"scheme A, {QUARTER}", *numbers]
  ran = by_cell("## All that was run")
  assert len(ran) == 10
  quarter = Variation("quarter", (("loss.gamma", 0.25),))
  assert ran["scheme B", QUARTER] == [
    "seeds 0, 1, 2",
    ", ".join(f"{accuracy(cells.Cell('B', '8A,2W', s, quarter)):.2f}" for s in range(3)),
    "4.0",
    "40",
    "10, 20, 30",
    "loss.gamma=0.25",
  ]
  pictures = [
    "accuracy-bops.png",
    "accuracy-size.png",
    "curves-32A32W.png",
    "curves-8A2W-2.png",
    "curves-8A2W.png",
  ]
  assert sorted(p.name for p in workdir.glob("*.png")) == pictures and all(
    f"]({p})" in text for p in pictures
  )


def test_the_verdict_is_found_for_the_terminal(reported, tmp_path):
  workdir, *_ = reported
  said = report.verdict_in(workdir)
  assert said.startswith("At 8A,2W:") and "points above no distillation (95% interval" in said
  assert "#" not in said and "|" not in said
  (tmp_path / "report.md").write_text("# Apprentice study\n\n## Accuracy\n")
  assert report.verdict_in(tmp_path) == ""


def test_the_page_needs_nothing_else(reported):
  workdir, _, table = reported
  content = (workdir / "report.html").read_text()
  page, text = Page(content), (workdir / "report.md").read_text()
  assert page.open == [] and "link" not in page.tags
  assert not re.search(r"url\(|@import|https?:|fetch|import\(", content)
  prefix = "data:image/png;base64,"
  links = [r for r in page.references if r.startswith("#")]
  pictures = {base64.b64decode(r.removeprefix(prefix)) for r in page.references if r not in links}
  assert pictures == {p.read_bytes() for p in workdir.glob("*.png")} and len(pictures) == 5
  assert len(links) == page.tags.count("h2") == text.count("\n## ")
  assert all(f' id="{link[1:]}">' in content for link in links)
  for cell in (c for line in table.splitlines()[2:] for c in line.strip("|").split(" | ")):
    assert cell.strip() in page.words
  assert page.tags.count("table") == len(re.findall(r"^\|---", text, re.MULTILINE))
