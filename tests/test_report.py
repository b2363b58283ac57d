"""The report of a study: its numbers, what it says of parts, and a page that needs nothing else."""

import base64
import csv
import html.parser
import json
import os
import shutil

import numpy as np
import pytest
from scipy import stats

from apprentice_jax import cli, document
from apprentice_jax import config as configs
from apprentice_jax.config import references
from apprentice_jax.errors import ConfigError
from apprentice_jax.study import cells, merge, progress, results
from apprentice_jax.study.report import NAMES
from apprentice_jax.study.variations import Variation
from apprentice_jax.training.workdir import write_config

QUARTER = "quarter: loss.gamma=0.25"
CURVES = {
  "baseline": (20, 60, 80, 80),
  "A": (20, 50, 70, 79),
  "B": (50, 76, 78, 78),
  "C": (79.6, 80, 81, 81),
}


def config_of(**fields):
  config = configs.base()
  config.data.name = "digits"
  config.study.update(dict(dict(precisions=("8A,2W",), seeds=(0, 1, 2)), **fields))
  return config


def accuracy(cell):
  """Of a made study, in percent; no two alike."""
  kind = configs.CELLS.index(cell.kind)
  return (
    80 + kind + 0.25 * cell.seed + 0.01 * kind**2 * cell.seed**2 + 0.3 * len(cell.variation.label)
  )


def made(folder, config, leave=lambda cell: False):
  """A finished study, as its workdir would be: records on every epoch of four."""
  folder.mkdir(parents=True)
  write_config(folder, config)
  rows = []
  for cell in cells.cells(config):
    place = cells.cell_dir(folder, cell)
    if leave(cell):
      continue
    place.mkdir(parents=True)
    write_config(place, cells.cell_config(config, cell))
    taught = (
      {"test_agreement": 0.9 + 0.01 * cell.seed, "test_teacher_accuracy": 0.95}
      if cell.kind in "ABC"
      else {}
    )
    found = {"test_accuracy": accuracy(cell) / 100, "seconds": 10.0 * (cell.seed + 1), **taught}
    (place / "result.json").write_text(json.dumps(found))
    curve = CURVES.get(cell.kind, CURVES["A"])
    (place / "metrics.jsonl").write_text(
      "".join(
        json.dumps(
          {
            "step": 10 * i,
            "epoch": float(i),
            "student_accuracy": a / 100,
            "seconds": i,
            **(
              {"teacher_accuracy": 0.9 + 0.02 * i, "teacher_ce": 0.1 / i}
              if cell.kind in "ABC"
              else {}
            ),
          }
        )
        + "\n"
        for i, a in enumerate(curve, 1)
      )
    )
    size = 40000 if cell.kind == "teacher" else 20000 if cell.kind == "student" else 5000
    rows.append(
      {
        "cell": cell.kind,
        "precision": cell.precision,
        "point": cell.variation.label,
        "seed": cell.seed,
        "accuracy": found["test_accuracy"],
        "loss": 1.0,
        "count": 360,
        "epochs": 4.0,
        "steps": 40,
        "teacher_accuracy": taught.get("test_teacher_accuracy", ""),
        "agreement": taught.get("test_agreement", ""),
        "seconds": found["seconds"],
        "parameters": 1,
        "bytes": size,
        "bops": size * 1000,
        "peak_bytes": 1,
        "network": "resnet20",
        "workdir": f"cells/{cell.name}",
      }
    )
  results.write(folder / "results.csv", rows)
  return folder


