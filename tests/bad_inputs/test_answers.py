"""docs/answers.md quotes what commands print, and nothing that they printed once."""

import ast
import re

from markdown_pages import ROOT
from test_rows import ROWS


def strings() -> list[str]:
  """The literal parts of all strings in the package."""
  found = []
  for path in (ROOT / "apprentice_jax").rglob("*.py"):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Constant) and isinstance(node.value, str):
        found.append(node.value)
  return found


def test_answers_quote_sentences_that_commands_print():
  page = (ROOT / "docs" / "answers.md").read_text()
  quoted = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
  sentences = [getattr(row.sentence, "pattern", row.sentence) for row in ROWS] + strings()
  assert len(quoted) > 40
  for words in quoted:
    assert any(words in sentence for sentence in sentences), words
