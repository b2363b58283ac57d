"""The checks of a config, one field at a time and then what spans fields."""

import math
import os

from apprentice_jax.config import references
from apprentice_jax.config.derived import expanded, quantization
from apprentice_jax.config.fields import FIELDS, flat
from apprentice_jax.config.saved import REMOVED
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.errors import ConfigError, nearest
from apprentice_jax.models.precision import FULL, Precision

MOST_ZEROS = 0.9  # of a layer's trained weights, for fine-tuning to go on from them


def checked(config, precisions=()):
  """Returns a copy of a config that can run; see `validate`.

  In the copy precisions are spelled one way and `~` in paths is expanded. ``data.dir`` is absolute,
  so that the run's workdir can be used from any folder.
  """
  # On the user's own spelling, so that a sentence quotes what was written.
  validate(config, precisions)
  result = config.copy_and_resolve_references()
  result.precision = str(Precision.parse(config.precision))
  if precisions:
    result.study.precisions = tuple(str(Precision.parse(p)) for p in precisions)
  result.update_from_flattened_dict(
    {field: expanded(value) for field, value in flat(result).items() if FIELDS[field].tags.is_path}
  )
  if result.data.dir and "://" not in result.data.dir:
    result.data.dir = os.path.abspath(result.data.dir)
  return result


def validate(config, precisions=()):
  """Raises ConfigError, with one sentence that names the field, for a config that cannot run.

  Args:
    config: the config.
    precisions: those of a study, which it has to be able to do beside ``config.precision``.
  """
  # Names first, then each field alone: what spans fields can rely on both.
  values = flat(config)
  for path in values:
    if path not in FIELDS:
      if path in REMOVED:
        raise ConfigError(f"config.{path} has gone: {REMOVED[path][1]}.")
      raise ConfigError(f"config.{path} does not exist: {nearest(path, FIELDS)}")
  for path, field in FIELDS.items():
    missing = f"config.{path} is missing: build the config on apprentice_jax.config.base()."
    _ensure(path in values, missing)
    _check_field(field, values[path])
  _ensure(config.data.name, "config.data.name is empty: name a tfds dataset, such as 'digits'.")
  _check_study(config)
  for name, recipe in config.recipe.items():
    is_now = f"config.recipe.{name}.milestones is {recipe.milestones!r}"
    fractions = all(0 < m < 1 for m in recipe.milestones)
    _ensure(fractions, f"{is_now}: they are fractions of the run, between 0 and 1.")
    _ensure(
      recipe.learning_rate or not recipe.adam,
      f"config.recipe.{name}.learning_rate is 0 beside config.recipe.{name}.adam: Adam's rate "
      "follows its schedule, so set it above 0.",
    )
  _check_networks(config, precisions)
  _check_trained_start(config, precisions)
  _check_loss(config.loss)
  _check_oscillation(config)
  _check_images(config)
  _check_streaming(config.data)
  _check_scores(config)


def _ensure(ok, sentence):
  if not ok:
    raise ConfigError(sentence)


def _check_field(field, value):
  """Raises ConfigError for a value that the field's row does not allow."""
  name, many = f"config.{field.path}", isinstance(field.default, tuple)
  for item in (value if many else (value,)) if field.choices else ():
    # Not `_ensure`: looking for what is nearest takes its time.
    if item not in field.choices:
      what = f"has {item!r}" if many else f"{item!r} does not exist"
      raise ConfigError(f"{name} {what}: {nearest(item, field.choices)}")
  if isinstance(field.default, float) and _is_number(value):
    _ensure(math.isfinite(value), f"{name} is {value}: it must be finite.")
  if field.is_numbers:
    finite = all(_is_number(v) and math.isfinite(v) for v in value)
    _ensure(finite, f"{name} is {value!r}: it must be a list of numbers.")
  if field.least is not None:
    _ensure(value >= field.least, f"{name} is {value}: it must be at least {field.least}.")


def _is_number(value) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_study(config):
  for field in ("seeds", "precisions", "cells"):
    values = config.study[field]
    once = values and len(set(values)) == len(values)
    is_now = f"config.study.{field} is {values!r}"
    _ensure(once, f"{is_now}: it must name at least one, and none twice.")
  seeds = tuple(config.study.seeds)
  whole = all(isinstance(s, int) and s >= 0 for s in seeds)
  is_now = f"config.study.seeds is {config.study.seeds!r}"
  _ensure(whole, f"{is_now}: seeds are whole numbers from 0.")
  # NumPy's generators take no larger one.
  _ensure(
    max(config.seed, *seeds) < 2**32,
    f"config.seed is {config.seed}, config.study.seeds {seeds}: they must be below {2**32}.",
  )
  for text in config.study.references:
    references.parse(text)


def _check_networks(config, precisions):
  # Here, not above: they load flax.
  from apprentice_jax.models.imported import is_imported
  from apprentice_jax.models.residual import resnet

  # A study may state precisions that the call at hand does not train: these only have to parse.
  try:
    for p in config.study.precisions:
      Precision.parse(p)
    for p in (config.precision, *precisions):
      quantization(config, p)
    for which in ("student", "teacher"):
      network = config[which]
      if is_imported(network.name):
        continue
      settings = dict(width=network.width, shortcut=network.shortcut or None, remat=config.remat)
      resnet(network.name or "resnet20", 2, **settings)
  except ValueError as error:
    raise ConfigError(f"config: {error}") from None
  for which in ("student", "teacher"):
    if is_imported(config[which].name):
      _check_imported(config, which)


