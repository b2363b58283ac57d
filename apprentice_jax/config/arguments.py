"""The argument of a config: ``key=value,...`` after the colon of ``--config=NAME:...``."""

import re

from apprentice_jax.errors import ConfigError, nearest

ARGUMENTS = ("student", "teacher", "precision", "scheme", "width", "preset")
# Apprentice to the letter, as far as that is known: its quantizers with one scale a tensor and
# WRPN's literal grids, [-1, 1] and [0, 1], and its loss. TTQ is the layer's: `models.magnitudes`
# says which gradients it scales. WRPN's grid to 1 leaves little of a wide network's trained
# weights: `config.checks` refuses it there. Learning rates and epochs stay the config's own.
PRESETS = {
  "paper": {
    "quantization.weights": "paper",
    "quantization.activations": "paper",
    "quantization.per_channel": False,
    "quantization.wrpn_scale": "unit",
    "quantization.full_precision": ("stem", "head"),
    "quantization.residual": False,
    "loss.alpha": 1.0,
    "loss.beta": 0.5,
    "loss.gamma": 0.5,
    "loss.temperature": 1.0,
    "loss.teacher_gradient": False,
    "loss.standardised": False,
    "loss.teacher_entropy": 0.0,
    **{f"recipe.{name}.settle_steps": 0 for name in ("student", "teacher", "finetune")},
  }
}


def parse(argument: str, versions=("runlocal",)) -> dict[str, str]:
  """Reads ``key=value,key=value``; the key of a version alone means ``key=True``.

  Args:
    argument: the text.
    versions: the names of the config's versions.

  Raises:
    ConfigError: a key that is neither one of ARGUMENTS nor a version.
  """
  result, keys = {}, (*ARGUMENTS, *versions)
  for item in filter(None, (argument or "").split(",")):
    key, equals, value = item.partition("=")
    # The paper writes 8A,2W: the comma would cut the precision in two.
    if re.fullmatch(r"\d+W", key, re.IGNORECASE) and "precision" in result:
      raise ConfigError(
        f"in a config argument a precision has no comma: write precision={result['precision']}{key}"
      )
    if key not in keys:
      raise ConfigError(f"config argument {key!r} does not exist: {nearest(key, keys)}")
    if key not in versions and not value:
      raise ConfigError(f"config argument {key} needs a value: write {key}=...")
    result[key] = value if equals else "True"
  return result


def apply_argument(config, argument: str, runlocal: dict, **versions: dict):
  """Applies a config file's argument.

  Args:
    config: from `base`, with the file's own values.
    argument: what `parse` reads. ``student`` and ``teacher`` name networks, ``width`` is for both,
      ``precision`` is for a study too; ``preset`` is one of PRESETS.
    runlocal: dotted field names and values that make a seconds-long version of the config.
    **versions: those of further versions, by their names; ``runlocal`` overrides them.

  Returns:
    config, changed.
  """
  versions = {**versions, "runlocal": runlocal}
  given = parse(argument, versions)
  for name, changes in versions.items():
    if _is_true(name, given.pop(name, "False")):
      config.update_from_flattened_dict(changes)
      # The warm-up of a long run would take all of so short a one.
      for recipe in config.recipe.values():
        recipe.warmup_epochs = min(recipe.warmup_epochs, recipe.epochs / 5)
  # Before the other keys, which may change a field of the preset.
  if (preset := given.pop("preset", None)) is not None:
    if preset not in PRESETS:
      raise ConfigError(f"config argument preset is {preset!r}: {nearest(preset, PRESETS)}")
    config.update_from_flattened_dict(PRESETS[preset])
  if "width" in given:
    try:
      config.student.width = config.teacher.width = float(given.pop("width"))
    except ValueError:
      raise ConfigError(f"config argument width takes a number: {argument!r}") from None
  for name in ("student", "teacher"):
    if name in given:
      config[name].name = given.pop(name)
  if "precision" in given:
    config.study.precisions = (given["precision"],)
  config.update(given)
  return config


def _is_true(name: str, text: str) -> bool:
  values = {"true": True, "1": True, "false": False, "0": False}
  if text.lower() not in values:
    raise ConfigError(f"config argument {name} is {text!r}: write {name} or {name}=False.")
  return values[text.lower()]
