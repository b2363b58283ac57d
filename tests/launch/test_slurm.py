"""slurm.sbatch, by an sbatch that runs it here at once, with stand-ins for what it calls."""

import json
import os
import re
import shutil
import signal
import time

import pytest
from stand_ins import ROOT, Site

SCRIPT = ROOT / "launch" / "slurm.sbatch"
# Starts the tasks, passes signals on, and returns the highest status, as srun does; a signal's is
# 128 and more.
SRUN = """
(root / "srun.pid").write_text(str(os.getpid()))
command = [a for a in args if not a.startswith("--kill")]
tasks = [subprocess.Popen(command, env={**os.environ, "SLURM_PROCID": str(i)}) for i in range(2)]
signal.signal(signal.SIGTERM, lambda *_: [t.terminate() for t in tasks])
statuses = [t.wait() for t in tasks]
sys.exit(max(s if s >= 0 else 128 - s for s in statuses))
"""
TRAINING = """
def stop(*_):
  (root / f"saved{os.environ['SLURM_PROCID']}").touch()
  sys.exit(75)
signal.signal(signal.SIGTERM, stop)
(root / f"listens{os.environ['SLURM_PROCID']}").touch()
time.sleep(then("lasts", 0))
sys.exit(then("exits" + os.environ["SLURM_PROCID"], 0))
"""
SCANCEL = """
os.kill(int((root / "srun.pid").read_text()), signal.SIGTERM)
"""
# The scheduler: takes what it is told in #SBATCH lines, and runs the script in a job.
SBATCH = """
script, rest = args[0], args[1:]
os.execvpe("bash", ["bash", script, *rest], {**os.environ, "SLURM_JOB_ID": "17"})
"""
ARGUMENTS = ("--config=configs/imagenet.py:scheme=A", "--workdir=/shared/runs/a b")


@pytest.fixture
def site(tmp_path):
  site = Site(tmp_path / "site")
  for name, source in (("srun", SRUN), ("scancel", SCANCEL), ("sbatch", SBATCH), ("scontrol", "")):
    site.add(name, source)
  site.add("apprentice", TRAINING, site.root / "venv" / "bin")
  return site


def submit(site, *arguments, **environment):
  return site.run("sbatch", SCRIPT, *arguments, VENV=str(site.root / "venv"), **environment)


def test_every_task_gets_the_arguments(site):
  assert submit(site, *ARGUMENTS)[0] == 0
  assert site.asked("apprentice") == [["apprentice", "train", *ARGUMENTS]] * 2
  (srun,) = site.asked("srun")
  assert srun[1:2] == ["--kill-on-bad-exit=0"]
  assert not site.asked("scontrol")


# Of two tasks. When one fails, the other loses it and ends with 75; which would fail again counts.
@pytest.mark.parametrize(
  "codes, again, expected",
  [
    ((75, 75), True, 75),
    ((0, 137), True, 137),
    ((143, 75), True, 143),
    ((2, 2), False, 200),
    ((75, 2), False, 200),
    ((1, 75), False, 200),
    ((2, 137), False, 200),
    ((130, 130), False, 200),
    ((0, 0), False, 0),
  ],
)
def test_what_is_queued_again(codes, again, expected, site):
  for i, code in enumerate(codes):
    (site.root / f"exits{i}").write_text(json.dumps([code]))
  status, _, err = submit(site, *ARGUMENTS)
  assert status == expected and ("the run failed" in err) == (expected == 200)
  assert site.asked("scontrol") == ([["scontrol", "requeue", "17"]] if again else [])
  assert ("queueing the job again" in err) == again


def test_not_for_ever(site):
  (site.root / "exits0").write_text("[75]")
  assert submit(site, *ARGUMENTS, SLURM_RESTART_COUNT="99")[0] == 75
  assert len(site.asked("scontrol")) == 1
  status, _, err = submit(site, *ARGUMENTS, SLURM_RESTART_COUNT="100")
  assert status == 75 and "without an end" in err and len(site.asked("scontrol")) == 1


def test_a_job_that_is_told_to_stop_saves_and_is_queued_again(site):
  (site.root / "lasts").write_text("[60]")
  process = site.start("sbatch", SCRIPT, *ARGUMENTS, cwd=ROOT, VENV=str(site.root / "venv"))
  until = time.monotonic() + 60
  while not all((site.root / f"listens{i}").exists() for i in range(2)):
    assert time.monotonic() < until
    time.sleep(0.05)
  os.kill(process.pid, signal.SIGTERM)  # --signal=B: to the script alone
  process.communicate(timeout=60)
  assert process.returncode == 75
  assert site.asked("scancel") == [["scancel", "--signal=TERM", "17.0"]]
  assert site.asked("scontrol") == [["scontrol", "requeue", "17"]]
  assert (site.root / "saved0").exists() and (site.root / "saved1").exists()


def test_mistakes(site):
  status, _, err = submit(site)
  assert status == 2 and "give the arguments" in err
  shutil.rmtree(site.root / "venv")
  status, _, err = submit(site, *ARGUMENTS)
  assert status == 2 and "set VENV" in err and not site.asked("srun")


def test_one_task_a_gpu():
  asked = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?", SCRIPT.read_text(), re.MULTILINE))
  assert asked["gpus-per-node"] == asked["ntasks-per-node"]
  assert asked["signal"] == "B:TERM@120" and "requeue" in asked
