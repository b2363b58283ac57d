"""The variations of a study: their grammar, and which cells each of them concerns."""

import pathlib
import re
import runpy

import jax
import jax.numpy as jnp
import pytest

from apprentice_jax import config as configs
from apprentice_jax.cli import config_file, parser
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.errors import ConfigError
from apprentice_jax.study import cells, jobs, variations
from apprentice_jax.study.cells import Cell
from apprentice_jax.study.run import run_study
from apprentice_jax.study.variations import BASE, Variation
from apprentice_jax.training import networks, recipes

DEFAULTS = configs.flat(configs.base())
FULL = "32A,32W"


def valid(*texts, **study_fields):
  """A config of a study with these variations."""
  config = configs.base()
  config.data.name = "digits"
  for network in (config.student, config.teacher):
    network.update(dict(name="resnet8", width=0.25))
  config.study.update(dict(dict(precisions=("8A,2W",), variations=texts), **study_fields))
  return config


def parsed(*texts) -> dict[str, dict]:
  """Name -> the changes of each variation."""
  base, *others = variations.of(valid(*texts))
  assert base == BASE
  return {v.name: dict(v.changes) for v in others}


@pytest.mark.parametrize(
  "text, expected",
  [
    (
      "a: quantization.weights=ttq, loss.gamma=1",
      {"quantization.weights": "ttq", "loss.gamma": 1.0},
    ),
    (" a : batch_size = 32 ,", {"batch_size": 32}),
    ("a:quantization.per_channel=false", {"quantization.per_channel": False}),
    (
      "a: quantization.full_precision=(stem, head), data.pad=1",
      {"quantization.full_precision": ("stem", "head"), "data.pad": 1},
    ),
    ("a: quantization.full_precision=()", {"quantization.full_precision": ()}),
    ("a: data.crop_area=(0.5,1)", {"data.crop_area": (0.5, 1.0)}),
    ("a: student.shortcut=''", {"student.shortcut": ""}),
  ],
)
def test_grammar(text, expected):
  changes = parsed(text)["a"]
  assert changes == expected
  assert {k: type(v) for k, v in changes.items()} == {k: type(DEFAULTS[k]) for k in expected}


def test_several_variations_and_none():
  assert parsed() == {}
  assert parsed("tau4: loss.temperature=4", "B_1.0+: batch_size=32") == {
    "tau4": {"loss.temperature": 4.0},
    "B_1.0+": {"batch_size": 32},
  }


WRITE = "write NAME: FIELD=VALUE, FIELD=VALUE, with a name of letters, digits and . _ + -."


