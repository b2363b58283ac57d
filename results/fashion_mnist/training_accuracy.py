"""Mean training accuracy by epoch, and over the last ten records (about 200 steps), of a study's
cells.

Usage: python training_accuracy.py WORKDIR > training_accuracy.csv
"""

import json
import pathlib
import sys

print("cell,network,epoch 1,epoch 2,epoch 3,epoch 4,epoch 5,last 200 steps")
for cell in sorted((pathlib.Path(sys.argv[1]) / "cells").iterdir()):
  records = [json.loads(line) for line in (cell / "metrics.jsonl").read_text().splitlines()]
  for network in ("student", "teacher"):
    rows = [
      (r["epoch"], 100 * r[f"{network}_accuracy"]) for r in records if f"{network}_accuracy" in r
    ]
    if not rows:
      continue
    means = [[a for e, a in rows if epoch - 1 < e <= epoch] for epoch in range(1, 6)]
    means.append([a for _, a in rows[-10:]])
    print(",".join([cell.name, network, *(f"{sum(m) / len(m):.2f}" if m else "" for m in means)]))
