"""A report's blocks as one HTML file, for a phone, a wide screen and paper."""

import base64
import html
import pathlib
import re

from apprentice_jax.document.blocks import Code, Heading, List, Picture, Table

_HERE = pathlib.Path(__file__).parent
# A number, perhaps with its unit, its spread, or the other end of its interval.
_NUMBER = re.compile(r"<?[+−-]?\d[\d.,]*( (±|to) [+−-]?[\d.,]+)?( ?(%|k|kB|MB|G|M))?")
_BREAKS = re.compile(r"([=/]|\S{16})(?=\S)")
LISTED = 4  # sections, from which on a page begins with a list of them


def page(blocks, folder: pathlib.Path) -> str:
  """Returns the blocks as one HTML file that needs no other, and no network.

  Args:
    blocks: the first one is a heading, and the page's title.
    folder: has the pictures.
  """
  title = html.escape(blocks[0].text)
  parts = [_block(block, place, pathlib.Path(folder)) for place, block in enumerate(blocks)]
  sections = [(i, b.text) for i, b in enumerate(blocks) if isinstance(b, Heading) and b.level == 2]
  if len(sections) >= LISTED:
    parts.insert(1, _contents(sections))
  body = "\n".join(parts)
  style, script = ((_HERE / name).read_text("utf-8") for name in ("page.css", "page.js"))
  return (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    f"<title>{title}</title>\n"
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
    f"<script>\n{script}</script>\n</body>\n</html>\n"
  )


def _contents(sections: list[tuple[int, str]]) -> str:
  links = "".join(f'<li><a href="#s{i}">{html.escape(text)}</a></li>' for i, text in sections)
  return f"<nav><details><summary>Contents</summary><ul>{links}</ul></details></nav>"


def _block(block, place: int, folder: pathlib.Path) -> str:
  if isinstance(block, Heading):
    return f'<h{block.level} id="s{place}">{html.escape(block.text)}</h{block.level}>'
  if isinstance(block, Picture):
    # The picture is in the page itself, so that one file can be sent.
    data = base64.b64encode((folder / block.name).read_bytes()).decode()
    caption = html.escape(block.caption)
    return (
      f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
      f"<figcaption>{caption}</figcaption></figure>"
    )
  if isinstance(block, Code):
    lines = "\n".join(" ".join(line.splitlines()) for line in block.lines)
    # It scrolls within itself, by keys too.
    return f'{_paragraph(block.caption)}<pre tabindex="0">{html.escape(lines)}</pre>'
  if isinstance(block, List):
    items = "\n".join(f"<li>{html.escape(item)}</li>" for item in block.items)
    return f"{_paragraph(block.caption)}<ul>\n{items}\n</ul>"
  if isinstance(block, Table):
    return _paragraph(block.caption) + _table(block)
  return _paragraph(block.text)


def _paragraph(text: str) -> str:
  return f"<p>{html.escape(text)}</p>\n" if text else ""


def _cell(text: str) -> str:
  """A cell's text, with places where a setting or a long word may break, none in a number."""
  return html.escape(_BREAKS.sub("\\1\0", text)).replace("\0", "<wbr>")


def _table(table: Table) -> str:
  # A column of numbers is aligned to the right, with its heading.
  filled = [[cell for cell in column if cell] for column in zip(*table.rows)]
  right = [bool(column) and all(map(_NUMBER.fullmatch, column)) for column in filled]
  attribute = lambda i: ' class="number"' if i < len(right) and right[i] else ""
  head = "".join(
    f'<th scope="col"{attribute(i)}>{_cell(name)}</th>' for i, name in enumerate(table.columns)
  )
  rows = []
  for first, *others in table.rows:
    cells = "".join(f"<td{attribute(i)}>{_cell(cell)}</td>" for i, cell in enumerate(others, 1))
    rows.append(f'<tr><th scope="row"{attribute(0)}>{_cell(first)}</th>{cells}</tr>')
  body = "\n".join(rows)
  return (
    f'<div class="table"><table>\n<thead><tr>{head}</tr></thead>\n'
    f"<tbody>\n{body}\n</tbody>\n</table></div>"
  )
