"""The grid of a study: its grammar, its points, and which cells a field of it concerns."""

import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

from apprentice_jax import config as configs
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.errors import ConfigError
from apprentice_jax.study import cells, grid
from apprentice_jax.study import run as study
from apprentice_jax.study.cells import Cell
from apprentice_jax.training import api, start

DEFAULTS = configs.flat(configs.base())
FULL = "32A,32W"


def valid(**study_fields):
  config = configs.base()
  config.data.name = "digits"
  for network in (config.student, config.teacher):
    network.update(dict(name="resnet8", width=0.25))
  config.study.update(dict(dict(precisions=("8A,2W",)), **study_fields))
  return config


@pytest.mark.parametrize(
  "text, expected",
  [
    ("", {}),
    (" , ", {}),
    (
      "quantization.weights=twn|ttq, loss.gamma=0.25|1",
      {"quantization.weights": ("twn", "ttq"), "loss.gamma": (0.25, 1.0)},
    ),
    ("batch_size = 32 | 64", {"batch_size": (32, 64)}),
    ("quantization.per_channel=True|false", {"quantization.per_channel": (True, False)}),
    (
      "quantization.full_precision=(stem,head)|(head)|(), data.pad=1",
      {"quantization.full_precision": (("stem", "head"), ("head",), ()), "data.pad": (1,)},
    ),
    ("data.crop_area=(0.5,1)", {"data.crop_area": ((0.5, 1.0),)}),
    ("student.shortcut=''|conv", {"student.shortcut": ("", "conv")}),
  ],
)
def test_grammar(text, expected):
  found = grid.parse(text, DEFAULTS)
  assert found == expected
  for key, values in found.items():
    assert {type(v) for v in values} == {type(DEFAULTS[key])}


@pytest.mark.parametrize(
  "text, sentence",
  [
    (
      "quantization.weigths=twn",
      "config.study.grid has 'quantization.weigths', which is no field of the config: did "
      "you mean 'quantization.weights'?",
    ),
    ("config.loss.gamma=1", "did you mean 'loss.gamma'?"),
    (
      "loss.gamma",
      "config.study.grid has 'loss.gamma': write FIELD=VALUE|VALUE, and a comma between fields.",
    ),
    ("loss.gamma=0.5|half", "config.study.grid has loss.gamma=half: loss.gamma takes a number."),
    ("loss.gamma=0.5|", "config.study.grid has loss.gamma=: loss.gamma takes a number."),
    ("batch_size=0.5", "batch_size takes a whole number"),
    ("quantization.residual=yes", "quantization.residual takes True or False"),
    (
      "quantization.full_precision=stem",
      "quantization.full_precision takes a tuple, such as (stem,head).",
    ),
    ("quantization.weights=twn|", "quantization.weights takes a word ('': an empty one)."),
    ("loss.gamma=0.5|0.50", "config.study.grid has a value of loss.gamma twice: 0.5|0.50."),
    ("loss.gamma=0.5, loss.gamma=1", "config.study.grid has loss.gamma twice"),
    ("study.seeds=(1)", "cannot vary study.seeds: that is what the study is made of."),
    ("seed=1|2", "cannot vary seed: list seeds in study.seeds."),
    ("scheme=A|B", "cannot vary scheme: list schemes in study.cells."),
    (
      "teacher_input.mean=(0.5)|()",
      "cannot vary teacher_input.mean: the two go together, and with the teacher.",
    ),
    ("precision=8A2W", "cannot vary precision: list precisions in study.precisions."),
    ("cpu_devices=1|2", "cannot vary cpu_devices: devices are started once"),
    ("batch_per_device=8", "cannot vary batch_per_device: the devices are the same for all cells"),
    (
      "data.name=digits|cifar10",
      "cannot vary data.name: cells would train on, or be scored on, different images",
    ),
    ("teacher.init=a|b", "cannot vary teacher.init: a network that is given is given to all cells"),
    ("eval.final=test", "cannot vary eval.final: cells would train on"),
    ("eval.batch_size=1", "cannot vary eval.batch_size: it does not change a result."),
    ("checkpoint.keep=1|2", "cannot vary checkpoint.keep: it does not change a result."),
    # What only a point of it shows.
    (
      "loss.gamma=0.5|-1",
      "config.study.grid at loss.gamma=-1.0: config.loss.gamma is -1.0: it must be at least 0.",
    ),
    (
      "quantization.weights=lsq|twm",
      "config.study.grid at quantization.weights=twm: weight quantizer 'twm' does not "
      "exist: did you mean 'twn'?",
    ),
  ],
)
def test_wrong_grids_are_refused_in_one_sentence(text, sentence):
  config = valid(grid=text)
  with pytest.raises(ConfigError) as error:
    grid.check(config, config.study.precisions)
  assert sentence in str(error.value) and "\n" not in str(error.value)


