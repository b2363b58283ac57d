"""Plots, as PNG files."""

import numpy as np
from matplotlib.figure import Figure

COLOURS = {"teacher": "0.6", "student": "0.2", "baseline": "tab:orange", "A": "tab:blue",
           "B": "tab:green", "C": "tab:red", "C-control": "tab:purple"}


def run_curves(records: list[dict], path) -> bool:
  """Loss and accuracies of one run; returns whether there was anything to plot."""
  training = [r for r in records if "loss" in r]
  if not training:
    return False
  figure = Figure(figsize=(9, 3.5), layout="constrained")
  left, right = figure.subplots(1, 2)
  epochs = [r["epoch"] for r in training]
  left.plot(epochs, [r["loss"] for r in training])
  left.set(xlabel="epoch", ylabel="training loss")
  for name in ("student", "teacher"):
    key = f"{name}_accuracy"
    if key in training[0]:
      right.plot(epochs, [100 * r[key] for r in training], label=f"{name}, training")
  at = {r["step"]: r["epoch"] for r in training}
  scored = [r for r in records if "validation_accuracy" in r]
  if scored:
    right.plot([at[r["step"]] for r in scored], [100 * r["validation_accuracy"] for r in scored],
               "o-", label="student, validation")
  right.set(xlabel="epoch", ylabel="accuracy %")
  right.legend()
  figure.savefig(path, dpi=110)
  return True


def study_curves(by_cell: dict, precision: str, path) -> bool:
  """Accuracy by epoch, mean over seeds, one line per cell of one precision.

  Args:
    by_cell: cell -> the records of each seed's run. The validation accuracy is drawn where there is
      one, else the training accuracy.
    precision: for the title.
    path: PNG to write.

  Returns:
    Whether there was anything to plot.
  """
  figure = Figure(figsize=(6, 4), layout="constrained")
  axes = figure.subplots()
  lows = []
  for cell, runs in by_cell.items():
    series = [_series(records) for records in runs if records]
    if not series:
      continue
    length = min(len(x) for x, _, _ in series)
    accuracy = np.mean([y[:length] for _, y, _ in series], axis=0)
    axes.plot(series[0][0][:length], accuracy, label=cell, color=COLOURS[cell])
    axes.set_ylabel(f"{series[0][2]} accuracy %")
    lows.append(np.percentile(accuracy, 25) if len(accuracy) > 8 else min(accuracy))
  if lows:
    axes.set_ylim(bottom=min(lows) - 1)  # the first steps from chance level say little
  axes.set(xlabel="epoch", title=precision)
  axes.legend()
  figure.savefig(path, dpi=110)
  return bool(lows)


def accuracy_against_size(entries: list[dict], path):
  """Mean accuracy (error bars: standard deviation) against bytes, one point per cell."""
  figure = Figure(figsize=(6, 4), layout="constrained")
  axes = figure.subplots()
  for e in entries:
    axes.errorbar(e["bytes"] / 1000, e["mean"], yerr=e["sd"] or 0, fmt="o", capsize=3,
                  color=COLOURS[e["cell"]], label=e["cell"])
  axes.set(xscale="log", xlabel="size, kB", ylabel="accuracy %")
  handles, labels = axes.get_legend_handles_labels()
  unique = dict(zip(labels, handles))
  axes.legend(unique.values(), unique.keys(), fontsize="small")
  figure.savefig(path, dpi=110)


def _series(records):
  """(epochs, accuracies in percent, which split) of one run."""
  at = {r["step"]: r["epoch"] for r in records if "epoch" in r}
  scored = [r for r in records if "validation_accuracy" in r]
  if scored:
    return ([at[r["step"]] for r in scored], [100 * r["validation_accuracy"] for r in scored],
            "validation")
  training = [r for r in records if "student_accuracy" in r]
  return ([r["epoch"] for r in training], [100 * r["student_accuracy"] for r in training],
          "training")
