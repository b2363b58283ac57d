"""tpu_pod.sh, with a gcloud that runs the workers' commands on this machine, and what they run."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import tarfile
import time

import pytest
from stand_ins import ROOT, Site

WORKERS = 2
# A slice whose workers are folders. "exits": statuses of the training, run by run; "states" of the
# slice and "queue", of the queued resource, as describe is to tell them.
GCLOUD = f"""
workers = [root / f"worker{{i}}" for i in range({WORKERS})]
verb = args[3]
if verb == "create":
  sys.exit(then("creations", 0))
elif verb == "delete":
  sys.exit(then("deletions", 0))
elif verb == "describe":
  if then("answers", 0):
    sys.exit("ERROR: NOT_FOUND" if then("found", 1) == 0 else "ERROR: no connection")
  print(then("queue", "ACTIVE") if "queued-resources" in args else then("states", "READY"))
elif verb == "scp":
  if then("copies", 0):
    sys.exit(1)
  import shutil
  for file in (a for a in args if a.startswith("/")):
    for worker in workers:
      shutil.copy(file, worker)
elif verb == "ssh":
  value = {{k: v for k, _, v in (a.partition("=") for a in args)}}
  if "wait" in value["--command"] and then("connections", 0):
    sys.exit(255)
  chosen = workers if value["--worker"] == "all" else [workers[int(value["--worker"])]]
  running = [subprocess.Popen(["bash", "-c", value["--command"]], cwd=w,
                              env={{**os.environ, "HOME": str(w)}})
             for w in chosen]
  sys.exit(max(p.wait() for p in running))
