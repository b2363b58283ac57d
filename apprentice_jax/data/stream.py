"""Streams of image batches, decoded ahead of time by Grain's threads or worker processes.

Grain reads one *share* at a time: the images that one device gets in one step. A share is a
function of its number. So the stream is the same for any number of threads and workers, and a run
continues at any position. A whole share is decoded into one array, which goes to its device as it
is.
"""

import os
import signal
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from absl import flags

from apprentice_jax.data import crops as cropping
from apprentice_jax.data import order
from apprentice_jax.data.crops import Crops
from apprentice_jax.data.encoded import Examples
from apprentice_jax.data.records import NO_LABEL
from apprentice_jax.errors import UnreadableImage

UNLABELLED = "it has no label"
SUBSTITUTES = 100  # so many unreadable images in one share are no accident


class Share(NamedTuple):
  """What one device gets in one step.

  Attributes:
    images: uint8 (share, size, size, 3).
    labels: int32 (share,).
    mask: float32 (share,); 0 where there is no image.
    unreadable: a line for each image that could not be read: its name and what is wrong.
    logits: float32 (share, classes) of a teacher, or None.
  """

  images: np.ndarray
  labels: np.ndarray
  mask: np.ndarray
  unreadable: str
  logits: np.ndarray | None = None


class Layout(NamedTuple):
  """Which part of every batch this process reads.

  Attributes:
    batch: examples in a step, of all replicas together.
    replicas: number of devices of all processes.
    first: this process's first replica.
    local: number of devices of this process.
  """

  batch: int
  replicas: int = 1
  first: int = 0
  local: int = 1

  def start(self, number: int) -> tuple[int, int, int]:
    """The step, the position in the batch and the size of this process's share ``number``."""
    size = self.batch // self.replicas
    step, replica = divmod(number, self.local)
    return step, (self.first + replica) * size, size


class TrainingShares:
  """All shares of a training run, in order: a Grain data source.

  Example i in epoch e is cropped and mirrored in a way that (seed, e, i) alone decide. One that
  cannot be read is replaced by the next readable one of the set. A share has at most SUBSTITUTES of
  these; beyond that it has gaps.

  Args:
    examples, crops: the images, and how they are cut.
    seed, steps: of the run.
    layout: of its batches.
    teacher: (uint8 images (share, size, size, 3), the places of their examples (share,)) -> logits
      that go with them; it can be pickled. None: there are none.
  """

  def __init__(
    self, examples: Examples, crops: Crops, seed: int, layout: Layout, steps: int, teacher=None
  ):
    self._examples, self._crops, self._seed = examples, crops, seed
    self._layout, self._steps, self._teacher = layout, steps, teacher

  def __len__(self) -> int:
    return self._steps * self._layout.local

  def __getitem__(self, number: int) -> Share:
    step, start, count = self._layout.start(int(number))
    index, epoch = order.examples(
      self._seed, len(self._examples), step * self._layout.batch + start, count
    )
    # Decoded in place: the array goes to the device as it is.
    pixels, labels = _empty(count, self._crops.size)
    unreadable = []
    for j, (encoded, label) in enumerate(self._examples.read(index)):
      i, e = int(index[j]), int(epoch[j])
      while True:
        try:
          cropping.training_image(encoded, self._crops, self._seed, e, i, pixels[j])
          _check_label(label)
          break
        except UnreadableImage as error:
          unreadable.append(_line(self._examples, i, encoded, error))
        # The reader of the batches refuses it: see `batches.Feed`.
        if len(unreadable) > SUBSTITUTES:
          break
        i = (i + 1) % len(self._examples)
        encoded, label = next(iter(self._examples.read([i])))
      index[j], labels[j] = i, label
    # In the thread that decodes: the next share may be anywhere between the two.
    logits = self._teacher(pixels, index) if self._teacher else None
    return Share(pixels, labels, np.ones(count, np.float32), "\n".join(unreadable), logits)


class EvaluationShares:
  """All examples once, in order, in whole batches: a Grain data source.

  Where the last batch is filled up, and where an image cannot be read, the mask is 0.
  """

  def __init__(self, examples: Examples, crops: Crops, layout: Layout):
    self._examples, self._crops, self._layout = examples, crops, layout

  def __len__(self) -> int:
    return -(-len(self._examples) // self._layout.batch) * self._layout.local

  def __getitem__(self, number: int) -> Share:
    step, start, count = self._layout.start(int(number))
    first = step * self._layout.batch + start
    # Beyond the last example it is empty, and the mask stays 0.
    index = range(first, min(first + count, len(self._examples)))
    pixels, labels = _empty(count, self._crops.size)
    mask, unreadable = np.zeros(count, np.float32), []
    for j, (encoded, label) in enumerate(self._examples.read(index)):
      try:
        cropping.evaluation_image(encoded, self._crops, pixels[j])
        _check_label(label)
        labels[j], mask[j] = label, 1
      except UnreadableImage as error:
        unreadable.append(_line(self._examples, index[j], encoded, error))
    return Share(pixels, labels, mask, "\n".join(unreadable))


def read(source, first: int = 0, threads: int = 0, workers: int = 0) -> Iterator[Share]:
  """Reads shares in order, ahead of their use.

  Args:
    source: TrainingShares or EvaluationShares.
    first: number of the share to begin with.
    threads: that decode at the same time, in each process; 0: one for each core, of all processes
      together.
    workers: processes that decode; 0: threads of this one do. One process's threads keep some ten
      cores busy, as what Python does between two images takes its lock.

  Yields:
    The shares. Close the generator to stop the threads and processes.
  """
  import grain  # here, not above: it takes a second to import

  # Grain reads flags, and a library's user may have none.
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
  # A buffer two shares longer than the threads: none of them waits for the reader.
  threads = threads or max(1, cores() // max(workers, 1))
  dataset = grain.MapDataset.source(source)[first:].to_iter_dataset(
    grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 2)
  )
  if workers:
    dataset = dataset.mp_prefetch(
      grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2),
      worker_init_fn=_ignore_signals,
    )
  # Without a close its threads decode on until the process ends.
  iterator = iter(dataset)
  try:
    yield from iterator
  finally:
    iterator.close()


def _ignore_signals(*_):
  # Those of a terminal or a scheduler reach every process of a job: this one's parent acts on them.
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)


def cores() -> int:
  """Cores that this process may use, where the system says so."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _empty(count: int, size: int):
  return np.zeros((count, size, size, 3), np.uint8), np.zeros(count, np.int32)


def _check_label(label: int):
  if label == NO_LABEL:
    raise UnreadableImage(UNLABELLED)


def _line(examples: Examples, index: int, encoded: bytes, error: Exception) -> str:
  why = str(error) if encoded else "it is empty or cannot be opened"
  # One line, whatever the file is called.
  name = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in examples.name(index))
  return f"{name} ({why})"
