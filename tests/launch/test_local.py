"""local.sh: the first command, and the three that it names at the end."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
from stand_ins import ROOT, Site

from apprentice_jax import cli
from apprentice_jax.cli import config_file
from apprentice_jax.study import cells

COMMAND = ".venv/bin/apprentice"


@pytest.fixture
def site(tmp_path):
  """A copy of launch/ that is installed already, with a stand-in for apprentice."""
  shutil.copytree(ROOT / "launch", tmp_path / "launch")
  shutil.copy(ROOT / "setup.cfg", tmp_path)
  site = Site(tmp_path / "site")
  site.add("apprentice", "sys.exit(then('codes', 0))", where=tmp_path / ".venv" / "bin")
  site.add("nvidia-smi", "sys.exit(1)")
  stamp = subprocess.check_output(
    ["bash", "-c", "printf '%s' '' | cat - setup.cfg | cksum | cut -d' ' -f1"], cwd=tmp_path
  )
  (tmp_path / ".venv" / f"installed-{stamp.decode().strip()}").touch()
  site.folder = tmp_path
  return site


def local(site, *arguments):
  return site.run("bash", "launch/local.sh", *arguments, cwd=site.folder, PYTHON=sys.executable)


def suggested(site) -> list[list[str]]:
  """The words of the commands that the script ends with."""
  _, out, _ = local(site)
  return [shlex.split(line) for line in out.splitlines() if line.strip().startswith(COMMAND)]


def test_the_study_ends_with_three_commands(site):
  (site.root / "codes").write_text(json.dumps([75, 0]))
  code, out, err = local(site)
  study = ["apprentice", "study", "--config=configs/digits.py", "--workdir=runs/digits"]
  assert code == 0 and site.asked("study") == [study] * 2 and "starting again" in err
  assert out.count(COMMAND) == 3 and "docs/getting-started.md" in out
  # A study that failed, or a command of the user's own, ends without them.
  (site.root / "codes").write_text("[2]")
  assert local(site)[:2] == (2, "")
  (site.root / "codes").write_text("[0]")
  assert local(site, "train", "--workdir=a b") == (0, "", "")
  assert site.asked("train") == [["apprentice", "train", "--workdir=a b"]]


def test_a_signal_reaches_the_command(site):
  stop = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); print('on', flush=True)"
  site.add("apprentice", f"{stop}; time.sleep(60)", where=site.folder / ".venv" / "bin")
  process = site.start("bash", "launch/local.sh", cwd=site.folder, PYTHON=sys.executable)
  assert process.stdout.readline() == "on\n"
  process.send_signal(signal.SIGTERM)
  assert process.communicate(timeout=30) == ("", "") and process.returncode == 75


def test_the_commands_are_of_the_digits_study(site):
  names = {cell.name for cell in cells.cells(config_file.read("digits", []))}
  export, train, models = suggested(site)
  workdir = dict(word.split("=", 1) for word in export[2:])["--workdir"]
  assert workdir.removeprefix("runs/digits/cells/") in names
  assert (export[1], train[1], models[1:]) == ("export", "train", ["models"])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_commands_work_as_printed(site, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  os.mkdir("configs")
  shutil.copy(ROOT / "configs" / "digits.py", "configs")
  short = ["--config=configs/digits.py:runlocal", "--config.study.cells=('teacher','B')"]
  assert cli.main(["study", *short, "--workdir=runs/digits"]) == 0
  export, train, models = suggested(site)
  train[2] += ",runlocal"
  for words in (export, train, models):
    assert cli.main(words[1:]) == 0, words
  assert (tmp_path / "runs" / "digits_c" / "digits_c.c").exists()
  assert (tmp_path / "runs" / "digits_4bit" / "report.html").exists()
  assert "resnet8-cifar10-8a2w" in capsys.readouterr().out