def table_after(text, heading):
  """The cells of the first table in a Markdown text after some words of it."""
  lines = text[text.index(heading) :].splitlines()
  first = next(i for i, line in enumerate(lines) if line.startswith("|"))
  found = []
  for line in lines[first:]:
    if not line.startswith("|"):
      break
    found.append([c.strip() for c in line.strip("|").split("|")])
  return [found[0], *found[2:]]


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
  columns, *lines = table_after(text, "## Which differences are significant")
  assert columns == ["difference of", "setting", "points", "95% interval", "p", "p, Holm", "seeds"]
  # Three schemes at the base and the variation against two others, C against its control, and the
  # two that the variation does not concern.
  assert len(lines) == 3 * 2 * 2 + 2 + 1 + 2
  values = []
  for what, point, points, interval, p, _, seeds in lines:
    one, other = (names[n] for n in what.split(" − "))
    test = stats.ttest_rel(by(one, point), by(other, ""))
    low, high = test.confidence_interval(0.95)
    assert (
      points == f"{np.mean(by(one, point)) - np.mean(by(other, '')):+.2f}" and seeds == "0, 1, 2"
    )
    assert interval == f"{low:+.2f} to {high:+.2f}"
    shown = lambda value: f"{value:.3f}" if value >= 0.001 else "<0.001"
    assert p == shown(test.pvalue)
    values.append(test.pvalue)
  # Holm's, as the largest of what smaller ones and itself come to.
  steps = [min(1, q * sum(other >= q for other in values)) for q in values]
  assert [line[5] for line in lines] == [
    shown(max(s for s, q in zip(steps, values) if q <= p)) for p in values
  ]
  assert "corrected for the 17 tests of this table" in text


def test_each_variation_stands_beside_the_base(reported):
  workdir, text, _ = reported
  with (workdir / "results.csv").open() as file:
    rows = list(csv.DictReader(file))
  columns, *lines = table_after(text, "## What each variation changes")
  assert columns == ["difference of", "setting", "points", "95% interval", "p", "p, Holm", "seeds"]
  assert [line[:2] for line in lines] == [
    [f"scheme {kind} − scheme {kind} at the base", QUARTER] for kind in "ABC"
  ]
  for kind, line in zip("ABC", lines):
    at = lambda point, kind=kind: {
      r["seed"]: 100 * float(r["accuracy"])
      for r in rows
      if (r["cell"], r["point"]) == (kind, point)
    }
    one, base = at(QUARTER), at("")
    assert one.keys() == base.keys() == {"0", "1", "2"} and line[-1] == "0, 1, 2"
    assert line[2] == f"{np.mean([one[s] - base[s] for s in one]):+.2f}"


def test_references_stand_beside_what_they_are_of(reported):
  _, text, table = reported
  columns, *lines = table_after(table, "|")
  assert columns[-2:] == ["reference %", "difference"]
  for line in lines:
    mean = float(line[3].split(" ± ")[0])
    expected = {"32A,32W": (92.6,), "8A,2W": (83.5, 84)}[line[1]]
    assert line[-2] == "; ".join(f"{r:.2f}" for r in expected)
    assert [float(d) for d in line[-1].split("; ")] == pytest.approx(
      [mean - r for r in expected], abs=0.011
    )
  assert (
    "83.50 (resnet20 8A,2W: TTQ, best epoch)" in text and "92.60 (resnet20 32A,32W: a | b)" in text
  )
  assert "References to no cell of this study: 93.56 (resnet56 32A,2W: of no cell)." in text


def test_agreement_fronts_convergence_and_the_list_of_runs(reported):
  workdir, text, _ = reported
  for line in table_after(text, "## Agreement")[1:]:
    assert line[0] in ("scheme A", "scheme B", "scheme C") and line[2] in ("", QUARTER)
    assert line[3] == "91.00 ± 1.00" and line[5] == "95.00 ± 0.00"
    assert line[6:] == ["98.00", "0.0250"]  # of the fourth epoch
  for title in ("accuracy-size.png", "accuracy-bops.png"):
    # C at the variation is the best of its size, by the formula; full precision is larger and
    # worse.
    assert [(line[0], line[2]) for line in table_after(text, title)[1:]] == [("scheme C", QUARTER)]
  converged = {
    (line[0], line[2]): line[3:] for line in table_after(text, "## Which scheme converges")[1:]
  }
  numbers = ["3.0", "4.0", "0.75", "3"]
  assert converged["scheme B", ""] == ["scheme A", *numbers]
  assert converged["scheme B", QUARTER] == [f"scheme A, {QUARTER}", *numbers]
  ran = {(line[0], line[2]): line[3:] for line in table_after(text, "## All that was run")[1:]}
  assert len(ran) == 10
  quarter = Variation("quarter", (("loss.gamma", 0.25),))
  assert ran["scheme B", QUARTER] == [
    "0, 1, 2",
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


class Page(html.parser.HTMLParser):
  """What an HTML page refers to, its pictures, its words, and whether what it opens it closes."""

  VOID = ("meta", "img", "!doctype")

  def __init__(self, text):
    super().__init__()
    self.references, self.open, self.tags, self.words = [], [], [], ""
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attributes):
    self.tags.append(tag)
    self.references += [
      v for k, v in attributes if k in ("src", "href", "srcset", "action", "data", "poster")
    ]
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.words += data


