"""The checks of a config: what `config.validate` calls."""

import math

from apprentice_jax.config import CELLS, base, flat, quantization
from apprentice_jax.deploy.formats import FORMATS
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.errors import ConfigError, nearest
from apprentice_jax.models.precision import FULL, Precision
from apprentice_jax.study import grid, references

DTYPES = ("float32", "bfloat16")
SCHEDULES = ("cosine", "step", "constant")
PARAMETERS = (
  "kernel",
  "bias",
  "scale",
  "clip",
  "positive",
  "negative",
  "weight_step",
  "activation_step",
)
HEADS = ("", "new", "match")
CHOICES = {
  "scheme": SCHEMES,
  "teacher.head": HEADS,
  "student.head": HEADS,
  "dtype": DTYPES,
  "eval.final": ("test", "validation"),
  "data.unreadable": ("stop", "skip"),
  **{f"recipe.{name}.schedule": SCHEDULES for name in ("student", "teacher", "finetune")},
}
MOST_ZEROS = 0.9  # of a layer's trained weights, for fine-tuning to go on from them
# The least value of a field; a field of a recipe without its recipe.
LEAST = {
  "batch_size": 1,
  "batch_per_device": 0,
  "largest_batch": 0,
  "steps_per_dispatch": 1,
  "cpu_devices": 1,
  "eval.batch_size": 1,
  "eval.every_epochs": 0,
  "checkpoint.every_epochs": 0,
  "checkpoint.keep": 1,
  "data.validation": 0,
  "data.test_share": 0,
  "data.pad": 0,
  "data.image_size": 0,
  "data.threads": 0,
  "data.workers": 0,
  "seed": 0,
  "study.jobs": 1,
  "data.augmentation_epochs": 0,
  "loss.alpha": 0,
  "loss.beta": 0,
  "loss.gamma": 0,
  "epochs": 0,
  "learning_rate": 0,
  "warmup_epochs": 0,
  "weight_decay": 0,
  "settle_steps": 0,
  "momentum": 0,
}


def check(config, precisions=()):
  """Raises ConfigError for a config that cannot run; see `config.validate`."""
  _check_names(config)
  for field, known in CHOICES.items():
    _choice(config, field, known)
  _check_numbers(config)
  _ensure(config.data.name, "config.data.name is empty: name a tfds dataset, such as 'digits'.")
  _check_study(config)
  _check_grid(config, precisions)
  for name in config.recipe:
    _check_recipe(config, name)
  _check_networks(config, precisions)
  _check_trained_start(config, precisions)
  _check_least(config)
  _check_images(config)
  _check_streaming(config.data)
  _check_scores(config)
  for name in config.export:
    _ensure(name in FORMATS, f"config.export has {name!r}: {nearest(name, FORMATS)}")


def _ensure(ok, sentence):
  if not ok:
    raise ConfigError(sentence)


def _choice(config, field, known):
  value = flat(config)[field]
  if value not in known:  # not `_ensure`: looking for what is nearest takes its time
    raise ConfigError(f"config.{field} {value!r} does not exist: {nearest(value, known)}")


def _check_names(config):
  known, own = flat(base()), flat(config)
  for key in own:
    if key not in known:
      raise ConfigError(f"config.{key} does not exist: {nearest(key, known)}")
  for key in known:
    _ensure(
      key in own, f"config.{key} is missing: build the config on apprentice_jax.config.base()."
    )


def _check_numbers(config):
  number = lambda v: isinstance(v, (int, float)) and not isinstance(v, bool)
  own = flat(config)
  for key, default in flat(base()).items():
    value = own[key]
    if isinstance(default, float) and number(value):
      _ensure(math.isfinite(value), f"config.{key} is {value}: it must be finite.")
    if isinstance(default, (tuple, list)) and (
      number(default[0]) if default else key.startswith("teacher_input.")
    ):
      _ensure(
        all(number(v) and math.isfinite(v) for v in value),
        f"config.{key} is {value!r}: it must be a list of numbers.",
      )
  seeds = tuple(config.study.seeds)
  _ensure(
    max(config.seed, *seeds, 0) < 2**32,
    f"config.seed is {config.seed}, config.study.seeds {seeds}: they must be below {2**32}.",
  )


