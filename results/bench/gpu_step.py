"""A training step on one GPU, ours and PyTorch's by turns of whole runs, and the kernels of ours by their time.

    python results/bench/gpu_step.py configs/cifar10.py:student=resnet20,teacher=resnet20,scheme=A,precision=8A2W OUT

For few minutes of a GPU: `apprentice bench --what=torch` measures in turns, which takes longer.
Computes in bfloat16, batch and steps of a dispatch as the config says. Writes OUT.json, of medians, and OUT.txt: of all
steps of one dispatch, each kernel's microseconds and number in a step (by `jax.profiler`).
"""

import collections
import glob
import importlib.util
import json
import os
import re
import statistics
import sys
import tempfile

ROUNDS = 7


def main(spec: str, out: str):
  os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.45")  # PyTorch is in the same process
  import jax
  from apprentice_jax.bench import step
  from apprentice_jax.bench.machine import machine
  from apprentice_jax.training import devices
  config = config_of(spec)
  devices.start(config.cpu_devices)
  shape, classes = step.synthetic(config)
  built = step.settings(config, classes)
  take = step.stepper(built, step.loss_weights(config), config.batch_size, shape)
  found = {"config": spec, "dtype": config.dtype, "batch_size": config.batch_size, "machine": machine(),
           "step_seconds": {"apprentice": median(take)}}
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      take()
    text = kernels(glob.glob(folder + "/**/*.xplane.pb", recursive=True)[0], built.steps_per_dispatch)
  with open(out + ".txt", "w") as file:
    file.write(text)
  print(text)
  found["step_seconds"].update(pytorch(config, shape, classes, found))
  with open(out + ".json", "w") as file:
    json.dump(found, file, indent=1)
  print(json.dumps(found["step_seconds"], indent=1))


def config_of(spec: str):
  path, _, argument = spec.partition(":")
  module_spec = importlib.util.spec_from_file_location("config", path)
  module = importlib.util.module_from_spec(module_spec)
  module_spec.loader.exec_module(module)
  config = module.get_config(argument)
  config.dtype = "bfloat16"
  return config


def median(take) -> float:
  take()  # compiles
  return statistics.median(take() for _ in range(ROUNDS))


def pytorch(config, shape, classes, found) -> dict:
  """Seconds of a step in each way to run it; what fails is left out, and said."""
  import torch
  from apprentice_jax.bench import versus
  found["machine"]["torch"] = torch.__version__
  if not torch.cuda.is_available():
    return {}
  torch.backends.cudnn.benchmark = True
  torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True  # as XLA does
  result = {}
  for way in ("eager", "channels_last", "compiled", "cuda_graphs"):
    try:
      result[way] = median(versus._torch_stepper(config, shape, classes, way, "cuda", config.steps_per_dispatch))
    except Exception as error:
      print(f"PyTorch ({way}) failed: {str(error)[:300]}")
  return result


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
      lines.append(f"{plane.name}, {line.name}: {span / 1e3 / steps:,.0f} us a step, of which busy "
                   f"{sum(total.values()) / 1e3 / steps:,.0f}, {len(events) / steps:,.0f} events")
      lines += [f"{t / 1e3 / steps:9.1f} us {count[name] / steps:7.1f} x  {name[:110]}" for name, t in total.most_common(50)]
  return "\n".join(lines) + "\n"


if __name__ == "__main__":
  main(*sys.argv[1:])
