"""What is kept of a training run: python results/keep.py WORKDIR FOLDER

FOLDER gets the run's result.json, its config.json with folders as $DATA, $TEACHER and the like, and
its metrics.jsonl without the health of layers: what `apprentice report` needs of a study's cells.
"""

import json
import pathlib
import sys

FOLDERS = {"data.dir": "$DATA", "teacher.init": "$TEACHER", "student.init": "$STUDENT"}


def main(workdir: str, folder: str):
  workdir, folder = pathlib.Path(workdir), pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  config = json.loads((workdir / "config.json").read_text())
  config.update({key: name for key, name in FOLDERS.items() if config[key]})
  (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
  (folder / "result.json").write_text((workdir / "result.json").read_text().rstrip() + "\n")
  with (folder / "metrics.jsonl").open("w") as file:
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
      record = {
        k: round(v, 6) if isinstance(v, float) else v
        for k, v in json.loads(line).items()
        if "/" not in k
      }
      file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
  main(*sys.argv[1:])
