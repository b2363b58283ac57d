"""The comparison's table in Markdown, from the JSON files beside this one.

python results/deploy/table.py
"""

import json
import pathlib

HERE = pathlib.Path(__file__).parent


def main():
  lines = [
    "| student | accumulators: of them differ | levels: off by one, by more | stem's levels off by "
    "one | NumPy "
    "and compiled, from the stem on | largest logit difference | another class | beyond the margin "
    "|",
    "|---|---|---|---|---|---|---|---|",
  ]
  for path in sorted(HERE.glob("fashion-*.json")):
    r = json.loads(path.read_text())
    logits = [r[k] for k in ("numpy, of the packed file", "lowered", "stablehlo")]
    count = lambda key: f"{r[key]:,}" if key in r else ""
    if "accumulators" in r:
      accumulators = f"{count('accumulators')}: {count('accumulators that differ')}"
      levels = f"{count('levels')}: {count('levels off by one')}, {count('levels off by more')}"
      stem = f"{count('levels of the float stem')}: {count('of the float stem off by one')}"
      ends = (
        f"{count('accumulators, numpy and compiled, that differ')} sums and "
        f"{count('levels, numpy and compiled, that differ')} levels differ"
      )
    else:
      within = r.get("float accumulators, relative")
      accumulators = (
        f"floats, within {within:.1e} of the largest" if within else "one sum of floats in training"
      )
      levels = stem = ends = ""
    lines.append(
      f"| {path.stem.removeprefix('fashion-')} | {accumulators} | {levels} | {stem} | {ends} | "
      f"{max(l['largest logit difference'] for l in logits):.2g} of {r['largest logit']:.3g} | "
      f"{max(l['images of another class'] for l in logits)} of {r['images']:,} | "
      f"{max(l['of them with a margin above that'] for l in logits)} |"
    )
  print("\n".join(lines))


if __name__ == "__main__":
  main()
