"""Variations of a study share the cells that they do not concern, and no others."""

import re

import jax
import jax.numpy as jnp
import pytest
from made_study import varied

from apprentice_jax import config as configs
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.study import cells, variations
from apprentice_jax.study.cells import Cell
from apprentice_jax.study.variations import BASE, Variation
from apprentice_jax.training import networks, recipes

DEFAULTS = configs.flat(configs.base())
FULL = "32A,32W"


def by_kind(*texts, **fields):
  """Kind and precision -> the names of the variations at which the study has it."""
  found = {}
  for cell in cells.cells(varied(*texts, seeds=(5,), **fields)):
    found.setdefault((cell.kind, cell.precision), []).append(cell.variation.name)
  return {
    kind if precision == "8A,2W" or kind in cells.ALONE else (kind, precision): names
    for (kind, precision), names in found.items()
  }


def varied_kinds(text):
  """The kinds of cells that a variation concerns."""
  found = by_kind(f"a: {text}")
  assert all(names in ([""], ["", "a"]) for names in found.values())
  return [kind for kind, names in found.items() if len(names) == 2]


def test_cells_that_a_variation_does_not_concern_are_shared():
  quantized = ["baseline", "A", "B", "C", "C-control"]
  assert varied_kinds("quantization.weights=ttq") == quantized
  assert varied_kinds("loss.gamma=0.25") == ["A", "B", "C"]
  assert varied_kinds("loss.alpha=0.5") == ["A"]
  assert varied_kinds("recipe.finetune.epochs=1") == ["C", "C-control"]
  # C and its control start from the student, B and C from the teacher.
  assert varied_kinds("recipe.student.epochs=1") == ["student", *quantized]
  assert varied_kinds("teacher.width=0.5") == ["teacher", "A", "B", "C"]
  assert varied_kinds("batch_size=32") == ["teacher", "student", *quantized]
  # Each cell is at every variation that concerns it, one at a time.
  both = by_kind("g: loss.gamma=0.25", "f: recipe.finetune.epochs=1")
  assert both == {
    "teacher": [""],
    "student": [""],
    "baseline": [""],
    "A": ["", "g"],
    "B": ["", "g"],
    "C": ["", "g", "f"],
    "C-control": ["", "f"],
  }
  # Activations at full precision have no quantizer.
  mixed = by_kind(
    "l: quantization.activations=lsq", precisions=("32A,2W", "8A,2W"), cells=("baseline",)
  )
  assert mixed == {("baseline", "32A,2W"): [""], "baseline": ["", "l"]}


def test_variations_share_a_cell_that_reads_the_same_part_of_both():
  wide = "student.width=0.5"
  config = varied(
    f"twn: {wide}, quantization.weights=twn", f"ttq: {wide}, quantization.weights=ttq"
  )
  found = {}
  for cell in cells.cells(config):
    if cell.seed == 0:
      found.setdefault(cell.kind, []).append(cell.variation)
  assert [v.name for v in found["C"]] == ["", "twn", "ttq"]
  assert found["student"] == [BASE, Variation("twn", (("student.width", 0.5),))]
  for variation in found["C"][1:]:  # and both start from it
    source = cells.sources(config, Cell("C", "8A,2W", 0, variation))["student"]
    assert source.name == "student-32A32W-twn-seed0"


def test_cells_start_from_the_networks_of_their_variation():
  config = varied("a: loss.gamma=0.25, teacher.width=0.5")
  cell = cells.of(config, "C", "8A,2W", 1, variations.of(config)[1])
  assert cells.sources(config, cell) == {
    "teacher": Cell("teacher", FULL, 1, Variation("a", (("teacher.width", 0.5),))),
    "student": Cell("student", FULL, 1),
  }


def alike(*texts, **fields):
  """A config whose teacher and student are equal in everything."""
  config = varied(*texts, **fields)
  config.recipe.teacher.update(config.recipe.student)
  return config


def test_a_student_like_its_teacher_is_the_same_training():
  config = alike("b: batch_size=32", "t: recipe.teacher.epochs=1")
  of = lambda kind, place: cells.of(config, kind, FULL, 3, variations.of(config)[place])
  for place in (0, 1, 2):
    assert cells.copied_from(config, of("teacher", place)) is None
  assert cells.copied_from(config, of("student", 0)) == of("teacher", 0)
  assert cells.copied_from(config, of("student", 1)) == of("teacher", 1) != of("teacher", 0)
  # The student does not read the teacher's recipe: it is the base's, and like the base's teacher.
  assert of("student", 2) == of("student", 0) and of("teacher", 2) != of("teacher", 0)
  assert cells.copied_from(config, Cell("baseline", "8A,2W", 3)) is None


