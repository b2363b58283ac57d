"""docs/how-it-is-built.md names functions that exist, and as many as it says."""

import ast
import pathlib
import re

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


def test_the_way_of_an_image_is_as_the_page_says():
  section = PAGE.partition("## From an image file to an update")[2].partition("\n## ")[0]
  way = re.findall(r"^\| \d+ \| `([\w/]+\.py)` \| `([\w.]+)` \|", section, re.M)
  modules = {path for path, _ in way}
  assert f"passes {len(way)} functions in {len(modules)} modules" in section
  assert len(way) <= 30 and len(modules) <= 11
  for path, function in way:
    assert function in functions(path), (path, function)
