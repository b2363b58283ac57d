"""Models of cycles: what an instruction costs by its class, from the processors' manuals.

QEMU executes instructions and knows no time, so cycles are a model: flash without wait states, no
caches, no buses that others use. The sources are Arm's technical reference manuals of the
Cortex-M0 (r0p0, table 3-1) and Cortex-M4 (r0p1, table 3-1). The Cortex-M7 and M55 have no published
tables; their models have the widths of their pipelines. RISC-V stands for a small core, OpenHW's
CV32E40P (its user manual, "Pipeline Details").
"""

import dataclasses
import re
from collections.abc import Callable
from typing import NamedTuple

# Classes and what the names of their instructions begin with; the first that fits.
_ARM = (
  ("several", r"(ldm|stm|push|pop|vldm|vstm|vpush|vpop|ldrd|strd)"),
  ("load", r"v?ldr"),
  ("store", r"v?str"),
  ("divide", r"[su]div"),
  ("root", r"v(div|sqrt)"),
  ("fused", r"v(n?ml[as]|fn?m[as])"),
  ("multiply", r"(mul|ml[as]|[su]m[lmu]|uma)"),
  ("loop", r"le(tp)?$"),
  ("call", r"blx?$"),
  ("exchange", r"bx$"),
  ("branch", r"(b(?!ic|f)|cb|tb)"),
)
_HELIUM = (
  ("vector memory", r"v(ld|st)"),
  ("vector multiply", r"v(q?r?dm)?(mul|ml[as]|fm[as]|rml)"),
)
_RISCV = (
  ("load", r"l[bhw]u?$"),
  ("store", r"s[bhw]$"),
  ("high", r"mulh"),
  ("divide", r"(div|rem)"),
  ("jump", r"(j|jal|jr|jalr|ret|call|tail)$"),
  ("branch", r"b"),
)


class Instruction(NamedTuple):
  """A line of the disassembly: its name, without suffixes of width, and its operands' words."""

  address: int
  function: str
  name: str
  words: tuple[str, ...]
  kind: str


@dataclasses.dataclass(frozen=True)
class Model:
  """Cycles by class of instruction; a class that `cycles` does not name takes 1.

  Attributes:
    about: what the model is, for tables.
    cycles: of a class; for "several" on top of one a register.
    jumped: more cycles of a jump that is taken, by class; "" is any other.
    unaligned: of one more access to memory.
    saved: cycles that an instruction saves, or loses, behind the one before it; its last argument
      tells whether that one saved some itself.
  """

  about: str
  cycles: dict[str, int]
  jumped: dict[str, int]
  unaligned: int
  saved: Callable[[Instruction, Instruction, bool], int] = lambda before, now, again: 0


def _kind(name: str, kinds) -> str:
  return next((kind for kind, pattern in kinds if re.match(pattern, name)), "")


def _arm_kind(name: str, words) -> str:
  if any(re.match(r"q\d", word) for word in words):
    return _kind(name, _HELIUM) or "vector"
  return _kind(name, _ARM)


def _neighbouring(before, now, again) -> int:
  """A load behind a load or a store overlaps it."""
  return int(now.kind == "load" and before.kind in ("load", "store"))


_ALONE = ("several", "divide", "root")


def _reads(before, now) -> bool:
  """Whether an instruction uses what the one before it wrote."""
  writes = before.kind not in ("store", "branch") and not before.name.startswith(("cmp", "tst"))
  return writes and bool(before.words) and before.words[0] in now.words


def _two_at_a_time(before, now, again) -> int:
  """Two instructions go together that need neither each other nor the same unit."""
  unit = lambda i: {"fused": "multiply", "store": "load"}.get(i.kind, i.kind)
  scalar = unit(before) == unit(now) == ""
  if again or before.kind in ("branch", "call", "exchange", *_ALONE) or now.kind in _ALONE:
    return 0
  return int((scalar or unit(before) != unit(now)) and not _reads(before, now))


def _beats(before, now, again) -> int:
  """A vector instruction begins at the half of one before it that another unit computes."""
  both = before.kind.startswith("vector") and now.kind.startswith("vector")
  if both:
    return int(before.kind != now.kind)
  return -int(before.kind == "load" and _reads(before, now))


def _load_and_use(before, now, again) -> int:
  return -int(before.kind == "load" and _reads(before, now))


_VECTOR = {"vector": 2, "vector multiply": 2, "vector memory": 2}
MODELS = {
  "m0": Model(
    "M0: loads and stores 2, a jump 3, a call 4, a product 1",
    {"load": 2, "store": 2, "several": 1},
    {"call": 3, "": 2, "several": 3},
    0,
  ),
  "m4": Model(
    "M4: a load 2, behind another access 1; a jump 3; a division 7; unaligned accesses 1 or 2 more",
    {"load": 2, "several": 1, "divide": 7, "root": 14, "fused": 3},
    {"": 2},
    1,
    _neighbouring,
  ),
  "m7": Model(
    "M7: two independent instructions of different units at a time; a jump 2; a rough guess",
    {"several": 0, "divide": 7, "root": 14},
    {"": 1},
    1,
    _two_at_a_time,
  ),
  "m55": Model(
    "M55: a vector instruction 2, of which 1 overlaps another unit's; a jump 3; a rough guess",
    {"several": 0, "divide": 7, "root": 14, **_VECTOR},
    {"": 2, "loop": 0},
    1,
    _beats,
  ),
  "riscv": Model(
    "RISC-V: a taken branch 3, a jump 2, a stall 1 if a load is used at once, a division 18",
    {"high": 5, "divide": 18},
    {"branch": 2, "jump": 1, "": 1},
    1,
    _load_and_use,
  ),
}


def disassembled(listing: str, riscv: bool) -> list[Instruction]:
  """The instructions of `objdump -d --no-show-raw-insn`."""
  result, function = [], ""
  for line in listing.splitlines():
    if match := re.match(r"[0-9a-f]+ <(.+)>:", line):
      function = match[1]
    elif match := re.match(r"\s*([0-9a-f]+):\s+(\S+)\s*([^<;@#]*)", line):
      name = re.sub(r"\.[nw]$", "", match[2])
      words = tuple(re.findall(r"[a-z]+\w*(?:-\w+)?", match[3]))
      kind = _kind(name, _RISCV) if riscv else _arm_kind(name, words)
      result.append(Instruction(int(match[1], 16), function, name, words, kind))
  return result


def costs(model: Model, instructions: list[Instruction]) -> dict[int, tuple[int, int]]:
  """(cycles, more cycles if it jumps) of each address."""
  result, before, again = {}, None, False
  for now in instructions:
    cycles = model.cycles.get(now.kind, 1)
    if now.kind == "several":
      cycles += _registers(now)
    saved = model.saved(before, now, again) if before else 0
    again = saved > 0
    result[now.address] = (cycles - saved, model.jumped.get(now.kind, model.jumped[""]))
    before = now
  return result


def _registers(instruction: Instruction) -> int:
  """How many registers are loaded or stored."""
  if instruction.name in ("ldrd", "strd"):
    return 2
  # Words are single registers, or ranges such as r4-r7.
  words = instruction.words[0 if re.match(r"v?p", instruction.name) else 1 :]
  ends = [re.fullmatch(r"[rsd](\d+)-[rsd](\d+)", word) for word in words]
  return sum(int(m[2]) - int(m[1]) + 1 if m else 1 for m in ends)
