"""The images and networks that a run began with and is held to, known by their content."""

import contextlib
import json
import pathlib
import warnings

from apprentice_jax.data.splits import Splits
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.errors import ConfigError, UnreadableImage
from apprentice_jax.files import write_whole
from apprentice_jax.training import cluster, networks
from apprentice_jax.training.checkpoint import Checkpoints
from apprentice_jax.training.recipes import full_precision
from apprentice_jax.training.workdir import check_classes, read_config

FILE = "data.json"  # of a workdir: of each set that examples are from, what tells it from others
# What may be wrong with the images of a set, by the first field of their identity that differs.
_CHANGES = {
  "examples": "it began with {0:,} {which} images, and there are {1:,} now: bring them back",
  "names": "the names or classes of its {which} images are not those that it began with: bring "
  "them back",
  "sizes": "files of its {which} images are not those that it began with (their sizes differ): "
  "bring them back",
  "checksum": "its {which} images or their labels are not those that it began with (their "
  "checksums differ): bring them back",
}
# In these places lies what was trained, of a run, of the teacher it began with, or of a study.
_TRAINED = (
  "checkpoints/[0-9]*",
  "*/checkpoints/[0-9]*",
  "cells/*/checkpoints/[0-9]*",
  "cells/*/*/checkpoints/[0-9]*",
)
# What a checkpoint's meta calls the checksum of a teacher, by the scheme's kind of it.
TEACHER = {"fixed": "teacher", "joint": "joint_teacher"}
WORDS = {
  "teacher": "its fixed teacher is not the one it began with",
  "joint_teacher": "its teacher does not start from the network it began with",
  "student": "its student does not start from the network it began with",
}


def claim_data(workdir: pathlib.Path, splits: Splits):
  """Notes in workdir which images its run or study has, or checks them against what is noted.

  A run of before the file was kept goes on, and is held to the images that it has now.

  Raises:
    ConfigError: they are others, and something has been trained on those before.
  """
  check_classes(workdir, splits["train"].class_names)
  path, now = workdir / FILE, splits.identity
  # Before anything is trained, other images are as good as these.
  there = _read(path)
  if there and _trained(workdir):
    changes = [
      _change(there.get(role), now.get(role), which)
      for role, which in (("train", "training"), ("test", "test"))
    ]
    for change in filter(None, changes):
      raise ConfigError(f"{workdir} cannot continue: {change}, or choose another --workdir.")
  if there != now:
    write_whole(path, json.dumps(now, indent=1), durable=True)


def warn_of_other_images(workdir: pathlib.Path, splits: Splits):
  """Warns where the test images are not those that the run in workdir has noted.

  Args:
    workdir: of the run; one without a note warns of nothing.
    splits: the images that are going to be scored.
  """
  before = _read(workdir / FILE)
  if not before or not cluster.first():
    return
  # Where they are a share of the training images, these count.
  role = "test" if "test" in before or splits.name("test") else "train"
  now = splits.whole(role).identity() if splits.name(role) else None
  if change := _change(before.get(role), now, "test" if role == "test" else "training"):
    warnings.warn(f"{workdir}: {change.rpartition(':')[0]}; the images of now are scored.")


def _change(before: dict | None, now: dict | None, which: str) -> str:
  """The beginning of a sentence about the change of a set, and what to do; "" of no change."""
  if now is None:
    return f"the folder of its {which} images is gone: bring it back" if before else ""
  if before is None:
    return (
      f"its {which} images were a share of the training images, and now have a folder of "
      "their own: move the folder away"
    )
  # What a user can check most easily comes first; a field that was not noted tells nothing.
  for field, sentence in _CHANGES.items():
    if field in before and before[field] != now.get(field):
      return sentence.format(before[field], now.get(field), which=which)
  return ""


def _trained(workdir: pathlib.Path) -> bool:
  return any(next(workdir.glob(pattern), None) for pattern in _TRAINED)


def _read(path: pathlib.Path) -> dict:
  if not path.exists():
    return {}
  with contextlib.suppress(ValueError):
    found = json.loads(path.read_text())
    if isinstance(found, dict) and all(isinstance(entry, dict) for entry in found.values()):
      return found
  raise ConfigError(
    f"{path} is damaged: bring it back from a copy, or delete it to have it written anew."
  )


@contextlib.contextmanager
def replaceable(workdir: pathlib.Path):
  """Lets files of another size take their place where an image that cannot be read ends the run.

  The sentence asks to replace it, so the next start notes the sizes anew. They are those of this
  run, of a teacher or student that it trains first, and of the cells of a study. Other processes
  may be training these cells.
  """
  try:
    yield
  except UnreadableImage:
    # Whichever process met the image: the others may not know of it.
    for inside in ("", "*/", "cells/*/", "cells/*/*/"):
      for path in workdir.glob(inside + FILE):
        _forget_sizes(path)
    raise


def _forget_sizes(path: pathlib.Path):
  with contextlib.suppress(OSError, ConfigError):
    there = _read(path)
    for entry in there.values():
      entry.pop("sizes", None)
    write_whole(path, json.dumps(there, indent=1), durable=True)


def starts(config, data, teacher: str, student: str) -> dict[str, int]:
  """The checksums of the networks in the paths from which a run's student, and a teacher that
  trains, start; 0: from scratch. A head that is new is none of theirs."""
  joint = SCHEMES[config.scheme].teacher == "joint"
  return {
    "joint_teacher": _checksum(config, "teacher", teacher, data) if joint else 0,
    "student": _checksum(config, "student", student, data),
  }


def _checksum(config, which: str, path: str, data) -> int:
  return networks.checksum(networks.trained(config, which, path, data)) if path else 0


def check(workdir: pathlib.Path, config, splits: Splits):
  """Raises ConfigError if the config names other networks than the run in workdir began with.

  Paths that are spelled as they were are left to the start of the run, which compares its
  checkpoint.
  """
  scheme, there = SCHEMES[config.scheme], read_config(workdir)
  differ = lambda which: there.get(f"{which}.init", "") != config[which].init
  if differ("teacher") and scheme.teacher:
    # A teacher with a new head trains in a workdir of its own, which knows what it began with.
    if scheme.teacher == "fixed" and config.teacher.head == "new":
      if (workdir / "teacher" / "config.json").exists():
        check(workdir / "teacher", full_precision(config, "teacher"), splits)
    else:
      before = there.get("teacher.init", "")
      _compare(workdir, config, splits, "teacher", before, scheme.teacher == "fixed")
  if differ("student"):
    before = there.get("student.init", "")
    _compare(workdir, config, splits, "student", before, scheme.pretrained_student)


def _compare(workdir: pathlib.Path, config, splits: Splits, which: str, before: str, needed: bool):
  """Raises ConfigError if the network in the config's ``init`` is not the one of before; needed:
  one of them is."""
  with Checkpoints(workdir) as checkpoints:
    # Without a checkpoint, the run begins anew.
    if checkpoints.latest() is None:
      return
    _, meta = checkpoints.contents()
  path = config[which].init
  key = TEACHER[SCHEMES[config.scheme].teacher] if which == "teacher" else "student"
  # Where the run needs a network and one start names none, that one was trained in the workdir.
  same = False
  if bool(before) == bool(path) or not needed:
    # Earlier versions trained a joint teacher from scratch, and noted nothing.
    noted = meta.get(key, 0 if key == "joint_teacher" else None)
    same = noted == _checksum(config, which, path, splits["train"])
  if not same:
    raise ConfigError(
      f"{workdir} belongs to a run that starts from another network: config.{which}.init "
      f"({before!r} there, {path!r} now) holds other weights; choose another --workdir."
    )
