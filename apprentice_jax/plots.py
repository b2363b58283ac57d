"""Plots, as PNG files that are legible at the width of a phone."""

import warnings

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

COLOURS = {
  "teacher": "0.6",
  "student": "0.2",
  "baseline": "tab:orange",
  "A": "tab:blue",
  "B": "tab:green",
  "C": "tab:red",
  "C-control": "tab:purple",
}
MARKERS = "osD^vP*X<>"  # one a precision
WIDTH = 5.2  # inches; a phone shows them in 360 pixels
DPI = 144


def run_curves(records: list[dict], path) -> bool:
  """Loss and accuracies of one run; returns whether there was anything to plot."""
  training = [r for r in records if "loss" in r]
  if not training:
    return False
  figure = Figure(figsize=(WIDTH, 5.6), layout="constrained")
  above, below = figure.subplots(2, 1, sharex=True)
  epochs = [r["epoch"] for r in training]
  above.plot(epochs, [r["loss"] for r in training])
  above.set(ylabel="training loss")
  for name in ("student", "teacher"):
    key = f"{name}_accuracy"
    if key in training[0]:
      below.plot(epochs, [100 * r[key] for r in training], label=f"{name}, training")
  # Records of validation have a step, but no epoch.
  at = {r["step"]: r["epoch"] for r in training}
  scored = [r for r in records if "validation_accuracy" in r]
  if scored:
    accuracy = [100 * r["validation_accuracy"] for r in scored]
    below.plot([at[r["step"]] for r in scored], accuracy, "o-", label="student, validation")
  below.set(xlabel="epoch", ylabel="accuracy %")
  below.legend()
  figure.savefig(path, dpi=DPI)
  return True


def numbers(class_names) -> dict[int, str]:
  """The numbers that stand in pictures for the names with letters that the fonts lack.

  Returns:
    "#PLACE" by the place of each such class; also of a name of blanks alone.
  """
  return {place: f"#{place}" for place, name in enumerate(class_names) if not _drawable(name)}


def _drawable(name: str) -> bool:
  """Whether matplotlib has a glyph for each character: it warns of each that it lacks."""
  # matplotlib says so only while it measures or draws a text.
  with warnings.catch_warnings(record=True) as missing:
    warnings.simplefilter("always")
    text = _plain(name, len(name))
    RendererAgg(1, 1, 72).get_text_width_height_descent(text, FontProperties(), ismath=False)
  return bool(text) and not missing