@pytest.mark.parametrize(
  "text, sentence",
  [
    (
      "a: quantization.weigths=twn",
      "config.study.variations has 'quantization.weigths', which is no field of the config: did "
      "you mean 'quantization.weights'?",
    ),
    ("a: config.loss.gamma=1", "did you mean 'loss.gamma'?"),
    ("a: loss.gamma", f"config.study.variations has 'a: loss.gamma': {WRITE}"),
    ("loss.gamma=1", f"config.study.variations has 'loss.gamma=1': {WRITE}"),
    ("a:", WRITE),
    ("a/b: loss.gamma=1", WRITE),
    ("a b: loss.gamma=1", WRITE),
    ("", WRITE),
    (
      "a: loss.gamma=half",
      "config.study.variations has loss.gamma=half: loss.gamma takes a number.",
    ),
    ("a: loss.gamma=", "config.study.variations has loss.gamma=: loss.gamma takes a number."),
    ("a: batch_size=0.5", "batch_size takes a whole number"),
    ("a: quantization.residual=yes", "quantization.residual takes True or False"),
    (
      "a: quantization.full_precision=stem",
      "quantization.full_precision takes a tuple, such as (stem,head).",
    ),
    ("a: quantization.weights=", "quantization.weights takes a word ('': an empty one)."),
    ("a: loss.gamma=0.5, loss.gamma=1", "config.study.variations has loss.gamma twice in a."),
    ("a: study.seeds=(1)", "cannot vary study.seeds: that is what the study is made of."),
    ("a: seed=1", "cannot vary seed: list seeds in study.seeds."),
    ("a: scheme=A", "cannot vary scheme: list schemes in study.cells."),
    (
      "a: teacher_input.mean=()",
      "cannot vary teacher_input.mean: the two go together, and with the teacher.",
    ),
    ("a: precision=8A2W", "cannot vary precision: list precisions in study.precisions."),
    ("a: cpu_devices=2", "cannot vary cpu_devices: devices are started once"),
    (
      "a: batch_per_device=8",
      "cannot vary batch_per_device: the devices are the same for all cells",
    ),
    (
      "a: data.name=cifar10",
      "cannot vary data.name: cells would train on, or be scored on, different images",
    ),
    (
      "a: teacher.init=b",
      "cannot vary teacher.init: a network that is given is given to all cells",
    ),
    ("a: eval.final=test", "cannot vary eval.final: cells would train on"),
    ("a: eval.batch_size=1", "cannot vary eval.batch_size: it does not change a result."),
    ("a: checkpoint.keep=1", "cannot vary checkpoint.keep: it does not change a result."),
    # What only the config at the variation shows.
    (
      "a: loss.gamma=-1",
      "config.study.variations at a: loss.gamma=-1.0: config.loss.gamma is -1.0: it must be at "
      "least 0.",
    ),
    (
      "a: quantization.weights=twm",
      "config.study.variations at a: quantization.weights=twm: weight quantizer 'twm' does not "
      "exist: did you mean 'twn'?",
    ),
  ],
)
def test_wrong_variations_are_refused_in_one_sentence(text, sentence):
  with pytest.raises(ConfigError) as error:
    variations.check(valid(text))
  assert sentence in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
  "texts, sentence",
  [
    (("a: loss.gamma=1", "A: loss.gamma=2"), "config.study.variations has the name A twice."),
    (
      ("a: loss.gamma=1", "b: loss.gamma=1.0"),
      "config.study.variations has a and b, which are the same.",
    ),
  ],
)
def test_no_variation_is_there_twice(texts, sentence):
  with pytest.raises(ConfigError) as error:
    variations.check(valid(*texts))
  assert str(error.value) == sentence


def test_a_quantizer_has_to_do_the_studys_precisions_and_no_other():
  config = valid("a: quantization.weights=twn", precisions=("8A,2W", "8A,4W"))
  with pytest.raises(
    ConfigError,
    match="variations at a: quantization.weights=twn: weight quantizer 'twn' cannot do 4 bits",
  ):
    variations.check(config)
  config.study.precisions, config.precision = ("8A,2W",), "8A,4W"
  variations.check(config)


def test_batch_sizes_beside_a_batch_that_follows_the_devices():
  config = valid("a: batch_size=32")
  variations.check(config)
  config.batch_per_device = 8
  with pytest.raises(ConfigError, match="varies batch_size, but the batch follows the devices"):
    variations.check(config)


def test_labels_and_names():
  (_, found) = variations.of(valid("both: quantization.weights=twn, loss.gamma=0.25"))
  assert found.changes == (("loss.gamma", 0.25), ("quantization.weights", "twn"))
  assert found.label == "both: loss.gamma=0.25, quantization.weights=twn"
  assert variations.changes_of(found.label) == (
    ("loss.gamma", "0.25"),
    ("quantization.weights", "twn"),
  )
  assert BASE.label == "" and variations.changes_of("") == ()
  assert Cell("A", "8A,2W", 3, found).name == "A-8A2W-both-seed3"
  assert Cell("A", "8A,2W", 3).name == "A-8A2W-seed3"
  (_, tuples) = variations.of(valid("t: quantization.full_precision=(stem,head), loss.gamma=1"))
  assert dict(variations.changes_of(tuples.label)) == {
    "loss.gamma": "1.0",
    "quantization.full_precision": "(stem,head)",
  }


def by_kind(*texts, **fields):
  """Kind and precision -> the names of the variations at which the study has it."""
  found = {}
  for cell in cells.cells(valid(*texts, seeds=(5,), **fields)):
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
  config = valid(f"twn: {wide}, quantization.weights=twn", f"ttq: {wide}, quantization.weights=ttq")
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
  config = valid("a: loss.gamma=0.25, teacher.width=0.5")
  cell = cells.of(config, "C", "8A,2W", 1, variations.of(config)[1])
  assert cells.sources(config, cell) == {
    "teacher": Cell("teacher", FULL, 1, Variation("a", (("teacher.width", 0.5),))),
    "student": Cell("student", FULL, 1),
  }


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
  config, left_out = valid(), 0
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
  config, images = valid(), jnp.zeros((1, 8, 8, 1))
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


