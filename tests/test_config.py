"""The configuration: its argument grammar, its checks, and the files that come with the library."""

import importlib.util
import pathlib

import numpy as np
import pytest

from apprentice_jax import config as configs
from apprentice_jax import quantizers
from apprentice_jax.config import checks
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.errors import ConfigError
from apprentice_jax.models.precision import Precision

FILES = sorted((pathlib.Path(__file__).parents[1] / "configs").glob("[!_]*.py"))


def get_config(path, argument=""):
  spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(argument)


def valid():
  config = configs.base()
  config.data.name = "digits"
  return config


def test_defaults_are_the_papers():
  config = valid()
  configs.validate(config)
  assert config.loss.to_dict() == dict(
    alpha=1.0,
    beta=0.5,
    gamma=0.5,
    temperature=1.0,
    teacher_gradient=False,
    standardised=False,
    teacher_entropy=0.0,
  )
  assert config.quantization.full_precision == ("stem", "head")
  assert config.recipe.finetune.learning_rate < config.recipe.student.learning_rate


@pytest.mark.parametrize(
  "argument", ["", "runlocal", "runlocal,scheme=A,precision=8A4W", "student=resnet14,width=0.25"]
)
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_config_files_are_valid(path, argument):
  config = get_config(path, argument)
  configs.validate(config)
  assert configs.flat(config).keys() == configs.flat(configs.base()).keys()
  if "student=" in argument:
    assert config.student.name == "resnet14"
    assert config.student.width == config.teacher.width == 0.25
  if "scheme" in argument:
    assert (config.scheme, Precision.parse(config.precision)) == ("A", (8, 4))


@pytest.mark.parametrize(
  "argument, expected",
  [
    ("", {}),
    (None, {}),
    ("runlocal", {"runlocal": "True"}),
    ("student=resnet20,precision=8A2W,", {"student": "resnet20", "precision": "8A2W"}),
    ("scheme=C-control,width=0.5", {"scheme": "C-control", "width": "0.5"}),
  ],
)
def test_grammar(argument, expected):
  assert configs.parse(argument) == expected


@pytest.mark.parametrize(
  "argument, sentence",
  [
    ("schem=A", "config argument 'schem' does not exist: did you mean 'scheme'?"),
    ("runlocl", "did you mean 'runlocal'?"),
    ("zzz", "choose one of student, teacher, precision, scheme, width, preset, runlocal"),
    ("width=wide", "config argument width takes a number"),
    ("runlocal=maybe", "runlocal"),
    ("precision=8A,2W", "write precision=8A2W"),
  ],
)
def test_wrong_arguments_are_refused(argument, sentence):
  with pytest.raises(ConfigError) as error:
    configs.apply_argument(valid(), argument, {})
  assert sentence in str(error.value) and "\n" not in str(error.value)


def test_the_papers_preset_has_its_quantizers():
  config = configs.apply_argument(valid(), "preset=paper,precision=8A2W", {})
  configs.validate(config, ("8A,4W", "32A,2W"))
  found = [configs.quantization(config, p) for p in ("8A,2W", "8A,4W", "32A,2W")]
  assert [(q.weights, q.activations) for q in found] == [
    ("ttq", "wrpn"),
    ("wrpn", "wrpn"),
    ("ttq", "wrpn"),
  ]
  assert all(not q.per_channel and q.wrpn_scale == "unit" for q in found)
  with pytest.raises(ConfigError, match="weight quantizer 'wrpn' cannot do 1 bits"):
    configs.validate(config, ("8A,1W",))
  with pytest.raises(ConfigError, match="config argument preset is 'papr': did you mean 'paper'"):
    configs.apply_argument(valid(), "preset=papr", {})


