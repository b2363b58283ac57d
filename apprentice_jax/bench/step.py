"""``apprentice bench --what=quantization``: what quantization costs in a training step.

Two networks of the same shape, batch and optimizer take turns on the same devices: the configured
student, and one of plain ``flax.linen.Conv`` and ReLU in full precision. The result is the median
ratio of neighbouring timings, so that whatever else the machine does falls on both.
"""

import os
import platform
import statistics
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from apprentice_jax.config import ConfigError
from apprentice_jax.distill.step import Rates, State
from apprentice_jax.training import parallel, start
from apprentice_jax.training.program import (DeviceData, Program, Settings, example_indices,
                                             initialiser)

SIZE = 1024  # synthetic images to draw batches from
ROUNDS = 15
STEPS = 4


def plain_conv(features, kernel_size, strides=1, quantization=None, dtype=jnp.float32, im2col=None, name=None):
  """flax.linen.Conv with QuantConv's arguments and padding."""
  padding = [((k - 1) // 2,) * 2 for k in kernel_size]
  return nn.Conv(features, kernel_size, strides, padding, use_bias=False, dtype=dtype, name=name)


def plain_act(quantization=None, name=None):
  return nn.relu


def run(config, image_shape=(32, 32, 3), num_classes=10) -> dict:
  """Times the training steps of the config's student, quantized and plain.

  Args:
    config: student, precision, batch_size and dtype count; the images are synthetic.
    image_shape: (height, width, channels).
    num_classes: outputs.

  Returns:
    "step_seconds" (medians of "quantized" and "plain"), "images_per_second", "overhead" (median ratio
    of neighbouring timings), and the machine.
  """
  built = settings(config, num_classes)._replace(teacher=None, teacher_optimizer=None)
  plain = built.student.clone(conv=plain_conv, act=plain_act,
                              quantization=type(built.student.quantization)())
  weights = {"alpha": 0.0, "beta": 1.0, "gamma": 0.0, "temperature": 1.0}
  steps = {name: stepper(s, weights, config.batch_size, image_shape)
           for name, s in (("plain", built._replace(student=plain)), ("quantized", built))}
  seconds = in_turns(steps)
  medians = {k: statistics.median(v) for k, v in seconds.items()}
  return {
      "network": config.student.name, "width": config.student.width, "precision": config.precision,
      "batch_size": config.batch_size, "image_shape": list(image_shape), "dtype": config.dtype,
      "step_seconds": medians,
      "images_per_second": {k: config.batch_size / v for k, v in medians.items()},
      "overhead": statistics.median(
          q / p for q, p in zip(seconds["quantized"], seconds["plain"])),
      "machine": machine()}


def settings(config, num_classes: int) -> Settings:
  """The config's program, for synthetic images."""
  if config.batch_size % jax.device_count():
    raise ConfigError(f"config.batch_size is {config.batch_size}: it must be a multiple of the "
                      f"{jax.device_count()} devices.")
  return start.settings(config, num_classes)._replace(mean=(0.5,), std=(0.5,), steps_per_dispatch=STEPS)


def in_turns(steps: dict, rounds: int = ROUNDS) -> dict[str, list[float]]:
  """Seconds of each of some functions, which return them, called in turns; once before that, to compile."""
  for step in steps.values():
    step()
  seconds = {name: [] for name in steps}
  for _ in range(rounds):
    for name, step in steps.items():
      seconds[name].append(step())
  return seconds


def machine() -> dict:
  """What it was measured on."""
  return {"devices": jax.device_count(), "kind": jax.devices()[0].device_kind, "cores": os.cpu_count(),
          "python": platform.python_version(), "jax": jax.__version__}


def table(report: dict) -> str:
  """The report for reading."""
  lines = [f"{report['network']} at width {report['width']:g}, {report['precision']}, batch "
           f"{report['batch_size']}, {report['machine']['devices']} x {report['machine']['kind']}"]
  for name, seconds in report["step_seconds"].items():
    lines.append(f"{name:10s} {1000 * seconds:8.1f} ms/step "
                 f"{report['images_per_second'][name]:10,.0f} images/s")
  return "\n".join([*lines, f"quantized / plain: {report['overhead']:.2f}"])


def stepper(built: Settings, weights: dict, batch_size: int, image_shape):
  """Returns a function that takes STEPS training steps on synthetic images and returns the seconds of one."""
  rng = np.random.default_rng(0)
  data = DeviceData(rng.integers(0, 256, (SIZE, *image_shape), np.uint8),
                    rng.integers(0, built.student.num_classes, SIZE).astype(np.int32))
  images = jnp.asarray(data.images[:batch_size], built.student.dtype) / 128 - 1

  def network(model, optimizer):
    found = initialiser(model.clone(norm_axis=None))(jax.random.key(0), images, {})
    return found._replace(opt_state=optimizer.build().init(found.params)) if optimizer else found

  state = parallel.replicate(State(
      network(built.student, built.student_optimizer),
      network(built.teacher, built.teacher_optimizer) if built.teacher else None))
  data = parallel.replicate(data)
  index, epoch = example_indices(0, SIZE, 0, STEPS, built, batch_size)
  weights = {k: np.float32(v) for k, v in weights.items()}
  rates = Rates(*[np.full(STEPS, 0.01, np.float32)] * 2)
  program = Program(built)

  def step():
    nonlocal state
    began = time.perf_counter()
    state, _ = program.train(state, data, index, epoch, STEPS, weights, rates, jax.random.key(0),
                             observe=False)
    jax.block_until_ready(state)
    return (time.perf_counter() - began) / STEPS

  return step
