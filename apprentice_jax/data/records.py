"""Encoded images in the ArrayRecord files of a prepared tfds dataset."""

import hashlib
from collections.abc import Iterator
from concurrent import futures

from apprentice_jax.data import prepared
from apprentice_jax.errors import ConfigError

NO_LABEL = -1  # as tfds writes it for an example whose class is not known


class ArrayRecords:
  """A split of a tfds dataset that is prepared as ArrayRecord, whose images may vary in size.

  Attributes:
    class_names, labels: see `encoded.Examples`.
  """

  labels = None

  def __init__(self, name: str, split: str, data_dir: str | None = None):
    import tensorflow_datasets as tfds  # here, not above: it is slow to import

    builder = prepared.open_builder(name, data_dir)
    self._part = prepared.check_split(builder, split)
    self._files = prepared.existing_files(builder, self._part.split)
    self._records = builder.as_data_source(
      self._part.split,
      deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
      file_format="array_record",
    )
    self._name = f"{builder.info.full_name} {self._part.split}"
    self.class_names = tuple(builder.info.features["label"].names)
    # A split without labels has none on its first example: said before training starts.
    encoded, label = next(self.read([0]))
    if encoded and label == NO_LABEL:
      raise ValueError(f"split {split!r} of {builder.info.full_name} has no labels: use another.")

  def __len__(self) -> int:
    return self._part.stop - self._part.start

  def read(self, indices) -> Iterator[tuple[bytes, int]]:
    # tfds's own parser takes fifty times as long: it goes through all features of a dataset.
    from tensorflow_datasets.proto import tf_example_pb2

    for record in self._raw([int(i) + self._part.start for i in indices]):
      try:
        feature = tf_example_pb2.Example.FromString(record).features.feature
        encoded, label = feature["image"].bytes_list.value[0], feature["label"].int64_list.value
      # Protobuf's own errors, and a record without an image.
      except Exception:
        yield b"", NO_LABEL
        continue
      known = len(label) == 1 and 0 <= label[0] < len(self.class_names)
      yield encoded, int(label[0]) if known else NO_LABEL

  def _raw(self, places: list[int]) -> list[bytes]:
    """The records at these places; a damaged one is empty."""
    try:
      return self._records.__getitems__(places)
    # Of one record, or of its whole file: the others of the batch can still be read.
    except (RuntimeError, IndexError):
      return [self._one(place) for place in places]

  def _one(self, place: int) -> bytes:
    try:
      return self._records.__getitems__([place])[0]
    except (RuntimeError, IndexError):
      return b""

  def name(self, index: int) -> str:
    return f"example {index + self._part.start} of {self._name}"

  def check(self):
    """Raises ConfigError if a file is cut off or holds another number of records than it should."""
    # There may be a thousand files, on a disk far away.
    with futures.ThreadPoolExecutor(16) as pool:
      for sentence in pool.map(prepared.damage, *zip(*self._files)):
        if sentence:
          raise ConfigError(sentence)

  def identity(self) -> dict:
    """The number of examples, and a checksum of the files' sizes."""
    sizes = hashlib.sha256(" ".join(str(file.stat().length) for file, _ in self._files).encode())
    return {"examples": len(self), "sizes": sizes.hexdigest()[:16]}
