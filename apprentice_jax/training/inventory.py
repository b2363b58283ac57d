"""Which examples a run has: the line that says so, and the file that holds the run to them."""

import contextlib
import functools
import json
import pathlib

from apprentice_jax.data import files, folder
from apprentice_jax.data.splits import Splits
from apprentice_jax.errors import ConfigError, UnreadableImage
from apprentice_jax.files import write_whole
from apprentice_jax.training import processes
from apprentice_jax.training.workdir import check_classes

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


def announce(config, splits: Splits):
  """Prints `line`.

  Once in a process for each dataset.
  """
  if processes.first():
    _announce_once(line(config, splits))


@functools.cache
def _announce_once(text: str):
  print(text, flush=True)


def line(config, splits: Splits) -> str:
  """One line: how many images of how many classes there are, and how many files are not read."""
  data = config.data
  roles = {"training": "train", "validation": "validation", "test": "test"}
  counts = [
    f"{splits[role].size:,} {name}"
    for name, role in roles.items()
    if role != "validation" or data.validation
  ]
  counts[-2:] = [" and ".join(counts[-2:])]
  classes = len(splits["train"].class_names)
  parts = [f"data: {', '.join(counts)} images of {classes:,} classes in {_place(config)}"]
  if "test" not in splits.sets:
    parts.append(
      f"the test images are {data.test_share:.3g} of all, as there is no other test set "
      "(config.data.test_share)"
    )
  for role, wanted in (("train", data.train_split), ("test", data.test_split)):
    # With other folders beside it, the test images' folder is named even where it is the usual one.
    if (
      splits.name(role) not in ("", wanted)
      or role == "test"
      and splits.name(role)
      and splits.siblings
    ):
      which = "training" if role == "train" else role
      parts.append(f"the {which} images are those of {_within(splits.name(role))}")
  if others := splits.siblings:
    parts.append(
      f"the folder{'s' if len(others) > 1 else ''} {', '.join(others)} "
      f"{'are' if len(others) > 1 else 'is'} not read"
    )
  parts += [
    f"of {_within(splits.name(role))}, {files.told(examples.unread)}"
    for role, examples in splits.sets.items()
    if getattr(examples, "unread", None)
  ]
  # A path may hold bytes that are no text.
  return "; ".join(parts).encode(errors="backslashreplace").decode()


def _place(config) -> str:
  return config.data.dir if config.data.name == folder.FOLDER else config.data.name


def _within(name: str) -> str:
  return "the folder itself" if name == "." else name


def claim_data(workdir: pathlib.Path, splits: Splits):
  """Notes in workdir which images its run or study has, or checks them against what is noted.

  A run of before the file was kept goes on, and is held to the images that it has now.

  Raises:
    ConfigError: they are others, and something has been trained on those before.
  """
  check_classes(workdir, splits["train"].class_names)
  path, now = workdir / FILE, splits.identity
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


def _change(before: dict | None, now: dict | None, which: str) -> str:
  """The beginning of a sentence about the change of a set, and what to do; "" of no change."""
  if now is None:
    return f"the folder of its {which} images is gone: bring it back" if before else ""
  if before is None:
    return (
      f"its {which} images were a share of the training images, and now have a folder of "
      "their own: move the folder away"
    )
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

  The sentence asks to replace it, so the next start notes the sizes anew: of this run, of a teacher
  or student that it trains first, and of the cells of a study, which other processes may be
  training.
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
