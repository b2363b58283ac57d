"""A run's directory: whose it is, what it holds, and that one process at a time writes to it."""

import contextlib
import datetime
import fcntl
import functools
import json
import os
import pathlib
import shlex
import socket
import subprocess
import sys
import time
import warnings

import jax

import apprentice_jax
from apprentice_jax import config as configs
from apprentice_jax.data.class_names import difference
from apprentice_jax.errors import ConfigError
from apprentice_jax.files import read_or_none, write_whole
from apprentice_jax.training import cluster

IMAGES_FILE = "images.json"  # the shape of the images, which classes.json does not have
STARTS = "starts.jsonl"  # a line for each start of a run or study
LOCK = "lock"  # held by the process that writes; it says which


def claim(workdir: pathlib.Path, config):
  """Writes the config into workdir, or checks that it is the one already there.

  Raises:
    ConfigError: workdir belongs to another config (the message names the fields), or is not
      writable.
  """
  # A folder without a config is taken, unless a run has left something in it.
  if not (workdir / "config.json").exists():
    if any((workdir / name).exists() for name in ("result.json", "metrics.jsonl", "checkpoints")):
      raise ConfigError(
        f"{workdir} holds a run, but no config.json that says which: bring it back from "
        "a copy, or choose another --workdir."
      )
    write_config(workdir, config)
    return
  # Through JSON, which has no tuples; fields that came since have their defaults.
  found, new = read_config(workdir), json.loads(json.dumps(configs.flat(config)))
  old = {**json.loads(json.dumps(configs.flat(configs.base()))), **found}
  # A run of before the field had a test split, and keeps it.
  old["data.test_share"] = found.get("data.test_share", new["data.test_share"])
  # Networks that a run starts from are known by their content: see `identity.check`.
  ignored = configs.paths("free") | configs.paths("is_path")
  differing = [
    f"config.{k} ({old.get(k)!r} there, {new.get(k)!r} now)"
    for k in sorted({*old, *new})
    if old.get(k) != new.get(k) and k not in ignored
  ]
  if differing:
    raise ConfigError(
      f"{workdir} belongs to a run with another config: {', '.join(differing)}; "
      "choose another --workdir."
    )


def write_config(workdir: pathlib.Path, config):
  """Writes the config of a claimed workdir anew, for the fields that may change."""
  write_whole(workdir / "config.json", json.dumps(configs.flat(config), indent=1), durable=True)


def read_config(workdir: pathlib.Path) -> dict:
  """The flat config of workdir's run, without the fields that have gone since.

  Raises:
    ConfigError: it is no workdir, its config.json is damaged or cannot be read, or it has a field
      that this version does not.
  """
  path = workdir / "config.json"
  try:
    text = path.read_bytes()
  except (FileNotFoundError, NotADirectoryError):
    raise ConfigError(f"{workdir} is not a workdir: it has no config.json.") from None
  except OSError as error:
    raise ConfigError(f"cannot read or write {path}: {error.strerror}.") from None
  saved = None
  with contextlib.suppress(ValueError):
    saved = json.loads(text)
  if not isinstance(saved, dict):
    raise ConfigError(
      f"{path} is damaged: write it anew with the run's own config, or choose another --workdir."
    )
  return configs.current(saved, path)


def workdir_config(workdir):
  """The config a workdir was trained with."""
  return configs.restored(read_config(pathlib.Path(workdir)))


def scaled(config, workdir: pathlib.Path):
  """The config for all devices, see `config.scaled`; what has begun in workdir keeps its batch."""
  begun = os.path.exists(workdir / "config.json")  # False, too, where it may not be looked
  batch = read_config(workdir).get("batch_size", 0) if begun else 0
  return configs.scaled(config, jax.device_count(), batch)


@contextlib.contextmanager
def disk_errors(workdir: pathlib.Path):
  """Makes a ConfigError of what the disk does wrong."""
  try:
    yield
  except BrokenPipeError:  # of the standard output
    raise
  except OSError as error:
    raise ConfigError(
      f"cannot write to the workdir {workdir}: {error.strerror or error}; what was saved "
      "before is kept, and the same command continues from there."
    ) from error


def claim_images(workdir: pathlib.Path, data):
  """Writes into workdir what an export has to know of the images, or checks the classes there.

  Args:
    workdir: the run's.
    data: a split, for the classes' names in the order of the outputs, and its images' shape.

  Raises:
    ConfigError: the dataset has other classes than when the run began.
  """
  path, names = workdir / "classes.json", list(data.class_names)
  if not path.exists():
    write_whole(path, json.dumps(names, indent=1, ensure_ascii=False), durable=True)
  check_classes(workdir, names)
  write_whole(workdir / IMAGES_FILE, json.dumps({"shape": list(map(int, data.image_shape))}))


def check_classes(workdir: pathlib.Path, names):
  """Raises ConfigError if the classes of workdir's run are known and not these."""
  there = classes(workdir)
  if there and there != tuple(names):
    raise ConfigError(
      f"{workdir} was trained on other classes than those of the dataset now: "
      f"{difference(there, names)}."
    )


