"""One training step and a loop of steps, to be compiled, on one replica.

Learning rates, the loss's weights, seeds and the number of steps are arguments of a program, not
constants in it. Runs that differ in these alone (schemes B and C, the baseline and C's control,
seeds) share one program. This module knows no platform: `dispatch` says what runs where.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from apprentice_jax.data import augment
from apprentice_jax.data.augment import Augmentation, augmented
from apprentice_jax.data.batches import Chunk, DeviceBatch, DeviceData
from apprentice_jax.distill import flat
from apprentice_jax.distill.step import (
  Batch,
  Network,
  Rates,
  State,
  Tracking,
  Trainer,
  global_norm,
)
from apprentice_jax.models import health, oscillation
from apprentice_jax.models.imported import ImportedNetwork, random_streams
from apprentice_jax.models.residual import ResNet
from apprentice_jax.training import parallel
from apprentice_jax.training.compiled import Kept
from apprentice_jax.training.optimizer import SGD, Adam


class View(NamedTuple):
  """How a teacher sees the images.

  Attributes:
    mean, std: that it was trained with; (): the student's.
    augmented: as the student does; otherwise as they are stored.
    known: whether what it says of them is known, see `DeviceData`, and it is not run.
  """

  mean: tuple[float, ...] = ()
  std: tuple[float, ...] = ()
  augmented: bool = True
  known: bool = False


class Settings(NamedTuple):
  """All that a program depends on; hashable.

  Attributes:
    student, teacher: the networks; teacher None without one, or where its logits are known.
    student_optimizer, teacher_optimizer: teacher_optimizer None if the teacher is fixed.
    teacher_gradient, standardised: see `Trainer`.
    freezes, damps: whether weights of the student that oscillate freeze, or are damped.
    augmentation, mean, std: of the images.
    mix: how pairs of images are mixed, see `augment.own_share`; "": they are not.
    view: how the teacher sees them.
    steps_per_dispatch: steps of a chunk, whose examples and rates are given together; see
      `dispatch.Dispatch` for how many of them one dispatch takes.
  """

  student: ResNet | ImportedNetwork
  student_optimizer: SGD | Adam
  teacher: ResNet | ImportedNetwork | None = None
  teacher_optimizer: SGD | Adam | None = None
  teacher_gradient: bool = False
  standardised: bool = False
  freezes: bool = False
  damps: bool = False
  augmentation: Augmentation = Augmentation()
  mean: tuple[float, ...] = (0.5,)
  std: tuple[float, ...] = (0.5,)
  mix: str = ""
  view: View = View()
  steps_per_dispatch: int = 1

  @property
  def draws(self) -> bool:
    """Whether a step draws random numbers beside those of the augmentation.

    It draws them to mix images, and in a network of the user's own, which may have dropout.
    """
    own = [isinstance(network, ImportedNetwork) for network in (self.student, self.teacher)]
    return bool(self.mix) or any(own)


class Hyperparameters(NamedTuple):
  """The numbers that a program is run with and does not contain; the same on every device.

  Attributes:
    weights: of the loss's terms, and the temperature: float32 scalars.
    rates: learning rates, float32: (steps,) of a chunk, scalars of a batch that is fed.
    key: random key of the augmentation. Where images come augmented, that of the step if it draws
      random numbers, and else None.
  """

  weights: dict
  rates: Rates
  key: Any = None


class Part(NamedTuple):
  """The steps of a chunk that one dispatch takes.

  Attributes:
    first, count: the first of them, and how many they are.
    observe: whether to look at the health of activations, in the last of them.
  """

  first: Any
  count: Any
  observe: Any = True


def normalise(images: jax.Array, mean: Sequence[float], std: Sequence[float], dtype) -> jax.Array:
  """uint8 images to ``(images / 255 - mean) / std``, per channel, computed in float32. A network
  that takes uint8 gets the images as they are."""
  if jnp.dtype(dtype) == jnp.uint8:
    return images
  scale = 1 / (255 * jnp.asarray(std, jnp.float32))
  shift = jnp.asarray(mean, jnp.float32) / jnp.asarray(std, jnp.float32)
  return (images.astype(jnp.float32) * scale - shift).astype(dtype)


def make_apply(model: ResNet | ImportedNetwork):
  """The model as the pure function that `distill.step` takes."""

  def apply(params, batch_stats, images, train, key=None):
    variables = {"params": params, "batch_stats": batch_stats}
    # Without training, the running statistics are read and stay.
    if not train:
      return model.apply(variables, images, False), batch_stats
    rngs = random_streams(key) if isinstance(model, ImportedNetwork) else None
    logits, updated = model.apply(variables, images, True, mutable=["batch_stats"], rngs=rngs)
    # A network without batch norm has none.
    return logits, updated.get("batch_stats", {})

  return apply


class Step:
  """The training step of some settings, as pure functions of one replica.

  Args:
    settings: what the step depends on.
    few_kernels: whether sums are gathered in as few kernels as may be.
  """

  def __init__(self, settings: Settings, few_kernels: bool = False):
    self.settings = settings
    apply = lambda model: make_apply(model.clone(paired_sums=few_kernels))
    of_weights = lambda function: functools.partial(function, settings.student.quantization)
    self.trainer = Trainer(
      student=apply(settings.student),
      student_optimizer=settings.student_optimizer.build(),
      teacher=settings.teacher and apply(settings.teacher),
      teacher_optimizer=settings.teacher_optimizer and settings.teacher_optimizer.build(),
      teacher_gradient=settings.teacher_gradient,
      standardised=settings.standardised,
      freeze=of_weights(oscillation.freeze) if settings.freezes else None,
      damping=of_weights(oscillation.damping) if settings.damps else None,
      weight_health=functools.partial(health.weights, settings.student),
      activation_health=functools.partial(health.activations_of, settings.student),
      axis=parallel.AXIS,
      norm=_packed_norm if few_kernels else global_norm,
    )

  def fed(self, state: State, batch: DeviceBatch, hyper: Hyperparameters, observe):
    """The step on images that were read, cropped and flipped for it.

    Returns:
      The new state, and the step's metrics; see `Trainer.step`.
    """
    key = None
    if self.settings.draws:
      # Every replica has its own.
      key = jax.random.fold_in(hyper.key, jax.lax.axis_index(parallel.AXIS))
    seen = self._batch(batch.images, batch.images, batch.labels, batch.logits, key)
    return self.trainer.step(state, seen, hyper.weights, hyper.rates, observe)

  def resident(
    self, state: State, data: DeviceData, chunk: Chunk, hyper: Hyperparameters, part: Part
  ):
    """Step ``part.first`` of a chunk, on images that live on the device; returns as `fed` does."""
    i, view = part.first, self.settings.view
    index, epoch = chunk.index[i], chunk.epoch[i]
    # Of fewer epochs than the run has, logits are used again, as augmentation is.
    logits = None if data.logits is None else data.logits[epoch % len(data.logits), index]
    images = augmented(data.images, index, epoch, hyper.key, self.settings.augmentation)
    stored = images if view.augmented else jnp.take(data.images, index, axis=0)
    key = None
    if self.settings.draws:
      # Of the first example's place in the run, which no other step or replica has.
      key = jax.random.fold_in(jax.random.fold_in(hyper.key, epoch[0]), index[0])
      key = jax.random.fold_in(key, 1)  # the key so far augments that example
    batch = self._batch(images, stored, jnp.take(data.labels, index), logits, key)
    rates = jax.tree.map(lambda each: each[i], hyper.rates)
    return self.trainer.step(state, batch, hyper.weights, rates, part.observe)

  def loop(self, state: State, data: DeviceData, chunk: Chunk, hyper: Hyperparameters, part: Part):
    """The steps of a part of a chunk, in a loop whose length is an argument.

    Returns:
      The new state, and the metrics of each step: dict of (steps, ...) arrays, of which the first
      ``part.count`` count.
    """
    # Traced once, for its shapes and in the loop.
    step = jax.jit(self.resident, inline=True)

    def body(i, carry):
      state, history = carry
      one = Part(part.first + i, 1, part.observe & (i == part.count - 1))
      state, metrics = step(state, data, chunk, hyper, one)
      return state, jax.tree.map(lambda h, m: h.at[i].set(m), history, metrics)

    # The history is as long as a chunk, whatever the count: lengths are part of a program.
    one = Part(part.first, 1, part.observe)
    metrics = jax.eval_shape(step, state, data, chunk, hyper, one)[1]
    steps = len(chunk.index)
    history = jax.tree.map(lambda m: jnp.zeros((steps, *m.shape), m.dtype), metrics)
    return jax.lax.fori_loop(0, part.count, body, (state, history))

  def watch(self, params, batch_stats, images: jax.Array) -> jax.Array:
    """The health of the student's activations on a batch of uint8 images."""
    s = self.settings
    return self.trainer.look(params, batch_stats, normalise(images, s.mean, s.std, s.student.dtype))

  def _batch(self, images, stored, labels, logits=None, key=None) -> Batch:
    """The batch of uint8 images as each network sees them; ``stored``: those for the teacher;
    ``key``: of their mixtures, and of the networks' random numbers."""
    batch = self._normalised(images, stored, labels, logits)
    if key is not None:
      batch = batch._replace(key=jax.random.fold_in(key, 2))
    if not self.settings.mix:
      return batch
    # Both networks see the same mixtures, each of images as it is made for.
    own = augment.own_share(self.settings.mix, key, images.shape[:3])
    others = batch.teacher_images
    return batch._replace(
      images=augment.mixed(batch.images, own),
      labels=augment.mixed_labels(labels, own, self.settings.student.num_classes),
      teacher_images=None if others is None else augment.mixed(others, own),
    )

  def _normalised(self, images, stored, labels, logits) -> Batch:
    s, view = self.settings, self.settings.view
    batch = Batch(normalise(images, s.mean, s.std, s.student.dtype), labels, teacher_logits=logits)
    if s.teacher is None or logits is not None:
      return batch
    # Where the teacher sees what the student sees, images are normalised once for both.
    mean, std = view.mean or s.mean, view.std or s.std
    same = (mean, std, s.teacher.dtype) == (s.mean, s.std, s.student.dtype)
    if stored is images and same:
      return batch
    return batch._replace(teacher_images=normalise(stored, mean, std, s.teacher.dtype))


