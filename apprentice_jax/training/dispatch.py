"""How training steps are dispatched: which loop runs where, and who waits for whom.

| where                                          | loop    | steps a dispatch | who waits          |
|------------------------------------------------|---------|------------------|--------------------|
| GPU                                            | "scan"  | all of a chunk   | nobody             |
| TPU                                            | "while" | all of a chunk   | nobody             |
| one host device                                | none    | 1                | the next step      |
| several, float32 convolutions of ours          | "while" | HOST_STEPS       | this dispatch      |
| several, anything else                         | none    | 1                | this dispatch      |
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from apprentice_jax.data.batches import Chunk, DeviceBatch, DeviceData
from apprentice_jax.distill.step import State
from apprentice_jax.models.layers import QuantConv
from apprentice_jax.models.residual import ResNet
from apprentice_jax.training import gpu, parallel
from apprentice_jax.training.compiled import Kept
from apprentice_jax.training.program import Hyperparameters, Part, Settings, Step

# The most steps of one dispatch on CPU: a dispatch takes memory once, and a stop waits for few.
HOST_STEPS = 4
NOBODY, NEXT, THIS = "nobody", "the next step", "this dispatch"


class Dispatch(NamedTuple):
  """A row of the table.

  Attributes:
    loop: "scan", of fixed length and without a branch; "while", of any length; or "", none.
    steps: the most steps of a dispatch of resident images.
    waits: NOBODY; NEXT, for the step before it; or THIS, for itself.
  """

  loop: str
  steps: int
  waits: str


def dispatch(settings: Settings, devices) -> Dispatch:
  """The row of the table for a program on some devices."""
  chunk, platform = settings.steps_per_dispatch, devices[0].platform
  if platform == "gpu":
    return Dispatch("scan", chunk, NOBODY)
  if platform != "cpu":
    return Dispatch("while", chunk, NOBODY)
  if len(devices) == 1:
    return Dispatch("", 1, NEXT)
  if _loops_on_cpu(settings):
    return Dispatch("while", min(HOST_STEPS, chunk), THIS)
  return Dispatch("", 1, THIS)


def _loops_on_cpu(settings: Settings) -> bool:
  """Whether XLA:CPU has fast convolutions for these networks inside loops, too.

  It has none of integers there, nor those with which it computes gradients by itself: some of these
  take a hundred times as long.
  """
  # Patches and matrix products (im2col) are as fast in a loop as outside of it.
  return all(
    isinstance(model, ResNet)
    and model.conv is QuantConv
    and model.im2col
    and model.dtype == jnp.float32
    for model in (settings.student, settings.teacher)
    if model
  )


def on_resident(row: Dispatch, step: Step):
  """The function of (state, data, chunk, hyper, part) that a dispatch of resident images runs."""
  loops = {"scan": functools.partial(gpu.loop, step), "while": step.loop, "": step.resident}
  return loops[row.loop]


def on_batch(row: Dispatch, step: Step):
  """The function of (state, batch, hyper, observe) that takes a step on a batch that is fed."""
  return functools.partial(gpu.fed, step) if row.loop == "scan" else step.fed


def wait(row: Dispatch, before, metrics: dict):
  """Waits as the row says.

  One host device waits for the dispatch before, so that to start one costs no time. Several host
  devices share threads. A replica that waits in an all-reduce of one step can hold the thread that
  another needs to get there from the step before.

  Args:
    row: of the table.
    before: an array of the dispatch before, or None.
    metrics: of this dispatch.
  """
  if row.waits != NOBODY:
    jax.block_until_ready(metrics if row.waits == THIS else before)


@functools.lru_cache(maxsize=32)
def program(settings: Settings) -> "Program":
  """The program of these settings, compiled once per process."""
  return Program(settings)


class Program:
  """The compiled training step of some settings.

  Args:
    settings: what it depends on.
    row: how its steps are dispatched; default: as the table says.
    backend, devices: see `parallel.over_replicas`.
    step: makes the functions that are compiled, from settings and ``few_kernels``.
  """

  def __init__(
    self, settings: Settings, row: Dispatch | None = None, backend="pmap", devices=None, step=Step
  ):
    self.settings = settings
    self.row = row or dispatch(settings, devices or jax.devices())
    # On a GPU, where small kernels cost the most, sums share them, and activations get a program
    # of their own.
    scan = self.row.loop == "scan"
    self.step = step(settings, few_kernels=scan)

    def compiled(name: str, function, mapped, donate=(0,), what="the training step"):
      over = parallel.over_replicas(function, mapped, donate, backend, devices)
      # Devices that are named may not be here: such a program is lowered, and not run.
      if devices:
        return over
      about = (step, name, self.row.loop, settings, backend)
      return Kept(over, *about, what=what, thorough=True)

    self._resident = compiled(
      "resident", on_resident(self.row, self.step), (False, False, True, False, False)
    )
    self._fed = compiled("fed", on_batch(self.row, self.step), (False, True, False, False))
    self._watch = (
      compiled("watch", self.step.watch, (False, False, True), (), "the look at activations")
      if scan
      else None
    )
    self._before = None  # the losses of the last dispatch

  def train(self, state: State, data: DeviceData, chunk: Chunk, hyper: Hyperparameters, part: Part):
    """Takes a part of a chunk's steps in one dispatch, on all devices.

    Args:
      state: as `Trainer.step` takes it; its buffers are given up.
      data: the training set.
      chunk: the examples of its steps.
      hyper: with the learning rates of the chunk.
      part: which steps to take, at most ``row.steps``.

    Returns:
      The new state, and the metrics. In a loop these are of each step: dict of
      (steps_per_dispatch, ...) arrays, of which the first ``part.count`` count.
    """
    assert 1 <= part.count <= self.row.steps
    # Arrays of NumPy: Python numbers would be weakly typed, and another program.
    part = Part(np.int32(part.first), np.int32(part.count), np.bool_(part.observe))
    return self._waited(*self._resident(state, data, chunk, hyper, part))

  def feed(self, state: State, batch: DeviceBatch, hyper: Hyperparameters, observe: bool = True):
    """Takes one step, on all devices, on images that were read, cropped and flipped for it.

    Args:
      state: as `Trainer.step` takes it; its buffers are given up.
      batch: a share for each device, without gaps.
      hyper: with the learning rates of the step.
      observe: whether to look at the health of activations.

    Returns:
      The new state, and the step's metrics.
    """
    looked = {}
    # Before the step, which takes the state.
    if self._watch and observe:
      student = state.student
      looked["activations"] = self._watch(student.params, student.batch_stats, batch.images)
    state, metrics = self._fed(state, batch, hyper, np.bool_(observe))
    return self._waited(state, {**metrics, **looked})

  def _waited(self, state: State, metrics: dict):
    wait(self.row, self._before, metrics)
    self._before = metrics["loss"]
    return state, metrics

  def lower_train(self, state, data, chunk: Chunk, hyper: Hyperparameters):
    """Lowers `train`, for arguments of which only shapes and dtypes are given."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    number, flag = (jax.ShapeDtypeStruct((), dtype) for dtype in (jnp.int32, jnp.bool_))
    part = Part(number, number, flag)
    return self._resident.lower(state, data, chunk, hyper._replace(key=key), part)

  def lower_feed(self, state, batch, hyper: Hyperparameters):
    """Lowers `feed`, for arguments of which only shapes and dtypes are given."""
    if self.settings.draws:
      hyper = hyper._replace(key=jax.eval_shape(lambda: jax.random.key(0)))
    return self._fed.lower(state, batch, hyper, jax.ShapeDtypeStruct((), jnp.bool_))
