"""Reports of several parts of a study, of unfinished studies, and of folders that are no study."""

import csv
import shutil

import pytest
from made_study import accuracy, config_of, made, table_after

from apprentice_jax import cli
from apprentice_jax import config as configs
from apprentice_jax.errors import ConfigError
from apprentice_jax.study import cells, merge, results
from apprentice_jax.training.workdir import write_config


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
  lines = table_after(text, "## Which differences are significant")[1]
  found = {line["difference of"]: list(line.values())[1:] for line in lines}
  one = cells.Cell("A", "8A,2W", 0), cells.Cell("baseline", "8A,2W", 0)
  assert found["scheme A − no distillation"] == [
    f"{accuracy(one[0]) - accuracy(one[1]):+.2f}",
    "one seed: no test",
    "",
    "",
    "seed 0",
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
    _, lines = table_after(text, heading)
    assert lines, heading
    for row in lines:
      alone = row["network"] in ("scheme A", "scheme B", "scheme C")
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


def test_cells_of_earlier_calls_are_named(tmp_path):
  workdir = made(tmp_path / "study", config_of(seeds=(0, 1)))
  write_config(workdir, config_of(seeds=(0,)))  # the same workdir again, with fewer seeds
  rows = [row for row in csv.DictReader((workdir / "results.csv").open()) if row["seed"] == "0"]
  results.write(workdir / "results.csv", rows)
  merge.report_on([str(workdir)])
  text = (workdir / "report.md").read_text()
  (line,) = (part for part in text.split("\n\n") if part.startswith("Earlier calls"))
  for kind in configs.CELLS:
    assert (f"{kind}-8A2W-seed1" in line) != (f"{kind}-32A32W-seed1" in line)
  assert "seed0" not in line
