"""A training step to time, on synthetic images, and how functions are timed beside each other."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from apprentice_jax.data.batches import DeviceBatch, DeviceData, example_indices
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.distill.step import State
from apprentice_jax.errors import ConfigError
from apprentice_jax.models.imported import ImportedNetwork
from apprentice_jax.models.residual import ResNet
from apprentice_jax.training import networks, parallel, teachers
from apprentice_jax.training.dispatch import HOST_STEPS, Program
from apprentice_jax.training.program import (
  Hyperparameters,
  Part,
  Settings,
  begun,
  constant_rates,
  initialiser,
)

SIZE = 1024  # synthetic images to draw batches from, or a batch if that is more
ROUNDS = 15
SECONDS = 60  # after which there are no more rounds, if there have been three


def settings(config, num_classes: int) -> Settings:
  """The config's program, for synthetic images."""
  if config.batch_size % jax.device_count():
    raise ConfigError(
      f"config.batch_size is {config.batch_size}: it must be a multiple of the "
      f"{jax.device_count()} devices."
    )
  # In training, too, a CPU takes few steps at a time, whatever steps_per_dispatch says.
  most = HOST_STEPS if jax.devices()[0].platform == "cpu" else config.steps_per_dispatch
  steps = min(most, config.steps_per_dispatch)
  return networks.settings(config, num_classes)._replace(
    mean=(0.5,), std=(0.5,), steps_per_dispatch=steps
  )


def synthetic(config) -> tuple[tuple[int, int, int], int]:
  """The shape (height, width, channels) and classes of images that stand in for the config's.

  They are of data.image_size and a thousand classes, or of CIFAR-10's size and ten.
  """
  size = config.data.image_size
  return ((size, size, 3), 1000) if size else ((32, 32, 3), 10)


def loss_weights(config) -> dict[str, float]:
  """The weights of the loss's terms under the config's scheme, and the temperature."""
  weights = SCHEMES[config.scheme].weights(config.loss.alpha, config.loss.beta, config.loss.gamma)
  return {**weights, "temperature": config.loss.temperature}


def in_turns(steps: dict, rounds: int = 0) -> dict[str, list[float]]:
  """Seconds of each of some functions, which return them, called in turns; once before that, to
  compile.

  Every turn begins with a call that does not count. Training has no pauses. After a pause of
  seconds, memory that went back to the system is taken again, which can double a step's time.
  """
  for step in steps.values():
    step()
  seconds, began = {name: [] for name in steps}, time.monotonic()
  for done in range(rounds or ROUNDS):
    if done >= 3 and time.monotonic() - began > SECONDS:
      break
    for name, step in steps.items():
      step()
      seconds[name].append(step())
  return seconds


def stepper(
  built: Settings,
  weights: dict,
  batch_size: int,
  image_shape,
  streamed: bool = False,
  program: Callable[[Settings], Program] = Program,
  count: int = 0,
):
  """Returns a function that takes training steps on synthetic images and returns the seconds of
  one.

  It takes ``count`` steps, by default built.steps_per_dispatch, in dispatches as large as the
  program's may be. ``streamed``: each step is on a batch that is on the devices already, as in
  `Program.feed`.
  """
  rng = np.random.default_rng(0)
  size, known = max(SIZE, batch_size), built.view.known and (built.augmentation.epochs or 1)
  data = DeviceData(
    rng.integers(0, 256, (size, *image_shape), np.uint8),
    rng.integers(0, built.student.num_classes, size).astype(np.int32),
    np.zeros((known, size, built.student.num_classes), np.float32) if known else None,
  )
  images = jnp.asarray(data.images[: min(batch_size, 64)], built.student.dtype) / 128 - 1

  def network(which: str):
    model = getattr(built, which)
    if not isinstance(model, ResNet | ImportedNetwork):
      return teachers.blank(model)
    found = initialiser(model.clone(norm_axis=None))(jax.random.key(0), images, {})
    return begun(built, which, found)

  # The state is given up to each dispatch, so there is one, which the step below replaces.
  state = parallel.replicate(
    State(network("student"), network("teacher") if built.teacher else None)
  )
  steps, key = count or built.steps_per_dispatch, parallel.replicate(jax.random.key(0))
  weights = parallel.replicate({k: np.float32(v) for k, v in weights.items()})
  taken = program(built)
  if streamed:
    shares = [a[:batch_size].reshape(jax.device_count(), -1, *a.shape[1:]) for a in data[:2]]
    # One batch for all steps: what reading it would take is measured elsewhere.
    shares.append(np.ones(shares[1].shape, np.float32))
    if known:
      shares.append(np.zeros((*shares[1].shape, built.student.num_classes), np.float32))
    batch = DeviceBatch(*map(parallel.join, shares))
    rates = constant_rates(built, np.float32(0.01))
    hyper = Hyperparameters(weights, rates, key if built.draws else None)

    def dispatch(state):
      for _ in range(steps):
        state, _ = taken.feed(state, batch, hyper, observe=False)
      return state
  else:
    data = parallel.replicate(data)
    chunk = example_indices(0, size, 0, steps, built.steps_per_dispatch, batch_size)
    rates = constant_rates(built, np.full(built.steps_per_dispatch, 0.01, np.float32))
    rates = parallel.replicate(rates)
    hyper = Hyperparameters(weights, rates, key)

    def dispatch(state):
      most = taken.row.steps
      for i in range(0, steps, most):
        part = Part(i, min(most, steps - i), observe=False)
        state, _ = taken.train(state, data, chunk, hyper, part)
      return state

  def step():
    nonlocal state
    began = time.perf_counter()
    state = dispatch(state)
    # To ask for every array takes Python as long as a small step.
    jax.block_until_ready(jax.tree.leaves(state)[0])
    return (time.perf_counter() - began) / steps

  return step
