"""The flash of a network: code, tables, and what it pulls from libraries."""

import pathlib
import re

# A section of the program or, indented, of an input file; a long name stands in a line of its own.
_SECTION = re.compile(r"^( ?)(\.\S+)\s+0x[0-9a-f]+\s+0x([0-9a-f]+)(?: (\S.*))?$", re.M)
_KINDS = {
  "text": ".text",
  "rodata": (".rodata", ".srodata"),
  "data": (".data", ".sdata"),
  "bss": (".bss", ".sbss"),
}


def sizes(memory_map: pathlib.Path) -> dict:
  """Reads the linker's map of a program that has a network and nothing else; see `building.alone`.

  Returns:
    Bytes of ``code`` (.text of all), ``weights`` (.rodata and .data of the network), ``constants``
    (.rodata and .data of libraries), ``flash`` (the three), ``static`` RAM (.data and .bss), and
    ``libraries``: .text, .rodata and .data by member.
  """
  text = memory_map.read_text().partition("\nLinker script and memory map\n")[2]
  program = dict.fromkeys(_KINDS, 0)
  tables, libraries = 0, {}
  for indent, section, size, source in _SECTION.findall(text):
    kind, size = _kind(section), int(size, 16)
    if kind and not indent:
      program[kind] += size
    elif kind and kind != "bss" and size and source:
      member = re.search(r"([^/]+)\.a\((?:lib_a-)?(.+)\.o\)", source)
      if member:
        name = f"{member[1]}: {member[2]}"
        libraries[name] = libraries.get(name, 0) + size
      if not member and kind != "text":
        tables += size
  flash = program["text"] + program["rodata"] + program["data"]
  return {
    "code": program["text"],
    "weights": tables,
    "constants": flash - program["text"] - tables,
    "flash": flash,
    "static": program["data"] + program["bss"],
    "libraries": dict(sorted(libraries.items(), key=lambda item: -item[1])),
  }


def _kind(section: str) -> str:
  return next((kind for kind, begin in _KINDS.items() if section.startswith(begin)), "")
