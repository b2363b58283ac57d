"""Texts of programs without what names them."""

import gzip
import pathlib
import re

_FUNCTION = re.compile(r"func\.func (?:public |private )?@([\w.$-]+|\"[^\"]+\")")
_RESULT = re.compile(r"jax\.result_info = \"[^\"]*\"(?:, )?")

_LINE_OF_PLACE = re.compile(r"^#loc.*\n", re.MULTILINE)
PLACE = re.compile(r" loc\((?:#loc\d*|unknown|\"[^\"]*\"(?:[^()]*|\(#loc\d*\)))\)")


def normalised(text: str) -> str:
  """A program's StableHLO without places in the source, its functions named by their order."""
  text = PLACE.sub("", _LINE_OF_PLACE.sub("", text))
  text = re.sub(r"^module @\S+", "module @program", _RESULT.sub("", text), count=1)
  names = {name: f"@f{i}" for i, name in enumerate(_FUNCTION.findall(text))}
  return re.sub(r"@([\w.$-]+|\"[^\"]+\")", lambda m: names.get(m[1], m[0]), text)


def write(path: pathlib.Path, text: str):
  """Writes a normalised text, compressed, the same bytes for the same text."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(gzip.compress(normalised(text).encode(), mtime=0))
