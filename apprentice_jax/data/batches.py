"""Batches of a split: of images that live on the devices, or that are streamed to them."""

import collections
import functools
import itertools
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from apprentice_jax.data import encoded, order, placement, sources, stream
from apprentice_jax.data.crops import Crops, evaluation_image
from apprentice_jax.errors import ConfigError, UnreadableImage

AHEAD = 2  # batches on their way to the devices beside the one in use


class DeviceData(NamedTuple):
  """A set that lives on every device.

  Attributes:
    images: uint8 (size, height, width, channels).
    labels: int32 (size,).
    logits: float32 (epochs, size, classes) of a fixed teacher whose logits are computed ahead, for
      the first epochs or for all that differ; else None.
  """

  images: Any
  labels: Any
  logits: Any = None


class DeviceBatch(NamedTuple):
  """A batch that was read for the devices, a share each.

  Attributes:
    images: uint8 (devices, share, height, width, channels).
    labels: int32 (devices, share).
    mask: float32 (devices, share); 0 where there is no image.
    logits: float32 (devices, share, classes) of a fixed teacher that is not on the devices; else
      None.
  """

  images: Any
  labels: Any
  mask: Any
  logits: Any = None


class Chunk(NamedTuple):
  """The examples of a chunk of steps_per_dispatch steps, split among the devices.

  Attributes:
    index, epoch: int32 (devices, steps, share), on the devices; (steps, share) on one replica.
  """

  index: Any
  epoch: Any


class Reading(NamedTuple):
  """How images are read: fields of config.data that no result depends on.

  Attributes:
    threads, workers: see `stream.read`.
    unreadable: "stop" or "skip", at an image that cannot be read.
  """

  threads: int = 0
  workers: int = 0
  unreadable: str = "stop"


READING = Reading()


