"""Cost against size: how long a training step takes by batch, depth and devices, each with a
straight line.

    python results/bench/size.py --out=results/bench/size-cpu

It writes .json, .md and .png in under four minutes.

ResNets of the 6n+2 family at half width, 8A,2W, scheme baseline, 32x32, on host devices of one
thread each: a second device is a second core. On accelerators it takes the devices that there are.
"""

import argparse
import functools
import json
import os
import pathlib
import subprocess
import sys

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"  # before jax starts

import matplotlib.figure  # noqa: E402
import numpy as np  # noqa: E402

BATCHES, DEPTHS, DEVICES = (32, 64, 128, 256, 512), (8, 14, 20, 32, 56), (1, 2)
BATCH, DEPTH, WIDTH, ROUNDS = 64, 20, 0.5, 5
NAMES = {"batch": "images in a batch", "depth": "layers", "devices": "devices"}


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument("--out", required=True)
  parser.add_argument(
    "--devices",
    type=int,
    default=0,
    help="measure with so many, and print JSON: for the program itself",
  )
  parser.add_argument(
    "--max", type=int, default=10**6, help="leave out batches and depths above it"
  )
  given = parser.parse_args()
  if given.devices:
    print(json.dumps(measured(given.devices, given.max)))
    return
  parts = [
    json.loads(
      subprocess.run(
        [sys.executable, __file__, "--out=-", f"--devices={n}", f"--max={given.max}"],
        check=True,
        stdout=subprocess.PIPE,
      ).stdout.splitlines()[-1]
    )
    for n in DEVICES
  ]
  found = {"machine": parts[-1]["machine"], "width": WIDTH, "batch": BATCH, "depth": DEPTH}
  for axis in ("batch", "depth"):
    found[axis + "_seconds"] = {f"{n} devices": part[axis] for n, part in zip(DEVICES, parts)}
    found[axis + "_fit"] = {k: fit(v) for k, v in found[axis + "_seconds"].items()}
  pathlib.Path(given.out + ".json").write_text(json.dumps(found, indent=1))
  pathlib.Path(given.out + ".md").write_text(table(found))
  plot(found, given.out + ".png")
  print(table(found))


def measured(devices: int, most: int) -> dict:
  """Median seconds of a step by batch and by depth."""
  import jax

  jax.config.update("jax_num_cpu_devices", devices)
  from apprentice_jax.files import cache_dir

  jax.config.update(
    "jax_compilation_cache_dir", str(cache_dir() / "xla")
  )  # a second run measures alone
  from apprentice_jax import config as configs
  from apprentice_jax.bench.machine import machine
  from apprentice_jax.bench.step import in_turns, loss_weights, settings, stepper
  from apprentice_jax.training.dispatch import HOST_STEPS

  config = configs.base()
  config.scheme, config.precision, config.student.width = "baseline", "8A,2W", WIDTH

  def of(depth, batch):
    config.student.name, config.batch_size = f"resnet{depth}", batch
    built = settings(config, 10)._replace(steps_per_dispatch=max(HOST_STEPS, 256 // batch))
    return stepper(built, loss_weights(config), batch, (32, 32, 3))

  def by(sizes, make):
    seconds = in_turns({str(n): make(n) for n in sizes if n <= most}, ROUNDS)
    return {k: float(np.median(v)) for k, v in seconds.items()}

  return {
    "machine": machine(),
    "batch": by(BATCHES, functools.partial(of, DEPTH)),
    "depth": by(DEPTHS, lambda depth: of(depth, BATCH)),
  }


def fit(seconds: dict) -> dict:
  """t = a + b n by least squares of relative errors, and by how much of itself each time is off the
  line."""
  n, t = np.array([float(k) for k in seconds]), np.array(list(seconds.values()))
  a, b = np.linalg.lstsq(np.stack([1 / t, n / t], 1), np.ones(len(t)), rcond=None)[0]
  return {
    "a": float(a),
    "b": float(b),
    "off": {k: float(x) for k, x in zip(seconds, t / (a + b * n) - 1)},
  }


def table(found: dict) -> str:
  """The report in Markdown."""
  from apprentice_jax.bench.machine import sentence

  lines = [
    "# Cost against size",
    "",
    sentence(found["machine"]) + ", and one of them alone; a ResNet of the 6n+2 "
    f"family at width {found['width']:g}, 8A,2W, 32x32, without a teacher.",
  ]
  for axis, other in (("batch", f"ResNet-{found['depth']}"), ("depth", f"batch {found['batch']}")):
    seconds, fits = found[axis + "_seconds"], found[axis + "_fit"]
    lines += [
      "",
      f"## By {axis} ({other})",
      "",
      f"| {NAMES[axis]} | "
      + " | ".join(f"{k}: ms | off the line" for k in seconds)
      + " | 1 device / 2 |",
      "|---" * (2 * len(seconds) + 2) + "|",
    ]
    one, two = seconds.values()
    for n in one:
      cells = " | ".join(
        f"{1000 * s[n]:.0f} | {fits[k]['off'][n]:+.0%}" for k, s in seconds.items()
      )
      lines.append(f"| {n} | {cells} | {one[n] / two[n]:.2f} |")
    lines += [""] + [
      f"{k}: t = {1000 * f['a']:.1f} ms + {1000 * f['b']:.3f} ms n" for k, f in fits.items()
    ]
  return "\n".join(lines) + "\n"


def plot(found: dict, path: str):
  figure = matplotlib.figure.Figure(figsize=(8, 3.2), layout="constrained")
  for axes, axis in zip(figure.subplots(1, 2), ("batch", "depth")):
    for (name, seconds), f in zip(found[axis + "_seconds"].items(), found[axis + "_fit"].values()):
      n = np.array([float(k) for k in seconds])
      (points,) = axes.plot(n, [1000 * s for s in seconds.values()], "o", label=name)
      axes.plot(n, 1000 * (f["a"] + f["b"] * n), color=points.get_color(), linewidth=1)
    axes.set(xlabel=NAMES[axis], ylabel="ms a step", ylim=(0, None))
    axes.legend()
  figure.savefig(path, dpi=90)


if __name__ == "__main__":
  main()
