"""What can be told of the launchers' files without running them."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from stand_ins import ROOT

LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), LAUNCH / "slurm.sbatch"])


def test_shellcheck():
  beside_python = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
  subprocess.run(
    [shutil.which("shellcheck", path=beside_python), "-x", *SCRIPTS], check=True, cwd=ROOT
  )


@pytest.mark.parametrize(
  "name",
  [
    "tpu_pod.sh",
    "pod_worker.sh",
    "slurm.sbatch",
    "gke.yaml",
    "Dockerfile",
    "restart.sh",
    "local.sh",
    "test.sh",
  ],
)
def test_every_file_says_what_it_is(name):
  lines = (LAUNCH / name).read_text().splitlines()
  assert next(line for line in lines if not line.startswith("#!")).startswith("# ")


@pytest.fixture
def jobset():
  return yaml.safe_load((LAUNCH / "gke.yaml").read_text())


def test_gke_has_a_pod_for_each_host_of_the_slice(jobset):
  (workers,) = jobset["spec"]["replicatedJobs"]
  job = workers["template"]["spec"]
  pod = job["template"]["spec"]
  (container,) = pod["containers"]
  x, y = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
  chips = container["resources"]["limits"]["google.com/tpu"]
  assert chips == container["resources"]["requests"]["google.com/tpu"]
  assert job["parallelism"] == job["completions"] == x * y // chips
  assert job["completionMode"] == "Indexed" and pod["restartPolicy"] == "Never"


def test_gke_starts_again_what_can_go_on(jobset):
  job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
  (rule,) = job["podFailurePolicy"]["rules"]
  assert rule["action"] == "FailJob"
  assert 2 in rule["onExitCodes"]["values"] and 75 not in rule["onExitCodes"]["values"]
  assert rule["onExitCodes"]["containerName"] == job["template"]["spec"]["containers"][0]["name"]
  assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0


def test_gke_trains_with_a_config_that_is_in_the_image(jobset):
  pod = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
  (container,) = pod["containers"]
  command, *flags = container["args"]
  assert command == "train"
  values = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
  config = values["config"].partition(":")[0]
  assert (ROOT / config).exists()
  assert f"COPY {config.partition('/')[0]} " in (LAUNCH / "Dockerfile").read_text()
  mounted = container["volumeMounts"][0]["mountPath"]
  assert values["workdir"].startswith(mounted) and values["config.data.dir"].startswith(mounted)


def test_the_image_has_what_it_copies():
  copied = re.findall(r"^COPY (.*) \S+$", (LAUNCH / "Dockerfile").read_text(), re.MULTILINE)
  for name in " ".join(copied).split():
    assert name.endswith("*") or (ROOT / name).exists(), name
