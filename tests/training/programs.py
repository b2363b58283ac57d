"""A small training program on eight replicas of unequal data, for tests of programs and loops."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from apprentice_jax.data.augment import Augmentation, augmented
from apprentice_jax.data.batches import Chunk, DeviceData
from apprentice_jax.distill.step import Batch, Rates, State
from apprentice_jax.models.precision import Precision, Quantization
from apprentice_jax.models.residual import ResNet
from apprentice_jax.training import parallel
from apprentice_jax.training.dispatch import (
  NOBODY,
  THIS,
  Dispatch,
)
from apprentice_jax.training.optimizer import SGD
from apprentice_jax.training.program import (
  Hyperparameters,
  Part,
  Settings,
  initialiser,
  normalise,
)

DEVICES, BATCH, SIZE, CHUNK = 8, 32, 100, 3
CLASSES = 5
WEIGHTS = dict(alpha=1.0, beta=0.5, gamma=0.5, temperature=1.0)
NET = ResNet(stages=(1, 1), width=4, num_classes=CLASSES)
# Ternary weights only: an activation that rounds to another level, from float32 sums in another
# order, would be a difference of its own.
LOW = NET.clone(quantization=Quantization(Precision(32, 2)))
PLAIN = Settings(
  NET, SGD(), augmentation=Augmentation(1, True), mean=(0.4,), std=(0.3,), steps_per_dispatch=CHUNK
)
ONE = Dispatch("", 1, THIS)
# As on a TPU, and as on a GPU: nobody waits, and a dispatch takes all steps of a chunk.
DYNAMIC, FIXED = Dispatch("while", CHUNK, NOBODY), Dispatch("scan", CHUNK, NOBODY)
JOINT = PLAIN._replace(student=LOW, teacher=NET, teacher_optimizer=SGD())


def made_data():
  """SIZE images and their labels."""
  r = np.random.default_rng(0)
  images = r.integers(0, 256, (SIZE, 8, 8, 1), np.uint8)
  # Brighter from image to image, so that the replicas' moments differ.
  images = (images * np.linspace(0.1, 1, SIZE)[:, None, None, None]).astype(np.uint8)
  return DeviceData(images, r.integers(0, CLASSES, SIZE).astype(np.int32))


def initial(settings, data):
  """The starting state, on the host; parameters and statistics away from their defaults."""

  def start(model, optimizer, seed):
    images = jnp.asarray(data.images[:8], jnp.float32) / 255
    net = initialiser(model.clone(norm_axis=None))(jax.random.key(seed), images, {})
    r = np.random.default_rng(seed)
    stats = jax.tree.map(lambda s: s + 0.1 * r.random(s.shape).astype(np.float32), net.batch_stats)
    return net._replace(batch_stats=stats, opt_state=optimizer.build().init(net.params))

  teacher = settings.teacher and start(settings.teacher, settings.teacher_optimizer, 1)
  return jax.device_get(State(start(settings.student, settings.student_optimizer, 0), teacher))


def sorted_indices(count=1):
  """Replica r gets the images from 12 r on: unequal shares."""
  index = np.stack([np.arange(4) + 12 * r for r in range(DEVICES)])[:, None]
  index = np.concatenate([index + 4 * s for s in range(count)], 1)
  index = np.pad(index, ((0, 0), (0, CHUNK - count), (0, 0)))
  return Chunk(index.astype(np.int32), np.zeros_like(index, np.int32))


def rates(student=0.1, teacher=0.05):
  return Rates(np.full(CHUNK, student, np.float32), np.full(CHUNK, teacher, np.float32))


def hyper(seed=0, **weights):
  return Hyperparameters(dict(WEIGHTS, **weights), rates(), jax.random.key(seed))


def train(program, settings, data, count=1, seed=0, **weights):
  """The state after some steps, and their metrics, step by step."""
  state, parts, most = parallel.replicate(initial(settings, data)), [], program.row.steps
  for first in range(0, count, most):
    part = Part(first, min(most, count - first), first + most >= count)
    chunk, numbers = sorted_indices(count), hyper(seed, **weights)
    state, metrics = program.train(state, parallel.replicate(data), chunk, numbers, part)
    parts.append({k: m if program.row.loop else m[None] for k, m in metrics.items()})
  return state, metrics if program.row.loop and len(parts) == 1 else {
    k: [m for part in parts for m in part[k][:most]] for k in metrics
  }


def history(metrics, count):
  return {k: np.asarray(v)[:count] for k, v in jax.device_get(metrics).items()}


def assert_close(a, b, **tolerance):
  chex.assert_trees_all_close(jax.device_get(a), jax.device_get(b), **tolerance)


def shares(data, settings, seed=0):
  """What each replica is given in the first step, as one device would compute it."""
  chunk, key = sorted_indices(), jax.random.key(seed)
  for index, epoch in zip(chunk.index[:, 0], chunk.epoch[:, 0]):
    images = augmented(jnp.asarray(data.images), index, epoch, key, settings.augmentation)
    yield Batch(
      normalise(images, settings.mean, settings.std, jnp.float32), jnp.asarray(data.labels[index])
    )
