"""A training step on one GPU, ours and then PyTorch's, and the kernels of ours by their time.

    python results/bench/gpu_step.py
    configs/cifar10.py:student=resnet20,teacher=resnet20,scheme=A,precision=8A2W OUT

For few minutes of a GPU: `benchmarks/beside_torch.py` measures in turns, which takes longer.
``--ways`` says what to time, "apprentice" and how PyTorch is to run; ``--set=FIELD=VALUE`` changes
the config (steps_per_dispatch, say). Computes in bfloat16. Writes OUT.json, of medians, with the
seconds until a first dispatch was done (building, compiling and running it), and OUT.txt: of all
steps of one dispatch, each kernel's microseconds and number in a step (by `jax.profiler`).

Several of these at once compile beside each other and measure in turns; ``--pause=PATTERN`` halts
meanwhile whatever else has PATTERN in its command line, but for this process and those that it is a
child of. What chooses between algorithms by timing them (cuDNN's benchmark in PyTorch, XLA's
autotuning) does so beside the others all the same, and seconds until a first dispatch include
halts: where these count, run one alone. Three at once need XLA_PYTHON_CLIENT_MEM_FRACTION=0.3.
"""

import argparse
import ast
import collections
import contextlib
import fcntl
import glob
import importlib.util
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

WAYS = ("apprentice", "eager", "channels_last", "compiled", "cuda_graphs")


def main(spec: str, out: str, ways=WAYS, changes=(), rounds: int = 7, pause: str = ""):
  os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.45")  # PyTorch is in the same process
  import beside_torch
  import jax
  from peaks import peak

  from apprentice_jax.bench import step
  from apprentice_jax.bench.machine import machine
  from apprentice_jax.training import devices

  config = config_of(spec, changes)
  devices.start(config.cpu_devices)
  shape, classes = step.synthetic(config)
  built = step.settings(config, classes)
  found = {
    "config": spec,
    **dict(changes),
    "dtype": config.dtype,
    "batch_size": config.batch_size,
    "rounds": rounds,
    "commit": "".join(output("git", "rev-parse", "HEAD")),
    "xla_flags": os.environ.get("XLA_FLAGS", ""),
    "machine": machine(),
    "flops": beside_torch.flops(built, config.batch_size, shape),
    "first_dispatch_seconds": {},
    "step_seconds": {},
  }

  def note(way: str, first: float, seconds: float):
    found["first_dispatch_seconds"][way], found["step_seconds"][way] = first, seconds
    rate = {"images_per_second": config.batch_size / seconds}
    if most := peak(found["machine"]["kind"], config.dtype):
      rate["peak_share"] = found["flops"] / seconds / most
    found.setdefault("rates", {})[way] = rate
    print(way, f"{1000 * seconds:.3f} ms", rate, f"first dispatch after {first:.1f} s", flush=True)
    with open(out + ".json", "w") as file:
      json.dump(found, file, indent=1)

  if "apprentice" in ways:
    began = time.monotonic()
    take = step.stepper(built, step.loss_weights(config), config.batch_size, shape)
    take()
    first = time.monotonic() - began
    with alone(pause):
      note("apprentice", first, median(take, rounds))
      with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
          take()
        with open(out + ".txt", "w") as file:
          file.write(
            kernels(
              glob.glob(folder + "/**/*.xplane.pb", recursive=True)[0], built.steps_per_dispatch
            )
          )
  if others := [way for way in ways if way != "apprentice"]:
    pytorch(config, shape, classes, others, rounds, pause, found, note)


