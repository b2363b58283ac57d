"""The figures of the README are those of the CSV and JSON files under results/."""

import csv
import importlib.util
import json
import re
import statistics

import markdown_pages as pages
import pytest
from markdown_pages import ROOT
from scipy import stats

RESULTS = ROOT / "results"
README = pages.README.read_text()
NUMBER = re.compile(r"[+−]?\d[\d,]*(?:\.\d+)?")


def loaded(path):
  return json.loads((RESULTS / path).read_text())


def accuracies(pattern):
  """The test accuracies in percent of the runs of mlperf_tiny that a pattern matches, by seed."""
  files = sorted((RESULTS / "mlperf_tiny").glob(f"{pattern}/result.json"))
  return [100 * json.loads(file.read_text())["test_accuracy"] for file in files]


def packed_bytes(precision):
  text = (RESULTS / "deploy" / f"tiny-{precision}-float-ends.txt").read_text()
  return re.search(r"packed file +([\d,]+) bytes", text)[1]


def mean_and_spread(pattern):
  values = accuracies(pattern)
  spread = [f"{statistics.stdev(values):.2f}"] if len(values) > 1 else []
  return [f"{statistics.mean(values):.2f}", *spread]


def with_a_teacher(precision):
  return [*mean_and_spread(f"B-tau4-{precision}-seed[0-9]"), packed_bytes(precision)]


def teachers_effect():
  """B at temperature 4 less no teacher at 8A,2W, of ResNet-8: mean and 95% interval."""
  return difference(accuracies("B-tau4-8A2W-seed[0-9]"), accuracies("baseline-8A2W-seed[0-9]"))


def teachers_part():
  """Scheme C less its control at 8A,2W, of ResNet-20: mean and 95% interval."""
  by_cell = {"C": [], "C-control": []}  # by seed
  with (RESULTS / "cifar10" / "resnet20-45" / "results.csv").open(newline="") as file:
    for row in sorted(csv.DictReader(file), key=lambda row: row["seed"]):
      if row["cell"] in by_cell:
        by_cell[row["cell"]].append(100 * float(row["accuracy"]))
  return difference(*by_cell.values())


def difference(ones, others):
  """The mean of paired differences, and its 95% interval."""
  mean = statistics.mean(one - other for one, other in zip(ones, others, strict=True))
  interval = stats.ttest_rel(ones, others).confidence_interval(0.95)
  return [f"{value:+.2f}".replace("-", "−") for value in (mean, *interval)]


def microcontroller():
  report = loaded("mcu/O2/resnet8_8A2W.json")
  (row,) = (row for row in report["machines"] if row["key"] == "m4")
  millions, kib = f"{row['instructions'] / 1e6:.2f}", [row["ram"] / 1024, row["flash"] / 1024]
  return [millions, *(f"{size:.1f}" for size in kib)]


def all_images(folder):
  report = loaded(f"{folder}/resnet8-8A2W.json")
  return [f"{report['equal']:,}", f"{report['images']:,}"]


def onnx_runtime():
  times = loaded("deploy/onnx_speed.json")["networks"]["resnet18"]["milliseconds"]["1"]
  return [f"{times['float32'] / times['8A,2W fast, float ends']:.2f}"]


def own_networks():
  """The largest loss of a cell's mean against the network's full precision, rounded up."""
  cells = {}
  with (RESULTS / "own_networks" / "trainings.csv").open(newline="") as file:
    for row in csv.DictReader(file):
      key = row["network"], row["precision"], row["scheme"]
      cells.setdefault(key, []).append(float(row["accuracy"]))
  means = {key: statistics.mean(values) for key, values in cells.items()}
  lost = max(means[key[0], "32A,32W", "baseline"] - mean for key, mean in means.items())
  return [f"{lost + 0.05:.1f}"]


CLAIMS = {
  "Ternary weights, with a teacher": lambda: with_a_teacher("8A2W"),
  "The same without a teacher": lambda: mean_and_spread("baseline-8A2W-seed[0-9]"),
  "So the teacher adds": teachers_effect,
  "4-bit weights, with a teacher": lambda: with_a_teacher("8A4W"),
  "The same network in full precision": lambda: mean_and_spread("baseline-32A32W-seed[0-9]"),
  "At temperature 1 a teacher adds next to nothing": teachers_part,
  "The C code computes the definition, bit for bit": lambda: all_images("mcu"),
  "So does the web page's engine": lambda: all_images("web"),
  "An emulated Cortex-M4 runs the C code in": microcontroller,
  "ONNX Runtime runs it faster than float32": onnx_runtime,
  "A training step costs less than in plain Flax": lambda: [
    f"{loaded('bench/quantization-8A2W-cpu.json')['overhead']:.2f}"
  ],
  "Other people's Flax networks keep their accuracy": own_networks,
}


def claims():
  section = README.partition("## What is measured\n")[2].partition("\n## ")[0]
  rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \|$", section, re.MULTILINE)
  return dict(rows[1:])  # without the heading


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claims_figures(claim):
  text = re.sub(r"Cortex-M4|CIFAR-10", "", claims()[claim])
  assert NUMBER.findall(text) == CLAIMS[claim]()


def test_every_claim_has_a_source():
  assert set(claims()) == set(CLAIMS)


def test_the_first_commands_table_is_the_kept_one():
  section = README.partition("## Two commands\n")[2].partition("\n## ")[0]
  rows = re.findall(r"^\|.*\|$", section, re.MULTILINE)
  kept = (RESULTS / "digits" / "report.md").read_text().splitlines()
  assert len(rows) > 3
  for row in rows:
    assert row in kept or set(row) == {"|", "-"}, row
  heading = kept.index(rows[0])
  whole = kept[heading + 2 : kept.index("", heading)]
  assert f"has {len(whole)} rows" in section
  (size,) = (row.split(" | ")[-1].strip(" |") for row in rows if row.startswith("| scheme B |"))
  assert f"then a student of {size}" in " ".join(README.split())  # the same config, in Python


def test_the_points_of_the_picture():
  path = RESULTS / "accuracy_bytes.py"
  spec = importlib.util.spec_from_file_location("accuracy_bytes", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  points = {
    (p["network"], p["label"], p["precision"]): (round(p["accuracy"], 2), p["bytes"])
    for p in module.points()
    if p["runs"]
  }
  ternary, fours = accuracies("B-tau4-8A2W-seed[0-9]"), accuracies("B-tau4-8A4W-seed[0-9]")
  for precision, values in (("8A,2W", ternary), ("8A,4W", fours)):
    size = int(packed_bytes(precision.replace(",", "")).replace(",", ""))
    expected = round(statistics.mean(values), 2), size
    assert points["ResNet-8", "teacher", precision] == expected
  assert points["ResNet-20", "full precision", "32A,32W"] == (91.07, 1084512)
