"""Reads a pickle of plain data as data: nothing that the pickle names is imported or called.

A pickle is a program for a small machine, which the standard library's `Unpickler` runs in full.
The machine here knows the steps that plain data and tensors take, and refuses others.
"""

import pickletools
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

# What a hostile file can ask for is bounded: a ResNet-152 with its optimizer takes 100,000 steps, a
# function 8 arguments, and a name 50 characters.
MOST_STEPS, _MOST_ARGUMENTS, _MOST_CHARACTERS, _MOST_INDICES = 1_000_000, 16, 200, 2**32

_VALUES = frozenset(
  "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
  "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 "
  "BYTEARRAY8".split()
)
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Refused(ValueError):
  """The pickle names something that is not among what may be in it.

  Attributes:
    name: what it names, such as "os.system".
  """

  def __init__(self, name: str):
    super().__init__(name)
    self.name = name


class Malformed(ValueError):
  """The pickle is cut off, damaged, or too long; the message goes on from the name of its file."""

  def __init__(self, why: str = "was cut off, or is damaged"):
    super().__init__(why)


class Global(NamedTuple):
  """Something that a pickle names."""

  name: str


def load(
  file, functions: Mapping[str, Callable], is_name: Callable[[str], bool], stored: Callable
) -> Any:
  """The object in the pickle at the file's position, which moves to the pickle's end.

  Args:
    file: has `read` and `readline`, which give no more than there is, whatever they are asked for.
    functions: what the pickle may call, by name: each makes plain data of the arguments.
    is_name: tells of a name that is not in ``functions`` whether the pickle may mention it; the
      result then has a `Global` in its place.
    stored: makes something of the parts of an identity, which stands for data outside the pickle.

  Returns:
    Python's own numbers, strings and tuples; lists, also for sets; dicts of those entries that have
    strings as keys, and results of the functions. The same object may be in it many times, or in
    itself.

  Raises:
    Refused: the pickle names anything else.
    Malformed: the pickle is cut off, damaged, or has more than MOST_STEPS steps, or a function does
      not take its arguments.
  """
  # `genops` only parses: what a step does is up to the machine.
  machine = _Machine(functions, is_name, stored)
  try:
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
      if count == MOST_STEPS:
        raise Malformed(
          f"holds too much beside tensors: its pickle has more than {MOST_STEPS:,} steps"
        )
      machine.step(opcode.name, argument)
    return machine.stack.pop()
  except (Refused, Malformed):
    raise
  except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
    raise Malformed from error


class _Machine:
  def __init__(self, functions, is_name, stored):
    self._functions, self._is_name, self._stored = functions, is_name, stored
    self.stack, self._below, self._memo = [], [], {}  # _below: the stacks under each mark

  def step(self, name: str, argument: Any):
    if name in _VALUES:
      self.stack.append(argument)
    elif name in _CONSTANTS:
      self.stack.append(_CONSTANTS[name])
    elif name in _EMPTY:
      self.stack.append(_EMPTY[name]())
    elif name in _TUPLES:
      count = _TUPLES[name]
      # Python's slices would take fewer without a word.
      if len(self.stack) < count:
        raise Malformed
      self.stack[-count:] = [tuple(self.stack[-count:])]
    elif method := getattr(self, f"_{name.lower()}", None):
      method(argument)
    else:
      raise Malformed(f"has a pickle with the step {name}, which plain data does not take")

  # What steps do, by their names in `pickletools`.

  def _proto(self, _):
    pass

  _frame = _stop = _proto

  def _mark(self, _):
    self._below.append(self.stack)
    self.stack = []

  def _since_mark(self) -> list:
    items, self.stack = self.stack, self._below.pop()
    return items

  def _pop(self, _):
    if self.stack:
      self.stack.pop()
    else:
      self._since_mark()

  def _pop_mark(self, _):
    self._since_mark()

  def _memoize(self, _):
    self._memo[len(self._memo)] = self.stack[-1]

  def _put(self, index):
    if not 0 <= index < _MOST_INDICES:  # among larger ones are any number with one hash
      raise Malformed
    self._memo[index] = self.stack[-1]

  _binput = _long_binput = _put

  def _get(self, index):
    self.stack.append(self._memo[index])

  _binget = _long_binget = _get

  def _tuple(self, _):
    # In two statements: the first exchanges the stack.
    items = tuple(self._since_mark())
    self.stack.append(items)

  def _list(self, _):
    items = self._since_mark()
    self.stack.append(items)

  _frozenset = _list

  def _dict(self, _):
    items = self._since_mark()
    self.stack.append({})
    self._set(items)

  def _append(self, _):
    self._extend([self.stack.pop()])

  def _appends(self, _):
    self._extend(self._since_mark())

  _additems = _appends

  def _extend(self, items: list):
    if not isinstance(self.stack[-1], list):
      raise Malformed
    self.stack[-1].extend(items)

  def _setitem(self, _):
    value, key = self.stack.pop(), self.stack.pop()
    self._set([key, value])

  def _setitems(self, _):
    self._set(self._since_mark())

  def _set(self, items: list):
    if not isinstance(self.stack[-1], dict):
      raise Malformed
    self.stack[-1].update(entries(zip(items[::2], items[1::2], strict=True)))

  def _global(self, argument):
    self._name(*argument.split(" ", 1))

  def _stack_global(self, _):
    name, module = self.stack.pop(), self.stack.pop()
    if not (isinstance(module, str) and isinstance(name, str)):
      raise Malformed
    self._name(module, name)

  def _name(self, module: str, name: str):
    full = f"{module[:_MOST_CHARACTERS]}.{name[:_MOST_CHARACTERS]}"
    if full not in self._functions and not self._is_name(full):
      raise Refused(full if re.fullmatch(r"[\w.]+", full, re.ASCII) else repr(full))
    self.stack.append(Global(full))

  def _reduce(self, _):
    arguments, function = self.stack.pop(), self.stack.pop()
    self.stack.append(self._call(function, arguments))

  _newobj = _reduce

  def _call(self, function, arguments):
    if (
      not (isinstance(function, Global) and isinstance(arguments, tuple))
      or len(arguments) > _MOST_ARGUMENTS
    ):
      raise Malformed
    if function.name not in self._functions:
      raise Refused(function.name)
    return self._functions[function.name](*arguments)

  def _build(self, _):
    self.stack.pop()  # attributes of an OrderedDict or a Namespace, which are not needed

  def _binpersid(self, _):
    identity = self.stack.pop()
    if not isinstance(identity, tuple) or len(identity) > _MOST_ARGUMENTS:
      raise Malformed
    self.stack.append(self._stored(*identity))


def entries(pairs) -> dict[str, Any]:
  """The pairs whose keys are strings; other keys' hashes can be made to collide."""
  return {key: value for key, value in pairs if isinstance(key, str)}
