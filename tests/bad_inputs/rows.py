"""How the command line or the files are made wrong, for the tables of rows beside this file.

In commands and sentences, {place} is the row's own folder, {run} the workdir in it, {data} the
photos in it; {digits} and {photos} are config files; {trained} and {of_photos} are workdirs of
networks for the digits and for three classes of photos, and {begun} of one that has not finished.
"""

import fcntl
import re
import shutil
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import torch_writer
from safetensors.numpy import save_file

from apprentice_jax.models.pytorch import pretrained
from apprentice_jax.training.checkpoint import Checkpoints

SMALL = "student=resnet8,teacher=resnet8,width=0.25"
SHORT = (
  "--config.recipe.student.epochs=0.5 --config.recipe.finetune.epochs=0.5 "
  "--config.recipe.student.warmup_epochs=0.1 --config.recipe.finetune.warmup_epochs=0.1 "
  "--config.steps_per_dispatch=5 --config.checkpoint.every_epochs=0.2"
)
DIGITS = f"--config={{digits}}:{SMALL},scheme=baseline,precision=32A32W {SHORT}"
PHOTOS = (
  f"--config={{photos}}:{SMALL},scheme=baseline,precision=32A32W "
  "--config.data.image_size=8 --config.data.resize=8 --config.batch_size=8 "
  "--config.recipe.student.epochs=2 --config.recipe.student.warmup_epochs=0.5 "
  "--config.checkpoint.every_epochs=1 --config.steps_per_dispatch=1"
)

TRAIN = "train --config={digits} --workdir={run} "  # refused before anything is trained
STUDY = "study --config={digits} --workdir={run} "
FILE = "train --config={place}/mine.py --workdir={run} "
FOLDER = f"train {PHOTOS} --config.data.dir={{data}} --workdir={{run}} "
GO_ON = f"train {DIGITS} --workdir={{run}} "
TAUGHT = f"train {DIGITS.replace('baseline', 'B')} --workdir={{run}} --config.teacher.init="
TUNED = (
  f"train {DIGITS.replace('baseline', 'C')} --workdir={{run}} "
  "--config.teacher.init={trained} --config.student.init="
)
LOCKED = re.compile(
  r"another run is writing to .*/run \(a run of the test\): wait for its end, or "
  r"choose another --workdir\."
)
OTHER_CLASSES = " was trained on other classes than those of the dataset now: "
HEADS = (
  "--config.teacher.head=match takes the outputs of the same classes, --config.teacher.head=new "
  "starts with a new "
  "head, and --config.teacher.classes=FILE says what its classes are called here"
)
SCORED = "`eval --model` with --config.student.head=match takes the outputs of the same classes."
BROKEN = re.compile(
  r"none of the checkpoints in .*/checkpoints can be read \(.* is not what was "
  r"written\): delete the workdir to start again, or bring one back from a "
  r"copy\."
)
DAMAGED = (
  "{run}/config.json is damaged: write it anew with the run's own config, or choose "
  "another --workdir."
)
KEPT = "; what was saved before is kept, and the same command continues from there."


class Row(NamedTuple):
  """A bad input.

  Attributes:
    name: what is wrong.
    command: the command line.
    sentence: what it says, in whole; a pattern where a part depends on the machine.
    make: lays out the files: make(place, made).
    changes: patterns of files that may change or appear all the same.
    absent: a package that is not installed.
    bug: what is not as it should be yet.
  """

  name: str
  command: str
  sentence: object
  make: Callable = lambda place, made: None
  changes: tuple[str, ...] = ()
  absent: str = ""
  bug: str = ""


# How files are made wrong.


def config_file(*lines):
  """A config file of these lines."""

  def make(place, made):
    (place / "mine.py").write_text(
      "\n".join(["from apprentice_jax import config as base", *lines]) + "\n"
    )

  return make


def body(*lines, argument='argument=""'):
  """A config file whose get_config has these lines."""
  return config_file(
    f"def get_config({argument}):",
    "  config = base.base()",
    "  config.data.name = 'digits'",
    *("  " + line for line in lines),
    "  return config",
  )


def folder(change):
  """The photos, changed by change(folder)."""

  def make(place, made):
    shutil.copytree(made["data"], place / "data")
    change(place / "data")

  return make


def overwrite(pattern, content):
  def change(place):
    found = sorted(p for p in place.glob(pattern) if p.is_file())
    assert found
    for path in found:
      path.write_bytes(content(path.read_bytes()) if callable(content) else content)

  return change


def half(content):
  return content[: len(content) // 2]


def copy(which, change=lambda place: None):
  """A workdir, copied to {run} and changed by change(workdir)."""

  def make(place, made):
    shutil.copytree(made[which], place / "run")
    change(place / "run")

  return make


def photos_since(change):
  """A run on the photos that has not finished, and the photos as they are by now."""

  def make(place, made):
    folder(change)(place, made)
    shutil.copytree(made["of_photos"], place / "run")
    shutil.rmtree(place / "run" / "checkpoints" / "6")
    (place / "run" / "result.json").unlink()

  return make


def file(name, content=b"hello"):
  def make(place, made):
    (place / name).write_bytes(content)

  return make


def torch_file(content):
  """A file that torch.save wrote, with NumPy arrays for tensors."""
  return file("teacher.pth", torch_writer.new(content))


def by_torchvision(workdir, path, without="none"):
  """Writes the network of a workdir to a safetensors file, by torchvision's names; ``without`` one
  of its modules."""
  save_file(torchvisions(workdir, without), path, {"format": "pt"})


def torchvisions(workdir, without="none"):
  """The network of a workdir, by torchvision's names."""
  with Checkpoints(workdir) as checkpoints:
    network, _ = checkpoints.student()
  spelled, tensors = pretrained.Pretrained({}, {}, {}).spelled, {}
  for tree in network.params, network.batch_stats:
    for key, array in jax.tree_util.tree_leaves_with_path(tree):
      if key[0].key == without:
        continue
      name, shape = spelled("/".join(k.key for k in key), array.shape)
      axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(
        array.ndim, (0,)
      )  # the other way round: out, in, height, width
      tensors[name] = np.array(np.transpose(array, axes), order="C")
      assert tensors[name].shape == shape
  return tensors


def steps(workdir):
  return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


def corrupt(*places):
  """Damages the largest file of the oldest (0), ... or newest (-1) checkpoint."""

  def change(workdir):
    for i in places:
      state = workdir / "checkpoints" / str(steps(workdir)[i]) / "state"
      largest = max((p for p in state.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
      largest.write_bytes(half(largest.read_bytes()))

  return change


def permit(name, mode):
  return lambda place: (place / name).chmod(mode)


held = []  # locks of the test


def hold(path):
  """Holds a workdir's lock, as another run does."""
  held.append(path.open("a+"))
  fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
  held[-1].truncate(0)
  held[-1].write("a run of the test")
  held[-1].flush()
