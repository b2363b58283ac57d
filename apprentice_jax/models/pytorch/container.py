"""Reads the files that `torch.save` writes, without PyTorch and without running anything in them.

A file holds a pickle, in which each tensor is a view of a storage, and the storages' numbers. Its
container is a zip archive (https://docs.pytorch.org/docs/stable/notes/serialization.html). Before
PyTorch 1.6, pickles and storages followed each other.
"""

import io
import math
import mmap
import re
import struct
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from apprentice_jax.models.pytorch import tensors
from apprentice_jax.models.pytorch.pickles import Malformed
from apprentice_jax.models.pytorch.tensors import Storage, Tensor, item_size

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001  # of the old container
_SPARE = 2**16  # elements that views may have beyond the number of bytes in the file
# What `zipfile` raises of damaged archives.
_ZIP_ERRORS = (
  zipfile.BadZipFile,
  ArithmeticError,
  EOFError,
  LookupError,
  OSError,
  RuntimeError,
  ValueError,
  struct.error,
)


class TorchFile(NamedTuple):
  """What is in a file.

  Attributes:
    content: plain Python objects, and a `Tensor` or an `Unread` for each tensor; see
      `tensors`.
    array: array(tensor) reads a `Tensor` as a NumPy array of its shape, bfloat16 as float32, while
      the file is open. It raises Malformed where the numbers are not in the file.
  """

  content: Any
  array: Callable[[Tensor], np.ndarray]


def load(file) -> TorchFile:
  """Reads what is in a file; its tensors' numbers later.

  Args:
    file: a binary file of the operating system's.

  Raises:
    pickles.Refused: the file names something other than tensors and plain data.
    Malformed: the file is of another kind, cut off, or damaged.
  """
  start = file.read(512)
  if start[:4] == b"PK\x03\x04":
    content, container = _zipped(file)
  elif start[:1] == b"\x80":
    content, container = _old(file)
  else:
    raise Malformed(_another_kind(start))
  return TorchFile(content, _Reader(container).array)


def _another_kind(start: bytes) -> str:
  if not start:
    return "is empty"
  if start.startswith(b"version https://git-lfs"):
    return "is a pointer of Git LFS: fetch the file that it points to, git lfs pull"
  if start.lstrip()[:1] == b"<":
    return "is a web page, not a checkpoint: download the file itself"
  return "is neither a file that torch.save wrote nor a safetensors file"


class _Container(NamedTuple):
  """What a `_Reader` reads from.

  Attributes:
    size: of the file, in bytes.
    order: of an element's bytes, "<" or ">".
    numbers: numbers(storage) gives the bytes of all that is under a storage's key.
  """

  size: int
  order: str
  numbers: Callable[[Storage], bytes]


def _zipped(file) -> tuple[Any, _Container]:
  archive = _Archive(file)
  content = tensors.load(io.BytesIO(archive.read("data.pkl")))
  # Older versions of PyTorch do not say it.
  order = archive.read("byteorder") if archive.has("byteorder") else b"little"
  if order not in (b"little", b"big"):
    raise Malformed("is damaged: its byteorder is neither little nor big")
  numbers = lambda storage: archive.read(f"data/{storage.key}")
  return content, _Container(archive.size, "<" if order == b"little" else ">", numbers)


class _Archive:
  """A zip archive of torch.save's: entries that are not compressed, all in one folder."""

  def __init__(self, file):
    self.size = self._left = file.seek(0, io.SEEK_END)
    try:
      self._zip = zipfile.ZipFile(file)
      names = self._zip.namelist()
    except _ZIP_ERRORS as error:
      raise Malformed("is a zip archive that was cut off, or is damaged") from error
    if len(set(names)) < len(names):
      raise Malformed("is damaged: two of its entries have the same name")
    folders = [n.removesuffix("/data.pkl") for n in names if re.fullmatch(r"[^/]+/data\.pkl", n)]
    if len(folders) != 1:
      raise Malformed(
        "is a zip archive that torch.save did not write: if a checkpoint is in it, unpack it"
      )
    self._folder, self._names = folders[0], frozenset(names)
    if self.has("constants.pkl"):
      raise Malformed(
        "is a TorchScript program: save its tensors, "
        "torch.save(torch.jit.load(FILE).state_dict(), OTHER_FILE)"
      )

  def has(self, name: str) -> bool:
    return f"{self._folder}/{name}" in self._names

  def read(self, name: str) -> bytes:
    if not self.has(name):
      raise Malformed(f"is damaged: {name[:50]!r} is missing from it")
    info = self._zip.getinfo(f"{self._folder}/{name}")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
      raise Malformed(
        f"has a compressed {name[:50]!r}, and torch.save compresses nothing: save it anew"
      )
    # Entries may lie in each other, each of them as large as the file.
    self._left -= info.file_size
    if self._left < 0:
      raise Malformed("is damaged: its entries are larger than the file")
    # torch.serialization.set_crc32_options(False) writes none; zipfile does not compare None.
    if not info.CRC:
      info.CRC = None
    try:
      data = self._zip.read(info)
    except _ZIP_ERRORS as error:
      raise Malformed(f"is damaged: {name[:50]!r} is not what was written") from error
    if len(data) != info.file_size:
      raise Malformed("was cut off, or is damaged")
    return data


