"""Which recipe: short runs on Fashion-MNIST, scored on 5,000 held-out training images; the test set
is not touched.

    python results/recipe/search.py DATA WORKDIR [SECONDS]

Every trial changes one thing of configs/fashion_mnist.py at 8A,2W, alike for training without a
teacher ("baseline") and with one ("B"), so that both have the same budget; then come what only a
teacher has. trials.csv gets a row for each trial and seed. What has a row is not run again: stop
it, or give it SECONDS, and start it again another day, on the same kind of machine. `python
results/recipe/table.py` makes trials.md.
"""

import csv
import json
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
CSV = HERE / "trials.csv"
FIELDS = (
  "trial",
  "scheme",
  "seed",
  "validation_accuracy",
  "training_accuracy",
  "teacher_accuracy",
  "agreement",
  "seconds",
)
SEEDS = (0, 1)
COMMON = {
  "data.validation": 5000,
  "eval.final": "validation",
  "eval.every_epochs": 0,
  "checkpoint.every_epochs": 0,
  "cpu_devices": 1,
}
# One thing each; for both schemes.
BOTH = {
  "base": {},
  "twn, one scale a tensor": {"quantization.per_channel": False},
  "lsq weights": {"quantization.weights": "lsq"},
  "ttq weights": {"quantization.weights": "ttq"},
  "lsq activations": {"quantization.activations": "lsq"},
  "wrpn activations": {"quantization.activations": "wrpn"},
  "learning rate 0.1": {"recipe.student.learning_rate": 0.1},
  "learning rate 0.5": {"recipe.student.learning_rate": 0.5},
  "no weight decay": {"recipe.student.weight_decay": 0.0},
  "weight decay 5e-4": {"recipe.student.weight_decay": 5e-4},
  "steps instead of cosine": {"recipe.student.schedule": "step"},
  "ten epochs": {"recipe.student.epochs": 10.0},
}
WITH_TEACHER = {
  "gamma 0.25": {"loss.gamma": 0.25, "loss.beta": 0.75},
  "gamma 0.75": {"loss.gamma": 0.75, "loss.beta": 0.25},
  "gamma 1": {"loss.gamma": 1.0, "loss.beta": 0.0},
  "temperature 2": {"loss.temperature": 2.0},
  "temperature 4": {"loss.temperature": 4.0},
  "temperature 4, gamma a sixteenth": {"loss.temperature": 4.0, "loss.gamma": 0.5 / 16},
  "teacher sees stored images": {"teacher_input.augmented": False},
  "shallower teacher": {"teacher.name": "resnet8"},
  "deeper teacher": {"teacher.name": "resnet20"},
}


def trials():
  """(trial, scheme, seed, changes): what matters most first, and the second seed after all of the
  first."""
  for seed in SEEDS:
    for name, changes in BOTH.items():
      for scheme in ("baseline", "B"):
        yield name, scheme, seed, changes
    for name, changes in WITH_TEACHER.items():
      yield name, "B", seed, changes


def train(workdir: pathlib.Path, data: str, argument: str, seed: int, fields: dict) -> dict:
  """Runs or continues one training; returns its result."""
  flags = {**COMMON, "seed": seed, "data.dir": data, **fields}
  command = [
    sys.executable,
    "-m",
    "apprentice_jax",
    "train",
    f"--config=configs/fashion_mnist.py:{argument}",
    f"--workdir={workdir}",
    *(f"--config.{k}={v}" for k, v in flags.items()),
  ]
  subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
  return json.loads((workdir / "result.json").read_text())


def teacher(workdir, data, name: str, seed: int) -> pathlib.Path:
  """The trained teacher of this name and seed."""
  place = workdir / f"teacher-{name}-{seed}"
  if not (place / "result.json").exists():
    train(
      place,
      data,
      f"scheme=baseline,precision=32A32W,student={name}",
      seed,
      {"student.width": 0.5, "recipe.student.learning_rate": 0.1},
    )
  return place


def row(workdir, data, name, scheme, seed, changes) -> dict:
  place = workdir / f"{name}-{scheme}-{seed}".replace(" ", "_").replace(",", "")
  fields = dict(changes)
  if scheme == "B":
    fields["teacher.init"] = teacher(workdir, data, fields.get("teacher.name", "resnet14"), seed)
    fields["teacher_input.cached"] = True
  found = train(place, data, f"scheme={scheme},precision=8A2W", seed, fields)
  records = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
  last = [r["student_accuracy"] for r in records if "student_accuracy" in r][-10:]
  return {
    "trial": name,
    "scheme": scheme,
    "seed": seed,
    "validation_accuracy": found["validation_accuracy"],
    "training_accuracy": round(sum(last) / len(last), 4),
    "teacher_accuracy": found.get("validation_teacher_accuracy", ""),
    "agreement": found.get("validation_agreement", ""),
    "seconds": round(found["seconds"]),
  }


def main(data: str, workdir: str, seconds: float = float("inf")):
  data, workdir = str(pathlib.Path(data).resolve()), pathlib.Path(workdir).resolve()
  began = time.monotonic()
  done = list(csv.DictReader(CSV.open())) if CSV.exists() else []
  there = {(r["trial"], r["scheme"], int(r["seed"])) for r in done}
  for trial in trials():
    if trial[:3] in there or time.monotonic() - began > seconds:
      continue
    done.append(row(workdir, data, *trial))
    with CSV.open("w", newline="") as file:
      writer = csv.DictWriter(file, FIELDS)
      writer.writeheader()
      writer.writerows(done)
    print(done[-1], flush=True)


if __name__ == "__main__":
  main(*sys.argv[1:3], *map(float, sys.argv[3:]))
