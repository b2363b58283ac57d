"""The training step beside PyTorch's, on the same machine in the same run.

    python benchmarks/beside_torch.py --config=configs/cifar10.py:student=resnet20,scheme=A

It needs the extra ``[torch]``.
"""

import multiprocessing
import os
import statistics
import time
import warnings

import command
import jax
import numpy as np
from peaks import peak

from apprentice_jax import config as configs
from apprentice_jax.bench.machine import machine, sentence
from apprentice_jax.bench.step import in_turns, loss_weights, settings, stepper, synthetic
from apprentice_jax.deploy import cost
from apprentice_jax.errors import ConfigError
from apprentice_jax.training import networks, recipes


def run(config, image_shape=None, num_classes=None) -> dict:
  """Times the config's training step, and the same step in PyTorch, in turns.

  A CPU computes in float32. A GPU computes in bfloat16 too, PyTorch by autocast, and has TF32
  products in float32 on both sides. PyTorch gets its batch normalised and ready; ours gathers,
  crops, flips and normalises it. PyTorch runs as written (eager), with channels last, and compiled
  with channels last; on a GPU also from CUDA graphs. Ratios are to the best of these. PyTorch has a
  process of its own, so that neither finds memory and threads as the other left them. On a GPU both
  hold their memory all the time.

  Args:
    config: networks, precision, scheme, batch_size, dtype. The images are synthetic.
    image_shape, num_classes: (height, width, channels), and outputs; default: see `synthetic`.

  Returns:
    "step_seconds" and "images_per_second" (medians of "apprentice", "eager", "channels_last",
    "compiled" and "cuda_graphs"), "best" (PyTorch's), "ratio" (median over the rounds of its time
    to ours: above 1 we are faster), "flops" of a step (two a multiply-accumulate; a trained
      network's three times its forward pass's), "peak_share"
    (what of the card's peak they are, of both; where it is known), and the machine.

  Raises:
    ConfigError: PyTorch is missing, does not see the GPU, or has no twin of these networks.
  """
  torch = _torch(config)
  shape, classes = synthetic(config)
  shape, classes = image_shape or shape, num_classes or classes
  built = settings(config, classes)
  _check_twin(config, built)
  ways = ["eager", "channels_last", "compiled"] + ["cuda_graphs"] * (jax.default_backend() == "gpu")
  with _Twins(config, shape, classes, built.steps_per_dispatch) as twins:
    steps = {"apprentice": stepper(built, loss_weights(config), config.batch_size, shape)}
    for way in ways:
      if failure := twins.failure(way):  # a compiler that is missing, say
        if way == "eager":
          raise RuntimeError(f"PyTorch's step failed: {failure}")
        warnings.warn(f"PyTorch's step ({way}) failed ({failure[:150]}): left out.")
      else:
        steps[way] = lambda way=way: twins.step(way)
    seconds = in_turns(steps)
  medians = {k: statistics.median(v) for k, v in seconds.items()}
  best = min((k for k in medians if k != "apprentice"), key=medians.get)
  found = machine()
  report = {
    "student": config.student.name,
    "teacher": config.teacher.name if built.teacher else None,
    "scheme": config.scheme,
    "precision": config.precision,
    "dtype": config.dtype,
    "recipe": recipes.student_recipe(config).to_dict(),
    "batch_size": config.batch_size,
    "image_shape": list(shape),
    "step_seconds": medians,
    "images_per_second": {k: config.batch_size / v for k, v in medians.items()},
    "best": best,
    "ratio": statistics.median(t / a for t, a in zip(seconds[best], seconds["apprentice"])),
    "flops": flops(built, config.batch_size, shape),
    "machine": {**found, "torch": torch.__version__},
  }
  if most := peak(found["kind"], config.dtype):
    report["peak_share"] = {k: report["flops"] / medians[k] / most for k in ("apprentice", best)}
  return report


def table(report: dict) -> str:
  """The report for reading."""
  pair = " + ".join(n for n in (report["student"], report["teacher"]) if n)
  lines = [
    f"{sentence(report['machine'])}, torch {report['machine']['torch']}",
    f"{pair}, scheme {report['scheme']}, {report['precision']}, {report['dtype']}, batch "
    f"{report['batch_size']}, images {'x'.join(map(str, report['image_shape']))}",
  ]
  shares = report.get("peak_share", {})
  for name, seconds in report["step_seconds"].items():
    share = f"  {shares[name]:.1%} of peak" if name in shares else ""
    lines.append(
      f"{name:14s} {1000 * seconds:8.1f} ms/step {report['images_per_second'][name]:8,.0f} "
      f"images/s{share}"
    )
  return "\n".join([*lines, f"speed, of PyTorch's best ({report['best']}): {report['ratio']:.2f}"])