def test_a_quantizer_has_to_do_the_studys_precisions_and_no_other():
  config = valid(grid="quantization.weights=lsq|twn", precisions=("8A,2W", "8A,4W"))
  with pytest.raises(
    ConfigError, match="grid at quantization.weights=twn: weight quantizer 'twn' cannot do 4 bits"
  ):
    grid.check(config, config.study.precisions)
  config.study.precisions, config.precision = ("8A,2W",), "8A,4W"
  grid.check(config, config.study.precisions)


def test_batch_sizes_beside_a_batch_that_follows_the_devices():
  config = valid(grid="batch_size=32|64")
  grid.check(config, config.study.precisions)
  config.batch_per_device = 8
  with pytest.raises(ConfigError, match="varies batch_size, but the batch follows the devices"):
    grid.check(config, config.study.precisions)


def test_points_and_their_names():
  text = "quantization.weights=twn|ttq, loss.gamma=0.25|1"
  found = grid.points(text, DEFAULTS)
  assert found == [
    (("loss.gamma", g), ("quantization.weights", w)) for w in ("twn", "ttq") for g in (0.25, 1.0)
  ]
  assert grid.points("", DEFAULTS) == [()]
  assert grid.label(found[0]) == "loss.gamma=0.25, quantization.weights=twn"
  assert grid.unlabelled(grid.label(found[0])) == (
    ("loss.gamma", "0.25"),
    ("quantization.weights", "twn"),
  )
  assert (
    Cell("A", "8A,2W", 3, found[0]).name == "A-8A2W-loss.gamma=0.25+quantization.weights=twn-seed3"
  )
  assert Cell("A", "8A,2W", 3).name == "A-8A2W-seed3"
  # Whatever is in a value: one part of a path, and another one for another value.
  patterns = "|".join(
    f"({p})" for p in ("*/shortcut", "?/shortcut", "%2A/shortcut", "stem,head", "stem")
  )
  names = [grid.name(p) for p in grid.points(f"quantization.full_precision={patterns}", DEFAULTS)]
  assert len(set(names)) == 5 and all(pathlib.Path(name).name == name for name in names)
  tuples = grid.points("quantization.full_precision=(stem,head)|(head), loss.gamma=1", DEFAULTS)
  assert dict(grid.unlabelled(grid.label(tuples[0]))) == {
    "loss.gamma": "1.0",
    "quantization.full_precision": "(stem,head)",
  }


def by_kind(text, **fields):
  """Kind and precision -> the points at which the study has it, as text."""
  found = {}
  for cell in cells.cells(valid(grid=text, seeds=(5,), **fields)):
    found.setdefault((cell.kind, cell.precision), []).append(cell.at)
  return {
    kind if precision == "8A,2W" or kind in cells.ALONE else (kind, precision): at
    for (kind, precision), at in found.items()
  }


def test_cells_that_a_field_does_not_concern_are_shared():
  one = lambda key, *values: [f"{key}={v}" for v in values]
  weights = one("quantization.weights", "twn", "ttq")
  quantized = ("baseline", "A", "B", "C", "C-control")
  assert by_kind("quantization.weights=twn|ttq") == {
    "teacher": [""],
    "student": [""],
    **dict.fromkeys(quantized, weights),
  }
  gamma = one("loss.gamma", 0.25, 0.5)
  assert by_kind("loss.gamma=0.25|0.5") == {
    "teacher": [""],
    "student": [""],
    "baseline": [""],
    "A": gamma,
    "B": gamma,
    "C": gamma,
    "C-control": [""],
  }
  alpha = by_kind("loss.alpha=0.5|1")
  assert [kind for kind in alpha if alpha[kind] != [""]] == ["A"]
  tuned = by_kind("recipe.finetune.epochs=1|2")
  assert [kind for kind in tuned if tuned[kind] != [""]] == ["C", "C-control"]
  # C and its control start from the student, B and C from the teacher.
  student = by_kind("recipe.student.epochs=1|2")
  assert [kind for kind in student if student[kind] == [""]] == ["teacher"]
  teacher = by_kind("teacher.width=0.25|0.5")
  assert [kind for kind in teacher if teacher[kind] == [""]] == ["student", "baseline", "C-control"]
  assert all(len(at) == 2 for at in by_kind("batch_size=32|64").values())
  # Two fields: each cell has the product of those that concern it.
  both = by_kind("loss.gamma=0.25|0.5, recipe.finetune.epochs=1|2")
  assert {kind: len(at) for kind, at in both.items()} == {
    "teacher": 1,
    "student": 1,
    "baseline": 1,
    "A": 2,
    "B": 2,
    "C": 4,
    "C-control": 2,
  }
  # Activations at full precision have no quantizer.
  mixed = by_kind(
    "quantization.activations=pact|lsq", precisions=("32A,2W", "8A,2W"), cells=("baseline",)
  )
  assert {k: len(at) for k, at in mixed.items()} == {("baseline", "32A,2W"): 1, "baseline": 2}


