"""Which example comes when, and which are held out: functions of seed and position alone.

Training reads one endless stream of examples: epoch after epoch, each a permutation of the whole
set. A batch is the next ``batch_size`` of the stream. So batches run over the end of an epoch, and
every example is used exactly once in each. The position is the number of examples read so far.
"""

import functools
import operator

import numpy as np


@functools.lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, size: int) -> np.ndarray:
  """The order of epoch ``epoch``: int32 (size,)."""
  generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
  return generator.permutation(size).astype(np.int32)


def examples(seed: int, size: int, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
  """Examples ``start`` to ``start + count`` of the stream.

  Args:
    seed: of the run.
    size: of the training set.
    start: position in the stream: examples read before.
    count: how many.

  Returns:
    (index, epoch): int32 (count,) each: which example of the set, and in which epoch.
  """
  position = np.arange(start, start + count, dtype=np.int64)
  epoch = (position // size).astype(np.int32)
  # A batch may run over the end of an epoch, and a chunk of steps over several.
  index = np.empty(count, np.int32)
  for e in np.unique(epoch):
    inside = epoch == e
    index[inside] = permutation(seed, int(e), size)[position[inside] % size]
  return index, epoch


def padded(size: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
  """All examples once, in order, filled up to whole batches.

  Returns:
    (index, mask): int32 and float32 (batches, batch); mask is 0 on the filling.
  """
  batches = -(-size // batch)
  position = np.arange(batches * batch).reshape(batches, batch)
  return np.minimum(position, size - 1).astype(np.int32), (position < size).astype(np.float32)


def held_out(labels: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
  """The examples to hold out, each class in proportion to its size: bool (N,), for labels of (N,).

  They depend on the labels, ``count`` and ``seed`` alone; see `sources.hold_out`.
  """
  count = operator.index(count)
  if not 0 <= count <= len(labels):
    raise ValueError(f"cannot hold out {count} of {len(labels)} examples.")
  classes, sizes = np.unique(labels, return_counts=True)
  # Integer arithmetic, so that no rounding error decides between two classes.
  shares, fractions = np.divmod(sizes.astype(np.int64) * count, max(len(labels), 1))
  # What rounding down left over goes to the largest fractions; of equals to the lower label.
  shares[np.argsort(-fractions, kind="stable")[: count - shares.sum()]] += 1
  # RandomState rather than default_rng: its stream is the same in every version of NumPy.
  random = np.random.RandomState(seed)
  held = np.zeros(len(labels), bool)
  for label, share in zip(classes, shares):
    held[random.permutation(np.flatnonzero(labels == label))[:share]] = True
  return held