@pytest.mark.parametrize("scheme", ["C", "C-control"])
def test_wrpns_grid_to_one_is_not_for_trained_weights_of_wide_networks(scheme):
  config = configs.apply_argument(
    valid(), f"preset=paper,precision=8A4W,scheme={scheme},student=resnet50", {}
  )
  sentence = (
    f"scheme {scheme} at 8A,4W starts from trained weights, of which WRPN's grid to 1 rounds about "
    "99.9% to "
    "zero in the widest layers of resnet50: set config.quantization.wrpn_scale=max"
  )
  with pytest.raises(ConfigError) as error:
    configs.validate(config)
  assert str(error.value) == sentence + "."
  config.study.cells = ("baseline", scheme)
  with pytest.raises(ConfigError) as error:
    configs.validate(config, ("8A,2W", "8A,4W"))
  assert str(error.value) == sentence + ", or leave the scheme out of config.study.cells."
  for changes in (
    {"quantization.wrpn_scale": "max"},
    {"student.name": "resnet20"},
    {"precision": "8A,2W"},
    {"precision": "8A,32W"},
    {"precision": "8A,5W"},
    {"scheme": "B"},
  ):
    fine = config.copy_and_resolve_references()
    fine.update_from_flattened_dict(changes)
    configs.validate(fine)


@pytest.mark.parametrize(
  "name, width, channels, bits",
  [("resnet8", 0.5, 32, 3), ("resnet20", 1.0, 64, 4), ("resnet50", 1.0, 512, 5)],
)
def test_how_many_weights_the_grid_rounds_to_zero(name, width, channels, bits):
  student = valid().student
  student.name, student.width = name, width
  weights = (
    np.random.default_rng(0).normal(0, np.sqrt(2 / (9 * channels)), 100_000).astype(np.float32)
  )
  zeros = np.mean(np.asarray(quantizers.wrpn_weights(weights, bits)) == 0)
  assert checks._zeros_on_unit_grid(student, bits) == pytest.approx(zeros, abs=0.01)


@pytest.mark.parametrize("name", ["cifar10", "mlperf_tiny"])
def test_the_papers_preset_has_its_temperature(name):
  (path,) = [f for f in FILES if f.stem == name]
  assert (
    get_config(path, "").loss.temperature == 4
    and get_config(path, "preset=paper").loss.temperature == 1
  )


def test_the_arguments_of_runlocal_come_after_it():
  config = configs.apply_argument(valid(), "student=resnet44,runlocal", {"student.name": "resnet8"})
  assert config.student.name == "resnet44"


WRONG = [
  ("scheme", "b", "config.scheme 'b' does not exist: "),
  ("scheme", "C-contrl", "did you mean 'C-control'?"),
  ("dtype", "float16", "config.dtype 'float16' does not exist: did you mean 'bfloat16'?"),
  ("eval.final", "tset", "did you mean 'test'?"),
  ("eval.final", "validation", "config.data.validation holds out no examples"),
  (
    "recipe.teacher.schedule",
    "cosin",
    "config.recipe.teacher.schedule 'cosin' does not exist: did you mean 'cosine'?",
  ),
  ("data.name", "", "config.data.name is empty"),
  ("student.name", "restnet20", "did you mean 'resnet20'?"),
  ("teacher.shortcut", "cnov", "choose 'pad' or 'conv'"),
  ("student.width", 0.0, "width 0.0 leaves no channels"),
  ("precision", "8A,9W", "precision '8A,9W' is not one: write activation and weight bits as in"),
  ("quantization.weights", "twm", "did you mean 'twn'?"),
  ("quantization.activations", "pcat", "did you mean 'pact'?"),
  ("quantization.wrpn_scale", "mx", "choose 'max' or 'unit'"),
  ("study.precisions", ("8A,2W", "2W"), "precision '2W' is not one"),
  ("study.cells", ("A", "basline"), "config.study.cells has 'basline': did you mean 'baseline'?"),
  ("study.seeds", (), "config.study.seeds is (): it must name at least one"),
  ("study.seeds", (1, 1), "none twice"),
  ("study.seeds", (-1,), "seeds are whole numbers from 0"),
  ("study.cells", (), "config.study.cells is ()"),
  (
    "recipe.student.decay",
    ("kernal",),
    "config.recipe.student.decay has 'kernal': did you mean 'kernel'?",
  ),
  ("recipe.teacher.milestones", (2.0,), "config.recipe.teacher.milestones is (2.0,)"),
  ("eval.every_epochs", 1.0, "config.data.validation holds out none"),
  ("batch_size", 0, "config.batch_size is 0: it must be at least 1."),
  ("steps_per_dispatch", 0, "config.steps_per_dispatch is 0"),
  ("cpu_devices", -1, "config.cpu_devices is -1"),
  ("seed", -3, "config.seed is -3: it must be at least 0."),
  ("loss.gamma", -0.5, "config.loss.gamma is -0.5: it must be at least 0."),
  ("loss.alpha", float("nan"), "config.loss.alpha is nan"),
  ("loss.temperature", 0.0, "config.loss.temperature is 0.0: it must be above 0."),
  ("recipe.student.epochs", -1.0, "config.recipe.student.epochs is -1.0"),
  ("recipe.student.epochs", float("inf"), "config.recipe.student.epochs is inf"),
  ("recipe.finetune.learning_rate", -0.1, "config.recipe.finetune.learning_rate is -0.1"),
  ("recipe.student.weight_decay", -1e-4, "config.recipe.student.weight_decay is -0.0001"),
  ("data.pad", -1, "config.data.pad is -1"),
  ("data.validation", -1, "config.data.validation is -1"),
  ("data.std", (0.0,), "std above 0"),
  ("data.std", (0.5, 0.5), "one value per channel"),
  ("checkpoint.keep", 0, "config.checkpoint.keep is 0"),
  ("eval.batch_size", 0, "config.eval.batch_size is 0"),
]