def test_every_cell_is_trained_at_its_variations_with_rates_for_the_devices(tmp_path, monkeypatch):
  config = valid(
    "rate: recipe.student.learning_rate=0.2",
    "gamma: loss.gamma=0.25",
    seeds=(0,),
    cells=("teacher", "student", "baseline", "B"),
  )
  # Tests have eight devices.
  config.update_from_flattened_dict({"batch_size": 32, "batch_per_device": 8})
  trained = {}

  def train(run_config, place, **starts):
    assert place.name not in trained
    trained[place.name] = (
      run_config,
      {k: pathlib.Path(v).name for k, v in starts.items() if k in ("teacher", "student")},
    )
    return {"test_accuracy": 0.5, "test_loss": 1.0, "test_count": 360}

  monkeypatch.setattr(jobs.api, "train", train)
  run_study(config, tmp_path)
  rate = lambda name: trained[name][0].recipe.student.learning_rate
  assert set(trained) == {
    "teacher-32A32W-seed0",
    *(f"{kind}-seed0" for kind in ("student-32A32W", "baseline-8A2W", "B-8A2W")),
    *(f"{kind}-rate-seed0" for kind in ("student-32A32W", "baseline-8A2W", "B-8A2W")),
    "B-8A2W-gamma-seed0",
  }
  # The batch is twice what the rates are for.
  for at, expected in (("", 0.2), ("-rate", 0.4)):
    assert trained[f"baseline-8A2W{at}-seed0"][0].batch_size == 64
    for kind in ("student-32A32W", "baseline-8A2W", "B-8A2W"):
      assert rate(f"{kind}{at}-seed0") == pytest.approx(expected)
    assert trained[f"B-8A2W{at}-seed0"][1] == {"teacher": "teacher-32A32W-seed0"}
  gamma = trained["B-8A2W-gamma-seed0"][0]
  assert gamma.loss.gamma == 0.25 and gamma.recipe.student.learning_rate == pytest.approx(0.2)


def test_the_recipe_search_is_a_study_of_variations():
  root = pathlib.Path(__file__).parents[1]
  config = runpy.run_path(str(root / "results/recipe/search.py"))["get_config"]()
  config = configs.checked(config, config.study.precisions)
  variations.check(config)
  found = {}
  for cell in cells.cells(config):
    if cell.seed == 1:
      found.setdefault(cell.kind, []).append(cell)
  # Eleven variations concern both, nine the teacher, two of them the teacher's own training.
  assert {kind: len(members) for kind, members in found.items()} == {
    "teacher": 1 + 2,
    "baseline": 1 + 11,
    "B": 1 + 11 + 9,
  }
  steps = next(c for c in found["B"] if c.variation.name == "steps")
  assert cells.cell_config(config, steps).recipe.student.schedule == "step"
  deeper = next(c for c in found["B"] if c.variation.name == "deeper-teacher")
  teacher = cells.sources(config, deeper)["teacher"]
  assert cells.cell_config(config, teacher).student.name == "resnet20"


def test_every_trial_of_the_search_on_resnet8_is_a_config_that_can_run(monkeypatch):
  for name in ("DATA", "TEACHERS", "WORKDIR"):
    monkeypatch.setenv(name, f"/{name.lower()}")
  search = runpy.run_path(str(pathlib.Path(__file__).parents[1] / "results/recipe/resnet8.py"))
  runs = search["runs"](search["TRIALS"])
  for run in (r for r in runs if r.seed == 1):
    flags = [f"--config.{field}={value}" for field, value in search["settings"](run).items()]
    given = parser.parse(["train", f"--config=mlperf_tiny:scheme={run.scheme}", *flags])
    config = config_file.read(given.config, given.fields)
    configs.validate(config)
    assert (config.seed, config.eval.final, config.data.validation) == (1, "validation", 5000)
  # A change of the teacher's alone has base's control; each network comes before those it teaches.
  assert search["control_of"]("no-label") == "base"
  assert search["control_of"]("no-decay") == "no-decay"
  names = [run.name for run in runs]
  for run in runs:
    for value in search["settings"](run).values():
      if value.startswith("/workdir/"):
        assert names.index(value.removeprefix("/workdir/")) < names.index(run.name)
