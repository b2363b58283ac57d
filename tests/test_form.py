"""Limits that keep the package readable: lengths of files, arguments, attributes."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "apprentice_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
LINES, POSITIONAL, ATTRIBUTES = 400, 7, 15


@pytest.fixture(scope="module")
def trees():
  return {path.relative_to(PACKAGE): ast.parse(path.read_text()) for path in FILES}


def test_files_are_short():
  assert not [path for path in FILES if len(path.read_text().splitlines()) > LINES]


def test_functions_take_few_positional_arguments(trees):
  kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
  many = []
  for path, tree in trees.items():
    for node in (n for n in ast.walk(tree) if isinstance(n, kinds)):
      names = [a.arg for a in node.args.posonlyargs + node.args.args]
      if len([n for n in names if n not in ("self", "cls")]) > POSITIONAL:
        many.append(f"{path}:{node.lineno}")
  assert not many


def test_classes_have_few_attributes(trees):
  """Counts fields, and what methods assign to self."""
  many = []
  for path, tree in trees.items():
    for node in (n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)):
      fields = {n.target.id for n in node.body if isinstance(n, ast.AnnAssign)}
      for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
          if isinstance(part.value, ast.Name) and part.value.id == "self":
            fields.add(part.attr)
      if len(fields) > ATTRIBUTES:
        many.append(f"{path}: {node.name} has {len(fields)}")
  assert not many
