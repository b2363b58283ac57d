"""The figure of accuracy against bytes on CIFAR-10: python results/accuracy_bytes.py

accuracy_bytes.csv has a row for each point. Our accuracies are the means of the result files that a
row names. The bytes of our networks, and of published ResNet-20, are those of a packed file with
float ends. The other bytes are published: of MLPerf Tiny's file, and of ST's weights in flash.
"""

import csv
import json
import pathlib
import statistics

from matplotlib.figure import Figure

FOLDER = pathlib.Path(__file__).parent
COLOURS = {"teacher": "tab:blue", "no teacher": "tab:orange", "full precision": "0.1"}
# Where a label stands beside its point, in points of the figure; to the right unless it is here.
PLACES = {
  ("ResNet-8", "no teacher", "8A,2W"): (8, -12),
  ("ResNet-8", "no teacher", "8A,4W"): (8, -6),
  ("ResNet-8", "ST model zoo", "8A,8W"): (8, -4),
  ("ResNet-20", "TTQ", "32A,2W"): (-8, 3),
  ("ResNet-20", "APoT", "2A,2W"): (-8, -6),
  ("ResNet-20", "teacher", "8A,2W"): (9, 2),
  ("ResNet-20", "no teacher", "8A,2W"): (9, -9),
  ("ResNet-20", "full precision", "32A,32W"): (-8, -10),
  ("ResNet-20", "akamaster", "32A,32W"): (-8, -3),
  ("ResNet-20", "chenyaofo", "32A,32W"): (-8, -3),
}


def points() -> list[dict]:
  """The rows of accuracy_bytes.csv, with numbers.

  Returns:
    Of each point its row's network, label, precision and source as they are, `bytes` (int),
    `accuracy` in percent, `runs` (0 for published ones) and `deviation` over them (0 of one run).
  """
  found = []
  with (FOLDER / "accuracy_bytes.csv").open(newline="") as file:
    for row in csv.DictReader(file):
      values = [float(row["accuracy"])] if row["accuracy"] else _accuracies(row["files"])
      deviation = statistics.stdev(values) if len(values) > 1 else 0.0
      numbers = {"bytes": int(row["bytes"]), "accuracy": statistics.mean(values)}
      runs = len(values) if row["kind"] == "ours" else 0
      found.append({**row, **numbers, "runs": runs, "deviation": deviation})
  return found


def _accuracies(pattern: str) -> list[float]:
  """The test accuracies in percent of the results that a pattern matches."""
  files = sorted(FOLDER.glob(pattern))
  return [100 * json.loads(file.read_text())["test_accuracy"] for file in files]


def draw(path):
  """Draws all points to a PNG file."""
  figure = Figure(figsize=(8, 4.6), layout="constrained")
  axes = figure.subplots()
  for point in points():
    ours = point["runs"] > 0
    colour = COLOURS[point["label"]] if ours else "0.45"
    axes.errorbar(
      point["bytes"] / 1000,
      point["accuracy"],
      yerr=point["deviation"] or None,
      marker="o" if ours else "s",
      markersize=7 if ours else 5,
      color=colour,
      markerfacecolor=colour if ours else "white",
      linestyle="none",
      capsize=2,
    )
    label = f"{point['label']}, {point['precision']}"
    place = PLACES.get((point["network"], point["label"], point["precision"]), (8, -3))
    axes.annotate(
      f"{label} ({point['runs']})" if ours else label,
      (point["bytes"] / 1000, point["accuracy"]),
      xytext=place,
      textcoords="offset points",
      horizontalalignment="left" if place[0] > 0 else "right",
      fontsize=8,
      color=colour,
    )
  axes.set_xscale("log")
  axes.set_xlim(20, 1300)
  axes.set_ylim(84.5, 93.2)
  ticks = [20, 30, 50, 100, 200, 300, 500, 1000]
  axes.set_xticks(ticks, [f"{tick}" for tick in ticks])
  axes.set_xticks([], minor=True)
  axes.text(21, 92.6, "ResNet-20: above 89%. ResNet-8: below 89%.", fontsize=8, color="0.3")
  axes.set_xlabel("size in kB (1,000 bytes)")
  axes.set_ylabel("CIFAR-10 test accuracy in %")
  axes.set_title(
    "Filled: ours (number of seeds). Hollow: published.", fontsize=9, loc="left", color="0.3"
  )
  axes.grid(alpha=0.3)
  figure.savefig(path, dpi=130)


if __name__ == "__main__":
  draw(FOLDER / "accuracy_bytes.png")
