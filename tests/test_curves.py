"""Learning curves in a study's report: which part of them a plot shows, and that it says so."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from apprentice_jax import plots
from apprentice_jax.study.summary import Curve
from apprentice_jax.study.tables import NAMES

EPOCHS = np.linspace(0.1, 30, 300)
RISING = 10 + 85 * (1 - np.exp(-EPOCHS / 0.5))  # near its end after two epochs of thirty
SLOW = 15 + 2 * EPOCHS
DIP = np.where(abs(EPOCHS - 20) < 0.5, 30.0, RISING)
FLAT = np.full(300, 50.0)


def drawn(tmp_path, monkeypatch, **accuracies):
  """The axes of a plot of these curves."""
  figures = []

  class Kept(Figure):
    def savefig(self, *arguments, **options):
      figures.append(self)

  monkeypatch.setattr(plots, "Figure", Kept)
  curves = {kind: [Curve(EPOCHS[: len(a)], a, "training")] for kind, a in accuracies.items()}
  assert plots.study_curves(curves, NAMES, "8A,2W", tmp_path / "a.png")
  return figures[0].axes[0]


@pytest.mark.parametrize(
  "curves", [{"B": SLOW}, {"B": DIP}, {"B": FLAT}, {"A": RISING, "B": SLOW}, {"B": RISING[:4]}]
)
def test_no_curve_is_cut_off_without_need(tmp_path, monkeypatch, curves):
  axes = drawn(tmp_path, monkeypatch, **curves)
  low, high = axes.get_ylim()
  assert axes.get_xlabel() == "epoch"
  for accuracy in curves.values():
    assert low < accuracy.min() and accuracy.max() < high <= 100.5


@pytest.mark.parametrize("curves", [{"B": RISING}, {"A": RISING - 5, "B": RISING}])
def test_the_way_from_chance_is_cut_off_and_the_axis_says_so(tmp_path, monkeypatch, curves):
  axes = drawn(tmp_path, monkeypatch, **curves)
  low, _ = axes.get_ylim()
  assert axes.get_xlabel() == "epoch (curves begin below the plot)"
  # Not more than the first tenth is below.
  below = np.any([a < low for a in curves.values()], axis=0)
  assert 0 < EPOCHS[below].max() <= 3 and low > 60
