"""Workdirs and exported files of earlier versions: they continue, score, export and load.

By commands alone, in a process of their own: numbers depend on its flags of XLA. On another kind of
processor than the one that wrote them, numbers of training are compared loosely.
"""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile

import jax
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
KEPT = ROOT / "tests" / "kept" / "d1f1c08"
EXPECTED = json.loads((KEPT / "expected.json").read_text())
RUNS = ("baseline", "B")
TIMED = {"seconds", "images_per_second", "data_wait", "host_memory"}
# Runs commands, one a line of JSON, and answers with status and output of each.
SEVERAL = """
import contextlib, io, json, sys
from apprentice_jax.cli import main
answers = []
for arguments in json.load(sys.stdin):
  out = io.StringIO()
  with contextlib.redirect_stdout(out):
    status = main(arguments)
  answers.append([status, out.getvalue()])
print(json.dumps(answers))
"""


def run(commands):
  """Status and output of each command, all in one new process."""
  named = ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")
  env = {k: v for k, v in os.environ.items() if k not in named}
  env |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
  done = subprocess.run(
    [sys.executable, "-c", SEVERAL],
    input=json.dumps(commands),
    text=True,
    env=env,
    cwd=ROOT,
    capture_output=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


def unpacked(name, folder):
  """A kept workdir, in a folder."""
  with tarfile.open(KEPT / f"{name}.tar.gz") as archive:
    archive.extractall(folder, filter="data")
  return folder / name


def exports(name, folder):
  """Commands that export a run, by the names of the files."""
  return {
    file: ["export", f"--workdir={folder / name}", f"--out={folder / file}", *flags]
    for file, flags in EXPECTED[name]["exports"].items()
  }


def instructions():
  """A checksum of what this machine's processor can do; programs for CPU are made of that."""
  lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  found = sorted({line for line in lines if line.startswith(("flags", "Features"))})
  return hashlib.sha256("\n".join(found).encode()).hexdigest()


def same_processor():
  return os.path.exists("/proc/cpuinfo") and instructions() == EXPECTED["processor"]


def scored(printed):
  """The line of the accuracy, as numbers."""
  (line,) = (line for line in printed.splitlines() if line.startswith("test: accuracy"))
  return [float(number.replace(",", "")) for number in re.findall(r"[\d.,]*\d", line)]


def assert_scored(printed, expected):
  accuracy, loss, count = scored(expected)
  if same_processor():
    assert scored(printed) == [accuracy, loss, count]
  else:  # an image on the edge between two classes may fall either way
    assert scored(printed) == [
      pytest.approx(accuracy, abs=0.3),
      pytest.approx(loss, rel=2e-3),
      count,
    ]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
  """(folder, answers by command's name) of all that takes no training."""
  folder = tmp_path_factory.mktemp("kept")
  commands = {}
  for name in RUNS:
    workdir = unpacked(name, folder)
    train = ["train", *EXPECTED[name]["train"], f"--workdir={workdir}"]
    commands |= {f"{name} eval": ["eval", f"--workdir={workdir}"], f"{name} train": train}
    commands |= exports(name, folder)
    commands |= {
      f"{file} eval": ["eval", f"--model={KEPT / file}", "--config=configs/digits.py"]
      for file in EXPECTED[name]["exports"]
    }
  return folder, dict(zip(commands, run(list(commands.values())), strict=True))


@pytest.mark.parametrize("name", RUNS)
def test_a_finished_run_is_scored_and_not_trained_again(name, answers):
  folder, found = answers
  status, printed = found[f"{name} eval"]
  assert status == 0
  assert_scored(printed, EXPECTED[name]["eval"])
  status, printed = found[f"{name} train"]
  assert status == 0 and "has finished already: nothing was trained." in printed
  accuracy = json.loads((folder / name / "result.json").read_text())["test_accuracy"]
  assert f"| test accuracy | {accuracy:.2%} |" in (folder / name / "report.md").read_text()


@pytest.mark.parametrize("file", [file for name in RUNS for file in EXPECTED[name]["exports"]])
def test_its_export_is_the_file_of_before(file, answers):
  folder, found = answers
  status, printed = found[file]
  assert status == 0, printed
  if file.endswith(".stablehlo"):  # it also says where its functions lie in the source
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
    exported = [
      jax.export.deserialize(bytearray(path.read_bytes())) for path in (folder / file, KEPT / file)
    ]
    np.testing.assert_array_equal(exported[0].call(images), exported[1].call(images))
  elif same_processor() and _versions(folder / file) == _versions(KEPT / file):
    assert (folder / file).read_bytes() == (KEPT / file).read_bytes()
  else:
    assert (folder / file).stat().st_size == pytest.approx((KEPT / file).stat().st_size, rel=0.01)


def _versions(path):
  """Of an ONNX file, those of its format and its operators."""
  if path.suffix != ".onnx":
    return None
  onnx = pytest.importorskip("onnx")
  model = onnx.load(path)
  return model.ir_version, [opset.version for opset in model.opset_import]


@pytest.mark.parametrize("name, file", [(n, f) for n in RUNS for f in EXPECTED[n]["exports"]])
def test_the_file_of_before_is_read(name, file, answers):
  assert hashlib.sha256((KEPT / file).read_bytes()).hexdigest() == EXPECTED[name]["sha256"][file]
  status, printed = answers[1][f"{file} eval"]
  assert status == 0
  assert_scored(printed, EXPECTED[name]["scores"][file])


def records(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [{k: v for k, v in json.loads(line).items() if k not in TIMED} for line in lines]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name, unbroken", [("baseline-killed", "baseline"), ("B-stopped", "B")])
def test_an_interrupted_run_ends_as_the_unbroken_one_did(name, unbroken, tmp_path):
  workdir, expected = unpacked(name, tmp_path), unpacked(unbroken, tmp_path)
  commands = [
    ["train", *EXPECTED[unbroken]["train"], f"--workdir={workdir}"],
    ["eval", f"--workdir={workdir}"],
  ]
  (status, _), (scored_status, printed) = run(commands)
  assert status == scored_status == 0
  result, wanted = (json.loads((w / "result.json").read_text()) for w in (workdir, expected))
  if same_processor():
    assert records(workdir) == records(expected)
    assert result | {"seconds": 0} == wanted | {"seconds": 0}
    predictions = [(w / "predictions.csv").read_text() for w in (workdir, expected)]
    assert predictions[0] == predictions[1]
    assert_scored(printed, EXPECTED[unbroken]["eval"])
  else:
    found, before = records(workdir), records(expected)
    assert [r["step"] for r in found] == [r["step"] for r in before]
    # Quantized weights that flip for a rounding make of it another run in the end.
    assert [r.get("loss", 0) for r in found] == pytest.approx(
      [r.get("loss", 0) for r in before], rel=0.2
    )
    assert result["test_accuracy"] == pytest.approx(wanted["test_accuracy"], abs=0.15)