def confusion(matrix: np.ndarray, labels, path):
  """A confusion matrix, each row coloured by its shares.

  Args:
    matrix: int (classes, classes), a row a true class.
    labels: of the classes, on both axes.
    path: PNG to write.
  """
  # A class takes as much room as its name in the smallest legible letters.
  side = 2.5 + 0.22 * len(labels)
  figure = Figure(figsize=(side, side), layout="constrained")
  axes = figure.subplots()
  axes.imshow(matrix / np.maximum(matrix.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
  places = range(len(labels))
  names = [_plain(name, 24) for name in labels]
  axes.set_xticks(places, names, rotation=90, fontsize=7)
  axes.set_yticks(places, names, fontsize=7)
  axes.set(xlabel="prediction", ylabel="true class")
  figure.savefig(path, dpi=110)


def mistakes(images: list[np.ndarray], told: list[tuple[str, str, float]], path):
  """Small pictures of wrongly classified images.

  Args:
    images: uint8 (height, width, channels) each.
    told: of each image the labels of the true class and of the predicted one, and the confidence
      (0 to 1).
    path: PNG to write.
  """
  columns = min(3, len(images))
  rows = -(-len(images) // columns)
  figure = Figure(figsize=(WIDTH / 3 * columns, 2.1 * rows), layout="constrained")
  for place, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
    axes.axis("off")
    if place < len(images):
      image, (true, predicted, confidence) = images[place], told[place]
      axes.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=255)
      title = f"{_plain(true, 18)}\nas {_plain(predicted, 15)}, {confidence:.0%}"
      axes.set_title(title, fontsize=7.5)
  figure.savefig(path, dpi=DPI)


def _plain(name: str, length: int) -> str:
  """A class's name as matplotlib shows it: one line, cut to a length, dollars no mathematics."""
  name = " ".join(name.split())
  name = name if len(name) <= length else name[: length - 1] + "…"
  return name.replace("$", r"\$")


def study_curves(by_cell: dict, names: dict[str, str], title: str, path) -> bool:
  """Accuracy by epoch, mean over seeds, one line per cell.

  Args:
    by_cell: cell -> the `summary.Curve` of each seed's run.
    names: what the cells are called.
    title: the precision, and the variation.
    path: PNG to write.

  Returns:
    Whether there was anything to plot.
  """
  figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
  axes = figure.subplots()
  means = []
  for cell, curves in by_cell.items():
    # A seed may have been scored fewer times: the mean ends where the shortest curve does.
    length = min(len(curve.epochs) for curve in curves)
    accuracy = np.mean([curve.accuracy[:length] for curve in curves], axis=0)
    axes.plot(curves[0].epochs[:length], accuracy, label=names[cell], color=COLOURS[cell])
    axes.set_ylabel(f"{curves[0].split} accuracy %")
    means.append((curves[0].epochs[:length], accuracy))
  if not means:
    return False
  low, high = _limits(means)
  axes.set_ylim(low, high)
  cut = any(accuracy.min() < low for _, accuracy in means)
  axes.set_xlabel("epoch (curves begin below the plot)" if cut else "epoch")
  axes.set_title(title, fontsize="medium", wrap=True)
  axes.legend(fontsize="small")
  figure.savefig(path, dpi=DPI)
  return True


def _limits(curves: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
  """The least and the largest accuracy of a plot of curves.

  The first tenth of the epochs leads up from chance. It is cut off where it would squeeze the rest
  into less than half of the plot.

  Args:
    curves: epochs and accuracies of each.
  """
  every = np.concatenate([accuracy for _, accuracy in curves])
  later = np.concatenate([accuracy[epochs > 0.1 * epochs[-1]] for epochs, accuracy in curves])
  low, high, least = later.min(), every.max(), every.min()
  if high - low >= 0.5 * (high - least):
    low = least
  margin = 0.05 * (high - low) or 1.0
  # There is nothing above 100.
  return low - margin, min(high + margin, 100.5)


def accuracy_against(
  entries: list, names: dict[str, str], costs: list[float], best: list[int], label: str, path
):
  """Mean accuracy (error bars: standard deviation) against a cost, and the front of those that none
  dominates.

  A cell has its colour and a precision its marker, filled on the front; cells of equal cost are
  drawn side by side.

  Args:
    entries: `summary.Entry`s.
    names: what their cells are called.
    costs: one of each.
    best: the indices of those on the front, by cost.
    label: of the costs, with their unit.
    path: PNG to write.
  """
  figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
  axes = figure.subplots()
  precisions = list(dict.fromkeys(e.precision for e in entries))
  marker = {p: MARKERS[i % len(MARKERS)] for i, p in enumerate(precisions)}
  limits = min(costs) / 1.6, max(costs) * 1.6
  # Level from one point to the next: more cost alone buys nothing.
  front_costs = [*(costs[i] for i in best), limits[1]]
  front_means = [entries[i].mean for i in (*best, best[-1])]
  axes.step(front_costs, front_means, where="post", color="0.7", zorder=1)
  for i, (e, at) in enumerate(zip(entries, _side_by_side(costs))):
    colour = COLOURS[e.cell]
    style = dict(fmt=marker[e.precision], color=colour, capsize=3, zorder=2)
    face = colour if i in best else "white"
    axes.errorbar(at, e.mean, yerr=e.sd or 0, markerfacecolor=face, **style)
  axes.set(xscale="log", xlabel=label, ylabel="accuracy %", xlim=limits)
  axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
  axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
  axes.xaxis.set_minor_formatter(NullFormatter())
  # The legend explains colours and markers apart: their combinations would be too many.
  line = lambda **style: Line2D([], [], **style)
  handles = [
    line(color=COLOURS[cell], linewidth=4, label=names[cell])
    for cell in dict.fromkeys(e.cell for e in entries)
  ]
  handles += [
    line(color="0.2", marker=marker[p], linestyle="", markerfacecolor="none", label=p)
    for p in precisions
  ]
  handles.append(line(color="0.7", marker="o", label="not dominated"))
  figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize="small")
  figure.savefig(path, dpi=DPI)


def _side_by_side(costs: list[float]) -> list[float]:
  """Where to draw points of these costs on a logarithmic axis: equal ones beside each other, in a
  twelfth of it."""
  width = np.log(1.6**2 * max(costs) / min(costs))
  result = []
  for i, cost in enumerate(costs):
    count, number = costs.count(cost), costs[:i].count(cost)
    step = min(width / 70, width / 12 / count)
    result.append(cost * float(np.exp(step * (number - (count - 1) / 2))))
  return result
