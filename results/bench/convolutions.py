"""A convolution's forward pass and gradients on one core, layer by layer, of ResNet-20: ours and
XLA's own.

    taskset -c 0 python results/bench/convolutions.py      writes results/bench/convolutions-cpu.md

64 images, what each of two host devices has of a batch of 128. "Products": filters' gradients as
matrix products of copies, as they are of narrow and strided layers.
"""

import functools
import os
import pathlib
import statistics
import time

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"  # as the command

import jax
import jax.numpy as jnp
import numpy as np

from apprentice_jax.bench.machine import machine, sentence
from apprentice_jax.models import cpu
from apprentice_jax.models.convolution import convolution

BATCH, ROUNDS = 64, 15
LAYERS = (
  (32, 16, 16, 1),
  (32, 16, 32, 2),
  (16, 32, 32, 1),
  (16, 32, 64, 2),
  (8, 64, 64, 1),
)  # size, channels, features, strides
PRODUCT = 1024  # a square matrix, whose product is the measure of the core


def main():
  fastest = speed()
  rows = [
    f"{sentence(machine())}, on one of its cores; {BATCH} images, 3x3, float32, median ms of "
    f"{ROUNDS} in turns. A product of "
    f"matrices of {PRODUCT}x{PRODUCT}: {fastest:.0f} GFLOP/s. Least: what the layer's products "
    "would take at that speed.",
    "",
    "| layer | least | forward: ours | XLA's | input's gradient: ours | XLA's | filter's gradient: "
    "ours | products | XLA's |",
    "|---|---|---|---|---|---|---|---|---|",
  ]
  for size, channels, features, strides in LAYERS:
    flops = 2 * BATCH * (size // strides) ** 2 * channels * features * 9
    found = layer(size, channels, features, strides)
    rows.append(
      f"| {size}×{size}×{channels} to {features}{', stride 2' * (strides == 2)} | "
      f"{flops / fastest / 1e6:.2f} | "
      + " | ".join(f"{1000 * seconds:.2f}" for seconds in found)
      + " |"
    )
  text = "\n".join(rows) + "\n"
  pathlib.Path(__file__).with_name("convolutions-cpu.md").write_text(text)
  print(text)


def layer(size: int, channels: int, features: int, strides: int) -> list[float]:
  """Seconds, in the order of the table's columns."""
  r = np.random.default_rng(0)
  array = lambda *shape: jnp.asarray(r.standard_normal(shape, np.float32))
  x, w = array(BATCH, size, size, channels), array(3, 3, channels, features)
  g = array(BATCH, size // strides, size // strides, features)
  ours, xlas = (
    functools.partial(convolution, strides=strides, im2col=own) for own in (True, False)
  )
  of_input = lambda f: lambda x, w, g: jax.vjp(lambda x: f(x, w), x)[1](g)
  of_filter = lambda f: lambda x, w, g: jax.vjp(lambda w: f(x, w), w)[1](g)
  forward = lambda f: lambda x, w, g: f(x, w)
  compiled = [
    jax.jit(what(f)).lower(x, w, g).compile()
    for what in (forward, of_input, of_filter)
    for f in (ours, xlas)
  ]
  cpu.WIDE_FILTERS, usual = features + 1, cpu.WIDE_FILTERS
  compiled.insert(5, jax.jit(of_filter(ours)).lower(x, w, g).compile())
  cpu.WIDE_FILTERS = usual
  return in_turns([functools.partial(f, x, w, g) for f in compiled])


def speed() -> float:
  """GFLOP/s of a large product."""
  a = jnp.asarray(np.random.default_rng(0).standard_normal((PRODUCT, PRODUCT), np.float32))
  return (
    2e-9
    * PRODUCT**3
    / in_turns([functools.partial(jax.jit(jnp.dot).lower(a, a).compile(), a, a)])[0]
  )


def in_turns(calls) -> list[float]:
  seconds = [[] for _ in calls]
  for _ in range(ROUNDS):
    for call, found in zip(calls, seconds):
      jax.block_until_ready(call())
      began = time.perf_counter()
      jax.block_until_ready(call())
      found.append(time.perf_counter() - began)
  return list(map(statistics.median, seconds))


if __name__ == "__main__":
  main()