"""
# The training of a worker.
PYTHON = """
print("training", *args[3:], flush=True)
(pathlib.Path.home() / "arguments.json").write_text(json.dumps(args))
time.sleep(then("lasts", 0))
sys.exit(then("exits", 0))
"""
NAMED = (
  "--name=n",
  "--zone=z",
  "--type=v5litepod-16",
  "--config=configs/imagenet.py:scheme=A",
  "--workdir=gs://bucket/runs/a",
  "--data_dir=gs://data/tfds",
)
WHERE = ["n", "--zone=z"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
  """A commit of what the launcher needs; this checkout may have changes, with which it starts
  nothing."""
  folder = tmp_path_factory.mktemp("repository")
  for part in ("launch", "configs"):
    shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
  git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.com"]
  for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
    subprocess.run([*git, *command], cwd=folder, check=True)
  return folder


@pytest.fixture
def site(tmp_path):
  site = Site(tmp_path / "site")
  site.add("gcloud", GCLOUD)
  for name in ("gcsfuse", "sudo"):
    site.add(name, "")
  site.add("mountpoint", "sys.exit(1)")
  for i in range(WORKERS):
    home = site.root / f"worker{i}"
    site.add("python", PYTHON, home / "venv" / "bin")
    site.add("uv", "", home / ".local" / "bin")
  return site


@pytest.fixture
def launch(site, repository):
  """launch(*flags, exits=[...], ...) -> (status, standard output, error) of tpu_pod.sh."""

  def launch(*flags, **answers):
    for name, value in answers.items():
      (site.root / name).write_text(json.dumps(value))
    return site.run(
      "bash",
      repository / "launch" / "tpu_pod.sh",
      *flags,
      cwd=repository,
      APPRENTICE_POLL_SECONDS="0.1",
    )

  return launch


def verbs(site):
  """What gcloud was asked to do, without how the state was looked at."""
  return [c[4] for c in site.asked("gcloud") if c[4] != "describe"]


ONCE = ["ssh", "ssh", "ssh"]  # start, follow, wait
MADE = ["create", "scp", "ssh"]  # and installed


def test_a_run_from_creation_to_deletion(launch, site, repository):
  status, out, err = launch(*NAMED, "--spot", "--", "--config.seed=7", "--config.student.name=a b")
  assert status == 0, err
  assert verbs(site) == [*MADE, *ONCE, "delete"]
  assert site.asked("create") == [
    [
      "gcloud",
      "compute",
      "tpus",
      "tpu-vm",
      "create",
      *WHERE,
      "--accelerator-type=v5litepod-16",
      "--version=v2-alpha-tpuv5-lite",
      "--spot",
    ]
  ]
  assert site.asked("delete") == [
    ["gcloud", "compute", "tpus", "tpu-vm", "delete", *WHERE, "--quiet"]
  ]
  assert "finished; the run is in gs://bucket/runs/a" in err
  for i in range(WORKERS):
    home = site.root / f"worker{i}"
    assert json.loads((home / "arguments.json").read_text()) == [
      "-u",
      "-m",
      "apprentice_jax",
      "train",
      "--config=configs/imagenet.py:scheme=A",
      "--config.seed=7",
      "--config.student.name=a b",
      f"--config.data.dir={home}/buckets/data/tfds",
      f"--workdir={home}/buckets/bucket/runs/a",
    ]
    with tarfile.open(home / "apprentice.tar.gz") as archive:
      assert "launch/tpu_pod.sh" in archive.getnames()
    assert (home / "apprentice" / "configs" / "imagenet.py").exists()
  mounted = [c[-2:] for c in site.asked("gcsfuse")]
  assert sorted(mounted) == sorted(
    [b, str(site.root / f"worker{i}" / "buckets" / b)]
    for b in ("bucket", "data")
    for i in range(WORKERS)
  )
  assert "training train --config=configs/imagenet.py:scheme=A" in out  # the log of worker 0


@pytest.mark.parametrize("exits", [[75, 75, 0, 0], [75, 137, 0, 0], [143, 143, 0, 0]])
def test_a_run_that_saved_starts_again_on_the_slice_that_is_there(exits, launch, site):
  status, _, err = launch(*NAMED, exits=exits)
  assert status == 0, err
  assert verbs(site) == [*MADE, *ONCE, *ONCE, "delete"]


def test_a_slice_that_was_taken_away_is_made_anew(launch, site):
  status, _, err = launch(
    *NAMED, exits=[75, 75, 0, 0], connections=[1, 0], states=["PREEMPTED", "READY"]
  )
  assert status == 0, err
  assert verbs(site) == [*MADE, *ONCE, "delete", *MADE, *ONCE, "delete"]
  assert "n was taken away: creating it anew" in err


def test_a_slice_is_not_given_up_for_a_question_that_failed(launch, site):
  """Nor for a connection that broke, of which it may be part."""
  status, _, err = launch(*NAMED, connections=[1, 0], answers=[1, 1, 0])
  assert status == 0, err
  assert len(site.asked("describe")) == 3
  assert verbs(site) == [*MADE, *ONCE, *ONCE, "delete"]


def test_a_slice_that_is_no_more_is_made_anew(launch, site):
  status, _, err = launch(*NAMED, connections=[1, 0], answers=[1, 0], found=[0])
  assert status == 0, err
  assert verbs(site) == [*MADE, *ONCE, "delete", *MADE, *ONCE, "delete"]


def test_workers_that_cannot_be_set_up_at_once(launch, site):
  status, _, err = launch(*NAMED, copies=[1, 0])
  assert status == 0, err
  assert verbs(site) == ["create", "scp", "scp", "ssh", *ONCE, "delete"]
  status, _, err = launch(*NAMED, copies=[1])
  assert (
    status == 2 and "the workers cannot be set up" in err and verbs(site)[-2:] == ["scp", "delete"]
  )


def test_a_bucket_that_cannot_be_mounted(launch, site):
  site.add("gcsfuse", "sys.exit(1)")
  status, _, err = launch(*NAMED)
  assert status == 2 and "the run failed" in err, err
  assert verbs(site) == [*MADE, *ONCE, "delete"] and not site.asked("python")


def test_a_run_that_is_there_is_not_started_a_second_time(launch, site):
  """After a connection that broke."""
  assert launch(*NAMED)[0] == 0
  home, before = site.root / "worker0", len(site.asked("python"))
  (home / "train.status").unlink()
  with subprocess.Popen(["sleep", "60"]) as running:
    (home / "train.pid").write_text(str(running.pid))
    status, _, err = site.run("bash", home / "pod_worker.sh", "start", HOME=str(home))
    running.kill()
  assert status == 0, err
  assert len(site.asked("python")) == before


@pytest.mark.parametrize("exits", [[2, 2], [0, 2], [75, 2], [1, 1], [2, 137], [130, 130]])
def test_a_run_that_failed_is_not_started_again(exits, launch, site):
  status, _, err = launch(*NAMED, exits=exits)
  assert status == 2
  assert verbs(site) == [*MADE, *ONCE, "delete"]
  assert "the run failed" in err


def test_a_slice_that_cannot_be_made_is_deleted(launch, site):
  assert launch(*NAMED, creations=[1])[0] == 1
  assert verbs(site) == ["create", "delete"]


def test_a_slice_that_cannot_be_deleted_is_named(launch):
  status, _, err = launch(*NAMED, deletions=[1])
  assert status == 0
  assert "n in z COULD NOT BE DELETED and costs money" in err


def test_keep(launch, site):
  status, _, err = launch(*NAMED, "--keep")
  assert status == 0 and verbs(site) == [*MADE, *ONCE]
  assert "n in z still runs and costs money" in err


def test_queued(launch, site):
  status, _, err = launch(
    *NAMED,
    "--queued",
    "--spot",
    "--project=p",
    queue=["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"],
  )
  assert status == 0, err
  assert len(site.asked("queued-resources", "describe")) == 3
  assert site.asked("queued-resources", "create") == [
    [
      "gcloud",
      "compute",
      "tpus",
      "queued-resources",
      "create",
      "n",
      "--node-id=n",
      "--zone=z",
      "--project=p",
      "--accelerator-type=v5litepod-16",
      "--runtime-version=v2-alpha-tpuv5-lite",
      "--spot",
    ]
  ]
  assert site.asked("queued-resources", "delete") == [
    [
      "gcloud",
      "compute",
      "tpus",
      "queued-resources",
      "delete",
      *WHERE,
      "--project=p",
      "--force",
      "--quiet",
    ]
  ]


def test_a_queue_without_an_end(launch, site):
  assert launch(*NAMED, "--queued", queue=["FAILED"])[0] == 1
  assert verbs(site) == ["create", "delete"]


def test_dry_run_prints_what_would_be_run(launch, site):
  status, out, err = launch(*NAMED, "--spot", "--dry-run")
  assert status == 0, err
  assert not site.asked() and not out
  assert launch(*NAMED, "--config=imagenet:scheme=A", "--dry-run")[0] == 0  # by its name
  printed = [shlex.split(line[2:]) for line in err.splitlines() if line.startswith("+ ")]
  assert [c[4] for c in printed if c[0] == "gcloud"] == [*MADE, *ONCE, "delete"]
  # The same commands as when they are run, but for the names of temporary files.
  assert launch(*NAMED, "--spot")[0] == 0
  run = [c for c in site.asked("gcloud") if c[4] != "describe"]
  assert [c for c in printed if c[0] == "gcloud" and c[4] != "scp"] == [
    c for c in run if c[4] != "scp"
  ]


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_deletes_the_slice(number, status, site, repository):
  (site.root / "lasts").write_text("[30]")
  process = site.start("bash", repository / "launch" / "tpu_pod.sh", *NAMED, cwd=repository)
  until = time.monotonic() + 60
  while not site.asked("ssh", "--command=bash pod_worker.sh follow"):
    assert time.monotonic() < until and process.poll() is None
    time.sleep(0.05)
  os.killpg(process.pid, number)  # as a terminal does
  process.communicate(timeout=60)
  assert process.returncode == status and verbs(site)[-1] == "delete"
  for i in range(WORKERS):
    pid = site.root / f"worker{i}" / "train.pid"
    if pid.exists():
      subprocess.run(["kill", "--", f"-{pid.read_text().strip()}"], check=False)


@pytest.mark.parametrize(
  "flags, sentence",
  [
    (NAMED[1:], "--name=... is missing"),
    (NAMED[:-1], "--data_dir=... is missing"),
    ((*NAMED, "--spott"), "unknown argument --spott"),
    ((*NAMED, "--workdir=/runs/a"), "--workdir is /runs/a: it must be gs://BUCKET/PATH"),
    ((*NAMED, "--workdir=gs://bucket"), "it must be gs://BUCKET/PATH"),
    ((*NAMED, "--config=configs/imagnet.py"), "there is no file configs/imagnet.py"),
    ((*NAMED, "--config=imagnet:scheme=A"), "there is no file imagnet"),
  ],
)
def test_mistakes_cost_nothing(flags, sentence, launch, site):
  status, _, err = launch(*flags)
  assert status == 2 and sentence in err and len(err.splitlines()) == 1
  assert not site.asked()


def test_changes_that_are_in_no_commit(launch, site, repository):
  config = repository / "configs" / "imagenet.py"
  before = config.read_text()
  config.write_text(before + "\n")
  try:
    status, _, err = launch(*NAMED)
  finally:
    config.write_text(before)
  assert status == 2 and "not committed" in err and not site.asked()


def test_without_gcloud(site, repository):
  tools = ("bash", "git", "tar", "dirname", "cat", "sed")
  bare = site.root / "bare"
  bare.mkdir()
  for tool in tools:
    (bare / tool).symlink_to(shutil.which(tool))
  status, _, err = site.run(
    shutil.which("bash"),
    repository / "launch" / "tpu_pod.sh",
    *NAMED,
    cwd=repository,
    PATH=str(bare),
  )
  assert status == 2 and "gcloud is not installed" in err
