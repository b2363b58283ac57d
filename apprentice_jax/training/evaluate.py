"""Scoring networks, exactly: every example counts once."""

import collections
import functools
import math
import warnings
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax

from apprentice_jax.data import order
from apprentice_jax.data.batches import DeviceBatch, DeviceData, Resident, Streamed, placed
from apprentice_jax.data.order import permutation
from apprentice_jax.distill.step import Batch, Network, Predicted, evaluate_batch
from apprentice_jax.errors import ConfigError
from apprentice_jax.models.residual import ResNet
from apprentice_jax.training import cluster, parallel, progress, teachers
from apprentice_jax.training.compiled import Kept
from apprentice_jax.training.program import make_apply, normalise

IMAGES = 128  # of the training set, at most
DEVIATIONS = 2  # standard ones above chance, from which on a teacher is believed


@functools.lru_cache(maxsize=32)
def evaluator(model: ResNet, mean: tuple, std: tuple) -> "Evaluator":
  """The evaluator of these settings, compiled once per process."""
  return Evaluator(model, mean, std)


class Evaluator:
  """Scores networks; every example counts exactly once on any number of devices.

  Args:
    model: the networks'.
    mean, std: of the images, per channel.
  """

  def __init__(self, model: ResNet, mean: tuple, std: tuple):
    apply = make_apply(model)

    def sums(network, images, labels, mask):
      found, answers = evaluate_batch(apply, network, Batch(images, labels), mask)
      together = lambda x: jax.lax.all_gather(x, parallel.AXIS, tiled=True)
      return jax.lax.psum(found, parallel.AXIS), jax.tree.map(together, answers)

    def gathered(network, data, index, mask, i):
      chosen = index[i]
      images = normalise(jnp.take(data.images, chosen, axis=0), mean, std, model.dtype)
      return sums(network, images, jnp.take(data.labels, chosen), mask[i])

    def fed(network, batch):
      images = normalise(batch.images, mean, std, model.dtype)
      return sums(network, images, batch.labels, batch.mask)

    made_of = (model, mean, std)
    kept = functools.partial(Kept, what="the evaluation")
    self._gathered = kept(
      parallel.over_replicas(gathered, (False, False, True, True, False)), "score", made_of
    )
    self._fed = kept(parallel.over_replicas(fed, (False, True)), "score_fed", made_of)

  def __call__(self, network: Network, data: DeviceData, batch: int, check=lambda: None) -> dict:
    """Scores a network on a set that lives on the devices.

    Args:
      network: on every device.
      data: the set.
      batch: examples at a time.
      check: called between batches; what it raises ends the evaluation.

    Returns:
      "accuracy", "loss" (mean cross-entropy) and "count", Python numbers; and "answers", NumPy
      arrays with a place for each example in the order of the set, and for the filling of the last
      batch.
    """
    # Every device takes an equal share; the last batch is filled up, and a mask leaves that out.
    batch = -(-min(batch, len(data.labels)) // jax.device_count()) * jax.device_count()
    index, mask = order.padded(len(data.labels), batch)
    index, mask = parallel.split(index), parallel.split(mask)
    # An optimizer's state would make another program of the same scores.
    network = network._replace(opt_state=None)
    return _total(
      (self._gathered(network, data, index, mask, np.int32(i)) for i in range(index.shape[1])),
      check,
    )

  def streamed(self, network: Network, batches: Iterable[DeviceBatch], check=lambda: None) -> dict:
    """As `__call__`, on batches that are read while the devices work; masked ones do not count."""
    network = network._replace(opt_state=None)
    return _total((self._fed(network, batch) for batch in batches), check)


def score(
  config,
  model: ResNet,
  network: Network,
  data: Resident | Streamed,
  check=lambda: None,
  normalisation=None,
) -> dict:
  """Scores a network, on every device, on a split; see `Evaluator`.

  Args:
    config: the run's.
    model, network: the network, and its state.
    data: the split.
    check: see `Evaluator`.
    normalisation: mean and standard deviation of its images, where not the config's own.
  """
  what = f"scoring {data.size:,} images of the {data.split} split"
  with progress.announced(what, said=cluster.first()):
    if teachers.on_host(model):
      return _scored_on_host(config, model, network, data, check)
    score_of = evaluator(
      model, *(normalisation or (tuple(config.data.mean), tuple(config.data.std)))
    )
    if isinstance(data, Streamed):
      with data.evaluation(config.eval.batch_size) as feed:
        return score_of.streamed(network, feed, check)
    return score_of(network, data.on_devices, config.eval.batch_size, check)


def _scored_on_host(config, model, network: Network, data: Resident | Streamed, check) -> dict:
  """`score` of a teacher that no device runs."""

  def batches():
    start = 0
    for images, labels in data.batches(config.eval.batch_size):
      yield _on_host(model, network, images, labels, np.arange(start, start + len(labels)))
      start += len(labels)

  return _total(batches(), check)


def _on_host(model, network: Network, images, labels, index) -> tuple[dict, Predicted]:
  """`evaluate_batch` of a teacher that no device runs; ``index``: the images' places in the set."""
  logits = model.logits(images, index, np.asarray(network.params["outputs"])).astype(np.float64)
  log_p, predicted = log_softmax(logits, -1), np.argmax(logits, -1)
  sums = {
    "correct": np.sum(predicted == labels),
    "loss": -np.sum(log_p[np.arange(len(labels)), labels]),
    "count": len(labels),
  }
  return sums, Predicted(labels, predicted, np.exp(np.max(log_p, -1)))


def agreement(a: dict, b: dict) -> float:
  """The share of examples for which two networks' scores on one set predict the same class."""
  # Without the filling of last batches, which may be of different sizes.
  one, other = (found["answers"].predicted for found in (a, b))
  return float(np.mean(one[one >= 0] == other[other >= 0]))


def _total(batches: Iterable[tuple[dict, jax.Array]], check: Callable[[], None]) -> dict:
  """The scores of all batches."""
  pending, totals, answers = [], collections.Counter(), []

  def add(batch):
    sums, found = jax.device_get(batch)
    totals.update({name: float(value) for name, value in sums.items()})
    answers.append(found)

  # Of two batches in the works, host devices can block each other (see `dispatch.wait`; a single
  # one could not).
  ahead = 1 if jax.devices()[0].platform == "cpu" else 2
  for found in batches:
    check()
    pending.append(found)
    if len(pending) == ahead:
      add(pending.pop(0))
  for found in pending:
    add(found)
  count = totals["count"]
  if not count:
    raise ValueError("there is no example to score.")
  return {
    "accuracy": totals["correct"] / count,
    "loss": totals["loss"] / count,
    "count": round(count),
    "answers": Predicted(*map(np.concatenate, zip(*answers))),
  }


def doubt_teacher(config, model: ResNet, teacher: Network, data, mean, std):
  """Warns of a fixed teacher that knows no more of the training images than chance, and refuses one
  whose logits are no numbers.

  Args:
    config: the run's.
    model, teacher: the network, and its state on every device.
    data: the training split.
    mean, std: of the images that the teacher is made for.

  Raises:
    ConfigError: logits are NaN or infinite.
  """
  each = jax.device_count()
  # No more memory than training takes.
  batch = min(config.batch_size, max(IMAGES // each, 1) * each)
  # Whole batches of the images that training begins with, in the order of the set.
  some = permutation(config.seed, 0, data.size)[: max(IMAGES // batch, 1) * batch]
  some = np.sort(some[: len(some) // batch * batch])
  labels = data.labels(some)
  # Of a set that is labelled in part, chance is not known.
  if (labels < 0).any():
    return
  if teachers.on_host(model):
    _, answers = _on_host(model, teacher, data.sample(some), labels, some)
  else:
    count = len(some) // batch
    batches = map(placed, np.split(data.sample(some), count), np.split(labels, count))
    answers = evaluator(model, mean, std).streamed(teacher, batches)["answers"]
  if bad := int(np.sum(~np.isfinite(answers.confidence))):
    raise ConfigError(
      f"the logits of {config.teacher.init} are NaN or infinite for {bad} of {len(some)} training "
      "images: check the file, and config.teacher_input.mean and std."
    )
  predicted = answers.predicted
  right, chance = int(np.sum(predicted == labels)), by_chance(predicted, labels)
  if is_chance(right, chance, len(some)):
    if config.teacher.head == "new":
      warnings.warn(
        f"the teacher with its new head is right on {right} of {len(some)} training images, no "
        f"more than the {chance:.0f} of chance: train it longer, or at a higher rate, with "
        "config.recipe.teacher and config.recipe.finetune."
      )
      return
    warnings.warn(
      f"{config.teacher.init} is right on {right} of {len(some)} training images, no more than the "
      f"{chance:.0f} of chance: check that its outputs are the data's classes in their order "
      f"({', '.join(data.class_names[:4])}, ...; see config.teacher.head and "
      "config.teacher.classes), and that it was trained with config.teacher_input.mean and std."
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
