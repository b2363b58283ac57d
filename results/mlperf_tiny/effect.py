"""The teacher's effect on ResNet-8 at 8A,2W: three seeds each of B, no teacher and full precision.

python results/mlperf_tiny/effect.py
"""

import json
import pathlib
import statistics

from scipy import stats

HERE, SEEDS = pathlib.Path(__file__).parent, range(3)
RUNS = {
  "full precision, no teacher": "baseline-32A32W",
  "8A,2W, B at temperature 4": "B-tau4-8A2W",
  "8A,2W, no teacher": "baseline-8A2W",
}


def accuracies(run: str) -> list[float]:
  """The test accuracy of every seed, in percent."""
  files = [HERE / f"{run}-seed{seed}" / "result.json" for seed in SEEDS]
  return [100 * json.loads(file.read_text())["test_accuracy"] for file in files]


def effect(one: str, other: str) -> tuple[float, float, float, float]:
  """The mean difference of two kinds of runs over the seeds, its 95% interval, and p."""
  test = stats.ttest_rel(accuracies(RUNS[one]), accuracies(RUNS[other]))
  low, high = test.confidence_interval(0.95)
  difference = statistics.mean(accuracies(RUNS[one])) - statistics.mean(accuracies(RUNS[other]))
  return difference, low, high, test.pvalue


def main():
  for name, run in RUNS.items():
    values = accuracies(run)
    each = ", ".join(f"{value:.2f}" for value in values)
    mean, spread = statistics.mean(values), statistics.stdev(values)
    print(f"{name}: {mean:.2f} ± {spread:.2f} ({each})")
  names = list(RUNS)
  for one, other in ((names[1], names[2]), (names[1], names[0])):
    difference, low, high, p = effect(one, other)
    print(f"{one} less {other}: {difference:+.2f} ({low:+.2f} to {high:+.2f}, p = {p:.3f})")


if __name__ == "__main__":
  main()
