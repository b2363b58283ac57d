"""Kills a run with SIGKILL at random moments and compares its end with an unbroken run's.

    python tests/kill_and_resume.py --kills=10 --out=DIR -- train --config=FILE[:...] [...]

What follows the two dashes is a command of `apprentice`, without --workdir. DIR gets the workdirs
`unbroken` and `killed`. Exits with 1 if the last checkpoints differ in any bit, or the metrics in
anything but time and memory.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import time

MACHINE = ("seconds", "images_per_second", "data_wait", "host_memory")


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--kills", type=int, default=10)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("command", nargs="+")
  given = parser.parse_args()
  unbroken, killed = given.out / "unbroken", given.out / "killed"
  subprocess.run(_command(given.command, unbroken), check=True)
  records = [r for r in _records(unbroken) if "images_per_second" in r]
  # A run that is killed so often still has to get on: each start may train for this long.
  share = sum(
    (r["examples"] - before["examples"]) / r["images_per_second"]
    for before, r in zip(records, records[1:])
  ) / (given.kills + 1)

  draw = random.Random(given.seed)
  for number in range(1, given.kills + 1):
    process = subprocess.Popen(_command(given.command, killed), stdout=subprocess.DEVNULL)
    began = time.monotonic()
    if draw.random() < 0.7:  # the others die while they start: import, restore, compile
      known = len(_records(killed))
      while process.poll() is None and len(_records(killed)) <= known:
        time.sleep(0.05)
      time.sleep(draw.uniform(0, 2 * share))
    else:
      time.sleep(draw.uniform(0, 15))
    process.kill()
    code = process.wait()
    reached = [r["step"] for r in _records(killed)]
    saved = sorted(p.name for p in (killed / "checkpoints").glob("*"))
    print(
      f"kill {number}: exit {code} after {time.monotonic() - began:.1f} s; last record "
      f"{max(reached, default=0)}; checkpoints {', '.join(saved) or 'none'}",
      flush=True,
    )
  subprocess.run(_command(given.command, killed), check=True)

  wrong = _differences(unbroken, killed)
  print(
    "\n".join(wrong)
    or "identical: all arrays of the last checkpoint, all records but for time and memory, "
    "the result"
  )
  return bool(wrong)


def _command(arguments: list[str], workdir: pathlib.Path) -> list[str]:
  return [sys.executable, "-m", "apprentice_jax", *arguments, f"--workdir={workdir}"]


def _records(workdir: pathlib.Path) -> list[dict]:
  from apprentice_jax.training.records import read_records

  return read_records(workdir)


def _differences(*workdirs: pathlib.Path) -> list[str]:
  import jax
  import numpy as np

  from apprentice_jax.training.checkpoint import Checkpoints

  states, records, results = [], [], []
  for workdir in workdirs:
    with Checkpoints(workdir) as checkpoints:
      leaves = jax.tree_util.tree_leaves_with_path(checkpoints.contents()[0])
    states.append({jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves})
    untimed = lambda r: {k: v for k, v in r.items() if k not in MACHINE}
    records.append([untimed(r) for r in _records(workdir)])
    results.append(untimed(json.loads((workdir / "result.json").read_text())))
  wrong = [
    f"{name} differs"
    for name, value in states[0].items()
    if name not in states[1] or value.tobytes() != states[1][name].tobytes()
  ]
  wrong += ["the metrics differ"] * (records[0] != records[1])
  return wrong + ["the results differ"] * (results[0] != results[1])


if __name__ == "__main__":
  sys.exit(main())
