"""Where a result comes from: date, command, commit and versions of each start of a run or study.

``starts.jsonl`` in a workdir has one line a start.
"""

import datetime
import functools
import json
import os
import pathlib
import shlex
import subprocess
import sys

import jax

import apprentice_jax

FILE = "starts.jsonl"


def record(workdir: pathlib.Path):
  """Adds a line about this start to a workdir."""
  program, *arguments = sys.argv or [""]
  program = pathlib.Path(program).name.replace("__main__.py", "apprentice")
  with (workdir / FILE).open("a") as file:
    file.write(
      json.dumps(
        {
          "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
          "command": shlex.join([program, *arguments]),
          "folder": os.getcwd(),
          "version": apprentice_jax.__version__,
          "commit": _commit(),
          "jax": jax.__version__,
          "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        }
      )
      + "\n"
    )


@functools.cache
def _commit() -> str:
  """The commit that the package is at; "" where it is not in a git checkout."""
  folder = pathlib.Path(apprentice_jax.__file__).parent
  try:
    # Tracked by this very repository: an installed package may lie inside somebody else's.
    git = lambda *words: subprocess.run(
      ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()
    git("ls-files", "--error-unmatch", "__init__.py")
    changed = git("status", "--porcelain", "--untracked-files=no", ".")
    return git("rev-parse", "HEAD") + (" with changes" if changed else "")
  except (OSError, subprocess.SubprocessError):
    return ""


def read(workdir) -> list[dict]:
  """The starts of a workdir, the first one first; [] of a run before they were recorded."""
  try:
    lines = (pathlib.Path(workdir) / FILE).read_text().splitlines()
    return [json.loads(line) for line in lines]
  except (OSError, ValueError):
    return []
