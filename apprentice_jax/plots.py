"""Plots, as PNG files."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import numpy as np

COLOURS = {"teacher": "0.6", "student": "0.2", "baseline": "tab:orange", "A": "tab:blue",
           "B": "tab:green", "C": "tab:red", "C-control": "tab:purple"}
MARKERS = "osD^vP*X<>"  # one a precision


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


def study_curves(by_cell: dict, title: str, path) -> bool:
  """Accuracy by epoch, mean over seeds, one line per cell.

  Args:
    by_cell: cell -> the `summary.Curve` of each seed's run.
    title: the precision, and the point of the grid.
    path: PNG to write.

  Returns:
    Whether there was anything to plot.
  """
  figure = Figure(figsize=(6, 4), layout="constrained")
  axes = figure.subplots()
  lows = []
  for cell, curves in by_cell.items():
    length = min(len(curve.epochs) for curve in curves)
    accuracy = np.mean([curve.accuracy[:length] for curve in curves], axis=0)
    axes.plot(curves[0].epochs[:length], accuracy, label=cell, color=COLOURS[cell])
    axes.set_ylabel(f"{curves[0].split} accuracy %")
    lows.append(np.percentile(accuracy, 25) if len(accuracy) > 8 else min(accuracy))
  if not lows:
    return False
  axes.set_ylim(bottom=min(lows) - 1)  # the first steps from chance level say little
  axes.set_xlabel("epoch")
  axes.set_title(title, fontsize="medium", wrap=True)
  axes.legend()
  figure.savefig(path, dpi=110)
  return True


def accuracy_against(entries: list, costs: list[float], best: list[int], label: str, path):
  """Mean accuracy (error bars: standard deviation) against a cost, and the front of those that none dominates.

  A cell has its colour and a precision its marker, so that points that lie on one another need no names beside them.

  Args:
    entries: `summary.Entry`s.
    costs: one of each.
    best: the indices of those on the front, by cost.
    label: of the costs, with their unit.
    path: PNG to write.
  """
  figure = Figure(figsize=(7.5, 4.2), layout="constrained")
  axes = figure.subplots()
  precisions = list(dict.fromkeys(e.precision for e in entries))
  marker = {p: MARKERS[i % len(MARKERS)] for i, p in enumerate(precisions)}
  if best:  # level from one point to the next: more cost alone buys nothing
    axes.step([costs[i] for i in best], [entries[i].mean for i in best], where="post", color="0.7", zorder=1)
  for e, cost in zip(entries, costs):
    axes.errorbar(cost, e.mean, yerr=e.sd or 0, fmt=marker[e.precision], capsize=3, color=COLOURS[e.cell],
                  markerfacecolor="none", zorder=2)
  axes.set(xscale="log", xlabel=label, ylabel="accuracy %")
  line = lambda **style: Line2D([], [], **style)
  handles = [line(color=COLOURS[cell], linewidth=4, label=cell) for cell in dict.fromkeys(e.cell for e in entries)]
  handles += [line(color="0.2", marker=marker[p], linestyle="", markerfacecolor="none", label=p) for p in precisions]
  handles.append(line(color="0.7", label="not dominated"))
  figure.legend(handles=handles, loc="outside right upper", fontsize="small")
  figure.savefig(path, dpi=110)
