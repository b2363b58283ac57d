"""Whether a teacher knows anything of the data: its classes may be others, or in another order."""

import math
import warnings

import jax
import numpy as np

from apprentice_jax.data.batches import placed
from apprentice_jax.data.order import permutation
from apprentice_jax.distill.step import Network
from apprentice_jax.models.residual import ResNet
from apprentice_jax.training.evaluation import evaluator

IMAGES = 128  # of the training set, at most
DEVIATIONS = 2  # standard ones above chance, from which on a teacher is believed


def look(config, model: ResNet, teacher: Network, data, mean, std):
  """Warns of a fixed teacher that knows no more of the training images than chance.

  Args:
    config: the run's.
    model, teacher: the network, and its state on every device.
    data: the training split.
    mean, std: of the images that the teacher is made for.
  """
  each = jax.device_count()
  batch = min(
    config.batch_size, max(IMAGES // each, 1) * each
  )  # no more memory than training takes
  some = permutation(config.seed, 0, data.size)[: max(IMAGES // batch, 1) * batch]
  some = np.sort(some[: len(some) // batch * batch])
  labels = data.labels(some)
  if (labels < 0).any():  # of a set that is labelled in part
    return
  batches = map(
    placed, np.split(data.sample(some), len(some) // batch), np.split(labels, len(some) // batch)
  )
  predicted = evaluator(model, mean, std).streamed(teacher, batches)["answers"].predicted
  right, chance = int(np.sum(predicted == labels)), by_chance(predicted, labels)
  if is_chance(right, chance, len(some)):
    if config.teacher.head == "new":
      warnings.warn(
        f"the teacher with its new head is right on {right} of {len(some)} training images, no "
        "more than the "
        f"{chance:.0f} of chance: train it longer, or at a higher rate, with config.recipe.teacher "
        "and "
        "config.recipe.finetune."
      )
      return
    warnings.warn(
      f"{config.teacher.init} is right on {right} of {len(some)} training images, no more than the "
      f"{chance:.0f} of "
      "chance: check that its outputs are the data's classes in their order "
      f"({', '.join(data.class_names[:4])}, ...; "
      "see config.teacher.head and config.teacher.classes), and that it was trained with "
      "config.teacher_input.mean and "
      "std."
    )


def by_chance(predicted: np.ndarray, labels: np.ndarray) -> float:
  """How many predictions would be right if each were of another image, taken at random."""
  classes = 1 + max(predicted.max(), labels.max())
  counts = [np.bincount(a, minlength=classes).astype(float) for a in (predicted, labels)]
  return float(counts[0] @ counts[1]) / len(labels)


def is_chance(right: int, chance: float, count: int) -> bool:
  """Whether so many right ones are no more than chance gives; of a sample that cannot tell,
  False."""
  deviation = math.sqrt(chance * (1 - chance / count))
  return deviation > 0 and right <= chance + DEVIATIONS * deviation
