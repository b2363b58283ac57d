"""What a network takes on a microcontroller: RAM and flash, before anything is flashed."""

import dataclasses
import pathlib
import re
import shutil
import subprocess
import tempfile

from apprentice_jax.deploy.c.memory import Memory
from apprentice_jax.deploy.network import Lowered
from apprentice_jax.errors import ConfigError

KB = 1024
# Of the deepest calls, measured by benchmarks/mcu on five processors and rounded up; the
# classifier's inputs come on top.
STACK = 768
COMPILER = "arm-none-eabi-gcc"
FLAGS = ("-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard", "-std=c99", "-O2")
_CONSTANT = re.compile(r"^static const (\w+) \w+\[(\d+)\]", re.MULTILINE)
_BYTES = {"uint8_t": 1, "int8_t": 1, "float": 4}


@dataclasses.dataclass(frozen=True)
class Report:
  """The memory of a network, in bytes.

  Attributes:
    arena: what the caller gives.
    moment, moment_bytes: the step in which most levels are in use, and how much they take.
    image: of an image, if it has no place in the arena; else 0.
    stack: an estimate.
    tables: weights and other constants.
    code: by `COMPILER` for a Cortex-M4, or None where that compiler is missing.
  """

  arena: int
  moment: str
  moment_bytes: int
  image: int
  stack: int
  tables: int
  code: int | None

  @property
  def ram(self) -> int:
    return self.arena + self.image + self.stack

  @property
  def flash(self) -> int:
    return self.tables + (self.code or 0)

  def lines(self) -> list[str]:
    """The report as text."""
    where = f"image {self.image:,}" if self.image else "the image lies in the arena"
    code = (
      f"code {self.code:,} by {COMPILER} {' '.join(FLAGS[-1:])} for Cortex-M4"
      if self.code is not None
      else f"code unknown: {COMPILER} is not there"
    )
    return [
      f"RAM    {self.ram:,} bytes: arena {self.arena:,}, {where}, stack about {self.stack:,}",
      f"       the largest moment is {self.moment}, with {self.moment_bytes:,} bytes of levels",
      f"flash  {self.flash:,} bytes: weights and tables {self.tables:,}, {code}",
    ]

  def require(self, max_ram: int, max_flash: int):
    """Refuses a network that takes more; 0: no limit.

    Raises:
      ConfigError: it takes more; the message says how much, and what would help.
    """
    if max_ram and self.ram > max_ram:
      raise ConfigError(
        f"the network takes {self.ram:,} bytes of RAM, more than --max_ram={max_ram}: "
        f"{self.moment} has the largest levels, which a narrower student (width=...) or smaller "
        "images shrink."
      )
    if max_flash and self.flash > max_flash:
      raise ConfigError(
        f"the network takes {self.flash:,} bytes of flash, more than --max_flash={max_flash}: "
        f"{self.tables:,} of them are weights and tables, which fewer bits or a narrower student "
        "(width=...) shrink."
      )


def report(network: Lowered, placed: Memory, files: dict[str, str], name: str) -> Report:
  """The report of a network's files.

  Args:
    network: the network.
    placed: its memory.
    files: text by name; NAME.h and NAME.c are read.
    name: the beginning of its names.
  """
  height, width, channels = network.image_shape
  moment = max(placed.moments, key=placed.moments.get)
  tables = sum(_BYTES[kind] * int(n) for kind, n in _CONSTANT.findall(files[f"{name}.c"]))
  tables += sum(len(c.encode()) + 1 + 4 for c in network.class_names)
  return Report(
    placed.arena,
    moment,
    placed.moments[moment],
    0 if placed.image is not None else height * width * channels,
    STACK + network.nodes[-1].weights.levels.shape[2],
    tables,
    _code(files, name, tables),
  )


def _code(files: dict[str, str], name: str, tables: int) -> int | None:
  """Bytes of code and small constants, or None without the compiler."""
  if not shutil.which(COMPILER):
    return None
  with tempfile.TemporaryDirectory() as folder:
    for file in (f"{name}.h", f"{name}.c"):
      (pathlib.Path(folder) / file).write_text(files[file])
    compiled = [COMPILER, *FLAGS, "-c", f"{name}.c", "-o", "network.o"]
    done = subprocess.run(compiled, cwd=folder, capture_output=True, check=False)
    if done.returncode:
      return None
    size = [COMPILER.replace("gcc", "size"), "network.o"]
    text = subprocess.run(size, cwd=folder, capture_output=True, text=True, check=True).stdout
  code, data, *_ = text.splitlines()[1].split()
  return int(code) + int(data) - tables


def size(text: str, flag: str) -> int:
  """The bytes that a user writes: "36864", "36KB" (of 1,024 bytes), "1MB"; "": 0.

  Raises:
    ConfigError: it is no such size.
  """
  match = re.fullmatch(r"(\d+)\s*(|B|KB|MB)", text.strip(), re.IGNORECASE)
  if text and not match:
    raise ConfigError(f"{flag}={text} is no size: write bytes, or 36KB (of 1,024 bytes).")
  unit = {"": 1, "B": 1, "KB": KB, "MB": KB * KB}
  return int(match[1]) * unit[match[2].upper()] if text else 0
