"""The variations of a study: their grammar, their names, and one sentence for each wrong one."""

import pytest
from made_study import varied

from apprentice_jax import config as configs
from apprentice_jax.errors import ConfigError
from apprentice_jax.study import variations
from apprentice_jax.study.cells import Cell
from apprentice_jax.study.variations import BASE

DEFAULTS = configs.flat(configs.base())


def parsed(*texts) -> dict[str, dict]:
  """Name -> the changes of each variation."""
  base, *others = variations.of(varied(*texts))
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
    variations.check(varied(text))
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
    variations.check(varied(*texts))
  assert str(error.value) == sentence


def test_a_quantizer_has_to_do_the_studys_precisions_and_no_other():
  config = varied("a: quantization.weights=twn", precisions=("8A,2W", "8A,4W"))
  with pytest.raises(
    ConfigError,
    match="variations at a: quantization.weights=twn: weight quantizer 'twn' cannot do 4 bits",
  ):
    variations.check(config)
  config.study.precisions, config.precision = ("8A,2W",), "8A,4W"
  variations.check(config)


def test_batch_sizes_beside_a_batch_that_follows_the_devices():
  config = varied("a: batch_size=32")
  variations.check(config)
  config.batch_per_device = 8
  with pytest.raises(ConfigError, match="varies batch_size, but the batch follows the devices"):
    variations.check(config)


def test_labels_and_names():
  (_, found) = variations.of(varied("both: quantization.weights=twn, loss.gamma=0.25"))
  assert found.changes == (("loss.gamma", 0.25), ("quantization.weights", "twn"))
  assert found.label == "both: loss.gamma=0.25, quantization.weights=twn"
  assert variations.changes_of(found.label) == (
    ("loss.gamma", "0.25"),
    ("quantization.weights", "twn"),
  )
  assert BASE.label == "" and variations.changes_of("") == ()
  assert Cell("A", "8A,2W", 3, found).name == "A-8A2W-both-seed3"
  assert Cell("A", "8A,2W", 3).name == "A-8A2W-seed3"
  (_, tuples) = variations.of(varied("t: quantization.full_precision=(stem,head), loss.gamma=1"))
  assert dict(variations.changes_of(tuples.label)) == {
    "loss.gamma": "1.0",
    "quantization.full_precision": "(stem,head)",
  }
