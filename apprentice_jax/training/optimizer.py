"""Optimizers and learning rates."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from apprentice_jax.distill.step import Rates


class SGD(NamedTuple):
  """SGD with momentum and weight decay; the learning rate is applied by the training step.

  Attributes:
    momentum: of the gradient's running sum.
    nesterov: look ahead.
    weight_decay: times the parameter, added to its gradient.
    decay: names of the parameters that decay: "kernel", "bias" and "scale" (batch norm's), "clip"
      (PACT's), "positive" and "negative" (TTQ's), "weight_step" and "activation_step" (LSQ's).
  """

  momentum: float = 0.9
  nesterov: bool = True
  weight_decay: float = 1e-4
  decay: tuple[str, ...] = ("kernel", "clip")

  def build(self) -> optax.GradientTransformation:
    """The optax transformation; its updates are to be multiplied by minus the learning rate."""

    def decays(params):
      return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in self.decay, params)

    return optax.chain(
      optax.add_decayed_weights(self.weight_decay, mask=decays),
      optax.trace(self.momentum, self.nesterov),
    )


class Adam(NamedTuple):
  """Adam for some kinds of parameters, without decay, and SGD for the others.

  Adam moves latent weights whose gradients are small. SGD leaves them at their level (Liu et al.,
  "How Do Adam and Training Strategies Help BNNs Optimization?", ICML 2021,
  https://arxiv.org/abs/2106.11309). N2UQ trains all parameters by Adam, without decay, from a rate
  of 0.001 (Liu et al., CVPR 2022, https://arxiv.org/abs/2111.14826).

  Attributes:
    sgd: of the others.
    kinds: names of the parameters that Adam moves, as in `SGD.decay`.
    ratio: Adam's learning rate divided by SGD's.
  """

  sgd: SGD
  kinds: tuple[str, ...]
  ratio: float

  def build(self) -> optax.GradientTransformation:
    """The optax transformation; its updates are to be multiplied by minus SGD's learning rate."""

    def names(params):
      return jax.tree_util.tree_map_with_path(
        lambda path, _: "adam" if path[-1].key in self.kinds else "sgd", params
      )

    adam = optax.chain(optax.scale_by_adam(), optax.scale(self.ratio))
    return optax.partition({"adam": adam, "sgd": self.sgd.build()}, names)


def optimizer(recipe) -> SGD | Adam:
  """The optimizer of a recipe, one of ``config.recipe``."""
  sgd = SGD(recipe.momentum, recipe.nesterov, recipe.weight_decay, tuple(recipe.decay))
  if not recipe.adam:
    return sgd
  return Adam(sgd, tuple(recipe.adam), recipe.adam_rate / recipe.learning_rate)


class Schedule(NamedTuple):
  """The steps of a run, in chunks from step 0.

  Attributes:
    steps: of the whole run.
    per_epoch: steps of one pass over the images.
    chunk: steps of a chunk; the last one may have fewer.
    rates: of the steps, float32 (steps,) each.
  """

  steps: int
  per_epoch: float
  chunk: int
  rates: Rates

  def rates_at(self, steps: int | slice) -> Rates:
    """The rates of a step, or of some."""
    return jax.tree.map(lambda rates: rates[steps], self.rates)

  def chunk_of(self, step: int) -> int:
    """The first step of the chunk that ``step`` is in."""
    return step - step % self.chunk

  def due(self, every_epochs: float, step: int) -> bool:
    """Whether the chunk that ends with ``step`` completes a period; the last one does."""
    if step == self.steps:
      return True
    # An epoch is no whole number of steps: what counts is that a multiple of the period is passed.
    every = every_epochs * self.per_epoch
    before = self.chunk_of(step - 1)
    return bool(every) and math.floor(step / every) > math.floor(before / every)


def shortened(recipe, steps: int, steps_per_epoch: float):
  """A recipe whose warm-up leaves time to train: the recipe, or a copy whose warm-up is a tenth of
  the run.

  During a warm-up as long as the run the rate would only rise, and the run would end at its
  highest.

  Args:
    recipe: see `learning_rates`.
    steps, steps_per_epoch: see `learning_rates`.

  Returns:
    A recipe.
  """
  moving = steps - _settling(recipe, steps)
  if not moving or round(recipe.warmup_epochs * steps_per_epoch) < moving:
    return recipe
  result = recipe.copy_and_resolve_references()
  result.warmup_epochs = moving // 10 / steps_per_epoch
  return result


def _settling(recipe, steps: int) -> int:
  """How many of the last steps have rate 0."""
  return min(recipe.settle_steps, steps // 10)


def learning_rates(recipe, steps: int, steps_per_epoch: float) -> np.ndarray:
  """The learning rate of every step.

  In the end it is 0 for some steps, in which batch norm's running statistics become those of the
  final weights. Low-bit weights flip between levels to the last, at any rate. Every flip moves the
  statistics of the layers behind it, which otherwise belong to weights that are gone. Nagel et al.
  find the same ("Overcoming Oscillations in Quantization-Aware Training", 2022,
  https://icml.cc/virtual/2022/poster/17839). results/recipe measures the gain.

  Args:
    recipe: with ``learning_rate`` (the peak), ``warmup_epochs`` (linear from 0), ``schedule``
      ("cosine" to 0, "step" or "constant"), for "step" ``milestones`` (as fractions of what comes
      before the end) and ``factor``, and ``settle_steps``, how many the steps of the end are; at
      most a tenth of all.
    steps: of the whole run.
    steps_per_epoch: for the warm-up.

  Returns:
    float32 (steps,).
  """
  if not steps:
    return np.zeros(0, np.float32)
  settling = _settling(recipe, steps)
  steps -= settling
  # The main schedule counts from the end of the warm-up, as `join_schedules` has it.
  peak, warmup = recipe.learning_rate, round(recipe.warmup_epochs * steps_per_epoch)
  if recipe.schedule == "cosine":
    main = optax.cosine_decay_schedule(peak, max(steps - warmup, 1))
  elif recipe.schedule == "step":
    main = optax.piecewise_constant_schedule(
      peak, {round(m * steps) - warmup: recipe.factor for m in recipe.milestones}
    )
  else:
    main = optax.constant_schedule(peak)
  # The warm-up's first step already moves.
  schedule = optax.join_schedules([lambda step: peak * (step + 1) / max(warmup, 1), main], [warmup])
  moving = np.asarray(jax.vmap(schedule)(jnp.arange(steps)), np.float32)
  return np.concatenate([moving, np.zeros(settling, np.float32)])


def half_cosine(recipe, steps: int, first: float, last: float, settled: float) -> np.ndarray:
  """Numbers that go from one to another as half a cosine does, and are ``settled`` in the steps of
  rate 0 at the end: float32 (steps,). ``recipe``: see `learning_rates`."""
  moving = steps - _settling(recipe, steps)
  cosine = np.cos(np.linspace(0, np.pi, moving))
  numbers = last + (first - last) * (1 + cosine) / 2
  return np.float32(np.concatenate([numbers, np.full(steps - moving, settled)]))
