"""Builds an exported folder for a machine, and runs it there."""

import dataclasses
import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
from machines import Machine

from apprentice_jax.errors import ConfigError

HERE = pathlib.Path(__file__).parent
FLAGS = ("-std=c99", "-ffp-contract=off")  # those of an exported Makefile
PACKAGES = (
  "gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm gcc-riscv64-unknown-elf "
  "picolibc-riscv64-unknown-elf qemu-system-misc"
)
MINUTES = 20  # that a program may run in the emulator


@dataclasses.dataclass(frozen=True)
class Folder:
  """An exported folder: its path, the name that its files begin with, and its JSON file."""

  path: pathlib.Path
  name: str
  about: dict


def folder(path) -> Folder:
  """Reads what an exported folder says of itself.

  Raises:
    ConfigError: the folder is none that `apprentice export --format=c` wrote.
  """
  for file in sorted(pathlib.Path(path).glob("*.json")):
    about = json.loads(file.read_text("utf-8"))
    if "image_shape" in about and (file.parent / f"{file.stem}.h").is_file():
      return Folder(file.parent, file.stem, about)
  raise ConfigError(f"{path} is no folder that `apprentice export --format=c` wrote.")


def run(command, **options) -> str:
  """What a program prints.

  Raises:
    ConfigError: the program is missing, or fails; the message has its last words.
  """
  if shutil.which(command[0]) is None:
    raise ConfigError(f"{command[0]} is not installed: on Debian, apt install {PACKAGES}.")
  done = subprocess.run(
    [str(word) for word in command],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    check=False,
    **options,
  )
  if done.returncode:
    raise ConfigError(f"{command[0]} fails: {done.stdout.strip()[-2000:]}")
  return done.stdout


def network_object(machine: Machine, network: Folder, flags, build: pathlib.Path) -> pathlib.Path:
  """Compiles the network alone, as its user would."""
  output = build / "network.o"
  _compile(machine, [*FLAGS, *flags, "-c", network.path / f"{network.name}.c"], output)
  return output


def bench(machine: Machine, network: Folder, code: pathlib.Path, build: pathlib.Path):
  """Links the program that draws images and measures."""
  (build / "network.h").write_text(_header(machine, network))
  return link(machine, [code, HERE / "bench.c"], build / "bench.elf", network.path, build)


def own_test(machine: Machine, network: Folder, code: pathlib.Path, build: pathlib.Path):
  """Links the network's own test."""
  sources = [code, network.path / f"{network.name}_test.c"]
  return link(machine, sources, build / "test.elf", network.path)


def link(machine: Machine, sources, output: pathlib.Path, *include) -> pathlib.Path:
  """Links a program with the machine's start-up.

  Args:
    sources: objects and C files.
    output: of the program.
    *include: folders of headers.
  """
  paths = [f"-I{path}" for path in (HERE, *include)]
  options = ["-std=gnu11", "-O2", *paths, *_layout(machine), "-Wl,-e,begin"]
  if "picolibc" not in "".join(machine.flags):
    options.append("--specs=nosys.specs")
  sources = [HERE / machine.start, HERE / "board.c", *sources]
  _compile(machine, [*options, *sources, "-lm"], output)
  return output


def alone(machine: Machine, code: pathlib.Path, build: pathlib.Path) -> pathlib.Path:
  """Links the network and what it pulls from libraries, with nothing else; returns the map."""
  roots = [f"-Wl,-u,{symbol}" for symbol in public_symbols(machine, code)]
  output, memory_map = build / "alone.elf", build / "alone.map"
  options = [*_layout(machine), *roots, f"-Wl,-e,{roots[0][7:]}", f"-Wl,-Map,{memory_map}"]
  _compile(machine, [*options, code, "-lm"], output)
  return memory_map


def public_symbols(machine: Machine, code: pathlib.Path) -> list[str]:
  listing = run([machine.tools + "nm", "--defined-only", "--extern-only", code])
  return [line.split()[2] for line in listing.splitlines()]


def emulate(machine: Machine, program: pathlib.Path, argument="", plugin=()) -> str:
  """What a program prints on the machine.

  Raises:
    ConfigError: it ends with another status than 0, by a fault say, or does not end.
  """
  semihosting = "enable=on,target=native,arg=program"
  if argument != "":
    semihosting += f",arg={argument}"
  command = [*machine.emulator, "-nographic", "-monitor", "none", "-serial", "null"]
  command += ["-semihosting-config", semihosting, "-kernel", program, *plugin]
  try:
    return run(command, stdin=subprocess.DEVNULL, timeout=60 * MINUTES)
  except subprocess.TimeoutExpired:
    raise ConfigError(f"{program.name} did not end on {machine.title}.") from None


def printed(output: str) -> tuple[np.ndarray, int, int]:
  """(logits, bytes of the arena, bytes of the stack) of what the benchmark's program prints."""
  rows = [line.split()[1:] for line in output.splitlines() if line.startswith("logits ")]
  bits = np.array([[int(word, 16) for word in row] for row in rows], np.uint32)
  number = lambda name: int(re.search(rf"^{name} (\d+)$", output, re.M)[1])
  return bits.view(np.float32), number("arena"), number("stack")


def images(count: int, shape) -> np.ndarray:
  """The images that bench.c draws, uint8 (count, height, width, channels)."""
  i, y, x, c = np.indices((count, *shape), np.uint32)
  shift = i % 4
  z = i << 26 ^ (y >> shift) << 14 ^ (x >> shift) << 2 ^ c ^ i >> 6
  z = (z ^ z >> 16) * np.uint32(0x7FEB352D)
  z = (z ^ z >> 15) * np.uint32(0x846CA68B)
  return (z ^ z >> 16).astype(np.uint8)


def _compile(machine: Machine, options, output: pathlib.Path):
  run([machine.tools + "gcc", *machine.flags, *options, "-o", output])


def _layout(machine: Machine) -> list[str]:
  places = {
    "flash_at": machine.flash[0],
    "flash_bytes": machine.flash[1],
    "ram_at": machine.ram[0],
    "ram_bytes": machine.ram[1],
  }
  symbols = [f"-Wl,--defsym={name}={value:#x}" for name, value in places.items()]
  return ["-nostartfiles", "-Wl,--gc-sections", *symbols, f"-T{HERE / 'machine.ld'}"]


def _header(machine: Machine, network: Folder) -> str:
  """network.h, which names the parts of the exported header for bench.c."""
  name, upper = network.name, network.name.upper()
  height, width, channels = network.about["image_shape"]
  return f"""#include "{name}.h"
#define network_logits {name}_logits
typedef {name}_arena_t network_arena_t;
enum {{
  NETWORK_HEIGHT = {height},
  NETWORK_WIDTH = {width},
  NETWORK_CHANNELS = {channels},
  NETWORK_CLASSES = {len(network.about["class_names"])},
  IMAGE_BYTES = NETWORK_HEIGHT * NETWORK_WIDTH * NETWORK_CHANNELS
}};
#ifdef {upper}_IMAGE_IN_ARENA
#define NETWORK_IMAGE {upper}_IMAGE
#endif
#define STACK_POINTER "{machine.stack_pointer}"
"""
