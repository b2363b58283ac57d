"""A temperature that follows a fixed teacher's certainty.

A teacher that knows its training images by heart says little beside the labels at a temperature of
1. How much it says is the mean entropy of its softened outputs, which rises with the temperature.
``config.loss.teacher_entropy`` states this entropy in place of the temperature.
"""

import math

import jax
import numpy as np
from scipy import optimize, special

from apprentice_jax.data.order import permutation
from apprentice_jax.distill.step import Network
from apprentice_jax.training import teachers
from apprentice_jax.training.program import make_apply, normalise

IMAGES, BATCH = 512, 64  # of the training set, at most
LOWEST, HIGHEST = 0.01, 1000.0  # temperatures


def entropy(logits: np.ndarray, temperature: float) -> float:
  """The mean entropy, in nats, of softmax(logits / temperature) over the rows of logits."""
  log_p = special.log_softmax(np.float64(logits) / temperature, -1)
  return float(-np.mean(np.sum(np.exp(log_p) * log_p, -1)))


def temperature(logits: np.ndarray, target: float) -> float:
  """The temperature at which `entropy` is the target, to two decimals.

  Two decimals: numbers that another machine rounds otherwise give the same temperature.

  Raises:
    ValueError: there is none between LOWEST and HIGHEST.
  """
  # An image's entropy rises with the temperature, so there is one such temperature at most.
  least, most = entropy(logits, LOWEST), entropy(logits, HIGHEST)
  if not least < target < most:
    raise ValueError(
      f"no temperature gives it: the entropy of this teacher's outputs is from {least:.2g} to "
      f"{most:.2g}"
    )
  beyond = lambda log: entropy(logits, math.exp(log)) - target
  return round(math.exp(optimize.brentq(beyond, math.log(LOWEST), math.log(HIGHEST))), 2)


def sampled_logits(model, network: Network, data, seed: int, mean, std) -> np.ndarray:
  """A fixed teacher's logits on training images as they are stored.

  Args:
    model, network: the teacher.
    data: the training split.
    seed: of the run, whose first images these are.
    mean, std: of the images that the teacher is made for.

  Returns:
    float (images, classes), of IMAGES images at most.
  """
  some = np.sort(permutation(seed, 0, data.size)[:IMAGES])
  images, network = data.sample(some), jax.device_get(network)
  if teachers.on_host(model):
    return model.logits(images, some, np.asarray(network.params["outputs"]))
  apply = make_apply(model)

  @jax.jit
  def logits(pixels):
    seen = normalise(pixels, mean, std, model.dtype)
    return apply(network.params, network.batch_stats, seen, False)[0]

  return np.concatenate([logits(images[i : i + BATCH]) for i in range(0, len(images), BATCH)])
