"""Commands that write down what they were asked, in place of those that cost money."""

import json
import os
import pathlib
import stat
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


class Site:
  """A folder with commands that come first in PATH, and with what they were asked.

  A command is Python source, in which ``args`` are its arguments, ``root`` is this folder, and
  ``turn`` counts, from 0, how often it was called with these first words.
  """

  def __init__(self, folder: pathlib.Path):
    self.root = folder
    self.bin = folder / "bin"
    self.bin.mkdir(parents=True)

  def add(self, name: str, source: str, where: pathlib.Path = None):
    path = (where or self.bin) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n" + _HEAD.format(root=str(self.root)) + source)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)

  def asked(self, *words: str) -> list[list[str]]:
    """The calls, in order, in which all of these words come up."""
    log = self.root / "asked.jsonl"
    calls = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [c for c in calls if set(words) <= set(c)]

  def environment(self, **more: str) -> dict:
    return {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", **more}

  def start(self, *command, cwd, **environment) -> subprocess.Popen:
    return subprocess.Popen(
      list(map(str, command)),
      cwd=cwd,
      env=self.environment(**environment),
      text=True,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      process_group=0,
    )

  def run(self, *command, cwd=ROOT, **environment) -> tuple[int, str, str]:
    """Exit status, standard output and error."""
    process = self.start(*command, cwd=cwd, **environment)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


_HEAD = '''
import fcntl, json, os, pathlib, signal, subprocess, sys, time
root, args = pathlib.Path({root!r}), sys.argv[1:]
call = [pathlib.Path(sys.argv[0]).name, *args]
with open(root / "asked.jsonl", "a+") as log:
  fcntl.flock(log, fcntl.LOCK_EX)
  log.seek(0)
  turn = sum(json.loads(line)[:5] == call[:5] for line in log)
  log.write(json.dumps(call) + "\\n")

def then(name, default):
  """The next of the answers in the file of this name; its last one again when there are no more."""
  path = root / name
  if not path.exists():
    return default
  with open(path, "r+") as file:
    fcntl.flock(file, fcntl.LOCK_EX)  # two workers ask at once
    answers = json.load(file)
    file.seek(0)
    file.truncate()
    json.dump(answers[1:] or answers, file)
  return answers[0]
'''
