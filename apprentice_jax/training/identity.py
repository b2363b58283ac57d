"""Which networks a run began with, known by their content wherever their files are now."""

import pathlib

from apprentice_jax.data.splits import Splits
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.errors import ConfigError
from apprentice_jax.training import saved, start
from apprentice_jax.training.checkpoint import Checkpoints
from apprentice_jax.training.workdir import read_config

# What a checkpoint's meta calls the checksum of a teacher, by the scheme's kind of it.
TEACHER = {"fixed": "teacher", "joint": "joint_teacher"}
WORDS = {
  "teacher": "its fixed teacher is not the one it began with",
  "joint_teacher": "its teacher does not start from the network it began with",
  "student": "its student does not start from the network it began with",
}


def starts(config, data, teacher: str, student: str) -> dict[str, int]:
  """The checksums of the networks in the paths from which a run's student, and a teacher that
  trains, start; 0: from scratch. A head that is new is none of theirs."""
  of = lambda which, path: saved.checksum(start.trained(config, which, path, data)) if path else 0
  joint = SCHEMES[config.scheme].teacher == "joint"
  return {
    "joint_teacher": of("teacher", teacher) if joint else 0,
    "student": of("student", student),
  }


def check(workdir: pathlib.Path, config, splits: Splits):
  """Raises ConfigError if the config names other networks than the run in workdir began with.

  Paths that are spelled as they were are left to the start of the run, which compares its
  checkpoint.
  """
  scheme, there = SCHEMES[config.scheme], read_config(workdir)
  differ = lambda which: there.get(f"{which}.init", "") != config[which].init
  if differ("teacher") and scheme.teacher:
    if (
      scheme.teacher == "fixed" and config.teacher.head == "new"
    ):  # it trains in a workdir of its own
      if (workdir / "teacher" / "config.json").exists():
        check(workdir / "teacher", start.full_precision(config, "teacher"), splits)
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
    if checkpoints.latest() is None:  # it begins anew
      return
    _, meta = checkpoints.contents()
  path, key = (
    config[which].init,
    TEACHER[SCHEMES[config.scheme].teacher] if which == "teacher" else "student",
  )
  same = False
  if bool(before) == bool(path) or not needed:
    now = saved.checksum(start.trained(config, which, path, splits["train"])) if path else 0
    same = (
      meta.get(key, 0 if key == "joint_teacher" else None) == now
    )  # earlier versions trained it from scratch
  if not same:
    raise ConfigError(
      f"{workdir} belongs to a run that starts from another network: config.{which}.init "
      f"({before!r} "
      f"there, {path!r} now) holds other weights; choose another --workdir."
    )
