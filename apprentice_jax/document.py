"""A report as data: headings, paragraphs, tables and pictures, written as Markdown or as one HTML
file."""

import base64
import html
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple


class Heading(NamedTuple):
  text: str
  level: int = 2


class Text(NamedTuple):
  text: str


class Table(NamedTuple):
  """Rows of cells, all text; the caption, a paragraph before it, says what the numbers are."""

  caption: str
  columns: Sequence[str]
  rows: Sequence[Sequence[str]]


class Picture(NamedTuple):
  """A PNG file beside the report."""

  name: str
  caption: str


def markdown(blocks) -> str:
  """The blocks as Markdown."""
  return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _markdown(block) -> str:
  if isinstance(block, Heading):
    return f"{'#' * block.level} {_escaped(block.text)}"
  if isinstance(block, Picture):
    return f"![{_escaped(block.caption)}]({block.name})"
  if isinstance(block, Text):
    return _escaped(block.text)
  return "\n\n".join(filter(None, (_escaped(block.caption), table(block.columns, block.rows))))


def table(columns: Sequence, rows: Sequence[Sequence]) -> str:
  """A table in Markdown; its cells are texts or numbers."""
  head, *lines = ["| " + " | ".join(map(_escaped_cell, line)) + " |" for line in [columns, *rows]]
  return "\n".join([head, "|" + "---|" * len(columns), *lines])


def _escaped_cell(content) -> str:
  """A cell's text, on one line: a name may have several."""
  return _escaped(" ".join(str(content).splitlines())).replace("|", r"\|")


def _escaped(text: str) -> str:
  """Text of which Markdown makes what it says: of patterns such as ``*/shortcut``, too."""
  return re.sub(r"([*`\[\]]|<(?=[a-zA-Z/!?]))", r"\\\1", text)


def page(blocks, folder: pathlib.Path) -> str:
  """The blocks as one HTML file that needs no other.

  Args:
    blocks: the first one is a heading, and the page's title.
    folder: where the pictures are.
  """
  body = "\n".join(_html(block, pathlib.Path(folder)) for block in blocks)
  return (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    f"<title>{html.escape(blocks[0].text)}</title>\n"
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
  )


def _html(block, folder: pathlib.Path) -> str:
  if isinstance(block, Heading):
    return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
  if isinstance(block, Picture):
    # The picture is in the page itself, so that one file can be sent.
    data = base64.b64encode((folder / block.name).read_bytes()).decode()
    caption = html.escape(block.caption)
    return (
      f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
      f"<figcaption>{caption}</figcaption></figure>"
    )
  if isinstance(block, Text):
    return f"<p>{html.escape(block.text)}</p>"
  head = "".join(f"<th>{html.escape(cell)}</th>" for cell in block.columns)
  rows = "\n".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in block.rows)
  caption = f"<p>{html.escape(block.caption)}</p>\n" if block.caption else ""
  return (
    f'{caption}<div class="table"><table>\n<thead><tr>{head}</tr></thead>\n'
    f"<tbody>\n{rows}\n</tbody>\n</table></div>"
  )


def _cell(text: str) -> str:
  """A cell, to the right if it is a number, perhaps with its unit or spread."""
  number = re.fullmatch(r"[+−-]?[\d.,]+( ± [\d.,]+)?( ?(%|k|kB|MB|G|M))?", text)
  attribute = ' class="number"' if number else ""
  return f"<td{attribute}>{html.escape(text)}</td>"


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.3rem 0.7rem; text-align: left; border-bottom: 1px solid #ddd;
  vertical-align: top; }
thead th { border-bottom: 2px solid #888; }
tbody tr:nth-child(even) { background: #f6f6f6; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 1.5rem 0; } img { max-width: 100%; height: auto; }
figcaption { font-size: 0.85rem; color: #555; }
"""