class Resident:
  """A split that lives on every device.

  Attributes:
    split: its name, as `splits.Splits` takes it.
    size, class_names, image_shape: number of examples; names; (height, width, channels).
  """

  def __init__(self, split: str, dataset: sources.Dataset):
    self.split, self._dataset = split, dataset
    self.size, self.class_names = len(dataset.labels), dataset.class_names
    self.image_shape = dataset.images.shape[1:]

  @functools.cached_property
  def checksum(self) -> int:
    """The checksum of all images and labels."""
    return self._dataset.checksum()

  @property
  def all_labels(self) -> np.ndarray:
    """The labels of all examples, in their order: int32 (size,)."""
    return self._dataset.labels

  @functools.cached_property
  def on_devices(self) -> DeviceData:
    return placement.replicate(DeviceData(self._dataset.images, self._dataset.labels))

  def batches(self, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every example once, on the host: uint8 images (batch, height, width, channels), labels
    (batch,)."""
    for start in range(0, self.size, batch):
      part = slice(start, start + batch)
      yield self._dataset.images[part], self._dataset.labels[part]

  def sample(self, indices: np.ndarray) -> np.ndarray:
    """The images at these places: uint8 (count, height, width, channels)."""
    return self._dataset.images[np.sort(indices)]

  def name(self, index: int) -> str:
    """The name of an example: its number in the split."""
    return str(index)

  def labels(self, indices: np.ndarray) -> np.ndarray:
    """The labels of `sample`: integers (count,)."""
    return self._dataset.labels[np.sort(indices)]


class Streamed:
  """A split of encoded images that are read, decoded and cropped as they are needed.

  Attributes:
    split, size, class_names, image_shape: see `Resident`; images are RGB squares.
  """

  def __init__(self, split: str, examples: encoded.Examples, crops: Crops, reading: Reading):
    self.split, self._examples, self._crops, self._reading = split, examples, crops, reading
    self.size, self.class_names = len(examples), examples.class_names
    self.image_shape = (crops.size, crops.size, 3)

  @property
  def all_labels(self) -> np.ndarray | None:
    """As `Resident.all_labels`; None where they take reading all images."""
    return self._examples.labels

  def training(self, seed: int, batch: int, first: int, steps: int, teacher=None) -> "Feed":
    """The batches of steps ``first`` to ``steps``, of a run of this seed and batch size.

    Args:
      seed, batch: of the run.
      first, steps: which steps.
      teacher: see `stream.TrainingShares`.
    """
    layout = _layout(batch)
    source = stream.TrainingShares(self._examples, self._crops, seed, layout, steps, teacher)
    return self._feed(source, layout, first)

  def evaluation(self, batch: int) -> "Feed":
    """Every example once, about ``batch`` at a time."""
    # A small set in a large batch would be mostly filling.
    devices = jax.device_count()
    layout = _layout(-(-min(batch, self.size) // devices) * devices)
    return self._feed(stream.EvaluationShares(self._examples, self._crops, layout), layout, 0)

  def _feed(self, source, layout: stream.Layout, first: int) -> "Feed":
    """The batches of a source of shares from step ``first``."""
    threads, workers, unreadable = self._reading
    shares = stream.read(source, first * layout.local, threads, workers)
    return Feed(shares, layout, unreadable)

  def batches(self, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """See `Resident.batches`."""
    with self.evaluation(batch) as feed:
      for shares in feed:
        # One device after another, so that the examples are in their order.
        images, labels, mask = (np.asarray(a).reshape(-1, *a.shape[2:]) for a in shares[:3])
        yield images[mask > 0], labels[mask > 0]

  def sample(self, indices: np.ndarray) -> np.ndarray:
    """The images at these places, as for evaluation: uint8 (count, size, size, 3); a gap for one
    that cannot be read."""
    pixels = np.zeros((len(indices), *self.image_shape), np.uint8)
    for out, (file, _) in zip(pixels, self._examples.read(np.sort(indices))):
      try:
        evaluation_image(file, self._crops, out)
      except UnreadableImage:
        # The stream says so when it gets there.
        pass
    return pixels

  def name(self, index: int) -> str:
    """The name of an example: its file, or its number in the split."""
    return self._examples.name(index)

  def labels(self, indices: np.ndarray) -> np.ndarray:
    """The labels of `sample`: integers (count,)."""
    return np.array([label for _, label in self._examples.read(np.sort(indices))])

  def check(self):
    """Raises ConfigError if a file is damaged as a whole, or not even one of the first images can
    be read."""
    if isinstance(self._examples, encoded.ArrayRecords):
      self._examples.check()
    # One good image is enough: the policy for unreadable ones decides about the others.
    unreadable = []
    for i, (file, _) in zip(range(10), self._examples.read(range(min(10, self.size)))):
      try:
        return evaluation_image(file, self._crops, np.zeros(self.image_shape, np.uint8))
      except UnreadableImage as error:
        unreadable.append(f"{self._examples.name(i)} cannot be read ({error})")
    raise ConfigError(f"none of the first {len(unreadable)} images can be read: {unreadable[0]}.")


class Feed:
  """Batches on the devices, a few ahead of their use; an iterator and a context manager.

  Attributes:
    unreadable: images that could not be read, of the batches handed out so far.
  """

  def __init__(self, shares: Iterator[stream.Share], layout: stream.Layout, policy: str):
    self._shares, self._local, self._policy = shares, layout.local, policy
    self._queue, self._named = collections.deque(), set()
    self.unreadable = 0

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._shares.close()

  def __iter__(self):
    return self

  def __next__(self) -> DeviceBatch:
    # Batches are copied while the devices compute.
    while len(self._queue) <= AHEAD and (
      shares := list(itertools.islice(self._shares, self._local))
    ):
      fields = ([getattr(s, field) for s in shares] for field in DeviceBatch._fields)
      # Without a teacher no share has logits.
      batch = DeviceBatch(*(None if f[0] is None else placement.join(f) for f in fields))
      self._queue.append((batch, [s.unreadable for s in shares]))
    if not self._queue:
      raise StopIteration
    # Reported with the batch and not as it is read: a run that stops before has not met the image.
    batch, unreadable = self._queue.popleft()
    for lines in map(str.splitlines, unreadable):
      if len(lines) > stream.SUBSTITUTES:
        raise UnreadableImage(
          f"{len(lines)} images of one batch cannot be read, such as {lines[0]}."
        )
      for line in lines:
        self._report(line)
    return batch

  def _report(self, line: str):
    if self._policy == "stop" and line.endswith(f"({stream.UNLABELLED})"):
      raise UnreadableImage(
        f"{line}: take another split, or let it be skipped with --config.data.unreadable=skip."
      )
    if self._policy == "stop":
      raise UnreadableImage(
        f"{line} is no image that can be read: replace it, or let it be skipped "
        "with --config.data.unreadable=skip."
      )
    # An image comes again in every epoch, and is named once.
    self.unreadable += 1
    if line not in self._named:
      self._named.add(line)
      warnings.warn(f"skipped {line}: it cannot be read ({self.unreadable} so far).")


def _layout(batch: int) -> stream.Layout:
  # A process's devices follow each other in the mesh: its first one says where its part begins.
  replicas = placement.mesh().devices.tolist()
  local = [i for i, d in enumerate(replicas) if d.process_index == jax.process_index()]
  return stream.Layout(batch, len(replicas), local[0], len(local))


def example_indices(seed: int, size: int, first: int, count: int, steps: int, batch: int) -> Chunk:
  """The examples of ``count`` steps from step ``first``, split among the devices.

  Args:
    seed: of the run.
    size: of the training set.
    first, count: the steps.
    steps: places for steps; those beyond ``count`` hold zeros.
    batch: examples of a step.
  """
  examples = order.examples(seed, size, first * batch, count * batch)
  # Of one size for every chunk, so that the last one takes no program of its own.
  full = np.zeros((2, steps, batch), np.int32)
  full[:, :count] = np.reshape(examples, (2, count, batch))
  return Chunk(*map(placement.split, full))


def placed(images: np.ndarray, labels: np.ndarray) -> DeviceBatch:
  """A batch on the devices, all of whose examples count.

  Args:
    images: uint8 (batch, height, width, channels), the same on every process.
    labels: (batch,).
  """
  # Every process has all examples, and takes those of its own devices.
  layout = _layout(len(labels))
  arrays = (images, labels.astype(np.int32), np.ones(len(labels), np.float32))
  local = slice(layout.first, layout.first + layout.local)
  return DeviceBatch(*(placement.join(np.split(a, layout.replicas)[local]) for a in arrays))
