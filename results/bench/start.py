"""From the start of the command to its first training step: with nothing in the cache, and the
second time.

    python results/bench/start.py --data_dir=DATA --out=results/bench/start-cpu.json

CIFAR-10 is in DATA.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from apprentice_jax.bench.machine import machine

CONFIGS = {
  "digits, ResNet-8": "configs/digits.py:scheme=baseline",
  "CIFAR-10, ResNet-20": "configs/cifar10.py:student=resnet20,scheme=baseline",
}
WARM = 3


def main():
  parser = argparse.ArgumentParser()
  for name in ("data_dir", "out"):
    parser.add_argument(f"--{name}", required=True)
  given = parser.parse_args()
  found = {}
  for name, config in CONFIGS.items():
    found[name] = measure(config, given.data_dir)
    print(name, {k: round(v, 2) for k, v in found[name].items()}, flush=True)
  pathlib.Path(given.out).write_text(json.dumps({"seconds": found, "machine": machine()}, indent=1))


def measure(config: str, data_dir: str) -> dict:
  """Seconds to the first step: "empty" (nothing in the cache), "cold" (images decoded, nothing
  compiled), "warm" (median of WARM starts after that), "cold_to_warm", and "traced": as warm, with
  JAX's own cache alone."""
  with tempfile.TemporaryDirectory() as folder:
    cache, seconds = pathlib.Path(folder, "cache"), {"empty": first_step(config, data_dir, folder)}
    for programs in ("xla", "programs"):
      shutil.rmtree(cache / programs)
    seconds["cold"] = first_step(config, data_dir, folder)
    seconds["warm"] = statistics.median(first_step(config, data_dir, folder) for _ in range(WARM))
    seconds["cold_to_warm"] = seconds["cold"] / seconds["warm"]
    shutil.rmtree(cache / "programs")
    seconds["traced"] = first_step(config, data_dir, folder)
  return seconds


def first_step(config: str, data_dir: str, folder: str) -> float:
  """Seconds from the start of the process to the record of its first two steps: of one alone the
  program would be another."""
  workdir = pathlib.Path(folder, "run")
  shutil.rmtree(workdir, ignore_errors=True)
  where = [f"--config.data.dir={data_dir}"] if "digits" not in config else []
  command = [
    sys.executable,
    "-m",
    "apprentice_jax",
    "train",
    f"--config={config}",
    f"--workdir={workdir}",
    "--config.steps_per_dispatch=2",
    *where,
  ]
  began = time.monotonic()
  with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment(folder)) as process:
    records = workdir / "metrics.jsonl"
    while not (records.exists() and records.stat().st_size):
      if process.poll() is not None:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}.")
      time.sleep(0.01)
    seconds = time.monotonic() - began
    process.kill()
  return seconds


def environment(folder: str) -> dict:
  return {**os.environ, "APPRENTICE_CACHE": f"{folder}/cache"}


if __name__ == "__main__":
  main()
