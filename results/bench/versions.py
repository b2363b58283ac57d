"""The training step of several versions of this package, in turns, on CPU: what a change is worth.

    python results/bench/versions.py NAME:ARGUMENT FOLDER[@FLAGS] FOLDER[@FLAGS] ...

Each FOLDER has a version (`git worktree add FOLDER COMMIT`), whose own configs/NAME.py is taken.
FLAGS are XLA_FLAGS beside those that all have. Images are synthetic: of data.image_size and fed, of
8x8x1 for digits, or of CIFAR-10's size. It prints medians, and the median ratio to the first over
the rounds.
"""

import contextlib
import importlib.util
import os
import statistics
import subprocess
import sys

from apprentice_jax import environment

ROUNDS = 15


def main(config: str, *versions: str):
  steps = {version: started(config, *version.partition("@")[::2]) for version in versions}
  seconds = {version: [] for version in versions}
  for _ in range(ROUNDS):
    for version, step in steps.items():
      step()  # after the others' turns memory has to be taken again: see pause.py
      seconds[version].append(step())
  for version, found in seconds.items():
    ratio = statistics.median(a / b for a, b in zip(found, seconds[versions[0]]))
    print(
      f"{version}: {1000 * statistics.median(found):.1f} ms (least {1000 * min(found):.1f}), "
      f"{ratio:.3f} of the first"
    )


def started(config: str, folder: str, flags: str):
  """A process with that version; returns a function that takes steps in it and returns the seconds
  of one."""

  env = {
    **os.environ,
    "PYTHONPATH": folder,
    "GLIBC_TUNABLES": environment.MALLOC,
    "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen=false {flags}",
  }
  process = subprocess.Popen(
    [sys.executable, __file__, "--serve", config],
    env=env,
    text=True,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  )

  def step() -> float:
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())

  step()
  return step


def serve(config: str):
  """Takes steps whenever there is a line to read."""
  from apprentice_jax.bench import step
  from apprentice_jax.training import devices

  name, _, argument = config.partition(":")
  path = f"{os.environ['PYTHONPATH']}/configs/{name}.py"
  spec = importlib.util.spec_from_file_location("config", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(argument)
  with contextlib.redirect_stdout(sys.stderr):  # what it runs on, and what is compiled
    devices.start(config.cpu_devices)
    shape, classes = ((8, 8, 1), 10) if name == "digits" else step.synthetic(config)
    built, streamed = step.settings(config, classes), bool(config.data.image_size)
    take = step.stepper(built, step.loss_weights(config), config.batch_size, shape, streamed)
  for _ in sys.stdin:
    with contextlib.redirect_stdout(sys.stderr):  # what is compiled
      seconds = take()
    print(seconds, flush=True)


if __name__ == "__main__":
  if sys.argv[1] == "--serve":
    serve(sys.argv[2])
  else:
    main(*sys.argv[1:])
