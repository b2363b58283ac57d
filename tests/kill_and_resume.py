"""Kills a run with SIGKILL at random moments, again and again, and compares its end with an unbroken run's.

    python tests/kill_and_resume.py --kills=10 --out=DIR -- train --config=FILE[:...] [--config.a.b=value ...]

What follows the two dashes is a command of `apprentice`, without --workdir. DIR gets the workdirs
`unbroken` and `killed`. Exits with 1 if the last checkpoints differ in any bit, or the metrics in
anything but the clock.
"""

import argparse
import json
import pathlib
import random
import signal
import subprocess
import sys
import time

CLOCK = ("seconds", "images_per_second", "data_wait")


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--kills", type=int, default=10)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("command", nargs="+")
  given = parser.parse_args()
  unbroken, killed = given.out / "unbroken", given.out / "killed"
  began = time.monotonic()
  subprocess.run(_command(given.command, unbroken), check=True)
  whole = time.monotonic() - began
  print(f"the unbroken run took {whole:.0f} s", flush=True)

  draw = random.Random(given.seed)
  for number in range(1, given.kills + 1):
    # Between nothing and most of a run: some die while they start, some while they save.
    patience = draw.uniform(0.05, 0.9) * whole
    process = subprocess.Popen(_command(given.command, killed), stdout=subprocess.DEVNULL)
    try:
      process.wait(patience)
    except subprocess.TimeoutExpired:
      process.send_signal(signal.SIGKILL)
      process.wait()
    reached = [r["step"] for r in _records(killed)]
    saved = sorted(int(p.name) for p in (killed / "checkpoints").glob("*") if p.name.isdigit())
    print(f"kill {number}: exit {process.returncode} after {patience:.1f} s; last record "
          f"{max(reached, default=0)}, checkpoints {saved}", flush=True)
  subprocess.run(_command(given.command, killed), check=True)

  wrong = _differences(unbroken, killed)
  print("\n".join(wrong) or "identical: every array of the last checkpoint, every record")
  return bool(wrong)


def _command(arguments: list[str], workdir: pathlib.Path) -> list[str]:
  return [sys.executable, "-m", "apprentice_jax", *arguments, f"--workdir={workdir}"]


def _records(workdir: pathlib.Path) -> list[dict]:
  from apprentice_jax.training import metrics
  return metrics.read(workdir)


def _differences(*workdirs: pathlib.Path) -> list[str]:
  import jax
  import numpy as np
  import orbax.checkpoint as ocp
  states, records, results = [], [], []
  for workdir in workdirs:
    step = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    tree = ocp.StandardCheckpointer().restore((workdir / "checkpoints" / str(step) / "state").absolute())
    states.append({jax.tree_util.keystr(path): np.asarray(leaf)
                   for path, leaf in jax.tree_util.tree_leaves_with_path(tree)})
    untimed = lambda r: {k: v for k, v in r.items() if k not in CLOCK}
    records.append([untimed(r) for r in _records(workdir)])
    results.append(untimed(json.loads((workdir / "result.json").read_text())))
  wrong = [f"{name} differs" for name in states[0]
           if states[1].get(name) is None or states[0][name].tobytes() != states[1][name].tobytes()]
  wrong += ["the metrics differ"] * (records[0] != records[1])
  return wrong + ["the results differ"] * (results[0] != results[1])


if __name__ == "__main__":
  sys.exit(main())
