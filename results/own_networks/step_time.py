"""The training step on CPU of a ResNet in our layers, in plain ones, and quantized; in turns.

    python results/own_networks/step_time.py step-cpu.json

One device of one thread, images of CIFAR-10's size. It prints medians, and the median ratio to our
layers over the rounds.
"""

import json
import pathlib
import statistics
import sys
import time

from apprentice_jax import environment

BATCH, ROUNDS = 64, 15
CASES = [(8, "8A,2W"), (8, "8A,4W")]
SIDES = ("ours", "quantized", "quantized, nn.relu", "quantized, nn.BatchNorm")


def stepper(net):
  """A function that takes a training step and returns its seconds."""
  import jax
  from sides import arguments, step

  variables, state, *rest = jax.jit(lambda: arguments(net, BATCH))()
  rest[-1] = 0.0  # train_step's gamma, of Python as there
  take = step(net)

  def timed():
    nonlocal variables, state
    began = time.perf_counter()
    variables, state = jax.block_until_ready(take(variables, state, *rest))
    return time.perf_counter() - began

  return timed


def main(out: str):
  environment.restart_with_memory_settings()
  environment.set_xla_flags(quick=False)
  environment.without_tpu()
  from sides import sides

  from apprentice_jax.bench.machine import machine
  from apprentice_jax.bench.step import in_turns

  cases = []
  for depth, precision in CASES:
    networks = sides(depth, precision)
    steps = {name: stepper(networks[name]) for name in SIDES}
    seconds = in_turns(steps, ROUNDS)
    print(f"ResNet-{depth}, {precision}, batch {BATCH}, {len(seconds['ours'])} rounds", flush=True)
    rows = {}
    for name, each in seconds.items():
      ratio = statistics.median(a / b for a, b in zip(each, seconds["ours"]))
      rows[name] = {"seconds": round(statistics.median(each), 4), "of_ours": round(ratio, 3)}
      print(f"  {name:24s} {1000 * rows[name]['seconds']:7.1f} ms  {ratio:.3f}", flush=True)
    cases.append({"depth": depth, "precision": precision, "networks": rows})
  report = {"batch": BATCH, "cases": cases, "machine": machine()}
  pathlib.Path(out).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
  main(*sys.argv[1:])
