"""The recipe of ResNet-8 at 8A,2W: trials that change one thing, scored on held-out images.

    DATA=... TEACHERS=... WORKDIR=... python results/recipe/resnet8.py [TRIAL...]
    python results/recipe/resnet8.py --table

Every trial is the training of results/mlperf_tiny/run.sh with one change: scheme B at temperature
4, for 15 epochs. A change that concerns the student is tried without a teacher, too. All are scored
on 5,000 training images that are held out; the test set is not touched.

DATA: the folder of prepared datasets. TEACHERS: the folder of akamaster/pytorch_resnet_cifar10's
checkpoints. The trials run one after the other, seed by seed, each on one core; the same command
goes on. A finished one is a line of resnet8.csv; at the end comes resnet8.md, the table.

A script and no study: a study's cells share their teacher and their scheme's start.
"""

import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys
from typing import NamedTuple

from apprentice_jax.config import reads
from apprentice_jax.training.records import read_records
from apprentice_jax.training.workdir import read_starts

HERE = pathlib.Path(__file__).parent
CSV, PAGE = HERE / "resnet8.csv", HERE / "resnet8.md"
SEEDS = (0, 1)
FIELDS = (
  "trial scheme seed changes validation_accuracy validation_loss training_accuracy "
  "teacher_accuracy teacher_ce agreement temperature seconds commit"
).split()
BASE = """
data.validation=5000 eval.final=validation cpu_devices=1 checkpoint.every_epochs=2
data.augmentation_epochs=6 recipe.student.epochs=15 recipe.student.learning_rate=0.3
recipe.student.weight_decay=2e-4 recipe.student.warmup_epochs=2 loss.temperature=4
teacher.init={teachers}/resnet20-12fca82f.th teacher_input.cached=True
teacher_input.mean=(0.485,0.456,0.406) teacher_input.std=(0.229,0.224,0.225)
"""
DEEPER = "teacher.name=resnet56 teacher.init={teachers}/resnet56-4bfd9763.th"
# A teacher of ours sees the images that it was trained on.
OWN = "teacher_input.mean=() teacher_input.std=() teacher.name= teacher.init={workdir}/"
TUNED = "recipe.finetune.epochs=15 recipe.finetune.weight_decay=2e-4 recipe.finetune.learning_rate="
UNTAUGHT = ("baseline", "C-control")


class Trial(NamedTuple):
  """Changes of BASE, such as "loss.beta=0 loss.gamma=1", under a scheme and its control.

  Attributes:
    changes: fields and values.
    scheme: with a teacher; or "baseline", of a network that others start from.
    control: without a teacher; "": there is none.
    precision: of the student.
  """

  changes: str = ""
  scheme: str = "B"
  control: str = "baseline"
  precision: str = "8A2W"


# The most promising ones first; a trial comes after those that it starts from.
TRIALS = {
  "base": Trial(),
  # What the teacher says.
  "no-label": Trial("loss.beta=0 loss.gamma=1"),
  "tau-6": Trial("loss.temperature=6"),
  "tau-8": Trial("loss.temperature=8"),
  # Sun et al.'s own weights: standardised logits have a spread of 1, so their gradient is small.
  "standardised": Trial("loss.standardised=True loss.temperature=2 loss.beta=0.1 loss.gamma=9"),
  "gamma-0.9": Trial("loss.beta=0.1 loss.gamma=0.9"),
  # Certainty: ResNet-56 has 0.48 nats at temperature 4, ResNet-20 has 0.54.
  "resnet56": Trial(DEEPER),
  "resnet56-entropy": Trial(f"{DEEPER} loss.teacher_entropy=0.54"),
  "entropy-0.8": Trial("loss.teacher_entropy=0.8"),
  # Teachers that know less: the student's own network in full precision, and a short ResNet-20.
  "full-precision": Trial("", "baseline", "", "32A32W"),
  "equal-teacher": Trial(OWN + "full-precision-baseline-seed{seed}"),
  "equal-teacher-tau-2": Trial(OWN + "full-precision-baseline-seed{seed} loss.temperature=2"),
  "resnet20": Trial("student.name=resnet20 student.shortcut=", "baseline", "", "32A32W"),
  "short-teacher": Trial(OWN + "resnet20-baseline-seed{seed}"),
  # Scheme C: the student starts from its own network in full precision.
  "C": Trial(
    f"student.init={{workdir}}/full-precision-baseline-seed{{seed}} {TUNED}0.1", "C", "C-control"
  ),
  # How long, and on which images.
  "30-epochs": Trial("recipe.student.epochs=30"),
  "new-images": Trial("data.augmentation_epochs=15"),
  # The student's accuracy on training images is hardly above: it may want easier ones.
  "pad-2": Trial("data.pad=2"),
  # How the student learns.
  "no-decay": Trial("recipe.student.weight_decay=0"),
  "decay-5e-4": Trial("recipe.student.weight_decay=5e-4"),
  "rate-0.15": Trial("recipe.student.learning_rate=0.15"),
  "batch-64": Trial("batch_size=64 recipe.student.learning_rate=0.15"),
  "adam": Trial("recipe.student.adam=kernel"),
  "adam-0.003": Trial("recipe.student.adam=kernel recipe.student.adam_rate=0.003"),
  "freeze": Trial("oscillation.freeze=(0.1,0.01)"),
  "damp": Trial("oscillation.damping=0.001"),
  "damp-0.01": Trial("oscillation.damping=0.01"),
  "mixup": Trial("data.mix=mixup teacher_input.cached=False"),
  "cutmix": Trial("data.mix=cutmix teacher_input.cached=False"),
  "cutmix-no-label": Trial("data.mix=cutmix teacher_input.cached=False loss.beta=0 loss.gamma=1"),
  "lsq-weights": Trial("quantization.weights=lsq"),
  "lsq-activations": Trial("quantization.activations=lsq"),
  "per-tensor": Trial("quantization.per_channel=False"),
  # What the paper has.
  "tau-1": Trial("loss.temperature=1"),
  "tau-2": Trial("loss.temperature=2"),
}