def test_the_page_needs_nothing_else(reported):
  workdir, text, table = reported
  content = (workdir / "report.html").read_text()
  page = Page(content)
  assert page.open == [] and "script" not in page.tags and "link" not in page.tags
  assert (
    "url(" not in content and "@import" not in content and "//" not in content.split("<body>")[0]
  )
  prefix = "data:image/png;base64,"
  assert len(page.references) == 5 and all(r.startswith(prefix) for r in page.references)
  pictures = {base64.b64decode(r.removeprefix(prefix)) for r in page.references}
  assert pictures == {p.read_bytes() for p in workdir.glob("*.png")}
  # It says what the Markdown says.
  for cell in (c for line in table.splitlines()[2:] for c in line.strip("|").split(" | ")):
    assert cell.strip() in page.words
  assert page.tags.count("h2") == text.count("\n## ") and page.tags.count("table") == 8


def test_what_is_written_is_what_is_read():
  awkward = "a|b *c* <script src='http://x'> [d](e) `f` & \"g\""
  table = document.Table(awkward, ["k", "v"], [[awkward, "+1.5"]])
  blocks = [document.Heading(awkward, 1), document.Text(awkward), table]
  page = Page(document.page(blocks, "."))
  assert page.words.count(awkward) == 5 and "script" not in page.tags and page.references == []
  text = document.markdown(blocks)
  assert r"a\|b \*c\* \<script" in text.splitlines()[-1] and r"\[d\](e) \`f\`" in text
  assert 'class="number">+1.5<' in document.page(blocks, ".")


# Parts of a study.


def test_parts_make_the_report_of_the_whole(tmp_path):
  whole = made(tmp_path / "whole", config_of())
  parts = [
    made(tmp_path / f"part{i}", config_of(seeds=seeds)) for i, seeds in enumerate([(0, 2), (1,)])
  ]
  out = tmp_path / "out"
  assert cli.main(["report", f"--workdir={','.join(map(str, parts))}", f"--out={out}"]) == 0
  table = merge.report_on([str(whole)])
  text, expected = ((p / "report.md").read_text() for p in (out, whole))
  assert table in text
  # But for the order of the seeds, in which each is listed.
  listing = "## All that was run"
  assert text.partition(listing)[0] == expected.partition(listing)[0]
  with (out / "results.csv").open() as file:
    assert sorted((r["cell"], r["seed"]) for r in csv.DictReader(file)) == sorted(
      (k, s) for k in configs.CELLS for s in "012"
    )
  merge.report_on([str(p) for p in parts], str(out))  # anew, over the old one


def test_a_report_of_what_there_is(tmp_path):
  study = made(
    tmp_path / "study", config_of(seeds=(0, 1)), leave=lambda c: c.seed == 1 and c.kind in "ABC"
  )
  (study / "cells" / "C-control-8A2W-seed0" / "metrics.jsonl").unlink()
  shutil.rmtree(study / "cells" / "baseline-8A2W-seed0")
  text = merge.report_on([str(study)]) and (study / "report.md").read_text()
  assert "Not finished: A-8A2W-seed1, B-8A2W-seed1, C-8A2W-seed1." in text
  lines = table_after(text, "## Which differences are significant")[1:]
  found = {line[0]: line[1:] for line in lines}
  one = cells.Cell("A", "8A,2W", 0), cells.Cell("baseline", "8A,2W", 0)
  assert found["scheme A − no distillation"] == [
    f"{accuracy(one[0]) - accuracy(one[1]):+.2f}",
    "one seed: no test",
    "",
    "",
    "0",
  ]
  assert (
    "corrected for the 3 tests" in text
  )  # the baseline and C's control against the student, and each other
  for path in (study / "cells").rglob("metrics.jsonl"):
    path.unlink()
  merge.report_on([str(study)])
  assert "There are no records of the runs." in (study / "report.md").read_text()


