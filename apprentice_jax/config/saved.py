"""The config of a workdir's config.json, which an earlier version may have written."""

from apprentice_jax.config.fields import FIELDS, base
from apprentice_jax.errors import ConfigError, nearest

# Fields of earlier versions: their defaults, as JSON has them, and what replaces them.
REMOVED = {
  "quantization.compute": ("auto", "take it out, products in floats have the same sums"),
  "teacher_input.cache_epochs": (0, "config.data.augmentation_epochs has the number of epochs"),
  "study.grid": ("", "config.study.variations lists settings by name, as in 'a: loss.gamma=0.25'"),
}
# Types of a field's default, and of its values in JSON.
_TYPES = {bool: bool, int: int, float: (float, int), str: str, tuple: list}


def current(saved: dict, source) -> dict:
  """The saved fields that this version has.

  A field that has gone is left out where it is at its default, at which it did nothing.

  Args:
    saved: field -> value, as JSON has it.
    source: the path of the file, for messages.

  Raises:
    ConfigError: a field is unknown, is of another type, or has gone and is not at its default.
  """
  for field, value in saved.items():
    if field in REMOVED:
      default, replacement = REMOVED[field]
      if value != default:
        raise ConfigError(f"{source} has config.{field}={value!r}, which has gone: {replacement}.")
    elif field not in FIELDS:
      raise ConfigError(
        f"{source} has config.{field}, which this version of apprentice-jax does not have: use the "
        f"version that wrote it, or correct the file ({nearest(field, FIELDS)})."
      )
    elif not isinstance(value, _TYPES[type(FIELDS[field].default)]):
      raise ConfigError(f"{source} has config.{field}={value!r}, which is of another type.")
  return {field: value for field, value in saved.items() if field in FIELDS}


def restored(saved: dict):
  """The config that was saved, of `current` fields; one that is not there has its default."""
  # JSON has lists where the config has tuples.
  config = base()
  config.update_from_flattened_dict(
    {field: tuple(v) if isinstance(v, list) else v for field, v in saved.items()}
  )
  return config