class Run(NamedTuple):
  """One training of a trial."""

  trial: str
  scheme: str
  seed: int

  @property
  def name(self) -> str:
    return f"{self.trial}-{self.scheme}-seed{self.seed}"


def runs(names) -> list[Run]:
  """The trainings of trials, seed by seed; where a change concerns the teacher alone, the training
  without one is base's."""
  found = []
  for seed in SEEDS:
    for name in names:
      trial = TRIALS[name]
      found.append(Run(name, trial.scheme, seed))
      if trial.control and name == control_of(name):
        found.append(Run(name, trial.control, seed))
  return list(dict.fromkeys(found))


def control_of(name: str) -> str:
  """The trial whose training without a teacher is the control of a trial."""
  trial = TRIALS[name]
  fields = [item.partition("=")[0] for item in trial.changes.split()]
  return name if any(reads(field, trial.control, "8A,2W") for field in fields) else "base"


def settings(run: Run) -> dict[str, str]:
  """The fields of a run's config that BASE and its trial set."""
  places = dict(teachers=os.environ["TEACHERS"], workdir=os.environ["WORKDIR"], seed=run.seed)
  items = (BASE + " " + TRIALS[run.trial].changes).format(**places).split()
  found = dict(item.split("=", 1) for item in items)
  # Without a teacher, none of these is read, and no teacher has to be there.
  if run.scheme in UNTAUGHT:
    found = {k: v for k, v in found.items() if not k.startswith(("teacher", "loss"))}
  return {**found, "seed": str(run.seed), "data.dir": os.environ["DATA"]}


def train(run: Run):
  """Trains, or goes on, or finds it done."""
  argument = f"scheme={run.scheme},precision={TRIALS[run.trial].precision},teacher=resnet20"
  command = [sys.executable, "-m", "apprentice_jax", "train"]
  command += [f"--config={HERE.parents[1]}/configs/mlperf_tiny.py:{argument}"]
  command += [f"--config.{field}={value}" for field, value in settings(run).items()]
  subprocess.run([*command, f"--workdir={os.environ['WORKDIR']}/{run.name}"], check=True)


def row(run: Run) -> dict:
  """The line of a finished run."""
  workdir = pathlib.Path(os.environ["WORKDIR"], run.name)
  result = json.loads((workdir / "result.json").read_text())
  last = [r for r in read_records(workdir) if "student_accuracy" in r][-1]
  return {
    "trial": run.trial,
    "scheme": run.scheme,
    "seed": run.seed,
    "changes": TRIALS[run.trial].changes,
    "validation_accuracy": result["validation_accuracy"],
    "validation_loss": result["validation_loss"],
    "training_accuracy": last["student_accuracy"],
    "teacher_accuracy": result.get("validation_teacher_accuracy", ""),
    "teacher_ce": last.get("teacher_ce", ""),
    "agreement": result.get("validation_agreement", ""),
    "temperature": result.get("temperature", ""),
    "seconds": round(result["seconds"]),
    "commit": read_starts(workdir)[-1]["commit"][:7],
  }


def finished() -> dict[Run, dict]:
  """The lines of resnet8.csv."""
  if not CSV.exists():
    return {}
  rows = csv.DictReader(CSV.open(newline=""))
  return {Run(r["trial"], r["scheme"], int(r["seed"])): r for r in rows}


def append(line: dict):
  new = not CSV.exists()
  with CSV.open("a", newline="") as file:
    writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
    if new:
      writer.writeheader()
    writer.writerow(line)


def table(lines: dict[Run, dict]) -> str:
  """Every trial over its seeds: its accuracy, its control's, and what either differs from."""
  accuracy = {run: 100 * float(line["validation_accuracy"]) for run, line in lines.items()}
  of = lambda name, scheme: {
    run.seed: value for run, value in accuracy.items() if (run.trial, run.scheme) == (name, scheme)
  }
  head = (
    "trial | changes | scheme | accuracy % | against base | without a teacher % | teacher's effect"
  )
  text = [f"| {head} |", "|---" * 7 + "|"]
  for name, trial in TRIALS.items():
    own = of(name, trial.scheme)
    control = of(control_of(name), trial.control) if trial.control else {}
    changes = trial.changes.replace("{", "").replace("}", "")
    cells = [name, changes, trial.scheme, mean(own) or "not run"]
    cells += [mean(less(own, of("base", "B")), "+") if trial.control else ""]
    cells += [mean(control), mean(less(own, control), "+")]
    text.append(f"| {' | '.join(cells)} |")
  return "\n".join(text) + "\n"


def less(one: dict, other: dict) -> dict:
  """The differences, in points, over the seeds that both have."""
  return {seed: value - other[seed] for seed, value in one.items() if seed in other}


def mean(values: dict, sign: str = "") -> str:
  """The mean over seeds, and each seed's in brackets."""
  if not values:
    return ""
  each = ", ".join(f"{v:{sign}.2f}" for v in values.values())
  return f"{statistics.mean(values.values()):{sign}.2f}" + (f" ({each})" if len(values) > 1 else "")


def main(*names: str):
  if names != ("--table",):
    for run in runs(names or TRIALS):
      if run not in finished():
        print(f"{run.name}, {len(finished())} done", flush=True)
        train(run)
        append(row(run))
  PAGE.write_text(table(finished()))
  print(PAGE.read_text())


if __name__ == "__main__":
  main(*sys.argv[1:])
