"""What quantization costs in a training step.

    python benchmarks/quantization.py --config=configs/cifar10.py:student=resnet20,precision=8A2W

Two networks of the same shape, batch and optimizer take turns on the same devices: the configured
student, and one of plain ``flax.linen.Conv`` and ReLU in full precision. The result is the median
ratio of neighbouring timings, so that whatever else the machine does falls on both.
"""

import statistics

import command
import flax.linen as nn
import jax
import jax.numpy as jnp

from apprentice_jax.bench.machine import machine, sentence
from apprentice_jax.bench.step import in_turns, settings, stepper, synthetic
from apprentice_jax.training.dispatch import NOBODY, Program, dispatch


def plain_conv(
  features, kernel_size, strides=1, quantization=None, dtype=jnp.float32, im2col=None, name=None
):
  """flax.linen.Conv with QuantConv's arguments and padding."""
  padding = [((k - 1) // 2,) * 2 for k in kernel_size]
  return nn.Conv(features, kernel_size, strides, padding, use_bias=False, dtype=dtype, name=name)


def plain_act(quantization=None, name=None):
  return nn.relu


def _alike(built) -> Program:
  """On CPU step by step, as the plain one has to be."""
  row = dispatch(built, jax.devices())
  return Program(built, row if row.waits == NOBODY else row._replace(loop="", steps=1))


def run(config) -> dict:
  """Times the training steps of the config's student, quantized and plain.

  Args:
    config: student, precision, batch_size and dtype count; the images are synthetic.

  Returns:
    "step_seconds" (medians of "quantized" and "plain"), "images_per_second", "overhead" (median
    ratio of neighbouring timings), and the machine.
  """
  image_shape, num_classes = synthetic(config)
  built = settings(config, num_classes)._replace(teacher=None, teacher_optimizer=None)
  plain = built.student.clone(
    conv=plain_conv, act=plain_act, quantization=type(built.student.quantization)()
  )
  weights = {"alpha": 0.0, "beta": 1.0, "gamma": 0.0, "temperature": 1.0}
  steps = {
    name: stepper(s, weights, config.batch_size, image_shape, program=_alike)
    for name, s in (("plain", built._replace(student=plain)), ("quantized", built))
  }
  seconds = in_turns(steps)
  medians = {k: statistics.median(v) for k, v in seconds.items()}
  return {
    "network": config.student.name,
    "width": config.student.width,
    "precision": config.precision,
    "batch_size": config.batch_size,
    "image_shape": list(image_shape),
    "dtype": config.dtype,
    "step_seconds": medians,
    "images_per_second": {k: config.batch_size / v for k, v in medians.items()},
    "overhead": statistics.median(q / p for q, p in zip(seconds["quantized"], seconds["plain"])),
    "machine": machine(),
  }


def table(report: dict) -> str:
  """The report for reading."""
  lines = [
    sentence(report["machine"]),
    "{network} at width {width:g}, {precision}, batch {batch_size}".format(**report),
  ]
  for name, seconds in report["step_seconds"].items():
    lines.append(
      f"{name:10s} {1000 * seconds:8.1f} ms/step "
      f"{report['images_per_second'][name]:10,.0f} images/s"
    )
  return "\n".join([*lines, f"quantized / plain: {report['overhead']:.2f}"])


if __name__ == "__main__":
  command.main(command.of_config(run), table)
