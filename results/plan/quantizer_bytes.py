"""Bytes that each quantizer reads and writes, compiled for one TPU v5e chip, against the fewest
possible.

python results/plan/quantizer_bytes.py quantizer-bytes.json > quantizer-bytes.md
"""

import json
import pathlib
import sys

from apprentice_jax.plan import chips


def main(out: str):
  _, devices = chips.slice_of("v5e:2x2")
  import passes

  report = {name: passes.measured(case, devices[0]) for name, case in passes.CASES.items()}
  pathlib.Path(out).write_text(json.dumps(report, indent=1) + "\n")
  print(passes.table(report))


if __name__ == "__main__":
  main(*sys.argv[1:])
