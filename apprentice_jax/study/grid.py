"""The grid of a study: settings of the config at which its cells are trained, and which cells they
concern.

A grid is a text, ``"quantization.weights=twn|ttq, loss.gamma=0.25|0.5"``: fields of the config,
each with its values, of the field's own type; a tuple is written ``(stem,head)``, an empty string
``''``. A *point* of it has one value of each field: ``(("loss.gamma", 0.25),
("quantization.weights", "twn"))``, in the order of the names.
"""

import itertools
import re
import urllib.parse
from typing import Any

from apprentice_jax import config as configs
from apprentice_jax.errors import ConfigError, nearest

Point = tuple[tuple[str, Any], ...]


def parse(text: str, defaults: dict[str, Any]) -> dict[str, tuple]:
  """Reads a grid.

  Args:
    text: the grid; "" has no fields.
    defaults: every field of a config, with a value of its type.

  Returns:
    Field -> its values.

  Raises:
    ValueError: one sentence about what is wrong.
  """
  result = {}
  for item in filter(None, map(str.strip, _split(text))):
    key, equals, values = (part.strip() for part in item.partition("="))
    if not equals or not key:
      raise ValueError(
        f"config.study.grid has {item!r}: write FIELD=VALUE|VALUE, and a comma between fields."
      )
    if key not in defaults:
      raise ValueError(
        f"config.study.grid has {key!r}, which is no field of the config: {nearest(key, defaults)}"
      )
    if why := configs.FIELDS[key].tags.shared:
      raise ValueError(f"config.study.grid cannot vary {key}: {why}.")
    if key in result:
      raise ValueError(
        f"config.study.grid has {key} twice: write all its values together, {key}=VALUE|VALUE."
      )
    result[key] = tuple(_value(key, value.strip(), defaults[key]) for value in values.split("|"))
    if len(set(result[key])) < len(result[key]):
      raise ValueError(f"config.study.grid has a value of {key} twice: {values}.")
  return result


def points(text: str, defaults: dict[str, Any]) -> list[Point]:
  """All points of a grid, the last field varying fastest; of "" the one point that changes
  nothing."""
  fields = parse(text, defaults)
  return [tuple(sorted(zip(fields, values))) for values in itertools.product(*fields.values())]


def check(config, precisions):
  """Raises ConfigError for a wrong grid: every point of a study has to be able to run.

  Args:
    config: the study's.
    precisions: of its cells.
  """
  try:
    found = points(config.study.grid, configs.flat(configs.base()))
  except ValueError as error:
    raise ConfigError(str(error)) from None
  if config.batch_per_device and any(key == "batch_size" for key, _ in found[0]):
    raise ConfigError(
      "config.study.grid varies batch_size, but the batch follows the devices: set "
      "config.batch_per_device=0."
    )
  for point in found if config.study.grid else ():
    at = applied(config, point)
    at.precision = precisions[0]
    try:
      configs.validate(at, precisions)
    except ConfigError as error:
      raise ConfigError(
        f"config.study.grid at {label(point)}: {str(error).removeprefix('config: ')}"
      ) from None


def applied(config, point: Point):
  """A copy of the config at a point."""
  result = config.copy_and_resolve_references()
  result.update_from_flattened_dict(dict(point))
  return result


def restricted(point: Point, kind: str, precision: str) -> Point:
  """The part of a point that a cell's result depends on: cells that agree in it are one cell.

  It leaves out only what this kind of cell never reads, neither in its own training nor in that of
  the full-precision networks it starts from: the teacher and its recipe where there is none; the
  student where the teacher alone trains; the fine-tuning recipe where nothing is fine-tuned; the
  loss where nothing is distilled; alpha where the teacher does not train; quantization at full
  precision, and the weights' or activations' where these alone are. Any other field counts, and so
  does a value that comes to the same as another, such as "default" and "twn".

  Args:
    point: fields and values.
    kind: of the cell, one of `config.CELLS`.
    precision: of the cell.
  """
  return tuple((key, value) for key, value in point if configs.reads(key, kind, precision))


def label(point: Point) -> str:
  """A point as text, for tables and files: ``loss.gamma=0.25, quantization.weights=twn``."""
  return ", ".join(f"{key}={_text(value)}" for key, value in point)


def unlabelled(text: str) -> Point:
  """The point of a `label`, its values as text."""
  return tuple(tuple(item.strip().split("=", 1)) for item in filter(None, _split(text)))


def name(point: Point) -> str:
  """A point as a part of a file's name; no two have the same."""
  return "+".join(f"{key}={urllib.parse.quote(_text(value), safe='(),')}" for key, value in point)


def _split(text: str) -> list[str]:
  """The items of a list, at commas that are in no parentheses."""
  return re.split(r",(?![^()]*\))", text)


def _value(key: str, text: str, default):
  """A value of the default's type."""
  wanted = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a word ('': an empty one)",
  }.get(type(default), "a tuple, such as " + _text(default))
  try:
    if isinstance(default, bool):
      return {"true": True, "false": False}[text.lower()]
    if isinstance(default, (tuple, list)):
      if not re.fullmatch(r"\(.*\)", text):
        raise ValueError
      return tuple(
        _value(key, item.strip(), default[0] if default else "")
        for item in text[1:-1].split(",")
        if item.strip()
      )
    if isinstance(default, str):
      if not text:
        raise ValueError
      return text.strip("'\"")
    return type(default)(text)
  except (KeyError, ValueError):
    raise ValueError(f"config.study.grid has {key}={text}: {key} takes {wanted}.") from None


def _text(value) -> str:
  return (
    f"({','.join(map(_text, value))})" if isinstance(value, (tuple, list)) else str(value) or "''"
  )
