"""The machines: what QEMU emulates, the compiler's flags, memory, and the model of cycles."""

import dataclasses

ARM = "arm-none-eabi-"
RISCV = "riscv64-unknown-elf-"
KB = 1024


@dataclasses.dataclass(frozen=True)
class Machine:
  """A machine of QEMU with the processor that code is built for.

  Attributes:
    title: as tables call it.
    emulator: QEMU's program and its options.
    tools: what the names of the compiler's programs begin with.
    flags: the compiler's, for the processor.
    start: the file with the start-up.
    stack_pointer: the instruction that reads it, for the benchmark's program.
    flash, ram: (address, bytes).
    model: the name of its model in `cycles`.
  """

  title: str
  emulator: tuple[str, ...]
  tools: str
  flags: tuple[str, ...]
  model: str
  flash: tuple[int, int] = (0, 512 * KB)
  ram: tuple[int, int] = (0x20000000, 256 * KB)
  start: str = "start_arm.c"
  stack_pointer: str = "mov %0, sp"

  @property
  def programs(self) -> tuple[str, ...]:
    """The installed programs that the machine takes."""
    return (self.emulator[0], *(self.tools + p for p in ("gcc", "nm", "objdump")))


def _cortex(title, board, model, *flags, **memory) -> Machine:
  emulator = ("qemu-system-arm", "-M", board)
  return Machine(title, emulator, ARM, ("-mthumb", *flags), model, **memory)


MACHINES = {
  # An M4 stands in for the larger M0 that QEMU lacks; its start-up makes it as strict.
  "m0": _cortex(
    "Cortex-M0 code on mps2-an386, unaligned accesses trapped",
    "mps2-an386",
    "m0",
    "-mcpu=cortex-m0",
  ),
  "microbit": _cortex(
    "Cortex-M0, micro:bit",
    "microbit",
    "m0",
    "-mcpu=cortex-m0",
    flash=(0, 256 * KB),
    ram=(0x20000000, 16 * KB),
  ),
  "m4": _cortex(
    "Cortex-M4F, mps2-an386",
    "mps2-an386",
    "m4",
    "-mcpu=cortex-m4",
    "-mfpu=fpv4-sp-d16",
    "-mfloat-abi=hard",
  ),
  "m7": _cortex(
    "Cortex-M7, mps2-an500",
    "mps2-an500",
    "m7",
    "-mcpu=cortex-m7",
    "-mfpu=fpv5-d16",
    "-mfloat-abi=hard",
  ),
  "m55": _cortex(
    "Cortex-M55 with Helium, mps3-an547",
    "mps3-an547",
    "m55",
    "-mcpu=cortex-m55",
    "-mfloat-abi=hard",
  ),
  "riscv": Machine(
    "RISC-V rv32imc, virt",
    ("qemu-system-riscv32", "-M", "virt", "-cpu", "rv32,f=false,d=false", "-bios", "none"),
    RISCV,
    ("-march=rv32imc", "-mabi=ilp32", "--specs=picolibc.specs"),
    "riscv",
    flash=(0x80000000, 4096 * KB),
    ram=(0x80400000, 256 * KB),
    start="start_riscv.c",
    stack_pointer="mv %0, sp",
  ),
}