@pytest.mark.parametrize("field, value, sentence", WRONG, ids=[f"{w[0]}={w[1]}" for w in WRONG])
def test_wrong_values_are_refused_in_one_sentence(field, value, sentence):
  config = valid()
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError) as error:
    configs.validate(config, config.study.precisions)
  assert sentence in str(error.value) and "\n" not in str(error.value)


def test_precisions_are_spelled_one_way():
  config = valid()
  config.precision, config.study.precisions = "8a4w", ("32A2W", "8A,4W")
  config = configs.checked(config, config.study.precisions)
  assert (config.precision, config.study.precisions) == ("8A,4W", ("32A,2W", "8A,4W"))


def test_fields_too_many_and_too_few_are_refused():
  config = valid()
  config.student.wdith = 0.5
  with pytest.raises(
    ConfigError, match="config.student.wdith does not exist: did you mean 'student.width'?"
  ):
    configs.validate(config)
  config = valid()
  del config.loss.gamma
  with pytest.raises(ConfigError, match="config.loss.gamma is missing"):
    configs.validate(config)


def test_every_scheme_is_a_cell():
  assert set(SCHEMES) | {"teacher", "student"} == set(configs.CELLS)


@pytest.mark.parametrize(
  "devices, largest, batch",
  [
    (1, 8192, 128),
    (8, 8192, 1024),
    (64, 8192, 8192),
    (256, 8192, 8192),
    (256, 0, 32768),
    (48, 1000, 960),
    (8, 4, 8),
  ],
)  # whole shares, one image a device at least
def test_batch_and_rates_follow_the_devices(devices, largest, batch):
  config = valid()
  config.update(dict(batch_size=256, batch_per_device=128, largest_batch=largest))
  found = configs.scaled(config, devices)
  assert found.batch_size == batch and not found.batch_per_device
  for name, recipe in found.recipe.items():
    before = config.recipe[name]
    assert recipe.learning_rate == pytest.approx(before.learning_rate * batch / 256)
    assert (recipe.epochs, recipe.warmup_epochs) == (before.epochs, before.warmup_epochs)
  assert config.batch_size == 256  # a copy
  assert configs.scaled(found, 3) == found  # once only


def test_a_run_that_has_begun_keeps_its_batch():
  config = valid()
  config.update(dict(batch_size=256, batch_per_device=128))
  found = configs.scaled(config, 16, batch=1024)
  assert found.batch_size == 1024
  assert found.recipe.student.learning_rate == pytest.approx(
    4 * config.recipe.student.learning_rate
  )


def test_a_batch_of_its_own_stays():
  config = valid()
  assert configs.scaled(config, 64) == config


@pytest.mark.parametrize("change", [{"batch_per_device": -1}, {"largest_batch": -8}])
def test_batches_below_nothing(change):
  config = valid()
  config.update(change)
  with pytest.raises(ConfigError, match=f"config.{next(iter(change))}"):
    configs.validate(config)
