"""The compiler that scores exported C code: which one is taken, and that any gives the same."""

import sys

import numpy as np
import pytest
import tools
from networks import lowered, made

from apprentice_jax.deploy import c, interpret, registry
from apprentice_jax.errors import ConfigError

ZIG = [sys.executable, "-m", "ziglang", "cc"]
NONE = "C code takes a C compiler: install gcc or clang, name one in CC, or pip install "


@pytest.fixture
def machine(tmp_path, monkeypatch):
  """machine(*programs, cc="", zig=False): these programs are installed, and no others."""

  def install(*programs, cc="", zig=False):
    for name in programs:
      (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
      (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", cc)
    find = c.importlib.util.find_spec
    there = lambda name: zig if name == "ziglang" else find(name)
    monkeypatch.setattr(c.importlib.util, "find_spec", there)

  return install


@pytest.mark.parametrize(
  "programs, cc, zig, command",
  [
    (("cc", "gcc", "clang"), "", True, ["cc"]),
    (("gcc", "clang"), "", True, ["gcc"]),
    (("clang",), "", True, ["clang"]),
    (("cc", "mine"), "mine", True, ["mine"]),
    (("cc", "ccache"), "ccache 'gcc' -O0", True, ["ccache", "gcc", "-O0"]),
    ((), "", True, ZIG),
  ],
)
def test_the_compiler_that_is_taken(programs, cc, zig, command, machine):
  machine(*programs, cc=cc, zig=zig)
  assert c.compiler() == command


def test_where_there_is_no_compiler(machine, tmp_path):
  c.write(lowered("8bit"), tmp_path / "student")
  machine()
  with pytest.raises(ConfigError, match=NONE + r"'apprentice-jax\[c\]'\.$"):
    registry.load(tmp_path / "student")
  machine("gcc", cc="none")
  with pytest.raises(ConfigError, match=r"^CC names the C compiler none, which is not there\.$"):
    registry.load(tmp_path / "student")


def test_a_compiler_that_fails_without_a_word(machine, tmp_path):
  c.write(lowered("8bit"), tmp_path / "student")
  machine("cc")
  with pytest.raises(ConfigError, match=r"student: it does not compile: cc failed\.$"):
    registry.load(tmp_path / "student")


def test_a_package_can_be_the_compiler(tmp_path, monkeypatch):
  """One that hands its arguments to gcc stands for ziglang."""
  gcc = tools.program("gcc")
  (tmp_path / "ziglang").mkdir()
  run = f"import os, sys\nassert sys.argv[1] == 'cc'\nos.execv({gcc!r}, [{gcc!r}, *sys.argv[2:]])\n"
  (tmp_path / "ziglang" / "__main__.py").write_text(run)
  monkeypatch.setenv("PYTHONPATH", str(tmp_path))
  monkeypatch.setattr(c, "compiler", lambda: ZIG)
  assert_loaded(tmp_path / "student")


@pytest.mark.slow
def test_zig_compiles_the_same(tmp_path, monkeypatch):
  tools.module("ziglang")
  monkeypatch.setattr(c, "compiler", lambda: ZIG)
  assert_loaded(tmp_path / "student")


def assert_loaded(folder):
  network, images = lowered("8bit"), made()[3]
  c.write(network, folder)
  logits = registry.load(folder).logits(images)
  np.testing.assert_array_equal(logits, interpret.logits(network, images))
