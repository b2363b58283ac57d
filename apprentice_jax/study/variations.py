"""The named variations of a study: the settings that differ from its config, and whom they concern.

``config.study.variations`` lists texts such as ``"tau4: loss.temperature=4"``. Each has a name, and
one or a few fields of the config with values of the fields' own types. A tuple is written
``(stem,head)``, an empty string ``''``. A study trains every cell at its config, the *base*, and at
each variation that changes a field which the cell reads.
"""

import contextlib
import functools
import re
from typing import Any, NamedTuple

from apprentice_jax import config as configs
from apprentice_jax.errors import ConfigError, nearest


class Variation(NamedTuple):
  """Fields of the config and their values, with a name; the base has neither."""

  name: str = ""
  changes: tuple[tuple[str, Any], ...] = ()

  @property
  def label(self) -> str:
    """The variation as text, for tables and files: ``tau4: loss.temperature=4.0``."""
    changes = ", ".join(f"{field}={_text(value)}" for field, value in self.changes)
    return f"{self.name}: {changes}" if self.name else changes


BASE = Variation()


def of(config) -> list[Variation]:
  """The base and the study's variations.

  Raises:
    ConfigError: one of them is wrong.
  """
  return [BASE, *_parsed(tuple(config.study.variations))]


@functools.cache
def _parsed(texts: tuple[str, ...]) -> tuple[Variation, ...]:
  result = tuple(map(_variation, texts))
  for i, variation in enumerate(result):
    for other in result[:i]:
      # A name becomes a part of a folder's name, and some file systems tell no case.
      if variation.name.lower() == other.name.lower():
        raise ConfigError(f"config.study.variations has the name {variation.name} twice.")
      if variation.changes == other.changes:
        raise ConfigError(
          f"config.study.variations has {other.name} and {variation.name}, which are the same."
        )
  return result


def _variation(text: str) -> Variation:
  """Reads ``NAME: FIELD=VALUE, FIELD=VALUE``."""
  name, colon, rest = (part.strip() for part in text.partition(":"))
  changes, fields = {}, configs.FIELDS
  # Commas in parentheses belong to a tuple.
  for item in filter(None, map(str.strip, re.split(r",(?![^()]*\))", rest))):
    field, equals, value = (part.strip() for part in item.partition("="))
    if not equals or not field:
      break
    if field not in fields:
      raise ConfigError(
        f"config.study.variations has {field!r}, which is no field of the config: "
        f"{nearest(field, fields)}"
      )
    # The cells of a study share the images and the devices, say.
    if why := fields[field].tags.shared:
      raise ConfigError(f"config.study.variations cannot vary {field}: {why}.")
    if field in changes:
      raise ConfigError(f"config.study.variations has {field} twice in {name}.")
    # An empty default does not tell of what its items are.
    row = fields[field]
    changes[field] = _value(field, value, row.default if row.default != () else (row.items(),))
  else:
    if changes and re.fullmatch(r"[\w.+-]+", name):
      return Variation(name, tuple(sorted(changes.items())))
  raise ConfigError(
    f"config.study.variations has {text!r}: write NAME: FIELD=VALUE, FIELD=VALUE, with a name of "
    "letters, digits and . _ + -."
  )


def check(config):
  """Raises ConfigError for a wrong variation: every cell of the study has to be able to run."""
  precisions = config.study.precisions
  for variation in of(config)[1:]:
    if config.batch_per_device and "batch_size" in dict(variation.changes):
      raise ConfigError(
        "config.study.variations varies batch_size, but the batch follows the devices: set "
        "config.batch_per_device=0."
      )
    # The config's own precision may be none of the study's, and too much for these quantizers.
    varied = applied(config, variation)
    varied.precision = precisions[0]
    with naming(variation):
      configs.validate(varied, precisions)


@contextlib.contextmanager
def naming(variation: Variation):
  """Makes a ConfigError say at which variation it arose."""
  try:
    yield
  except ConfigError as error:
    if variation == BASE:
      raise
    sentence = str(error).removeprefix("config: ")
    raise ConfigError(f"config.study.variations at {variation.label}: {sentence}") from None


def applied(config, variation: Variation):
  """A copy of the config at a variation."""
  result = config.copy_and_resolve_references()
  result.update_from_flattened_dict(dict(variation.changes))
  return result


def read_by(changes, kind: str, precision: str) -> tuple:
  """The changes that a cell's result depends on.

  A cell reads the fields of its own training and of the full-precision networks it starts from; see
  `config.reads`. A value counts even where it comes to the same as another one, as "default" and
  "twn" do.

  Args:
    changes: (field, value) pairs.
    kind: of the cell, one of `config.CELLS`.
    precision: of the cell.
  """
  return tuple((field, value) for field, value in changes if configs.reads(field, kind, precision))


def changes_of(label: str) -> tuple[tuple[str, str], ...]:
  """The changes of a `Variation.label`, their values as text."""
  listed = re.sub(r"^[^=:]*: ", "", label)
  items = filter(None, re.split(r",(?![^()]*\))", listed))
  return tuple(tuple(item.strip().split("=", 1)) for item in items)


def _value(field: str, text: str, default):
  """A value of the default's type."""
  kinds = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a word ('': an empty one)",
  }
  try:
    # bool comes first, and by its words: bool("False") would be True.
    if isinstance(default, bool):
      return {"true": True, "false": False}[text.lower()]
    if isinstance(default, (tuple, list)):
      inside = re.fullmatch(r"\((.*)\)", text)[1]
      items = filter(None, map(str.strip, inside.split(",")))
      return tuple(_value(field, item, default[0]) for item in items)
    if isinstance(default, str):
      if not text:
        raise ValueError
      return text.strip("'\"")
    return type(default)(text)
  except (KeyError, TypeError, ValueError):
    wanted = kinds.get(type(default), f"a tuple, such as {_text(default)}")
    raise ConfigError(
      f"config.study.variations has {field}={text}: {field} takes {wanted}."
    ) from None


def _text(value) -> str:
  if isinstance(value, (tuple, list)):
    return f"({','.join(map(_text, value))})"
  return str(value) or "''"
