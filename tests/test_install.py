"""The wheel: installed beside nothing else of this project, it works from an empty folder."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
from PIL import Image

from apprentice_jax.deploy import registry
from apprentice_jax.deploy.registry import FORMATS

ROOT = pathlib.Path(__file__).parents[1]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
  """The project's wheel, built from a copy without what the repository's tools leave in it."""
  place = tmp_path_factory.mktemp("wheel")
  source = place / "source"
  unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
  for folder in ("apprentice_jax", "configs"):
    shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=unwanted)
  for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
    shutil.copy(ROOT / file, source)
  options = ("--no-deps", "--no-build-isolation", "--wheel-dir", place, source)
  subprocess.run([*PIP, "wheel", *options], check=True)
  return next(place.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_has_all_files(wheel):
  expected = {
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "apprentice_jax").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
  }
  expected |= {f"apprentice_jax/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
  files = set(zipfile.ZipFile(wheel).namelist())
  assert {name for name in files if ".dist-info/" not in name} == expected


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_installed_command_works_from_an_empty_folder(wheel, tmp_path):
  site, empty = tmp_path / "site", tmp_path / "empty"
  empty.mkdir()
  subprocess.run([*PIP, "install", "--no-deps", "--target", site, wheel], check=True)
  env = {**os.environ, "PYTHONPATH": str(site)}
  env.pop("XLA_FLAGS")

  def apprentice(*arguments):
    command = [sys.executable, site / "bin" / "apprentice", *arguments]
    done = subprocess.run(command, cwd=empty, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout

  code = "import apprentice_jax, apprentice_jax.configs.digits; print(apprentice_jax.__file__)"
  done = subprocess.run([sys.executable, "-c", code], cwd=empty, env=env, capture_output=True)
  assert done.stdout.decode().startswith(str(site))
  Image.new("RGB", (40, 30), "navy").save(empty / "picture.png")
  said = apprentice("predict", "--model=resnet8-cifar10-8a2w", "picture.png")
  assert said.startswith("picture.png: ") and "resnet8-cifar10-8a4w" in apprentice("models")
  apprentice(
    "study",
    "--config=digits:runlocal",
    "--workdir=x",
    "--config.study.cells=('teacher','baseline')",
    "--config.study.precisions=('8A,2W',)",
    "--config.study.seeds=(0,)",
  )
  assert (empty / "x" / "report.md").is_file()
  (cell,) = (empty / "x" / "cells").glob("*baseline*")
  for name in FORMATS:
    out = apprentice("export", f"--workdir={cell}", f"--format={name}", f"--out=student.{name}")
    assert f"student.{name}: " in out and registry.size(empty / f"student.{name}") > 1000
  assert "accuracy" in apprentice("eval", "--model", "student.packed", "--config", "digits")
