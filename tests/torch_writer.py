"""Writes files as `torch.save` does, in both of its containers, without PyTorch."""

import argparse
import collections
import io
import pickle
import struct
import zipfile
from typing import NamedTuple

import numpy as np

KINDS = {
  "float64": "Double",
  "float32": "Float",
  "float16": "Half",
  "int64": "Long",
  "int32": "Int",
  "int16": "Short",
  "int8": "Char",
  "uint8": "Byte",
  "bool": "Bool",
}
UNTYPED = ("uint16", "uint32", "uint64")


class Global:
  """Something that a pickle names, which need not be installed."""

  def __init__(self, name):
    self.module, _, self.name = name.rpartition(".")

  def __call__(self):
    raise NotImplementedError


class Call(NamedTuple):
  """What a pickle calls, and the arguments; `state` is what it then hands over."""

  name: str
  arguments: tuple
  state: object = None


class Tensor(NamedTuple):
  """A view of a storage, which is a NumPy array of one axis; ``kind`` if NumPy lacks its type."""

  numbers: np.ndarray
  offset: int
  shape: tuple
  strides: tuple
  kind: str = ""
  part: tuple | None = None  # of the storage, in the old container
  count: int | None = None  # of numbers, if another than there are


class _Stored(NamedTuple):
  identity: tuple


def plain(array, kind=""):
  """An array with a storage of its own."""
  array = np.ascontiguousarray(array).reshape(np.shape(array))
  strides = tuple(s // array.itemsize for s in array.strides)
  return Tensor(array.ravel(), 0, array.shape, strides, kind)


class _Pickler(pickle._Pickler):  # in Python, where each type's method can be replaced
  dispatch = dict(pickle._Pickler.dispatch)

  def __init__(self, file, protocol, old):
    super().__init__(file, protocol)
    self._old, self.keys, self.storages = old, {}, []

  def persistent_id(self, obj):
    return obj.identity if isinstance(obj, _Stored) else None

  def save_named(self, obj):
    if self.proto >= 4:
      self.save(obj.module), self.save(obj.name)
      self.write(pickle.STACK_GLOBAL)
    else:
      self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
    self.memoize(obj)

  def save_call(self, obj):
    self.save_reduce(Global(obj.name), obj.arguments, obj.state)

  def save_array(self, obj):
    self.save(plain(obj))

  def save_tensor(self, obj):
    numbers, untyped = obj.numbers, obj.numbers.dtype.name in UNTYPED
    key = self.keys.setdefault(
      id(numbers), str(len(self.keys) if not self._old else 94000 + len(self.keys))
    )
    if key not in [k for k, _ in self.storages]:
      self.storages.append((key, numbers))
    kind = (
      f"torch.{obj.kind or KINDS[numbers.dtype.name]}Storage"
      if not untyped
      else "torch.storage.UntypedStorage"
    )
    count = (numbers.nbytes if untyped else numbers.size) if obj.count is None else obj.count
    identity = ("storage", Global(kind), key, "cpu", count, *([obj.part] if self._old else []))
    arguments = (
      _Stored(identity),
      obj.offset,
      obj.shape,
      obj.strides,
      False,
      collections.OrderedDict(),
    )
    if untyped:
      self.save_reduce(
        Global("torch._utils._rebuild_tensor_v3"),
        (*arguments, Global(f"torch.{numbers.dtype.name}")),
      )
    else:
      self.save_reduce(Global("torch._utils._rebuild_tensor_v2"), arguments)

  dispatch.update(
    {Global: save_named, Call: save_call, Tensor: save_tensor, np.ndarray: save_array}
  )


def pickled(content, protocol=2, old=False):
  """The bytes of a pickle, and (key, numbers) of its storages."""
  file = io.BytesIO()
  pickler = _Pickler(file, protocol, old)
  pickler.dump(content)
  return file.getvalue(), pickler.storages


def new(content, protocol=2, byteorder=b"little", change=lambda entries: None, crc=True):
  """The bytes of a zip archive; change(entries) alters what is in it.

  Without ``crc`` it has 0 for each checksum, as `set_crc32_options(False)` makes PyTorch write.
  """
  data, storages = pickled(content, protocol)
  entries = {"data.pkl": data, "byteorder": byteorder}
  for key, numbers in storages:
    entries[f"data/{key}"] = numbers.astype(
      numbers.dtype.newbyteorder(">" if byteorder == b"big" else "<")
    ).tobytes()
  entries["version"] = b"3\n"
  change(entries)
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as archive:
    for name, data in entries.items():
      archive.writestr(f"archive/{name}", data)
    for info in archive.infolist() if not crc else ():
      info.CRC = 0  # in the directory, which is written last
  return file.getvalue()


def old(content, protocol=2, keys=None, count=None):
  """The bytes of the container before PyTorch 1.6, with other keys and counts of storages if
  given."""
  data, storages = pickled(content, protocol, old=True)
  machine = dict(protocol_version=1001, little_endian=True, type_sizes=dict(short=2, int=4, long=4))
  parts = [pickle.dumps(part, protocol) for part in (0x1950A86A20F9469CFC6C, 1001, machine)]
  parts += [data, pickle.dumps([key for key, _ in storages] if keys is None else keys, protocol)]
  for _, numbers in storages:
    parts += [struct.pack("<q", numbers.size if count is None else count), numbers.tobytes()]
  return b"".join(parts)


def namespace(**arguments):
  """A training script's arguments, as they are pickled."""
  return Call("argparse.Namespace", (), vars(argparse.Namespace(**arguments)))
