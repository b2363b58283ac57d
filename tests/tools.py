"""Tools that some tests compare with, and that the package does not need."""

import importlib
import os
import shutil

import pytest

REQUIRED = os.environ.get("APPRENTICE_TEST_TOOLS") == "all"


def module(name: str):
  """Imports a module, or skips the test; where all tools are required, a missing one fails it."""
  return importlib.import_module(name) if REQUIRED else pytest.importorskip(name)


def program(name: str) -> str:
  """The path of a program, or skips the test; where all tools are required, it fails without it."""
  path = shutil.which(name)
  if path is None:
    (pytest.fail if REQUIRED else pytest.skip)(f"{name} is not installed")
  return path
