"""The splits of the configured dataset: on the devices where they fit, else streamed to them."""

import collections
import contextlib
import functools
import itertools
import warnings
from collections.abc import Iterator

import jax
import numpy as np

from apprentice_jax.data import encoded, sources, splits, stream
from apprentice_jax.data.class_names import difference
from apprentice_jax.data.crops import Crops, evaluation_image
from apprentice_jax.errors import ConfigError, UnreadableImage
from apprentice_jax.training import parallel
from apprentice_jax.training.program import DeviceBatch, DeviceData

AHEAD = 2  # batches on their way to the devices beside the one in use


def split(config, name: str) -> "Resident | Streamed":
  """The images of a split of config.data, opened once per process.

  Args:
    config: the config.
    name: "train", "validation" or "test"; or what the dataset calls one of its splits, or a slice
      of it. A user's name goes through `role` first.

  Raises:
    ConfigError: they are not there.
  """
  with _sentence():
    return _opened(config).part(name)


def role(config, name: str) -> str:
  """The split that a user's name stands for, as `split` takes it; "" for the run's own test images.

  See `splits.Splits.named`.
  """
  if not name:
    return "test"
  with _sentence():
    return _opened(config).splits.named(name)


def splits_of(config) -> splits.Splits:
  """All that the config's dataset has."""
  return _opened(config).splits


def _opened(config) -> "_Opened":
  spec = splits.Spec(*(config.data[field] for field in splits.Spec._fields))
  return _split(spec, crop_settings(config) if config.data.image_size else None)


@functools.lru_cache(maxsize=8)
def _split(spec: splits.Spec, crops) -> "_Opened":
  return _Opened(spec, crops)


class _Opened:
  """The splits of a dataset that are in use."""

  def __init__(self, spec: splits.Spec, crops):
    self.splits = splits.Splits(spec, streamed=crops is not None)
    self._wrap = functools.partial(Streamed, crops=crops) if crops else Resident
    self._parts = {}

  def part(self, name: str) -> "Resident | Streamed":
    which = self.splits.role(name)
    if which not in self._parts:
      self._parts[which] = self._wrap(self.splits.part(which))
    return self._parts[which]


@contextlib.contextmanager
def _sentence():
  """Makes a ConfigError of what a dataset has wrong."""
  try:
    yield
  except (ValueError, OSError) as error:
    raise ConfigError(str(error)) from None


def crop_settings(config) -> Crops:
  d = config.data
  return Crops(d.image_size, d.resize, tuple(d.crop_area), tuple(d.crop_ratio), d.flip)


