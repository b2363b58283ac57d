"""docs/how-it-is-built.md names functions that exist, and as many as it says."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "how-it-is-built.md").read_text()


def functions(path):
  """The functions of a file, and the methods of its classes as Class.method."""
  names = set()
  for node in ast.parse((ROOT / "apprentice_jax" / path).read_text()).body:
    if isinstance(node, ast.FunctionDef):
      names.add(node.name)
    if isinstance(node, ast.ClassDef):
      names |= {f"{node.name}.{f.name}" for f in node.body if isinstance(f, ast.FunctionDef)}
  return names


@pytest.mark.parametrize(
  "title, words, most",
  [
    ("From an image file to an update", "passes {} functions in {} modules", (30, 11)),
    ("From a checkpoint to an exported file", "makes {} calls across {} modules", (20, 15)),
  ],
)
def test_a_way_is_as_the_page_says(title, words, most):
  section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
  way = re.findall(r"^\| \d+ \| `([\w/]+\.py)` \| `([\w.]+)` \|", section, re.M)
  modules = {path for path, _ in way}
  assert words.format(len(way), len(modules)) in section, (len(way), len(modules))
  assert len(way) <= most[0] and len(modules) <= most[1]
  for path, function in way:
    assert function in functions(path), (path, function)
