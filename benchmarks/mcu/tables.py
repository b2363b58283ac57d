"""The report: one table of machines in the manner of ST's model zoo, and each machine's layers."""

import csv
import io

import cycles
from machines import KB, MACHINES

# Figures of others for MLPerf Tiny's ResNet-8 (one 32x32x3 image, 12.50 million products): name,
# millions of instructions, cycles, KB of code, KB of weights, KB of RAM, source.
OTHERS = (
  ("CMSIS-NN 3.6, int8, M4", "29.85", "35.6 modelled", "19.5", "81.4", "52.5", "counted"),
  ("CMSIS-NN 3.6, int8, M7", "29.90", "", "", "", "", "counted"),
  ("CMSIS-NN 3.6, int8, M55 with Helium", "4.81", "", "", "", "", "counted"),
  ("CMSIS-NN 3.6, int8, M0", "97.6", "", "", "", "", "counted"),
  ("TFLM with CMSIS-NN, int8, M4", "29.87", "35.6 modelled", "59.7", "98.5", "56", "counted"),
  ("X-CUBE-AI 9 and Plumerai, int8, M4", "", "19.8, 20.1 measured", "", "", "", "MLPerf Tiny"),
  ("STEdgeAI 3.0, int8, M7", "", "11.5 measured", "36.1", "76.9", "63.8", "ST's model zoo"),
)
SOURCES = """\
* counted: the library's functions for the same network in QEMU 7.2, built by arm-none-eabi-gcc 12.2
  with -O3; TFLM ran the benchmark's own int8 file. This command does not repeat it.
* MLPerf Tiny: the two best closed engines of rounds 1.1 and 1.2, on an STM32L4R5 at 120 MHz;
  the published time of an image, times the clock.
* ST's model zoo: its published table, 28.7 ms on an STM32H7 at 400 MHz; accuracy 85.59%.
"""
COLUMNS = {
  "machine": "machine",
  "check": "logits",
  "flags": "compiler flags",
  "instructions": "instructions, M",
  "cycles": "cycles, modelled, M",
  "code": "code flash, KB",
  "weights": "weights flash, KB",
  "flash": "flash, KB",
  "arena": "arena, KB",
  "image": "image, KB",
  "stack": "stack, KB",
  "ram": "RAM, KB",
}


def markdown(report: dict) -> str:
  """The whole report as a page."""
  rows = report["machines"]
  text = [
    f"# {report['name']}: {report['architecture']} at {report['precision']}, "
    f"{'x'.join(map(str, report['image_shape']))}",
    "",
    *_about(report),
    "",
    *_table(COLUMNS.values(), [[_cell(key, row) for key in COLUMNS] for row in rows]),
    "",
    "* KB is 1,024 bytes. Code is .text, with that of what the network pulls from libraries.",
    "  Weights are the network's tables.",
    "* RAM is arena, image and the stack that one call wrote; "
    + ("the image lies in the arena." if report["image_in_arena"] else "the image lies apart."),
    "* Instructions are those of one call, counted in QEMU. Cycles are a model by class of",
    "  instruction, without wait states of the flash. Classes that are not named take 1:",
    *dict.fromkeys(f"  * {cycles.MODELS[MACHINES[row['key']].model].about}." for row in rows),
    "",
    "## Others",
    "",
    "MLPerf Tiny's ResNet-8:",
    "",
    *_table(
      ("what", "instructions, M", "cycles, M", "code, KB", "weights, KB", "RAM, KB", "source"),
      OTHERS,
    ),
    "",
    SOURCES,
  ]
  for row in rows:
    text += _details(row)
  return "\n".join(text).rstrip() + "\n"


def machines_csv(report: dict) -> str:
  """A line for each machine."""
  file = io.StringIO()
  keys = ["name", *COLUMNS]
  writer = csv.DictWriter(file, keys, extrasaction="ignore", lineterminator="\n")
  writer.writeheader()
  for row in report["machines"]:
    writer.writerow({"name": report["name"], **row, "flags": " ".join(row["flags"])})
  return file.getvalue()


def _about(report) -> list[str]:
  compared = f"{report['images']} drawn images against the definition, and " * bool(report["model"])
  products = f"{(report['macs'] or 0) / 1e6:.2f} million products of one image"
  return [
    *(
      [f"{products}, {report['zeros']:.0%} of them with weights of zero."] if report["macs"] else []
    ),
    f"Checked bit for bit: {compared}the two images of the exported test.",
    *([f"Accuracy: {report['accuracy']}."] if report["accuracy"] else []),
    f"Built by {'; '.join(report['compilers'])}.",
    f"Run on {report['emulator']}.",
  ]


def _cell(key: str, row: dict) -> str:
  value = row.get(key)
  if value is None:
    return ""
  if key == "flags":
    return f"`{' '.join(value)}`"
  if key in ("instructions", "cycles"):
    return f"{value / 1e6:.2f}"
  return f"{value / KB:.1f}" if isinstance(value, int) else value


def _table(head, rows) -> list[str]:
  lines = [list(head), ["---"] * len(list(head)), *rows]
  return [f"| {' | '.join(line)} |" for line in lines]


def _details(row: dict) -> list[str]:
  """Layers, functions and library members of one machine."""
  if "instructions" not in row:
    return []
  share = lambda n: f"{100 * n / row['cycles']:.1f}%"
  figures = lambda name, n, c: [name, f"{n:,}", f"{c:,}", share(c)]
  head = ("instructions", "cycles", "of all")
  layers = [figures(f"{i}: {name}", n, c) for i, (name, n, c) in enumerate(row["layers"], 1)]
  functions = [figures(f"`{name}`", n, c) for name, n, c in row["functions"]]
  members = ", ".join(f"{name} {size}" for name, size in row["libraries"].items())
  return [
    f"## {row['machine']}",
    "",
    f"From libraries, bytes: {members or 'nothing'}. Unaligned addresses add {row['unaligned']:,}",
    "accesses to memory.",
    "",
    *_table(("call", *head), layers),
    "",
    *_table(("function", *head), functions),
    "",
  ]