def _check_imported(config, which: str):
  """Raises ConfigError where fields of our ResNets are set for a network of the user's own."""
  name = f"config.{which}.name={config[which].name}"
  for field, value, usual in (
    (f"config.{which}.shortcut", config[which].shortcut, ""),
    ("config.remat", config.remat, "none"),
  ):
    _ensure(
      value == usual,
      f"{name} is a network of your own, and {field}={value} is of our ResNets: write it into your "
      f"module, and leave {field} as it is.",
    )


def _check_trained_start(config, precisions):
  """Raises ConfigError where WRPN's grid to 1 would round trained weights away; a study has
  ``precisions``."""
  from apprentice_jax.models.imported import is_imported  # here, not above: it loads flax

  # Only what starts from trained weights has weights to lose.
  schemes = config.study.cells if precisions else (config.scheme,)
  trained = [name for name in schemes if name in SCHEMES and SCHEMES[name].pretrained_student]
  for precision in precisions or (config.precision,) if trained else ():
    q = quantization(config, precision)
    on_unit_grid = (q.weights, q.wrpn_scale) == ("wrpn", "unit")
    if q.precision.weights == FULL or not on_unit_grid or is_imported(config.student.name):
      continue
    zeros = _zeros_on_unit_grid(config.student, q.precision.weights)
    _ensure(
      zeros <= MOST_ZEROS,
      f"scheme {trained[0]} at {q.precision} starts from trained weights, of which WRPN's grid to "
      f"1 rounds about {zeros:.1%} to zero in the widest layers of {config.student.name}: set "
      "config.quantization.wrpn_scale=max"
      + (", or leave the scheme out of config.study.cells." if precisions else "."),
    )


def _zeros_on_unit_grid(student, bits: int) -> float:
  """The fraction of the widest 3x3 convolutions' weights that WRPN's grid to 1 rounds to zero.

  Weights are taken to be as large as He et al.'s initialisation makes them: normal, of variance 2 /
  fan-out.
  """
  from apprentice_jax.models.residual import resnet  # here, not above: it loads flax

  # The widest layers are those of the last stage, at twice the channels of the one before.
  network = resnet(student.name, 2, width=student.width)
  channels = network.width * 2 ** (len(network.stages) - 1)
  half_a_level = 0.5 / (2 ** (bits - 1) - 1)
  return math.erf(half_a_level / math.sqrt(2 * 2 / (9 * channels)))


def _check_oscillation(config):
  from apprentice_jax.models.imported import is_imported  # here, not above: it loads flax

  frequencies, damping = tuple(config.oscillation.freeze), config.oscillation.damping
  _ensure(
    len(frequencies) in (0, 2) and all(f > 0 for f in frequencies),
    f"config.oscillation.freeze is {frequencies!r}: it must be two frequencies above 0, those of "
    "the first and the last step, such as (0.1, 0.01).",
  )
  if not frequencies and not damping:
    return
  field = f"config.oscillation.{'freeze' if frequencies else 'damping'}"
  _ensure(
    not is_imported(config.student.name),
    f"{field} is for our ResNets, and config.student.name={config.student.name} is a network of "
    "your own: leave it out.",
  )
  _ensure(
    quantization(config).weights != "dorefa",
    f"{field} is not for quantization.weights=dorefa, whose levels are not those of the weights: "
    "set twn, ttq, lsq or wrpn.",
  )


def _check_loss(loss):
  is_now = f"config.loss.temperature is {loss.temperature}"
  _ensure(loss.temperature > 0, f"{is_now}: it must be above 0.")
  is_now = f"config.loss.beta and config.loss.gamma are {loss.beta:g} and {loss.gamma:g}"
  _ensure(
    loss.beta or loss.gamma, f"{is_now}: one of them must be above 0, for a student to learn."
  )
  _ensure(
    not (loss.standardised and loss.teacher_entropy),
    f"config.loss.teacher_entropy is {loss.teacher_entropy:g} beside config.loss.standardised: "
    "standardised logits are as uncertain for any teacher; set one of the two.",
  )


def _check_images(config):
  held_out, share = config.data.validation, config.data.test_share
  _ensure(
    held_out < 1 or held_out == int(held_out),
    f"config.data.validation is {held_out}: below 1 it is a share of the training images, from 1 "
    "on a whole number of them.",
  )
  _ensure(share < 1, f"config.data.test_share is {share}: it is a share of the images, below 1.")
  for field in ("data", "teacher_input"):
    mean, std = config[field].mean, config[field].std
    _ensure(
      len(mean) == len(std) and all(s > 0 for s in std) and (std or field != "data"),
      f"config.{field}.mean and config.{field}.std must have one value per channel, std above 0.",
    )
    _check_scale(field, tuple(mean), tuple(std))
  _ensure(
    not (config.data.mix and config.teacher_input.cached),
    f"config.data.mix={config.data.mix} makes new images in every step, whose logits cannot be "
    "kept: set config.teacher_input.cached=False.",
  )
  # All of them need the image as it is stored, which a streamed one no longer is.
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

  Scaled images have standard deviations of at most 0.5. Networks for other inputs may state larger
  ones, since 1 leaves images as they are. They may state tiny ones: 1/255 is for inputs of 0 to
  255. A mean of 0 or 1 is black or white.
  """
  # Only what cannot be meant for [0, 1] is refused: see above for the odd values that can.
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
  # An area is a share of the image, a ratio may be of any size.
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
