"""Reading an optimized, scheduled TPU program: cycles, all-reduces, and what memory holds when."""

import collections
import itertools
import math
import re
from typing import NamedTuple

_NETWORKS = ("teacher", "student")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?")
_PASSES = [f"{network} {way}" for way in ("forward", "backward") for network in _NETWORKS]
PARTS = (*_PASSES, "optimizer", "health", "dispatch", "other")


def cycles(text: str, looped: bool = False) -> dict[str, int]:
  """The compiler's estimate of every fusion's cycles, by the part of the step it belongs to.

  A fusion belongs where its root does. The part "health" runs in some steps only. The part
  "dispatch" runs once for all steps of a program that loops over them.

  Args:
    text: the program.
    looped: whether the steps are a loop, outside of which the entry computation has only what is
      done once.
  """
  found, entry = collections.Counter({part: 0 for part in PARTS}), False
  for line in text.splitlines():
    entry = line.startswith("ENTRY") or entry and line != "}"
    if match := re.search(r'"estimated_cycles":"(\d+)"', line):
      found["dispatch" if looped and entry else _part(line)] += int(match[1])
  return dict(found)


def all_reduces(text: str) -> list[int]:
  """The bytes of every all-reduce of the program, without what layouts add."""
  return [
    sum(_size(*array, padded=False) for array in _ARRAY.findall(_result(line)[0]))
    for line in text.splitlines()
    if re.search(r"= .*\ball-reduce(-start)?\(", line) and not line.lstrip().startswith("//")
  ]


class Memory(NamedTuple):
  """Temporaries in HBM, by the schedule; the compiler's own figure adds gaps between them.

  Attributes:
    peak: bytes at the fullest moment.
    activations: bytes kept from the forward to the backward pass, at its start.
  """

  peak: int
  activations: int


def memory(text: str) -> Memory:
  """Follows the schedule of the entry computation and what is alive at each of its instructions."""
  instructions = list(_instructions(text))
  place, size, holds, last = {}, {}, {}, {}
  for k, (name, shape, operation, operands, _) in enumerate(instructions):
    place[name] = k
    inside = set().union(*(holds.get(o, set()) for o in operands))
    # A tuple, a bitcast or the end of a copy stands for the memory of what it is made of.
    if operation in _SAME or operation.endswith("-done"):
      holds[name] = inside
    else:
      holds[name] = {name} | (inside if operation.endswith("-start") else set())
      size[name] = 0 if operation == "parameter" else _allocated(operation, shape)
    # Whatever it reads, and all that lies behind, is alive until here.
    for held in set(operands).union(*(holds.get(o, set()) for o in operands)) | {name}:
      last[held] = k
  # What is alive changes where a result is made, and after it was last read.
  change = collections.Counter()
  for name, bytes_ in size.items():
    change[place[name]] += bytes_
    change[last[name] + 1] -= bytes_
  backward = next((k for k, i in enumerate(instructions) if _BACKWARD.search(i[4])), 0)
  kept = sum(b for n, b in size.items() if place[n] < backward <= last[n])
  alive = itertools.accumulate(change[k] for k in range(len(instructions)))
  return Memory(max(alive, default=0), kept)


# The first of these, the classifier's, begins the backward pass.
_BACKWARD = re.compile(r"transpose\(.*(dot_general|conv_general_dilated)")
# What has no memory of its own.
_SAME = ("bitcast", "get-tuple-element", "tuple", "optimization-barrier")


def _instructions(text: str):
  """(name, shape, operation, operands, name in the source) of the entry computation, in its
  order."""
  entry = text[text.index("\nENTRY") :]
  for line in entry[: entry.index("\n}")].splitlines():
    if not (match := re.match(r"\s+(?:ROOT )?%([\w.\-]+) = ", line)):
      continue
    shape, rest = _result(line)
    operation, _, rest = rest.partition("(")
    operands = re.findall(r"%([\w.\-]+)", _closed(rest))
    yield match[1], shape, operation, operands, _source(rest)


def _source(line: str) -> str:
  """The name in the source of an instruction; "" where it has none."""
  match = re.search(r'op_name="([^"]*)"', line)
  return match[1] if match else ""


def _result(line: str) -> tuple[str, str]:
  """The text right of the equals sign: the result's shape, and the rest."""
  right = line.partition(" = ")[2]
  if right.startswith("("):
    inside = _closed(right[1:])
    return inside, right[len(inside) + 3 :]
  shape, _, rest = right.partition(" ")
  return shape, rest


def _closed(text: str) -> str:
  """Text up to the parenthesis that closes one opened before it."""
  depth = 1
  for match in re.finditer(r"[()]", text):
    depth += 1 if match[0] == "(" else -1
    if not depth:
      return text[: match.start()]
  return text


def _allocated(operation: str, shape: str) -> int:
  arrays = _ARRAY.findall(shape)
  # The results of a copy are (to, from, ...), those of other starts (from, to, ...).
  if operation.endswith("-start"):
    arrays = arrays[:1] if operation == "copy-start" else arrays[1:2]
  # S(1) is memory on the core.
  return sum(_size(*array) for array in arrays if "S(" not in array[2])


def _size(dtype: str, dimensions: str, layout: str, padded: bool = True) -> int:
  """Bytes of an array; in tiles, as in ``{3,0,2,1:T(8,128)(2,1)}``, with their padding."""
  sizes = [int(d) for d in dimensions.split(",") if d]
  order, tiled, tile = layout.partition(":T(")
  # The layout lists dimensions with the minor one first; tiles end with it.
  if padded and tiled and sizes:
    sizes = [sizes[int(i)] for i in order.split(",")]
    for i, length in enumerate(reversed(tile.partition(")")[0].split(","))):
      if i < len(sizes):
        sizes[i] = -(-sizes[i] // int(length)) * int(length)
  bits = re.search(r"\d+", dtype.replace("pred", "u8"))
  return math.prod(sizes) * (int(bits[0]) // 8 if bits else 0)


def _part(line: str) -> str:
  name = _source(line)
  if "health/" in name and "/cond" in name:
    return "health"
  for network in _NETWORKS:
    if f"transpose(jvp({network}))" in name:
      return f"{network} backward"
    if f"jvp({network})" in name or f"/{network}/" in name:
      return f"{network} forward"
  return "optimizer" if "/optimizer/" in name else "other"