def _check_study(config):
  for cell in config.study.cells:
    _ensure(cell in CELLS, f"config.study.cells has {cell!r}: {nearest(cell, CELLS)}")
  for field in ("seeds", "precisions", "cells"):
    values = config.study[field]
    _ensure(
      values and len(set(values)) == len(values),
      f"config.study.{field} is {values!r}: it must name at least one, and none twice.",
    )
  _ensure(
    all(isinstance(s, int) and s >= 0 for s in config.study.seeds),
    f"config.study.seeds is {config.study.seeds!r}: seeds are whole numbers from 0.",
  )


def _check_grid(config, precisions):
  """Raises ConfigError for a wrong grid or reference; every point of a study has to be able to
  run."""
  try:
    for text in config.study.references:
      references.parse(text)
    points = grid.points(config.study.grid, flat(base()))
  except ValueError as error:
    raise ConfigError(str(error)) from None
  if not config.study.grid or not precisions:
    return
  if config.batch_per_device and any(key == "batch_size" for key, _ in points[0]):
    raise ConfigError(
      "config.study.grid varies batch_size, but the batch follows the devices: set "
      "config.batch_per_device=0."
    )
  for point in points:
    at = grid.applied(config, point)
    at.study.grid, at.precision = "", precisions[0]
    try:
      check(at, precisions)
    except ConfigError as error:
      raise ConfigError(
        f"config.study.grid at {grid.label(point)}: {str(error).removeprefix('config: ')}"
      ) from None


def _check_recipe(config, name):
  recipe = config.recipe[name]
  for leaf in recipe.decay:
    _ensure(
      leaf in PARAMETERS, f"config.recipe.{name}.decay has {leaf!r}: {nearest(leaf, PARAMETERS)}"
    )
  _ensure(
    all(0 < m < 1 for m in recipe.milestones),
    f"config.recipe.{name}.milestones is {recipe.milestones!r}: they are fractions of the run, "
    "between 0 and 1.",
  )


def _check_networks(config, precisions):
  from apprentice_jax.models.residual import resnet  # here, not above: it loads flax

  try:
    for p in config.study.precisions:
      Precision.parse(p)
    for p in (config.precision, *precisions):
      quantization(config, p)
    for network in (config.student, config.teacher):
      resnet(
        network.name or "resnet20",
        2,
        width=network.width,
        shortcut=network.shortcut or None,
        remat=config.remat,
      )
  except ValueError as error:
    raise ConfigError(f"config: {error}") from None


def _check_trained_start(config, precisions):
  """Raises ConfigError where WRPN's grid to 1 would round trained weights away; a study has
  ``precisions``."""
  schemes = config.study.cells if precisions else (config.scheme,)
  trained = [name for name in schemes if name in SCHEMES and SCHEMES[name].pretrained_student]
  for precision in precisions or (config.precision,) if trained else ():
    q = quantization(config, precision)
    if q.precision.weights == FULL or (q.weights, q.wrpn_scale) != ("wrpn", "unit"):
      continue
    zeros = _zeros_on_unit_grid(config.student, q.precision.weights)
    _ensure(
      zeros <= MOST_ZEROS,
      f"scheme {trained[0]} at {q.precision} starts from trained weights, of which WRPN's grid to "
      "1 rounds about "
      f"{zeros:.1%} to zero in the widest layers of {config.student.name}: set "
      "config.quantization.wrpn_scale=max"
      + (", or leave the scheme out of config.study.cells." if precisions else "."),
    )


def _zeros_on_unit_grid(student, bits: int) -> float:
  """The fraction of the widest 3x3 convolutions' weights that WRPN's grid to 1 rounds to zero.

  Weights are taken to be as large as He et al.'s initialisation makes them: normal, of variance 2 /
  fan-out.
  """
  from apprentice_jax.models.residual import resnet  # here, not above: it loads flax

  network = resnet(student.name, 2, width=student.width)
  channels = network.width * 2 ** (len(network.stages) - 1)
  half_a_level = 0.5 / (2 ** (bits - 1) - 1)
  return math.erf(half_a_level / math.sqrt(2 * 2 / (9 * channels)))