def classes(workdir) -> tuple[str, ...]:
  """The classes of a workdir's run, in the order of its outputs; () where they are not known."""
  path = pathlib.Path(workdir) / "classes.json"
  try:
    return tuple(json.loads(path.read_text())) if path.exists() else ()
  except ValueError:
    raise ConfigError(
      f"{path} is damaged: bring it back from a copy, or delete it to have it written anew."
    ) from None


def image_shape(workdir) -> tuple[int, int, int] | None:
  """(height, width, channels) of the images of a workdir's run; None where it is not known."""
  shape = lambda text: tuple(map(int, json.loads(text)["shape"]))
  return read_or_none(pathlib.Path(workdir) / IMAGES_FILE, shape)


def local(workdir) -> pathlib.Path:
  """The path of a workdir, with ``~`` expanded; raises ConfigError for an address."""
  if "://" in str(workdir):
    raise ConfigError(
      f"--workdir={workdir} is no folder: mount the bucket (gcsfuse, see "
      "launch/tpu_pod.sh) and give the path in it."
    )
  return pathlib.Path(configs.expanded(str(workdir)))


@contextlib.contextmanager
def writing(workdir: pathlib.Path):
  """Holds workdir for this run; the system lets go of it however its process 0 ends.

  Raises:
    ConfigError: another run holds it.
  """
  with contextlib.ExitStack() as stack:
    cluster.on_first(lambda: stack.enter_context(_locked(workdir)))
    yield


@contextlib.contextmanager
def _locked(workdir: pathlib.Path):
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    # Appending, so that a run that is refused does not empty the holder's file.
    file = (workdir / LOCK).open("a+")
  except OSError as error:
    raise ConfigError(f"cannot write to the workdir {workdir}: {error.strerror}.") from None
  with file:
    taken = _locks(file, fcntl.LOCK_EX)
    if not taken:
      # `held` has a lock for a moment: a second try tells its look from a run.
      time.sleep(0.1)
      taken = _locks(file, fcntl.LOCK_EX)
    if not taken:
      file.seek(0)
      raise ConfigError(
        f"another run is writing to {workdir} ({file.read().strip()}): wait for its "
        "end, or choose another --workdir."
      )
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    try:
      yield
    finally:
      # An empty file tells other machines, too, that nobody holds it.
      with contextlib.suppress(OSError):
        file.truncate(0)


def held(workdir: pathlib.Path) -> bool | None:
  """Whether a run holds workdir; None where this cannot be known.

  The last run to hold it may have been another machine's, whose lock is not always visible here.
  """
  try:
    with (workdir / LOCK).open() as file:
      if not _locks(file, fcntl.LOCK_SH):
        return True
      owner = file.read().strip()
  except FileNotFoundError:
    return False
  except OSError:
    return None
  return None if owner and not owner.endswith(f" on {socket.gethostname()}") else False


def _locks(file, kind: int) -> bool:
  """Takes a lock on an open file if it can; closing the file lets go of it."""
  try:
    fcntl.flock(file, kind | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  return True


def result(workdir: pathlib.Path):
  """The result of a finished run, or None."""
  path = pathlib.Path(workdir) / "result.json"
  try:
    return json.loads(path.read_text())
  except (FileNotFoundError, NotADirectoryError):
    return None
  except OSError as error:
    raise ConfigError(f"cannot read or write {path}: {error.strerror}.") from None
  except ValueError:
    warnings.warn(f"{path} is damaged: it is written anew.")
    return None


def record_start(workdir: pathlib.Path):
  """Adds a line to a workdir about this start: date, command, commit and versions."""
  program, *arguments = sys.argv or [""]
  program = pathlib.Path(program).name.replace("__main__.py", "apprentice")
  start = {
    "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    "command": shlex.join([program, *arguments]),
    "folder": os.getcwd(),
    "version": apprentice_jax.__version__,
    "commit": _commit(),
    "jax": jax.__version__,
    "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
  }
  with (workdir / STARTS).open("a") as file:
    file.write(json.dumps(start) + "\n")


@functools.cache
def _commit() -> str:
  """The commit that the package is at; "" where it is not in a git checkout."""
  folder = pathlib.Path(apprentice_jax.__file__).parent
  try:
    # Tracked by this very repository: an installed package may lie inside somebody else's.
    git = lambda *words: subprocess.run(
      ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()
    git("ls-files", "--error-unmatch", "__init__.py")
    changed = git("status", "--porcelain", "--untracked-files=no", ".")
    return git("rev-parse", "HEAD") + (" with changes" if changed else "")
  except (OSError, subprocess.SubprocessError):
    return ""


def read_starts(workdir) -> list[dict]:
  """The starts of a workdir, the first one first; [] of a run before they were recorded."""
  try:
    lines = (pathlib.Path(workdir) / STARTS).read_text().splitlines()
    return [json.loads(line) for line in lines]
  except (OSError, ValueError):
    return []
