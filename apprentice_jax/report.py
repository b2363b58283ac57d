"""What a run leaves for its reader: report.md and curves.png; of a study see `study.report`."""

import json
import pathlib

from apprentice_jax import plots
from apprentice_jax.training import metrics


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
