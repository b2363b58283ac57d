"""Whether two outputs of make.sh are equal: python results/unchanged/compare.py BEFORE AFTER

One line for each comparison; ends with 1 where there is a difference. Numbers are equal to the last
digit. Times, speeds and memory are left out, and what depends on them.
"""

import csv
import gzip
import io
import itertools
import json
import pathlib
import re
import sys

import graphs
import numpy as np
import texts

# Of the machine and the moment.
TIMED = {"seconds", "images_per_second", "data_wait", "host_memory"}
TIMED_LINES = ("seconds", "images/s", "running on", "report.html", "compiling ", "scoring ")
# The last sections of reports: seconds, dates and commands, beside what is in results.csv.
TIMED_SECTIONS = ("## All that was run", "## How it was made")
# Fields of a config that went or came; at their defaults they do nothing.
FIELDS = {"quantization.compute", "study.grid", "study.variations"}
# Which files of a workdir, a study or a network are compared, and how they are read.
KINDS = {}


def reads(*patterns):
  """Marks a function that reads such files as pairs of a place and a value."""
  return lambda function: KINDS.update(dict.fromkeys(patterns, function)) or function


def _text(path) -> str:
  """A file's text, the folder of photos without what lies before it."""
  return re.sub(r"(/[^/\s'\"|,]+)+/photos\b", "photos", path.read_text())


@reads("results.csv", "predictions.csv")
def _rows(path):
  for i, row in enumerate(csv.DictReader(io.StringIO(_text(path))), 2):
    yield from ((f"line {i}, {key}", value) for key, value in row.items() if key not in TIMED)


@reads("metrics.jsonl")
def _records(path):
  for i, line in enumerate(_text(path).splitlines(), 1):
    yield from _fields(json.loads(line), f"line {i}, ")


@reads("result.json", "data.json", "classes.json", "config.json")
def _json(path):
  found = json.loads(_text(path))
  yield from _fields(found if isinstance(found, dict) else dict(enumerate(found)))


def _fields(record: dict, where: str = ""):
  return (
    (f"{where}{key}", repr(value)) for key, value in record.items() if key not in TIMED | FIELDS
  )


@reads("report.md", "*.txt")
def _lines(path):
  text = _text(path)
  for heading in TIMED_SECTIONS:
    text = text.partition(heading)[0]
  every = text.splitlines()
  lines = [line for line in every if not any(word in line for word in TIMED_LINES)]
  return ((f"line {i} of those without times", line) for i, line in enumerate(lines, 1))


@reads("*.npz")
def _arrays(path):
  with np.load(path) as arrays:
    for name in arrays:
      array = arrays[name]
      yield f"{name}, kind", f"{array.dtype} {array.shape}"
      flat = array.reshape(-1)
      bits = np.ascontiguousarray(flat).view(np.uint8).reshape(len(flat), -1) if flat.size else ()
      yield from ((f"{name}[{i}]", (row.tobytes(), flat[i])) for i, row in enumerate(bits))


@reads("*.program.gz")
def _program(path):
  text = texts.PLACE.sub("", gzip.decompress(path.read_bytes()).decode())
  return ((f"operation {i}", line) for i, line in enumerate(graphs.listing(text)))


@reads("*.packed", "*.onnx")
def _bytes(path):
  return ((f"byte {i}", value) for i, value in enumerate(path.read_bytes()))


# Logs, caches, checkpoints as they lie on the disk.
IGNORED_FOLDERS = ("cache", "logs", "checkpoints", "checksums", "tensorboard")


def chosen(root: pathlib.Path) -> dict:
  """The files to compare below a folder, by their path in it, each with its reader."""
  found = {}
  for path in sorted(root.rglob("*")):
    inside = path.relative_to(root)
    if not path.is_file() or set(inside.parts) & set(IGNORED_FOLDERS):
      continue
    reader = next((KINDS[pattern] for pattern in KINDS if path.match(pattern)), None)
    if reader:
      found[inside.as_posix()] = reader
  return found


def difference(reader, before: pathlib.Path, after: pathlib.Path) -> tuple[int, str]:
  """How many values were compared, and the first difference or an empty text."""
  count, ended = 0, ("the end", None)
  for (place, old), (there, new) in itertools.zip_longest(
    reader(before), reader(after), fillvalue=ended
  ):
    if place != there:
      return count, f"{place} before, {there} after"
    if _differ(old, new):
      return count, f"{place}: {_shown(old)} before, {_shown(new)} after"
    count += 1
  return count, ""


def _differ(old, new) -> bool:
  if isinstance(old, tuple):  # bits, and the number to show: a NaN equals itself
    return old[0] != new[0]
  return old != new


def _shown(value) -> str:
  text = repr(value[1]) if isinstance(value, tuple) else str(value)
  return text if len(text) <= 160 else f"{text[:157]}..."


def main(before: str, after: str) -> int:
  before, after = pathlib.Path(before), pathlib.Path(after)
  old, new = chosen(before), chosen(after)
  wrong = total = 0
  for name in sorted(old | new):
    if name not in old or name not in new:
      count, found = 0, f"there is none {'before' if name not in old else 'after'}"
    else:
      count, found = difference(old[name], before / name, after / name)
    wrong, total = wrong + bool(found), total + count
    print(f"{name}: {count:,} values, {'DIFFERENT: ' + found if found else 'equal'}")
  print(
    f"{len(old | new):,} comparisons of {total:,} values: {wrong or 'no'} difference"
    f"{'s' * (wrong > 1)}"
  )
  return int(bool(wrong) or not old)


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]))
