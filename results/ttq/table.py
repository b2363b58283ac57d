"""Prints the table of trials.csv: python results/ttq/table.py"""

import csv
import itertools
import pathlib
import statistics

SETTING = ("pairs", "threshold", "start", "magnitude_gradient", "weight_gradient")


def main():
  rows = list(csv.DictReader((pathlib.Path(__file__).parent / "trials.csv").open()))
  print(
    "| a pair per | threshold | start | magnitude's gradient | weight's gradient | seeds | "
    "accuracy % | least magnitude |"
  )
  print("|---|---|---|---|---|---|---|---|")
  key = lambda row: tuple(row[field] for field in SETTING)
  lines = []
  for setting, found in itertools.groupby(sorted(rows, key=key), key):
    found = list(found)
    values = [100 * float(r["validation_accuracy"]) for r in found]
    least = min(
      (r["least_magnitude"] for r in found if r["least_magnitude"]), key=float, default=""
    )
    lines.append(
      (
        statistics.mean(values),
        [
          *setting,
          len(found),
          f"{statistics.mean(values):.2f} ({min(values):.1f} to {max(values):.1f})",
          least,
        ],
      )
    )
  for _, cells in sorted(lines, key=lambda line: -line[0]):
    print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
  main()