def begun(settings: Settings, which: str, network: Network) -> Network:
  """The "student" or "teacher" with the state of its optimizer before the first step; as it is, if
  it does not train."""
  optimizer = settings.student_optimizer if which == "student" else settings.teacher_optimizer
  if optimizer is None:
    return network
  state = optimizer.build().init(network.params)
  if which == "student" and settings.freezes:
    state = Tracking(state, oscillation.start(settings.student.quantization, network.params))
  return network._replace(opt_state=state)


def constant_rates(settings: Settings, rate) -> Rates:
  """Rates of the settings' step that are all the same."""
  return Rates(rate, rate, rate if settings.freezes else None, rate if settings.damps else None)


def _packed_norm(tree: Any) -> jax.Array:
  """`global_norm`, of the small arrays as one vector."""
  return global_norm(flat.pack(tree)[0])


@functools.lru_cache(maxsize=32)
def initialiser(model: ResNet | ImportedNetwork):
  """Returns initialise(key, images, given) -> Network, without optimizer state.

  ``images`` is a normalised batch: quantizers with a scale learned from data start from it.
  ``given`` is a tree of parameters to start from, of which any may be missing; {} starts from
  scratch. Missing ones, such as the quantizers' own parameters, are initialised on the way of the
  batch through the network as given.
  """

  @jax.jit
  def initialise(key, images, given):
    _, variables = model.apply(
      {"params": given}, images, True, rngs={"params": key}, mutable=["params", "batch_stats"]
    )
    # Scales aside, the batch leaves no trace: statistics start from 0 and 1.
    if isinstance(model, ImportedNetwork):
      stats = model.initial_statistics(key, images)
    else:
      stats = jax.tree_util.tree_map_with_path(
        lambda path, s: jnp.full_like(s, path[-1].key == "var"), variables["batch_stats"]
      )
    return Network(variables["params"], stats)

  return Kept(initialise, "initialise", model, what="the start of a network")
