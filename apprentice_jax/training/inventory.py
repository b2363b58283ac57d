"""The line that says which images a run has."""

import functools

from apprentice_jax.data import files, folder
from apprentice_jax.data.splits import Splits
from apprentice_jax.training import cluster


def announce(config, splits: Splits):
  """Prints `line`, once in a process for each dataset."""
  if cluster.first():
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
    name = splits.name(role)
    if name and (name != wanted or role == "test" and splits.siblings):
      which = "training" if role == "train" else role
      parts.append(
        f"the classes are the folders of {_place(config)}"
        if name == "."
        else f"the {which} images are those of {name}"
      )
  if others := splits.siblings:
    parts.append(
      f"the folder{'s' if len(others) > 1 else ''} {', '.join(others)} "
      f"{'are' if len(others) > 1 else 'is'} not read"
    )
  # Files that are no images, and others that are passed over.
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
