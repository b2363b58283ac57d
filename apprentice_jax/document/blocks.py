"""The blocks of a report; every text in them is plain text, without any markup."""

from collections.abc import Sequence
from typing import NamedTuple


class Heading(NamedTuple):
  text: str
  level: int = 2


class Text(NamedTuple):
  text: str


class Code(NamedTuple):
  """Lines to be copied as they are, such as commands; the caption is a paragraph before them."""

  caption: str
  lines: Sequence[str]


class List(NamedTuple):
  """Items with a bullet each; the caption is a paragraph before them."""

  caption: str
  items: Sequence[str]


class Table(NamedTuple):
  """Rows of cells; the caption is a paragraph before them.

  Attributes:
    caption: says what the numbers are.
    columns: the headings; the first column names the rows.
    rows: texts, as many in a row as there are columns.
  """

  caption: str
  columns: Sequence[str]
  rows: Sequence[Sequence[str]]


class Picture(NamedTuple):
  """A PNG file beside the report."""

  name: str
  caption: str
