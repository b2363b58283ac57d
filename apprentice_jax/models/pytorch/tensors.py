"""Pickles of PyTorch's: tensors as views of storages, and plain data."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from apprentice_jax.models.pytorch import pickles
from apprentice_jax.models.pytorch.pickles import Global, Malformed

_MOST_AXES, _TOO_LARGE = 32, 2**63  # NumPy 1's axes; what counts, strides and offsets stay below

# NumPy's types of storages' elements, without the order of bytes. Complex and quantized ones are
# not read, but stand before others in the old container.
_STORAGES = {
  f"torch.{name}Storage": code
  for name, code in {
    "Double": "f8",
    "Float": "f4",
    "Half": "f2",
    "BFloat16": "bfloat16",
    "Long": "i8",
    "Int": "i4",
    "Short": "i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
    "QInt8": "i1",
    "QUInt8": "u1",
    "QInt32": "i4",
    "ComplexFloat": "c8",
    "ComplexDouble": "c16",
  }.items()
}
_STORAGES |= {"torch.storage.UntypedStorage": "u1", "torch.UntypedStorage": "u1"}
# have no storage of their own
_UNTYPED = {"torch.uint16": "u2", "torch.uint32": "u4", "torch.uint64": "u8"}
# What is mentioned beside tensors, and never called.
_NAMES = re.compile(
  r"torch\.(u?int\d{1,2}|float\w{0,16}|double|half|bfloat16|bool|complex\d{2,3}|qu?int\w{1,3}|"
  r"per_(tensor|channel)_\w{1,30}|strided|sparse_\w{3}|Tensor)"
)


class Storage(NamedTuple):
  """Numbers in the file.

  Attributes:
    key: the file's name of the numbers.
    code: their type, NumPy's without the order of bytes, or "bfloat16".
    count: how many there are under the key.
    start, stop: the part of the numbers that the storage has.
  """

  key: str
  code: str
  count: int
  start: int
  stop: int


class Tensor(NamedTuple):
  """A view of a storage.

  Attributes:
    storage: the storage.
    code: type of the elements, as a storage's.
    offset: place of the first element in the storage, in elements.
    shape: sizes, none of them negative.
    strides: as many, in elements, none of them negative.
  """

  storage: Storage
  code: str
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class Unread(NamedTuple):
  """A tensor that is not read; ``why`` goes on from its name."""

  why: str


def load(file, stored: Callable | None = None) -> Any:
  """The object in the pickle at the file's position, with `Tensor` and `Unread` for tensors.

  Args:
    file: see `pickles.load`.
    stored: makes a `Storage` of an identity's parts; `storage`, if None.

  Raises:
    pickles.Refused: the pickle names something other than tensors and plain data.
    Malformed: see there.
  """
  is_name = lambda name: name in _STORAGES or bool(_NAMES.fullmatch(name))
  return pickles.load(file, _FUNCTIONS, is_name, stored or storage)


def item_size(code: str) -> int:
  """The bytes of an element."""
  return 2 if code == "bfloat16" else np.dtype(code).itemsize


def storage(*identity) -> Storage:
  """The storage of an identity; raises Malformed if it is of something else."""
  match identity:
    case ("storage", Global(name), str(key), _, int(count), *rest) if name in _STORAGES:
      start, stop = 0, count
      if rest and rest[0] is not None:  # of the old container: a part of another storage
        match rest[0]:
          case (str(), int(start), int(length)):
            stop = start + length
          case _:
            raise Malformed
      if 0 <= start <= stop <= count < _TOO_LARGE:
        return Storage(key, _STORAGES[name], count, start, stop)
  raise Malformed


# What the pickle may call.


def _tensor(*arguments) -> Tensor | Unread:
  match arguments:
    case (Storage() as numbers, offset, shape, strides, *more):
      # A conjugate or a negative that is not yet computed.
      if len(more) > 2 and more[2]:
        return Unread("is a negated view of another tensor")
      return _view(numbers, numbers.code, offset, shape, strides)
  raise Malformed


def _tensor_of_type(*arguments) -> Tensor | Unread:
  match arguments:
    case (Storage() as numbers, offset, shape, strides, _, _, Global(name), *_):
      if name not in _UNTYPED:
        return Unread(f"is of type {name.removeprefix('torch.')}")
      return _view(numbers, _UNTYPED[name], offset, shape, strides)
  raise Malformed


def _view(numbers: Storage, code: str, offset, shape, strides) -> Tensor | Unread:
  tuples = isinstance(shape, tuple) and isinstance(strides, tuple)
  if not tuples or not len(shape) == len(strides) <= _MOST_AXES:
    raise Malformed
  # NumPy would take a negative stride or offset, and read before the storage.
  if not all(type(n) is int and 0 <= n < _TOO_LARGE for n in (offset, *shape, *strides)):
    raise Malformed("is damaged: a tensor's size, stride or offset is negative or too large")
  if code[0] == "c":
    return Unread("holds complex numbers")
  return Tensor(numbers, code, offset, shape, strides)


def _of_class(function, kind, arguments, *_):
  """A tensor that has attributes of its own."""
  if kind.name not in ("torch.Tensor", "torch.nn.parameter.Parameter"):
    raise pickles.Refused(kind.name)
  made = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_type,
  }
  if len(arguments) > 16:
    raise Malformed
  return made[function.name](*arguments)


def _ordered(pairs=None, *_) -> dict:
  """An OrderedDict or a Counter."""
  if pairs is None or isinstance(pairs, dict):
    return {} if pairs is None else pairs
  if not isinstance(pairs, list):
    raise Malformed
  # As Python 2 writes it. Used once: a hostile file could have the list copied many times.
  result = pickles.entries((key, value) for key, value in pairs)
  pairs.clear()
  return result


def _same(first=(), *_):
  return first


def _nothing(*_):
  return None


def _unread(why: str) -> Callable:
  return lambda *_: Unread(why)


_FUNCTIONS = {
  "torch._utils._rebuild_tensor": _tensor,
  "torch._utils._rebuild_tensor_v2": _tensor,
  "torch._utils._rebuild_tensor_v3": _tensor_of_type,
  "torch._tensor._rebuild_from_type_v2": _of_class,
  "torch._utils._rebuild_parameter": _same,
  "torch._utils._rebuild_parameter_with_state": _same,
  "torch.nn.parameter.Parameter": _same,
  "torch._utils._rebuild_qtensor": _unread("is a quantized tensor"),
  "torch._utils._rebuild_sparse_tensor": _unread("is a sparse tensor"),
  "torch._utils._rebuild_nested_tensor": _unread("is a nested tensor"),
  "torch._utils._rebuild_meta_tensor_no_storage": _unread(
    "is on the device meta, without its numbers"
  ),
  "torch.Size": _same,
  "torch.device": _nothing,
  "torch.serialization._get_layout": _nothing,
  "argparse.Namespace": lambda *_: {},
  "collections.OrderedDict": _ordered,
  "collections.Counter": _ordered,
  "_codecs.encode": _nothing,  # bytes, in old protocols
}
for _module in ("builtins", "__builtin__"):
  _FUNCTIONS |= {
    f"{_module}.set": _same,
    f"{_module}.frozenset": _same,
    f"{_module}.bytearray": _nothing,
  }
