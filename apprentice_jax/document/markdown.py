"""A report's blocks as Markdown, which GitHub and CommonMark show as they are meant."""

import re
from collections.abc import Sequence

from apprentice_jax.document.blocks import Code, Heading, List, Picture, Table

# Markdown reads these as markup wherever they stand; "_" only at the edge of a word, "<" only
# before a tag, and "&" only before the name of a character.
_ANYWHERE = re.compile(r"([\\*`\[\]~$]|<(?=[a-zA-Z/!?])|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_]))")
# At the start of a line, these make a heading, a list, a quotation or a rule.
_AT_START = re.compile(r"^(\d*)([#>+=.)-])")


def markdown(blocks) -> str:
  """Returns the blocks as Markdown."""
  return "\n\n".join(_block(block) for block in blocks) + "\n"


def table(columns: Sequence, rows: Sequence[Sequence]) -> str:
  """Returns a table in Markdown; its cells are texts or numbers."""
  head, *lines = ["| " + " | ".join(map(_cell, line)) + " |" for line in [columns, *rows]]
  return "\n".join([head, "|" + "---|" * len(columns), *lines])


def _block(block) -> str:
  if isinstance(block, Heading):
    return f"{'#' * block.level} {_escaped(block.text)}"
  if isinstance(block, Picture):
    return f"![{_escaped(block.caption)}]({block.name})"
  if isinstance(block, Code):
    lines = "\n".join(" ".join(line.splitlines()) for line in block.lines)
    # A fence is longer than any row of backticks within.
    fence = "`" * (max(map(len, re.findall("`{3,}", lines)), default=2) + 1)
    return "\n\n".join(filter(None, (_paragraph(block.caption), f"{fence}\n{lines}\n{fence}")))
  if isinstance(block, List):
    items = "\n".join(f"- {_paragraph(item)}" for item in block.items)
    return "\n\n".join(filter(None, (_paragraph(block.caption), items)))
  if isinstance(block, Table):
    parts = _paragraph(block.caption), table(block.columns, block.rows)
    return "\n\n".join(filter(None, parts))
  return _paragraph(block.text)


def _paragraph(text: str) -> str:
  return _AT_START.sub(r"\1\\\2", _escaped(text))


def _cell(content) -> str:
  return _escaped(str(content)).replace("|", r"\|")


def _escaped(text: str) -> str:
  """A text on one line, from which Markdown makes what it says."""
  return _ANYWHERE.sub(r"\\\1", " ".join(text.split()))
