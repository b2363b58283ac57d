"""What a run leaves for its reader: report.md and plots."""

import json
import pathlib
import statistics

from apprentice_jax import plots
from apprentice_jax.training import metrics

NAMES = {
    "teacher": "teacher, full precision", "student": "student, full precision",
    "baseline": "no distillation", "A": "scheme A", "B": "scheme B", "C": "scheme C",
    "C-control": "C's control (no teacher)"}


def write_run(workdir) -> str:
  """Writes report.md and curves.png of one training run; returns the report's text."""
  workdir = pathlib.Path(workdir)
  config = json.loads((workdir / "config.json").read_text())
  result = json.loads((workdir / "result.json").read_text())
  lines = [f"# {config['student.name']} {config['precision']}, scheme {config['scheme']}, "
           f"on {config['data.name']}", ""]
  for key, value in result.items():
    lines.append(f"- {key.replace('_', ' ')}: "
                 + (f"{value:.2%}" if key.endswith("accuracy") else f"{value:,.4g}"
                    if isinstance(value, float) else f"{value:,}"))
  records = metrics.read(workdir)
  if plots.run_curves(records, workdir / "curves.png"):
    lines += ["", "![learning curves](curves.png)"]
  lines += _health_table(records)
  text = "\n".join(lines) + "\n"
  (workdir / "report.md").write_text(text)
  return text


def _health_table(records: list[dict]) -> list[str]:
  """The health of every layer in the last steps: see `models.health`."""
  training = [r for r in records if "loss" in r]
  layers = {}
  for key, value in (training[-1] if training else {}).items():
    kind, slash, name = key.partition("/")
    if slash:
      layers.setdefault(name, {})[kind] = value
  if not layers:
    return []
  lines = ["", f"Health in the steps before step {training[-1]['step']}: weights and activations that "
           "are zero, weights whose level changed in a step, activations at the end of their range.", "",
           "| layer | zeros | flips | saturation |", "|---|---|---|---|"]
  percent = lambda v: "" if v is None else f"{100 * v:.3g}%"
  for name, found in layers.items():
    columns = (percent(found.get(k)) for k in ("zeros", "flips", "saturation"))
    lines.append(f"| {name} | {' | '.join(columns)} |")
  return lines


def write_study(config, workdir: pathlib.Path, rows: list[dict]) -> str:
  """Writes report.md and plots of a study; returns its table."""
  table = study_table(rows)
  curves = {}
  for row in rows:
    curves.setdefault(row["precision"], {}).setdefault(row["cell"], []).append(
        metrics.read(workdir / row["workdir"]))
  lines = [
      f"# Apprentice study on {config.data.name}", "",
      f"Student {_network(config.student)}, teacher {_network(config.teacher)}; seeds "
      f"{', '.join(map(str, config.study.seeds))}; the last epoch's accuracy on the "
      f"{rows[0]['count']:,} images of the {config.eval.final} split, mean ± standard deviation over "
      "seeds. Gap: to the full-precision student of the same seeds, in points. Size: the packed file's, ends "
      "in float32.", "", table, ""]
  for precision, by_cell in curves.items():
    name = f"curves-{precision.replace(',', '')}.png"
    if plots.study_curves(by_cell, precision, workdir / name):
      lines.append(f"![learning curves at {precision}]({name})")
  plots.accuracy_against_size(summaries(rows), workdir / "accuracy-size.png")
  lines += ["![accuracy against size](accuracy-size.png)", ""]
  (workdir / "report.md").write_text("\n".join(lines))
  return table


def summaries(rows: list[dict]) -> list[dict]:
  """One entry per cell and precision: mean, sd and gap (in percent) over seeds, bytes."""
  reference = {r["seed"]: r["accuracy"] for r in rows if r["cell"] == "student"}
  groups = {}
  for row in rows:
    groups.setdefault((row["cell"], row["precision"]), []).append(row)
  result = []
  for (cell, precision), members in groups.items():
    accuracies = [100 * r["accuracy"] for r in members]
    gaps = [100 * (r["accuracy"] - reference[r["seed"]]) for r in members if r["seed"] in reference]
    result.append({
        "cell": cell, "precision": precision, "seeds": len(members),
        "mean": statistics.mean(accuracies),
        "sd": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "gap": statistics.mean(gaps) if gaps and cell != "teacher" else None,
        "bytes": members[0]["bytes"]})
  return result


def study_table(rows: list[dict]) -> str:
  """The study's table in Markdown."""
  lines = ["| network | precision | accuracy % | gap | size |", "|---|---|---|---|---|"]
  entries = summaries(rows)
  order = {p: i for i, p in enumerate(dict.fromkeys(e["precision"] for e in entries))}
  for e in sorted(entries, key=lambda e: order[e["precision"]]):
    spread = "" if e["sd"] is None else f" ± {e['sd']:.2f}"
    gap = "" if e["gap"] is None or e["cell"] == "student" else f"{e['gap']:+.2f}"
    lines.append(f"| {NAMES[e['cell']]} | {e['precision']} | {e['mean']:.2f}{spread} | {gap} | "
                 f"{e['bytes'] / 1000:.1f} kB |")
  return "\n".join(lines)


def _network(network) -> str:
  return f"{network.name} at width {network.width:g}"