@pytest.mark.parametrize(
  "changes",
  [
    {"teacher.width": 0.5},
    {"teacher.shortcut": "conv"},
    {"recipe.teacher.epochs": 1.0},
    {"recipe.student.weight_decay": 0.5},
    {"teacher_input.mean": (0.5,), "teacher_input.std": (0.5,)},
    {"teacher.init": "runs/teacher"},
    {"study.cells": ("student", "baseline")},
  ],
)
def test_a_student_unlike_its_teacher_is_another_training(changes):
  config = alike()
  assert cells.copied_from(config, Cell("student", FULL, 0))
  config.update_from_flattened_dict(changes)
  assert cells.copied_from(config, Cell("student", FULL, 0)) is None


CHANGED = {
  bool: lambda v: not v,
  int: lambda v: v + 8,
  float: lambda v: v / 2 + 0.1,
  str: lambda v: v,
  tuple: lambda v: v[:1],
}


WORDS = {
  "quantization.weights": "lsq",
  "quantization.activations": "lsq",
  "quantization.wrpn_scale": "unit",
  "student.name": "resnet14",
  "teacher.name": "resnet14",
  "student.shortcut": "conv",
  "teacher.shortcut": "conv",
  **{f"recipe.{r}.schedule": "constant" for r in ("student", "teacher", "finetune")},
}


def computed(config, cell):
  """All that a run computes with, but for its data: see `Run`."""
  c = cells.cell_config(config, cell)
  scheme = SCHEMES[c.scheme]
  weights = scheme.weights(c.loss.alpha, c.loss.beta, c.loss.gamma) | {
    "temperature": c.loss.temperature
  }
  settings = networks.settings(c, 10)
  unquantized = lambda network: (
    network and network.clone(quantization=None)
  )  # the next test looks at that
  settings = settings._replace(teacher=unquantized(settings.teacher))
  if "32" in cell.precision:
    settings = settings._replace(student=unquantized(settings.student))
  if not scheme.distills:  # the loss has one term
    settings, weights = settings._replace(teacher_gradient=None), weights["beta"]
  return (
    settings,
    weights,
    recipes.student_recipe(c).to_dict(),
    c.recipe.teacher.to_dict() if scheme.teacher == "joint" else None,
    c.seed,
  )


@pytest.mark.parametrize("precision", ["8A,2W", "32A,2W", "8A,32W", FULL])
def test_what_is_said_not_to_concern_a_cell_changes_nothing_that_it_computes_with(precision):
  config, left_out = varied(), 0
  for kind in configs.CELLS:
    cell = Cell(kind, FULL if kind in cells.ALONE else precision, 0)
    before = computed(config, cell)
    starts = [computed(config, source) for source in cells.sources(config, cell).values()]
    for key, value in DEFAULTS.items():
      point = ((key, WORDS.get(key) or CHANGED[type(value)](value)),)
      if key.startswith("study.") or variations.read_by(point, kind, cell.precision):
        continue
      left_out += 1
      changed = variations.applied(config, Variation("a", point))
      assert computed(changed, cell) == before, (kind, key)
      assert [
        computed(changed, source) for source in cells.sources(config, cell).values()
      ] == starts, (kind, key)
  assert left_out > 60


@pytest.mark.parametrize("precision", ["32A,2W", "8A,32W", FULL])
def test_a_network_in_full_precision_does_not_read_how_it_would_be_quantized(precision):
  config, images = varied(), jnp.zeros((1, 8, 8, 1))
  config.precision = precision

  def operations(config):
    network = networks.model(config, "student", 10)
    both = lambda key, x: (
      variables := network.init(key, x, True),
      network.apply(variables, x, False),
    )
    return re.sub("0x[0-9a-f]+", "", str(jax.make_jaxpr(both)(jax.random.key(0), images)))

  before, keys = operations(config), 0
  for key in (k for k in DEFAULTS if k.startswith("quantization.")):
    point = ((key, WORDS.get(key) or CHANGED[type(DEFAULTS[key])](DEFAULTS[key])),)
    if not variations.read_by(point, "baseline", precision):
      assert operations(variations.applied(config, Variation("a", point))) == before, key
      keys += 1
  assert keys == {"32A,2W": 1, "8A,32W": 3, FULL: 6}[precision]
  if precision != FULL:  # and it would be seen
    key = "quantization.weights" if precision == "32A,2W" else "quantization.activations"
    assert operations(variations.applied(config, Variation("a", ((key, "lsq"),)))) != before