def test_means_over_unequal_seeds_say_so(tmp_path):
  study = made(
    tmp_path / "study", config_of(seeds=(0, 1)), leave=lambda c: c.seed == 1 and c.kind in "ABC"
  )
  shown = merge.report_on([str(study)])
  text = (study / "report.md").read_text()
  for heading in ("## Accuracy", "## Accuracy against cost", "## Agreement of student and teacher"):
    head, *lines = table_after(text, heading)
    assert lines, heading
    for line in lines:
      row = dict(zip(head, line))
      alone = row.get("network", row.get("scheme")) in ("scheme A", "scheme B", "scheme C")
      assert row["n"] == ("1 (seed 0)" if alone else "2 (seeds 0, 1)")
  assert "| n |" in shown
  assert "| n |" not in merge.report_on([str(made(tmp_path / "whole", config_of(seeds=(0, 1))))])


def test_results_of_earlier_versions_are_read(tmp_path):
  study = made(tmp_path / "study", config_of(seeds=(0, 1)))
  with (study / "results.csv").open() as file:
    rows = list(csv.DictReader(file))
  old = (
    "cell",
    "precision",
    "seed",
    "accuracy",
    "loss",
    "count",
    "teacher_accuracy",
    "epochs",
    "seconds",
    "parameters",
    "bytes",
    "workdir",
  )
  with (study / "results.csv").open("w", newline="") as file:
    writer = csv.DictWriter(file, old, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
  text = (
    merge.report_on([str(study)], str(tmp_path / "out"))
    and (tmp_path / "out" / "report.md").read_text()
  )
  assert "accuracy-size.png" in text and "accuracy-bops.png" not in text and "Agreement" not in text


def refused(sentence, *folders, out=""):
  with pytest.raises(ConfigError) as error:
    merge.report_on([str(f) for f in folders], str(out))
  assert sentence in str(error.value) and "\n" not in str(error.value)


def test_what_are_no_parts_of_one_study(tmp_path):
  one = made(tmp_path / "one", config_of(seeds=(0, 1)))
  again = made(tmp_path / "again", config_of(seeds=(1, 2)))
  out = tmp_path / "out"
  refused(
    f"the cell teacher 32A,32W seed 1 is in {one} and in {again}: parts of a study have no cell in "
    "common",
    one,
    again,
    out=out,
  )
  other = config_of(seeds=(2,))
  other.loss.gamma, other.recipe.student.epochs = 1.0, 2.0
  refused(
    "are no parts of one study, they differ in config.loss.gamma (0.5 and 1.0), "
    "config.recipe.student.epochs "
    "(30.0 and 2.0).",
    one,
    made(tmp_path / "other", other),
    out=out,
  )
  # What is a cell's own, or where things lie, may differ.
  alike = config_of(
    seeds=(2,), precisions=("8A,4W",), cells=("baseline",), variations=("many: batch_size=64",)
  )
  alike.update_from_flattened_dict(
    {
      "seed": 9,
      "scheme": "A",
      "precision": "8A,4W",
      "data.dir": "there",
      "teacher.init": "there",
      "student.init": "there",
      "data.threads": 3,
    }
  )
  merge.report_on([str(one), str(made(tmp_path / "alike", alike))], str(out))
  refused("names a study twice", one, tmp_path / "alike" / ".." / "one", out=out)
  refused("a report of several studies needs --out=DIR.", one, again)
  refused(f"{again} holds a run or a study of its own: choose another --out.", one, out=again)
  refused(f"{one} holds a run or a study of its own", one, tmp_path / "alike", out=one)
  refused("is not a workdir: it has no config.json.", tmp_path)
  shutil.copy(again / "cells" / "A-8A2W-seed1" / "metrics.jsonl", again)
  refused(f"{again} holds a training run, not a study.", again)
  (one / "results.csv").write_text("cell,seed\nA,x\n")
  refused("results.csv is damaged", one)
  (one / "results.csv").unlink()
  refused(f"{one} has no results yet: no cell of the study is finished.", one)


def test_status_of_a_study_that_another_process_runs(tmp_path, capsys):
  config = config_of(seeds=(0, 1), cells=("teacher", "student", "baseline", "B"))
  study = made(tmp_path / "study", config, leave=lambda c: c.seed == 1 and c.kind == "B")
  running = study / "cells" / "baseline-8A2W-seed1"
  (running / "result.json").unlink()
  last = os.stat(running / "metrics.jsonl").st_mtime
  os.utime(running / "metrics.jsonl", (last - 100, last - 100))
  before = {p: p.read_bytes() for p in study.rglob("*") if p.is_file()}
  assert cli.main(["study", "--status", f"--workdir={study}"]) == 0
  out = capsys.readouterr().out.splitlines()
  # 10 seconds at seed 0 of both; four of the running one's are over.
  assert out[0] == "6 of 8 cells done, about 0:16 left"
  assert [line.split() for line in out[1:6]] == [
    ["network", "precision", "seed", "0", "seed", "1"],
    *(
      [k, p, *(f"{accuracy(cells.Cell(k, p, s)):.2f}" for s in (0, 1))]
      for k, p in (("teacher", "32A,32W"), ("student", "32A,32W"))
    ),
    ["baseline", "8A,2W", "82.00", "running"],
    ["B", "8A,2W", "84.00", "waiting"],
  ]
  assert out[6].startswith("baseline-8A2W-seed1: epoch 4.00 of 30, last record 1:4")
  assert {p: p.read_bytes() for p in study.rglob("*") if p.is_file()} == before
  assert cli.main(["study", "--status", f"--workdir={running}"]) == 2
  assert f"apprentice: {running} holds a training run, not a study." in capsys.readouterr().err


def test_time_left_is_that_of_cells_alike():
  cell = cells.Cell
  done, waiting = lambda s: progress.Status("done", 50.0, s), progress.Status("waiting")
  variation = Variation("quarter", (("loss.gamma", 0.25),))
  found = {cell("A", "8A,2W", 0): waiting, cell("teacher", "32A,32W", 0): progress.Status("given")}
  assert progress.time_left(found) is None and "left" not in progress.table(found)
  assert progress.table(found).splitlines()[0] == "0 of 1 cells done"
  found |= {
    cell("B", "8A,2W", 0): done(7),
    cell("A", "8A,4W", 0): done(30),
    cell("A", "8A,2W", 1, variation): done(20),
  }
  # The time of another variation comes before that of another precision.
  assert progress.time_left(found) == 20
  found |= {cell("A", "8A,2W", 2): done(10), cell("A", "8A,2W", 3): done(14)}
  assert progress.time_left(found) == 12
  found[cell("C", "8A,2W", 0)] = progress.Status("running", None, 6.2)
  assert progress.time_left(found) == pytest.approx(12 + (7 + 30 + 20 + 10 + 14) / 5 - 6.2)


@pytest.mark.parametrize(
  "text, sentence",
  [
    ("resnet20|8A,2W|91.1", "write NETWORK|PRECISION|ACCURACY|SOURCE"),
    ("resnet20|8A,2W|good|me", "write NETWORK|"),
    ("resnet20|8A,2W|91.1|", "write NETWORK|"),
    ("resnet20|8A,2W|910|me", "is between 0 and 100."),
    (
      "resnet20|2W|91|me",
      "config.study.references has 'resnet20|2W|91|me': precision '2W' is not one",
    ),
  ],
)
def test_wrong_references_are_refused_in_one_sentence(text, sentence):
  with pytest.raises(ConfigError) as error:
    configs.validate(config_of(references=(text,)))
  assert sentence in str(error.value) and "\n" not in str(error.value)


def test_a_reference_by_hand():
  assert references.parse(" resnet8 at width 0.25 |8a2w|91.13| TTQ, a|b ") == (
    "resnet8 at width 0.25",
    "8A,2W",
    91.13,
    "TTQ, a|b",
  )


def test_cells_of_earlier_calls_are_named(tmp_path):
  workdir = made(tmp_path / "study", config_of(seeds=(0, 1)))
  write_config(workdir, config_of(seeds=(0,)))  # the same workdir again, with fewer seeds
  rows = [row for row in csv.DictReader((workdir / "results.csv").open()) if row["seed"] == "0"]
  results.write(workdir / "results.csv", rows)
  merge.report_on([str(workdir)])
  text = (workdir / "report.md").read_text()
  (line,) = (part for part in text.split("\n\n") if part.startswith("Trained by earlier calls"))
  for kind in configs.CELLS:
    assert (f"{kind}-8A2W-seed1" in line) != (f"{kind}-32A32W-seed1" in line)
  assert "seed0" not in line