def _check_least(config):
  for field, least in LEAST.items():
    for key, value in flat(config).items():
      if key == field or key.startswith("recipe.") and key.endswith("." + field):
        _ensure(value >= least, f"config.{key} is {value}: it must be at least {least}.")
  _ensure(
    config.loss.temperature > 0,
    f"config.loss.temperature is {config.loss.temperature}: it must be above 0.",
  )


def _check_images(config):
  held_out, share = config.data.validation, config.data.test_share
  _ensure(
    held_out < 1 or held_out == int(held_out),
    f"config.data.validation is {held_out}: below 1 it is a share of the training images, from 1 "
    "on a "
    "whole number of them.",
  )
  _ensure(share < 1, f"config.data.test_share is {share}: it is a share of the images, below 1.")
  for field in ("data", "teacher_input"):
    mean, std = config[field].mean, config[field].std
    _ensure(
      len(mean) == len(std) and all(s > 0 for s in std) and (std or field != "data"),
      f"config.{field}.mean and config.{field}.std must have one value per channel, std above 0.",
    )
    _check_scale(field, tuple(mean), tuple(std))
  view = config.teacher_input
  as_stored = not view.augmented or view.cached or config.data.augmentation_epochs
  _ensure(
    not (config.data.image_size and as_stored),
    "config.teacher_input.augmented, teacher_input.cached and data.augmentation_epochs are for "
    "images that live on the device (config.data.image_size=0): a streamed image is cropped "
    "before it gets there.",
  )


def _check_scale(field, mean, std):
  """Raises ConfigError for a normalisation of images that are not scaled to [0, 1].

  Their standard deviations are at most 0.5. Those of networks for other inputs may be larger (1
  leaves images as they are) or tiny (1/255 is for inputs of 0 to 255), and a mean of 0 or 1 is
  black or white.
  """
  far_mean, far_std = any(not -1 <= m <= 1 for m in mean), any(s > 2 for s in std)
  if not far_mean and not far_std:
    return
  stated = (
    f"config.{field}.mean is {mean} and config.{field}.std {std}, but images are scaled to [0, 1]: "
  )
  if any(not 0 <= v <= 255 for v in (*mean, *std)):
    raise ConfigError(stated + "means are from 0 to 1, and standard deviations rarely above 0.5.")
  # A deviation of 1 beside means of 0 to 255 leaves images of 0 to 255 as they are.
  divided = lambda values, far: tuple(float(f"{v / 255:.4g}") for v in values) if far else values
  mean, std = divided(mean, far_mean), divided(std, far_std or far_mean and min(std) >= 1)
  raise ConfigError(f"{stated}divide values of 0 to 255 by 255, mean={mean} and std={std}.")


def _check_streaming(data):
  if not data.image_size:
    _ensure(
      data.name != "image_folder",
      "config.data.image_size is 0: images of a folder are streamed, cropped to a size such as "
      "224.",
    )
    return
  _ensure(
    data.resize >= data.image_size,
    f"config.data.resize is {data.resize}: it must be at least data.image_size, {data.image_size}.",
  )
  for field, top in (("crop_area", 1), ("crop_ratio", math.inf)):
    pair = data[field]
    _ensure(
      len(pair) == 2 and 0 < pair[0] <= pair[1] <= top,
      f"config.data.{field} is {tuple(pair)!r}: it must be a least and a largest value"
      + (" of 1 at most." if top == 1 else "."),
    )


def _check_scores(config):
  _ensure(
    not config.eval.every_epochs or config.data.validation,
    "config.eval.every_epochs scores held-out images, but config.data.validation holds out none.",
  )
  _ensure(
    config.eval.final == "test" or config.data.validation,
    "config.eval.final is 'validation', but config.data.validation holds out no examples.",
  )
