"""Makes trials.md of trials.csv: every trial beside the base of its scheme, over the seeds that
both have.

    python results/recipe/table.py [NAME]      NAME.md of NAME.csv; default: trials

Under that of the trials is by how much they differ from the same ones in unsettled.csv.
"""

import csv
import pathlib
import statistics
import sys

HERE = pathlib.Path(__file__).parent


def main(name: str = "trials"):
  rows = list(csv.DictReader((HERE / f"{name}.csv").open()))
  found = {(r["trial"], r["scheme"], r["seed"]): r for r in rows}
  trials = dict.fromkeys(r["trial"] for r in rows)
  lines = [
    "| trial | without teacher % | against base | scheme B % | against base | agreement % | "
    "teacher % |",
    "|---|---|---|---|---|---|---|",
  ]
  for trial in trials:
    cells = [trial]
    for scheme in ("baseline", "B"):
      of = {
        seed: 100 * float(r["validation_accuracy"])
        for (t, s, seed), r in found.items()
        if (t, s) == (trial, scheme)
      }
      base = {
        seed: 100 * float(r["validation_accuracy"])
        for (t, s, seed), r in found.items()
        if (t, s) == ("base", scheme)
      }
      cells += [
        _spread(list(of.values())),
        _spread([v - base[s] for s, v in of.items() if s in base], "+"),
      ]
    for field in ("agreement", "teacher_accuracy"):
      cells.append(
        _spread(
          [
            100 * float(r[field])
            for (t, s, _), r in found.items()
            if t == trial and s == "B" and r[field]
          ]
        )
      )
    lines.append("| " + " | ".join(cells) + " |")
  if name == "trials":
    lines += ["", repeats(found)]
  (HERE / f"{name}.md").write_text("\n".join(lines) + "\n")


def repeats(found) -> str:
  """How well trials repeat: these, by (trial, scheme, seed), beside the same ones before
  settle_steps."""
  points = {}
  for r in csv.DictReader((HERE / "unsettled.csv").open()):
    key = (r["trial"], r["scheme"], r["seed"])
    if key in found:
      points[key] = 100 * abs(
        float(found[key]["validation_accuracy"]) - float(r["validation_accuracy"])
      )
  ttq = [v for (trial, *_), v in points.items() if trial.startswith("earlier ttq")]
  others = [v for (trial, *_), v in points.items() if not trial.startswith("earlier ttq")]
  median = statistics.median(points.values())
  return (
    f"{len(points)} of them are in unsettled.csv, too. The two differ by {median:.1f} points in "
    "the median, by "
    f"{max(others):.1f} at most, and with the earlier TTQ by {_spread(ttq)}."
  )


def _spread(values, sign: str = "") -> str:
  """Mean, with the lowest and highest of several."""
  if not values:
    return ""
  text = f"{statistics.mean(values):{sign}.2f}"
  return text + (
    f" ({min(values):{sign}.2f} to {max(values):{sign}.2f})" if len(values) > 1 else ""
  )


if __name__ == "__main__":
  main(*sys.argv[1:])
