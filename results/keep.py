"""What is kept of a training run: python results/keep.py WORKDIR PREFIX

Writes PREFIX.json, the run's result and its config with folders as $DATA, $TEACHER and the like; and PREFIX.csv, the
raw metrics of every record, the health of layers aside.
"""

import csv
import json
import pathlib
import sys

FOLDERS = {"data.dir": "$DATA", "teacher.init": "$TEACHER", "student.init": "$STUDENT"}
COLUMNS = ("step", "epoch", "loss", "student_ce", "distill", "teacher_ce", "student_accuracy", "teacher_accuracy",
           "learning_rate", "gradient_norm", "images_per_second", "seconds")


def main(workdir: str, prefix: str):
  workdir, prefix = pathlib.Path(workdir), pathlib.Path(prefix)
  config = json.loads((workdir / "config.json").read_text())
  config.update({key: name for key, name in FOLDERS.items() if config[key]})
  result = json.loads((workdir / "result.json").read_text())
  prefix.with_name(prefix.name + ".json").write_text(json.dumps({"result": result, "config": config}, indent=1) + "\n")
  records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  with prefix.with_name(prefix.name + ".csv").open("w", newline="") as file:
    writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({k: round(v, 6) if isinstance(v, float) else v for k, v in r.items()}
                     for r in records if "loss" in r)


if __name__ == "__main__":
  main(*sys.argv[1:])
