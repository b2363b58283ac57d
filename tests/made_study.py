"""Configs of studies, and finished studies made without training."""

import json

from apprentice_jax import config as configs
from apprentice_jax.study import cells, results
from apprentice_jax.training.workdir import write_config

CURVES = {
  "baseline": (20, 60, 80, 80),
  "A": (20, 50, 70, 79),
  "B": (50, 76, 78, 78),
  "C": (79.6, 80, 81, 81),
}


def config_of(**fields):
  config = configs.base()
  config.data.name = "digits"
  config.study.update(dict(dict(precisions=("8A,2W",), seeds=(0, 1, 2)), **fields))
  return config


def varied(*texts, **study_fields):
  """A config of a study of small networks with these variations."""
  config = configs.base()
  config.data.name = "digits"
  for network in (config.student, config.teacher):
    network.update(dict(name="resnet8", width=0.25))
  config.study.update(dict(dict(precisions=("8A,2W",), variations=texts), **study_fields))
  return config


def accuracy(cell):
  """Of a made study, in percent; no two alike."""
  kind = configs.CELLS.index(cell.kind)
  return (
    80 + kind + 0.25 * cell.seed + 0.01 * kind**2 * cell.seed**2 + 0.3 * len(cell.variation.label)
  )


def made(folder, config, leave=lambda cell: False):
  """A finished study, as its workdir would be: records on every epoch of four."""
  folder.mkdir(parents=True)
  write_config(folder, config)
  rows = []
  for cell in cells.cells(config):
    place = cells.cell_dir(folder, cell)
    if leave(cell):
      continue
    place.mkdir(parents=True)
    write_config(place, cells.cell_config(config, cell))
    taught = (
      {"test_agreement": 0.9 + 0.01 * cell.seed, "test_teacher_accuracy": 0.95}
      if cell.kind in "ABC"
      else {}
    )
    found = {"test_accuracy": accuracy(cell) / 100, "seconds": 10.0 * (cell.seed + 1), **taught}
    (place / "result.json").write_text(json.dumps(found))
    curve = CURVES.get(cell.kind, CURVES["A"])
    (place / "metrics.jsonl").write_text(
      "".join(
        json.dumps(
          {
            "step": 10 * i,
            "epoch": float(i),
            "student_accuracy": a / 100,
            "seconds": i,
            **(
              {"teacher_accuracy": 0.9 + 0.02 * i, "teacher_ce": 0.1 / i}
              if cell.kind in "ABC"
              else {}
            ),
          }
        )
        + "\n"
        for i, a in enumerate(curve, 1)
      )
    )
    size = 40000 if cell.kind == "teacher" else 20000 if cell.kind == "student" else 5000
    rows.append(
      {
        "cell": cell.kind,
        "precision": cell.precision,
        "point": cell.variation.label,
        "seed": cell.seed,
        "accuracy": found["test_accuracy"],
        "loss": 1.0,
        "count": 360,
        "epochs": 4.0,
        "steps": 40,
        "teacher_accuracy": taught.get("test_teacher_accuracy", ""),
        "agreement": taught.get("test_agreement", ""),
        "seconds": found["seconds"],
        "parameters": 1,
        "bytes": size,
        "bops": size * 1000,
        "peak_bytes": 1,
        "layers": 22,
        "full_precision": "stem;head",
        "network": "resnet20",
        "workdir": f"cells/{cell.name}",
      }
    )
  results.write(folder / "results.csv", rows)
  return folder


def table_after(text, heading):
  """The columns and the rows (dicts) of the first table in a Markdown text after some words."""
  lines = text[text.index(heading) :].splitlines()
  first = next(i for i, line in enumerate(lines) if line.startswith("|"))
  found = []
  for line in lines[first:]:
    if not line.startswith("|"):
      break
    found.append([c.strip() for c in line.strip("|").split("|")])
  return found[0], [dict(zip(found[0], line)) for line in found[2:]]