def test_cells_start_from_the_networks_of_their_point():
  at = (("loss.gamma", 0.25), ("teacher.width", 0.5))
  found = cells.of("C", "8A,2W", 1, at)
  assert found.source("teacher") == Cell("teacher", FULL, 1, (("teacher.width", 0.5),))
  assert found.source("student") == Cell("student", FULL, 1)


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
  "quantization.compute": "float",
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
  settings = start.settings(c, 10)
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
    start.student_recipe(c).to_dict(),
    c.recipe.teacher.to_dict() if scheme.teacher == "joint" else None,
    c.seed,
  )


@pytest.mark.parametrize("precision", ["8A,2W", "32A,2W", "8A,32W", FULL])
def test_what_is_said_not_to_concern_a_cell_changes_nothing_that_it_computes_with(precision):
  config, left_out = valid(), 0
  for kind in configs.CELLS:
    cell = Cell(kind, FULL if kind in cells.ALONE else precision, 0)
    before = computed(config, cell)
    starts = [computed(config, cell.source(which)) for which in cells.starts_from(kind)]
    for key, value in DEFAULTS.items():
      point = ((key, WORDS.get(key) or CHANGED[type(value)](value)),)
      if key.startswith("study.") or grid.restricted(point, kind, cell.precision):
        continue
      left_out += 1
      changed = grid.applied(config, point)
      assert computed(changed, cell) == before, (kind, key)
      assert [
        computed(changed, cell.source(which)) for which in cells.starts_from(kind)
      ] == starts, (kind, key)
  assert left_out > 60


@pytest.mark.parametrize("precision", ["32A,2W", "8A,32W", FULL])
def test_a_network_in_full_precision_does_not_read_how_it_would_be_quantized(precision):
  config, images = valid(), jnp.zeros((1, 8, 8, 1))
  config.precision = precision

  def operations(config):
    network = start.model(config, "student", 10)
    both = lambda key, x: (
      variables := network.init(key, x, True),
      network.apply(variables, x, False),
    )
    return re.sub("0x[0-9a-f]+", "", str(jax.make_jaxpr(both)(jax.random.key(0), images)))

  before, keys = operations(config), 0
  for key in (k for k in DEFAULTS if k.startswith("quantization.")):
    point = ((key, WORDS.get(key) or CHANGED[type(DEFAULTS[key])](DEFAULTS[key])),)
    if not grid.restricted(point, "baseline", precision):
      assert operations(grid.applied(config, point)) == before, key
      keys += 1
  assert keys == {"32A,2W": 1, "8A,32W": 3, FULL: 7}[precision]
  if precision != FULL:  # and it would be seen
    key = "quantization.weights" if precision == "32A,2W" else "quantization.activations"
    assert operations(grid.applied(config, ((key, "lsq"),))) != before


def test_every_cell_is_trained_at_its_points_once_with_rates_for_the_devices(tmp_path, monkeypatch):
  config = valid(
    grid="recipe.student.learning_rate=0.1|0.2, loss.gamma=0.25|0.5",
    seeds=(0,),
    cells=("teacher", "student", "baseline", "B"),
  )
  config.update_from_flattened_dict(
    {"batch_size": 32, "batch_per_device": 8}
  )  # tests have eight devices
  trained = {}

  def train(run_config, place, **starts):
    assert place.name not in trained
    trained[place.name] = (
      run_config,
      {k: pathlib.Path(v).name for k, v in starts.items() if k != "part"},
    )
    return {"test_accuracy": 0.5, "test_loss": 1.0, "test_count": 360}

  monkeypatch.setattr(api, "train", train)
  study.run(config, tmp_path)
  rate = lambda name: trained[name][0].recipe.student.learning_rate
  at = [f"recipe.student.learning_rate={r}" for r in (0.1, 0.2)]
  assert set(trained) == {
    "teacher-32A32W-seed0",
    *(f"student-32A32W-{a}-seed0" for a in at),
    *(f"baseline-8A2W-{a}-seed0" for a in at),
    *(f"B-8A2W-loss.gamma={g}+{a}-seed0" for a in at for g in (0.25, 0.5)),
  }
  for a, expected in zip(at, (0.2, 0.4)):  # the batch is twice what the rates are for
    assert trained[f"baseline-8A2W-{a}-seed0"][0].batch_size == 64
    assert (
      rate(f"baseline-8A2W-{a}-seed0")
      == rate(f"student-32A32W-{a}-seed0")
      == pytest.approx(expected)
    )
    name = f"B-8A2W-loss.gamma=0.25+{a}-seed0"
    assert rate(name) == pytest.approx(expected) and trained[name][0].loss.gamma == 0.25
    assert trained[name][1] == {"teacher": "teacher-32A32W-seed0"}