def flops(built, batch_size: int, image_shape) -> float:
  """Floating-point operations of a step's convolutions and dense layers, teacher's and student's.

  A multiply-accumulate of the forward pass counts as two. The gradients of a network that trains
  take twice as many again.
  """
  passes = ((built.student, 3), (built.teacher, 3 if built.teacher_optimizer else 1))
  return float(
    sum(
      2 * batch_size * times * layer.macs
      for model, times in passes
      if model
      for layer in cost.layers(cost.blank(model, image_shape))
    )
  )


def _torch(config):
  """PyTorch, if it is there and computes on what jax does."""
  try:
    import torch
  except ImportError:
    raise ConfigError(
      "the benchmark compares with PyTorch, which is not installed: pip install "
      "'apprentice-jax[torch]'."
    ) from None
  backend = jax.default_backend()
  if backend == "cpu" and config.dtype != "float32":
    raise ConfigError("the benchmark compares in float32 on CPU, and in bfloat16 on a GPU alone.")
  if backend == "gpu" and (jax.device_count() > 1 or not torch.cuda.is_available()):
    raise ConfigError(
      "the benchmark compares on one GPU, which PyTorch must see too: set CUDA_VISIBLE_DEVICES=0, "
      "and "
      "install PyTorch with CUDA."
    )
  if backend not in ("cpu", "gpu"):
    raise ConfigError("the benchmark compares on CPU or on a GPU.")
  return torch


def _check_twin(config, built):
  import torch_twin

  if not torch_twin.supports(built.student.quantization):
    raise ConfigError(
      f"the benchmark has weights of {' and '.join(torch_twin.WEIGHTS)} (per channel) and "
      f"activations of {' and '.join(torch_twin.ACTIVATIONS)}, not config.quantization."
    )


class _Twins:
  """A process with the training step in PyTorch, in some ways to run it; a context manager."""

  def __init__(self, config, image_shape, num_classes, steps_a_call):
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    context = multiprocessing.get_context("spawn")
    self._here, there = context.Pipe()
    self._process = context.Process(
      target=_serve,
      daemon=True,
      args=(there, configs.flat(config), image_shape, num_classes, device, steps_a_call),
    )

  def __enter__(self):
    self._process.start()
    return self

  def __exit__(self, *_):
    self._process.kill()
    self._process.join()

  def step(self, name: str) -> float:
    """Takes some steps and returns the seconds of one."""
    seconds, failure = self._ask(name)
    if failure:
      raise RuntimeError(f"PyTorch's step ({name}) failed: {failure}")
    return seconds

  def failure(self, name: str) -> str:
    """Why a way does not work; "" if it does."""
    return self._ask(name)[1]

  def _ask(self, name):
    try:
      self._here.send(name)
      return self._here.recv()
    except (EOFError, OSError):
      return 0.0, "its process ended without a word"


def _serve(connection, flat, image_shape, num_classes, device, steps_a_call):
  """Answers names of ways to run with (seconds of a step, "") or (0, why it failed)."""
  import torch

  jax.config.update("jax_platforms", "cpu")  # the GPU's memory is not for a second jax
  torch.set_num_threads(
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
  )
  torch.backends.cudnn.benchmark = True
  torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True  # as XLA does
  config, steps = configs.base(), {}
  config.update_from_flattened_dict(flat)
  while True:
    name = connection.recv()
    try:
      if name not in steps:
        steps[name] = _torch_stepper(config, image_shape, num_classes, name, device, steps_a_call)
      connection.send((steps[name](), ""))
    except Exception as error:
      connection.send((0.0, (str(error).splitlines() or [type(error).__name__])[0]))


def _torch_stepper(config, image_shape, num_classes, way: str, device: str, steps_a_call: int):
  """As `stepper`, in PyTorch, in one of the ways to run it."""
  import torch
  import torch_twin

  built = networks.settings(config, num_classes)
  layout = torch.contiguous_format if way == "eager" else torch.channels_last
  rng = np.random.default_rng(0)
  images = torch.from_numpy(
    rng.standard_normal((config.batch_size, image_shape[2], *image_shape[:2]), np.float32)
  )
  images = images.to(device, memory_format=layout)
  labels = torch.from_numpy(rng.integers(0, num_classes, config.batch_size)).to(device)
  twins = [
    model and torch_twin.Network(model, image_shape[2]).to(device, memory_format=layout)
    for model in (built.student, built.teacher)
  ]
  train = torch_twin.step_of(
    *twins,
    built.teacher_optimizer is not None,
    loss_weights(config),
    built.student_optimizer,
    0.01,
    compiled={"compiled": "default", "cuda_graphs": "reduce-overhead"}.get(way, ""),
    autocast=torch.bfloat16 if config.dtype == "bfloat16" else None,
  )

  def step():
    began = time.perf_counter()
    for _ in range(steps_a_call):
      loss = train(images, labels)
    loss.item()  # what was sent to a GPU is done
    return (time.perf_counter() - began) / steps_a_call

  return step


if __name__ == "__main__":
  # Both have their memory on one GPU, of which jax would take most.
  os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.45")
  command.main(command.of_config(run), table)