class Resident:
  """A split that lives on every device.

  Attributes:
    size, class_names, image_shape: number of examples; names; (height, width, channels).
  """

  def __init__(self, dataset: sources.Dataset):
    self._dataset = dataset
    self.size, self.class_names = len(dataset.labels), dataset.class_names
    self.image_shape = dataset.images.shape[1:]

  @functools.cached_property
  def checksum(self) -> int:
    """See `sources.checksum`."""
    return sources.checksum(self._dataset)

  @functools.cached_property
  def on_devices(self) -> DeviceData:
    return parallel.replicate(DeviceData(self._dataset.images, self._dataset.labels))

  def batches(self, config) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every example once, on the host: uint8 images (batch, height, width, channels), labels
    (batch,)."""
    for start in range(0, self.size, config.eval.batch_size):
      part = slice(start, start + config.eval.batch_size)
      yield self._dataset.images[part], self._dataset.labels[part]

  def sample(self, indices: np.ndarray) -> np.ndarray:
    """The images at these places: uint8 (count, height, width, channels)."""
    return self._dataset.images[np.sort(indices)]

  def name(self, index: int) -> str:
    """What to call an example: its number in the split."""
    return str(index)

  def labels(self, indices: np.ndarray) -> np.ndarray:
    """The labels of `sample`: integers (count,)."""
    return self._dataset.labels[np.sort(indices)]


class Streamed:
  """A split of encoded images that are read, decoded and cropped as they are needed.

  Attributes:
    size, class_names, image_shape: see `Resident`; images are RGB squares.
  """

  def __init__(self, examples: encoded.Examples, crops: Crops):
    self._examples, self._crops = examples, crops
    self.size, self.class_names = len(examples), examples.class_names
    self.image_shape = (crops.size, crops.size, 3)

  def training(self, config, first: int, steps: int) -> "Feed":
    """The batches of steps ``first`` to ``steps``."""
    layout = _layout(config.batch_size)
    source = stream.TrainingShares(self._examples, self._crops, config.seed, layout, steps)
    return Feed(
      stream.read(source, first * layout.local, config.data.threads, config.data.workers),
      layout,
      config.data.unreadable,
    )

  def evaluation(self, config) -> "Feed":
    """Every example once."""
    devices = jax.device_count()
    batch = -(-min(config.eval.batch_size, self.size) // devices) * devices
    source = stream.EvaluationShares(self._examples, self._crops, _layout(batch))
    return Feed(
      stream.read(source, 0, config.data.threads, config.data.workers),
      _layout(batch),
      config.data.unreadable,
    )

  def batches(self, config) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """See `Resident.batches`."""
    with self.evaluation(config) as feed:
      for batch in feed:
        images, labels, mask = (np.asarray(a).reshape(-1, *a.shape[2:]) for a in batch)
        yield images[mask > 0], labels[mask > 0]

  def sample(self, indices: np.ndarray) -> np.ndarray:
    """The images at these places, as for evaluation: uint8 (count, size, size, 3); a gap for one
    that cannot be read."""
    pixels = np.zeros((len(indices), *self.image_shape), np.uint8)
    for out, (file, _) in zip(pixels, self._examples.read(np.sort(indices))):
      try:
        evaluation_image(file, self._crops, out)
      except UnreadableImage:
        pass  # the stream says so when it gets there
    return pixels

  def name(self, index: int) -> str:
    """What to call an example: its file, or its number in the split."""
    return self._examples.name(index)

  def labels(self, indices: np.ndarray) -> np.ndarray:
    """The labels of `sample`: integers (count,)."""
    return np.array([label for _, label in self._examples.read(np.sort(indices))])

  def check(self):
    """Raises ConfigError if a file is damaged as a whole, or not even one of the first images can
    be read."""
    if isinstance(self._examples, encoded.ArrayRecords):
      with _sentence():
        self._examples.check()
    found = []
    for i, (file, _) in zip(range(10), self._examples.read(range(min(10, self.size)))):
      try:
        return evaluation_image(file, self._crops, np.zeros(self.image_shape, np.uint8))
      except UnreadableImage as error:
        found.append(f"{self._examples.name(i)} cannot be read ({error})")
    raise ConfigError(f"none of the first {len(found)} images can be read: {found[0]}.")


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
    while len(self._queue) <= AHEAD and (
      shares := list(itertools.islice(self._shares, self._local))
    ):
      self._queue.append((self._place(shares), [s.unreadable for s in shares]))
    if not self._queue:
      raise StopIteration
    batch, unreadable = self._queue.popleft()
    for lines in map(str.splitlines, unreadable):
      if len(lines) > stream.SUBSTITUTES:
        raise UnreadableImage(
          f"{len(lines)} images of one batch cannot be read, such as {lines[0]}."
        )
      for line in lines:
        self._report(line)
    return batch

  def _place(self, shares: list[stream.Share]) -> DeviceBatch:
    return DeviceBatch(
      *(parallel.join([getattr(s, field) for s in shares]) for field in DeviceBatch._fields)
    )

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
    self.unreadable += 1
    if line not in self._named:
      self._named.add(line)
      warnings.warn(f"skipped {line}: it cannot be read ({self.unreadable} so far).")


def _layout(batch: int) -> stream.Layout:
  replicas = parallel.mesh().devices.tolist()
  local = [i for i, d in enumerate(replicas) if d.process_index == jax.process_index()]
  return stream.Layout(batch, len(replicas), local[0], len(local))


def check(config):
  """Raises ConfigError if the images do not fit the config."""
  data = split(config, "train")
  channels = data.image_shape[-1]
  for field, counts in (("data", (1, channels)), ("teacher_input", (0, 1, channels))):
    if (count := len(config[field].mean)) not in counts:
      raise ConfigError(
        f"config.{field}.mean has {count} values, but the images of {config.data.name} have "
        f"{channels} channels."
      )
  if config.batch_size > data.size:
    raise ConfigError(
      f"config.batch_size is {config.batch_size}, but {config.data.name} has only "
      f"{data.size} training examples."
    )
  if len(data.class_names) < 2:
    raise ConfigError(
      f"{config.data.name} has one class, {data.class_names[0]!r}: there is nothing to tell apart."
    )
  test = split(config, "test")
  if test.class_names != data.class_names:
    _refuse_classes(config, data.class_names, test.class_names)
  if config.eval.final == "test":
    with _sentence():
      splits_of(config).check_overlap()
  if config.data.image_size:
    data.check()
    test.check()


def _refuse_classes(config, names, test_names):
  own = splits_of(config)
  images = f"the {own.name('train')} and {own.name('test')} images of {config.data.name}"
  if config.data.name == encoded.FOLDER and not {*names} & {*test_names}:
    raise ConfigError(
      f"{images} have no class in common: {difference(names, test_names)}; sort the test images "
      f"into folders of the same names, or {splits.TAKE_A_SHARE}."
    )
  raise ConfigError(f"{images} are not of the same classes: {difference(names, test_names)}.")