@contextlib.contextmanager
def alone(pause: str):
  """While this process alone measures: others of this script wait for it, and what matches
  ``pause`` is halted."""
  halted = []

  def tell(number):
    for pid in halted:
      with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)

  def end(number, _):
    raise SystemExit(128 + number)  # through the finally below, so that nothing stays halted

  before = signal.signal(signal.SIGTERM, end)
  with open(os.path.join(tempfile.gettempdir(), "gpu_step.lock"), "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
      if pause:
        halted += sorted(set(map(int, output("pgrep", "-f", pause))) - set(ancestors()))
        tell(signal.SIGSTOP)
        time.sleep(1)  # what has been dispatched ends
      yield
    finally:
      tell(signal.SIGCONT)
      signal.signal(signal.SIGTERM, before)


def ancestors() -> list[int]:
  """This process and those that it is a child of."""
  found = [os.getpid()]
  while found[-1] > 1:
    found.append(int(output("ps", "-o", "ppid=", "-p", str(found[-1]))[0]))
  return found


def output(*command) -> list[str]:
  return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def config_of(spec: str, changes):
  """The config, for one GPU."""
  from apprentice_jax.config import scaled

  path, _, argument = spec.partition(":")
  module_spec = importlib.util.spec_from_file_location("config", path)
  module = importlib.util.module_from_spec(module_spec)
  module_spec.loader.exec_module(module)
  config = module.get_config(argument)
  config.dtype = "bfloat16"
  config.update_from_flattened_dict(dict(changes))
  return scaled(config, 1)


def median(take, rounds: int) -> float:
  return statistics.median(take() for _ in range(rounds))


def pytorch(config, shape, classes, ways, rounds, pause, found, note):
  """Notes seconds of a step in each way to run it; what fails is left out, and said."""
  import beside_torch
  import torch

  found["machine"]["torch"] = torch.__version__
  if not torch.cuda.is_available():
    return
  torch.backends.cudnn.benchmark = True
  torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True  # as XLA does
  for way in ways:
    try:
      began = time.monotonic()
      take = beside_torch._torch_stepper(
        config, shape, classes, way, "cuda", config.steps_per_dispatch
      )
      take()
      first = time.monotonic() - began
      with alone(pause):
        note(way, first, median(take, rounds))
    except Exception as error:
      print(f"PyTorch ({way}) failed: {str(error)[:300]}", flush=True)


def kernels(path: str, steps: int) -> str:
  """The device's streams, with their kernels by time."""
  from jax.profiler import ProfileData

  lines = []
  for plane in ProfileData.from_file(path).planes:
    for line in plane.lines if plane.name.startswith("/device:") else ():
      events = list(line.events)
      if not events:
        continue
      total, count = collections.Counter(), collections.Counter()
      for event in events:
        name = re.sub(r"[._]\d+\b", "", event.name)
        total[name] += event.duration_ns
        count[name] += 1
      span = max(e.start_ns + e.duration_ns for e in events) - min(e.start_ns for e in events)
      lines.append(
        f"{plane.name}, {line.name}: {span / 1e3 / steps:,.0f} us a step, of which busy "
        f"{sum(total.values()) / 1e3 / steps:,.0f}, {len(events) / steps:,.0f} events"
      )
      lines += [
        f"{t / 1e3 / steps:9.1f} us {count[name] / steps:7.1f} x  {name[:110]}"
        for name, t in total.most_common(50)
      ]
  return "\n".join(lines) + "\n"


def change(text: str):
  field, _, value = text.partition("=")
  return field, ast.literal_eval(value)


if __name__ == "__main__":
  parser = argparse.ArgumentParser()
  parser.add_argument("spec")
  parser.add_argument("out")
  parser.add_argument("--ways", default=",".join(WAYS))
  parser.add_argument("--set", dest="changes", type=change, action="append", default=[])
  parser.add_argument("--rounds", type=int, default=7)
  parser.add_argument("--pause", default="")
  given = parser.parse_args()
  chosen = given.ways.split(",")
  if unknown := set(chosen) - set(WAYS):
    parser.error(f"--ways: {', '.join(sorted(unknown))} is none of {', '.join(WAYS)}.")
  main(given.spec, given.out, chosen, given.changes, given.rounds, given.pause)