def _old(file) -> tuple[Any, _Container]:
  # A map: whatever is asked for, a read gives no more than there is.
  data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
  storages = {}

  def stored(*identity) -> Storage:
    storage = tensors.storage(*identity)
    _, code, count, *_ = storages.setdefault(storage.key, storage)
    if (code, count) != (storage.code, storage.count):
      raise Malformed("is damaged: two of its storages have the same key")
    return storage

  if tensors.load(data) != _MAGIC or tensors.load(data) != _VERSION:
    raise Malformed("is a pickle that torch.save did not write: write the tensors with torch.save")
  # Of the machine that wrote it; numbers are little-endian on all.
  tensors.load(data)
  content = tensors.load(data, stored)
  places = _places(data, tensors.load(data), storages)

  def numbers(storage: Storage) -> bytes:
    if storage.key not in places:
      raise Malformed
    return data[slice(*places[storage.key])]

  return content, _Container(len(data), "<", numbers)


def _places(data: mmap.mmap, keys: Any, storages: dict[str, Storage]) -> dict[str, tuple[int, int]]:
  """Where each storage's numbers begin and end: from the map's position on, as the keys have it."""
  at, places = data.tell(), {}
  if not isinstance(keys, list):
    raise Malformed
  for key in keys:
    if not isinstance(key, str) or key not in storages or key in places:
      raise Malformed
    count = storages[key].count
    begin = at + 8  # after the number of elements
    at = begin + count * item_size(storages[key].code)
    if data[begin - 8 : begin] != count.to_bytes(8, "little") or at > len(data):
      raise Malformed
    places[key] = begin, at
  return places


class _Reader:
  """Reads the tensors of a container, and each of its storages once."""

  def __init__(self, container: _Container):
    self._container, self._storages = container, {}
    self._left = container.size + _SPARE  # elements: a view may have many along a stride of 0

  def array(self, tensor: Tensor) -> np.ndarray:
    """See `TorchFile`."""
    count = math.prod(max(size, 1) for size in tensor.shape)
    self._left -= count
    if self._left < 0:
      raise Malformed("is damaged: its tensors are larger than the file")
    numbers = self._numbers(tensor)
    axes = list(zip(tensor.shape, tensor.strides))
    last = tensor.offset + sum((size - 1) * stride for size, stride in axes)
    # `as_strided` checks nothing, and would read beyond the storage.
    if 0 not in tensor.shape and last >= len(numbers):
      raise Malformed("is damaged: a tensor is larger than its storage")
    if 0 in tensor.shape:
      view = np.empty(tensor.shape, numbers.dtype)
    else:
      strides = [stride * numbers.itemsize if size > 1 else 0 for size, stride in axes]
      view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides)
    return _native(view, tensor.code)

  def _numbers(self, tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor's storage, as they are in the file."""
    storage = tensor.storage
    size = item_size(storage.code)
    if storage.key not in self._storages:
      data = self._container.numbers(storage)
      if len(data) != storage.count * size:
        raise Malformed(
          f"is damaged: the storage {storage.key[:50]!r} is not of the size that it should have"
        )
      self._storages[storage.key] = data
    data = memoryview(self._storages[storage.key])[storage.start * size : storage.stop * size]
    code = {"?": "u1", "bfloat16": "u2"}.get(tensor.code, tensor.code)
    whole = len(data) // item_size(code)  # of a storage of bytes
    return np.frombuffer(data, self._container.order + code, whole)


def _native(array: np.ndarray, code: str) -> np.ndarray:
  """Numbers as the machine has them."""
  if code == "?":
    return np.asarray(array != 0)
  if code == "bfloat16":  # the upper half of a float32
    return np.asarray(array.astype(np.uint32) << 16).view(np.float32)
  return array.astype(array.dtype.newbyteorder("="), copy=False)
