"""What is compiled: one program per pair of networks and way of training them.

Learning rates, the loss's weights, seeds and the number of steps are arguments of a program, not
constants in it, so runs that differ in these alone (schemes B and C, the baseline and C's control,
seeds) share one, and `program` hands out the same one to all of them.
"""

import functools
from typing import Any, NamedTuple, Optional

import jax
import jax.numpy as jnp
import numpy as np

from apprentice_jax.data import order
from apprentice_jax.data.augment import Augmentation, evaluation_batch, training_batch
from apprentice_jax.distill.step import Batch, Network, Rates, State, Trainer, evaluate_batch
from apprentice_jax.models.residual import ResNet
from apprentice_jax.training import parallel
from apprentice_jax.training.optimizer import SGD


class Settings(NamedTuple):
  """All that a program depends on; hashable.

  Attributes:
    student, teacher: the networks; teacher None without one.
    student_optimizer, teacher_optimizer: teacher_optimizer None if the teacher is fixed.
    teacher_gradient: whether the distillation term trains the teacher too.
    augmentation, mean, std: of the images.
    steps_per_dispatch: steps in one call at most.
  """
  student: ResNet
  student_optimizer: SGD
  teacher: Optional[ResNet] = None
  teacher_optimizer: Optional[SGD] = None
  teacher_gradient: bool = False
  augmentation: Augmentation = Augmentation()
  mean: tuple[float, ...] = (0.5,)
  std: tuple[float, ...] = (0.5,)
  steps_per_dispatch: int = 1


class DeviceData(NamedTuple):
  """A set that lives on every device: images uint8 (size, h, w, c), labels int32 (size,)."""
  images: Any
  labels: Any


@functools.lru_cache(maxsize=32)
def program(settings: Settings) -> "Program":
  """The program of these settings, compiled once per process."""
  return Program(settings)


def make_apply(model: ResNet):
  """The model as the pure function that `distill.step` takes."""
  def apply(params, batch_stats, images, train):
    variables = {"params": params, "batch_stats": batch_stats}
    if not train:
      return model.apply(variables, images, False), batch_stats
    logits, updated = model.apply(variables, images, True, mutable=["batch_stats"])
    return logits, updated["batch_stats"]

  return apply


class Program:
  """Compiled functions for one setting: `train`, and `evaluate` and `initialise` per network."""

  def __init__(self, settings: Settings, backend: str = "pmap", devices=None):
    self.settings = settings
    self.trainer = Trainer(
        student=make_apply(settings.student),
        student_optimizer=settings.student_optimizer.build(),
        teacher=settings.teacher and make_apply(settings.teacher),
        teacher_optimizer=settings.teacher_optimizer and settings.teacher_optimizer.build(),
        teacher_gradient=settings.teacher_gradient,
        axis=parallel.AXIS)
    #: (state, data, index, epoch, count, weights, rates, key) -> (state, metrics); see `_train`.
    self.train = parallel.over_replicas(
        self._train, (False, False, True, True, False, False, False, False), donate=(0,),
        backend=backend, devices=devices)

  def _train(self, state: State, data: DeviceData, index, epoch, count, weights, rates: Rates, key):
    """Up to steps_per_dispatch training steps of one replica.

    Args:
      state: as `Trainer.step` takes it.
      data: the training set.
      index, epoch: int32 (steps_per_dispatch, share): this replica's examples, see `data.order`.
      count: how many of the steps to take.
      weights: of the loss's terms.
      rates: learning rates, (steps_per_dispatch,) each.
      key: random key of the augmentation.

    Returns:
      The new state, and the metrics of each step, (steps_per_dispatch,), of which ``count`` count.
    """
    s = self.settings

    def step(i, state):
      images, labels = training_batch(data.images, data.labels, index[i], epoch[i], key,
                                      s.augmentation, s.mean, s.std, s.student.dtype)
      return self.trainer.step(state, Batch(images, labels), weights,
                               Rates(rates.student[i], rates.teacher[i]))

    def body(i, carry):
      state, history = carry
      state, metrics = step(i, state)
      return state, jax.tree.map(lambda h, m: h.at[i].set(m), history, metrics)

    metrics = jax.eval_shape(step, 0, state)[1]
    history = jax.tree.map(lambda m: jnp.zeros((index.shape[0],), m.dtype), metrics)
    return jax.lax.fori_loop(0, count, body, (state, history))


@functools.lru_cache(maxsize=32)
def evaluator(model: ResNet, mean: tuple, std: tuple):
  """Returns evaluate(network, data, batch) -> {"accuracy", "loss", "count"}, Python numbers.

  Every example counts exactly once on any number of devices: the last batch is filled up and masked.
  """
  apply = make_apply(model)

  def sums(network, data, index, mask):
    def body(totals, batch):
      images, labels = evaluation_batch(data.images, data.labels, batch[0], mean, std, model.dtype)
      new = evaluate_batch(apply, network, Batch(images, labels), batch[1])
      return jax.tree.map(jnp.add, totals, new), None

    zero = {"correct": 0.0, "loss": 0.0, "count": 0.0}
    totals, _ = jax.lax.scan(body, jax.tree.map(jnp.float32, zero), (index, mask))
    return jax.lax.psum(totals, parallel.AXIS)

  compiled = parallel.over_replicas(sums, (False, False, True, True))

  def evaluate(network: Network, data: DeviceData, batch: int) -> dict:
    batch = -(-min(batch, len(data.labels)) // jax.device_count()) * jax.device_count()
    index, mask = order.padded(len(data.labels), batch)
    totals = compiled(network._replace(opt_state=None), data, parallel.split(index),
                      parallel.split(mask))
    totals = {k: float(v) for k, v in totals.items()}
    return {"accuracy": totals["correct"] / totals["count"],
            "loss": totals["loss"] / totals["count"], "count": round(totals["count"])}

  return evaluate


@functools.lru_cache(maxsize=32)
def initialiser(model: ResNet):
  """Returns initialise(key, images, given) -> Network, without optimizer state.

  ``images`` is a normalised batch: quantizers with a scale learned from data start from it. ``given``
  is a tree of parameters to start from, of which any may be missing ({} starts from scratch): what is
  missing, such as the quantizers' own parameters, is initialised on the way of the batch through the
  network as given.
  """

  @jax.jit
  def initialise(key, images, given):
    _, variables = model.apply({"params": given}, images, True, rngs={"params": key},
                               mutable=["params", "batch_stats"])
    # Scales aside, the batch leaves no trace: statistics start from 0 and 1.
    stats = jax.tree_util.tree_map_with_path(
        lambda path, s: jnp.full_like(s, path[-1].key == "var"), variables["batch_stats"])
    return Network(variables["params"], stats)

  return initialise


def example_indices(seed: int, size: int, first: int, count: int, settings: Settings, batch: int):
  """Index and epoch of ``count`` steps from step ``first``, split among the devices.

  Returns:
    int32 (devices, steps_per_dispatch, share) each; steps beyond count hold zeros.
  """
  index, epoch = order.examples(seed, size, first * batch, count * batch)
  full = np.zeros((2, settings.steps_per_dispatch, batch), np.int32)
  full[0, :count] = index.reshape(count, batch)
  full[1, :count] = epoch.reshape(count, batch)
  return parallel.split(full[0]), parallel.split(full[1])
