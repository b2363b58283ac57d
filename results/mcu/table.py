"""The table of README.md, from the JSON files of make.sh: python results/mcu/table.py"""

import json
import pathlib

from apprentice_jax import document

HERE = pathlib.Path(__file__).parent
HEADINGS = (
  "network|machine|flags|images equal|instructions, M|cycles (model), M|code, KB|weights, KB|"
  "flash, KB|arena, KB|stack, KB|RAM, KB"
)


def rows():
  """A row for each network, machine and level of optimisation."""
  for path in sorted(HERE.glob("O?/*.json"), key=lambda path: (path.stem, path.parent.name)):
    report = json.loads(path.read_text())
    for row in report["machines"]:
      sizes = (row[key] for key in ("code", "weights", "flash", "arena", "stack", "ram"))
      yield [
        f"{report['architecture']} {report['precision']}",
        row["machine"].partition(",")[0],
        f"-{path.parent.name}",
        row["check"].removeprefix("PASS: "),
        f"{row['instructions'] / 1e6:.2f}",
        f"{row['cycles'] / 1e6:.2f}",
        *(f"{size / 1024:.1f}" for size in sizes),
      ]


if __name__ == "__main__":
  print(document.table(HEADINGS.split("|"), list(rows())))
