"""``apprentice bench --what=torch``: the training step beside PyTorch's, on the same machine in the same run."""

import multiprocessing
import os
import statistics
import time
import warnings

import jax
import numpy as np

from apprentice_jax import config as configs
from apprentice_jax.bench.step import STEPS, in_turns, machine, settings, stepper
from apprentice_jax.config import ConfigError
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.training import start


def run(config, image_shape=(32, 32, 3), num_classes=10) -> dict:
  """Times the config's training step, and the same step in PyTorch, in turns.

  PyTorch gets its batch normalised and ready; ours gathers, crops, flips and normalises it. PyTorch runs as
  written (eager), with channels last, and compiled with channels last, on all cores; ratios are to the best. It
  runs in a process of its own, so that neither finds memory and threads as the other left them.

  Args:
    config: networks, precision, scheme, batch_size; float32. The images are synthetic.
    image_shape: (height, width, channels).
    num_classes: outputs.

  Returns:
    "step_seconds" and "images_per_second" (medians of "apprentice", "eager", "channels_last" and "compiled"),
    "best" (PyTorch's), "ratio" (median over the rounds of its time to ours: above 1 we are faster), and the
    machine.

  Raises:
    ConfigError: PyTorch is missing, or has no twin of these networks.
  """
  try:
    import torch
  except ImportError:
    raise ConfigError("--what=torch compares with PyTorch, which is not installed: pip install "
                      "'apprentice-jax[torch]'.") from None
  from apprentice_jax.bench import torch_step
  built = settings(config, num_classes)
  if jax.devices()[0].platform != "cpu" or config.dtype != "float32":
    raise ConfigError("--what=torch compares on CPU, in float32.")
  if not torch_step.supports(built.student.quantization):
    raise ConfigError(f"--what=torch has weights of {' and '.join(torch_step.WEIGHTS)} (per channel) and "
                      f"activations of {' and '.join(torch_step.ACTIVATIONS)}, not config.quantization.")
  weights = loss_weights(config)
  with _Twins(config, image_shape, num_classes) as twins:
    steps = {"apprentice": stepper(built, weights, config.batch_size, image_shape),
             "eager": lambda: twins.step("eager"), "channels_last": lambda: twins.step("channels_last")}
    if failure := twins.failure("compiled"):  # a compiler that is missing, say
      warnings.warn(f"torch.compile failed ({failure[:150]}): left out.")
    else:
      steps["compiled"] = lambda: twins.step("compiled")
    seconds = in_turns(steps)
  medians = {k: statistics.median(v) for k, v in seconds.items()}
  best = min((k for k in medians if k != "apprentice"), key=medians.get)
  return {
      "student": config.student.name, "teacher": config.teacher.name if built.teacher else None,
      "scheme": config.scheme, "precision": config.precision, "recipe": start.student_recipe(config).to_dict(),
      "batch_size": config.batch_size, "image_shape": list(image_shape),
      "step_seconds": medians, "images_per_second": {k: config.batch_size / v for k, v in medians.items()},
      "best": best,
      "ratio": statistics.median(t / a for t, a in zip(seconds[best], seconds["apprentice"])),
      "machine": {**machine(), "torch": torch.__version__}}


def table(report: dict) -> str:
  """The report for reading."""
  pair = " + ".join(n for n in (report["student"], report["teacher"]) if n)
  lines = [f"{pair}, scheme {report['scheme']}, {report['precision']}, batch {report['batch_size']}, "
           f"{report['machine']['cores']} cores"]
  for name, seconds in report["step_seconds"].items():
    lines.append(f"{name:14s} {1000 * seconds:8.1f} ms/step {report['images_per_second'][name]:8,.0f} images/s")
  return "\n".join([*lines, f"speed, of PyTorch's best ({report['best']}): {report['ratio']:.2f}"])


def loss_weights(config) -> dict[str, float]:
  """The weights of the loss's terms under the config's scheme, and the temperature."""
  weights = SCHEMES[config.scheme].weights(config.loss.alpha, config.loss.beta, config.loss.gamma)
  return {**weights, "temperature": config.loss.temperature}


class _Twins:
  """A process with the training step in PyTorch, in some ways to run it; a context manager."""

  def __init__(self, config, image_shape, num_classes):
    context = multiprocessing.get_context("spawn")
    self._here, there = context.Pipe()
    self._process = context.Process(target=_serve, daemon=True,
                                    args=(there, configs.flat(config), image_shape, num_classes))

  def __enter__(self):
    self._process.start()
    return self

  def __exit__(self, *_):
    self._process.kill()
    self._process.join()

  def step(self, name: str) -> float:
    """Takes STEPS steps and returns the seconds of one."""
    seconds, failure = self._ask(name)
    if failure:
      raise RuntimeError(f"PyTorch's step ({name}) failed: {failure}")
    return seconds

  def failure(self, name: str) -> str:
    """Why a way does not work; "" if it does."""
    return self._ask(name)[1]

  def _ask(self, name):
    self._here.send(name)
    return self._here.recv()


def _serve(connection, flat, image_shape, num_classes):
  """Answers names of ways to run with (seconds of a step, "") or (0, why it failed)."""
  import torch
  torch.set_num_threads(os.cpu_count())
  config, steps = configs.base(), {}
  config.update_from_flattened_dict(flat)
  while True:
    name = connection.recv()
    try:
      if name not in steps:
        steps[name] = _torch_stepper(config, image_shape, num_classes, channels_last=name != "eager",
                                     compiled=name == "compiled")
      connection.send((steps[name](), ""))
    except Exception as error:
      connection.send((0.0, (str(error).splitlines() or [type(error).__name__])[0]))


def _torch_stepper(config, image_shape, num_classes, channels_last=False, compiled=False):
  """As `stepper`, in PyTorch."""
  import torch

  from apprentice_jax.bench import torch_step
  built = start.settings(config, num_classes)
  rng = np.random.default_rng(0)
  images = torch.from_numpy(rng.standard_normal((config.batch_size, image_shape[2], *image_shape[:2]), np.float32))
  labels = torch.from_numpy(rng.integers(0, num_classes, config.batch_size))
  networks = [model and torch_step.Network(model, image_shape[2]) for model in (built.student, built.teacher)]
  if channels_last:
    images = images.to(memory_format=torch.channels_last)
    networks = [n and n.to(memory_format=torch.channels_last) for n in networks]
  train = torch_step.step_of(*networks, built.teacher_optimizer is not None, loss_weights(config),
                             built.student_optimizer, 0.01, compiled=compiled)

  def step():
    began = time.perf_counter()
    for _ in range(STEPS):
      train(images, labels)
    return (time.perf_counter() - began) / STEPS

  return step
