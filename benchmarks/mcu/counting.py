"""Counts the instructions of one call of a network in QEMU, by function and by layer."""

import collections
import pathlib
import re

import building
import cycles
from machines import Machine

from apprentice_jax.errors import ConfigError

_SMALL = 0.005  # of all instructions: calls below it are no layers
_MOST = 0.9  # of all instructions: a call above it holds the layers


def plugin(build: pathlib.Path) -> pathlib.Path:
  """Compiles the counter for QEMU."""
  output = build / "counter.so"
  source = building.HERE / "counter.c"
  building.run(["gcc", "-std=gnu11", "-O2", "-shared", "-fPIC", source, "-o", output])
  return output


def count(machine: Machine, program: pathlib.Path, name: str, counter: pathlib.Path) -> dict:
  """Counts one call in the benchmark's program.

  Args:
    machine: to run it on.
    program: from `building.bench`.
    name: the network's.
    counter: from `plugin`.

  Returns:
    ``instructions``, ``cycles`` and ``unaligned``: the accesses to memory that unaligned addresses
    add. ``functions`` and ``layers`` are lists of (name, instructions, cycles). Layers are in the
    order of their calls. A row "between" is what their caller computes by itself or with small
    calls; the last one has all rows that are small.
  """
  functions = _functions(machine, program)
  listing = building.run([machine.tools + "objdump", "-d", "--no-show-raw-insn", program])
  code = cycles.disassembled(listing, machine.model == "riscv")
  costs = cycles.costs(cycles.MODELS[machine.model], code)
  entry = parent = f"{name}_logits"
  callees, counts = _run(machine, program, functions, entry, parent, 2**60, counter)
  total = sum(row[2] for row in counts)
  for _ in range(4):
    least = int(_SMALL * total)
    callees, counts = _run(machine, program, functions, entry, parent, least, counter)
    parts = _sums(counts, costs, lambda row: row[0])
    largest = max(parts, key=lambda part: parts[part][0])
    if not callees[largest] or parts[largest][0] < _MOST * total:
      break
    parent = _name_of(functions, callees[largest])
  names = {i.address: _plain(i.function, name) for i in code}
  by_function = _sums(counts, costs, lambda row: names[row[1]])
  return {
    "instructions": total,
    "cycles": sum(cycles for _, cycles in parts.values()),
    "unaligned": sum(row[4] for row in counts),
    "functions": sorted(([k, *v] for k, v in by_function.items()), key=lambda row: -row[2]),
    "layers": _layers(parts, callees, least, lambda at: _plain(_name_of(functions, at), name)),
  }


def _functions(machine: Machine, program) -> dict[str, tuple[int, int]]:
  """(first address, address behind it) of the functions whose sizes the program knows."""
  listing = building.run([machine.tools + "nm", "-S", program])
  rows = re.findall(r"^([0-9a-f]+) ([0-9a-f]+) [tTwW] (\S+)$", listing, re.M)
  return {name: (int(at, 16), int(at, 16) + int(size, 16)) for at, size, name in rows}


def _run(machine, program, functions, entry, parent, least, counter):
  """(address of each part's callee, rows of counter.c's file)."""
  out = program.with_suffix(".counts")
  out.unlink(missing_ok=True)
  span = lambda ends: f"{ends[0]:x}-{ends[1]:x}"
  ends = list(zip(*functions.values()))
  arguments = [
    f"code={span((min(ends[0]), _end_of_code(machine, program)))}",
    f"entry={functions[entry][0]:x}",
    f"back={span(functions['measured_call'])}",
    f"parent={span(functions[parent])}",
    f"least={least}",
    f"out={out}",
  ]
  building.emulate(machine, program, 1, ["-plugin", ",".join([str(counter), *arguments])])
  lines = out.read_text().splitlines() if out.exists() else []
  if not lines:
    raise ConfigError(f"the counter saw no call of {entry} on {machine.title}.")
  callees = [int(line[5:], 16) for line in lines if line.startswith("part ")]
  rows = [line.split() for line in lines[len(callees) :]]
  return callees, [(int(part), int(at, 16), *map(int, rest)) for part, at, *rest in rows]


def _end_of_code(machine: Machine, program) -> int:
  sections = building.run([machine.tools + "objdump", "-h", program])
  size, address = re.search(r" \.text +([0-9a-f]+) +([0-9a-f]+)", sections).groups()
  return int(size, 16) + int(address, 16)


def _sums(counts, costs, key) -> dict:
  """[instructions, cycles] by what `key` gives of a row."""
  result = collections.defaultdict(lambda: [0, 0])
  for row in counts:
    _, address, executed, jumped, unaligned = row
    base, jump = costs[address]
    total = result[key(row)]
    total[0] += executed
    total[1] += executed * base + jumped * jump + unaligned
  return dict(result)


def _layers(parts, callees, least, name_of) -> list:
  rows, rest = [], [0, 0]
  for part in sorted(parts):
    if parts[part][0] >= least:
      rows.append([name_of(callees[part]) if callees[part] else "between", *parts[part]])
    else:
      rest = [a + b for a, b in zip(rest, parts[part])]
  return [*rows, ["between, small", *rest]]


def _name_of(functions, address: int) -> str:
  inside = lambda ends: ends[0] <= address < ends[1]
  return next((name for name, ends in functions.items() if inside(ends)), f"{address:#x}")


def _plain(function: str, name: str) -> str:
  """A function's name in the source, without the network's and the compiler's additions."""
  plain = re.sub(r"(\.(constprop|part|isra|cold|\d+))+$", "", function)
  return plain.removeprefix(f"{name}_")
