"""The training, validation and test examples of a dataset, however its splits are laid out.

`open_splits` makes them once, for the caller to pass on. `Splits` opens a set when it is first
asked for it.
"""

import contextlib
import functools
import warnings
from typing import NamedTuple

from apprentice_jax.data import encoded, folder, prepared, sources
from apprentice_jax.data.batches import READING, Reading, Resident, Streamed
from apprentice_jax.data.crops import Crops
from apprentice_jax.errors import ConfigError

ROLES = ("train", "validation", "test")


class Spec(NamedTuple):
  """The fields of config.data that decide which examples a run has."""

  name: str
  dir: str
  train_split: str
  test_split: str
  validation: float
  test_share: float


def open_splits(config, others: "Splits | None" = None) -> "Splits":
  """The examples that a run's ``config.data`` asks for.

  Args:
    config: these fields of a config.
    others: splits that are open already. They are returned where they are the ones asked for, and
      remember those that are opened beside them.
  """
  spec = Spec(*(config[field] for field in Spec._fields))
  crops = config.image_size and Crops(
    config.image_size, config.resize, tuple(config.crop_area), tuple(config.crop_ratio), config.flip
  )
  # Two configs may differ in what they do with the images; they share a set that is open.
  key = spec, crops or None, Reading(*(config[field] for field in Reading._fields))
  opened = {} if others is None else others.opened
  if key not in opened:
    opened[key] = Splits(*key)
    opened[key].opened = opened
  return opened[key]


@contextlib.contextmanager
def _one_sentence():
  """Makes a ConfigError of what a dataset has wrong."""
  try:
    yield
  except (ValueError, OSError) as error:
    raise ConfigError(str(error)) from None


class Splits:
  """The examples of each role; each set is opened once, when it is asked for.

  ``splits["train"]`` is a `Resident` or, where images are cut to crops, a `Streamed` set.

  Args:
    spec: the dataset.
    crops: of images, which then stay encoded (`encoded.Examples`); None: they become a
      `sources.Dataset`.
    reading: of encoded images.
  """

  def __init__(self, spec: Spec, crops: Crops | None = None, reading: Reading = READING):
    self.spec, self._crops, self._reading = spec, crops, reading
    self.opened, self._sets, self._names, self._batches = {}, {}, {}, {}

  def __getitem__(self, name: str) -> Resident | Streamed:
    """The images of one of ROLES, or of what the dataset calls one of its splits, or a slice.

    A user's name goes through `named` first.

    Raises:
      ConfigError: they are not there.
    """
    with _one_sentence():
      role = self.role(name)
      if role not in self._batches:
        examples = self.part(role)
        if self._crops:
          self._batches[role] = Streamed(role, examples, self._crops, self._reading)
        else:
          self._batches[role] = Resident(role, examples)
      return self._batches[role]

  @_one_sentence()
  def named(self, name: str) -> str:
    """The split that a user's name stands for: the folder of the name, else see `role`.

    "" stands for the run's own test images. It warns where a folder is called "test" and the run's
    own test images are others.

    Returns:
      One of ROLES; or the name of another split, which no role has.

    Raises:
      ConfigError: there are no validation images.
    """
    if not name:
      return "test"
    spec = self.spec
    own = folder.own_folder(spec.dir, name) if self._is_folder else ""
    if not own:
      return self.role(name)
    # The folder may be the run's own, whatever it is called: then the role has its images.
    test = folder.located_test(spec.dir, spec.test_split)
    for role, split in (("test", test), ("train", folder.located(spec.dir, spec.train_split))):
      if folder.same(spec.dir, name, split):
        return role
    if name == "test":
      others = f"those of {test} (--split={test})" if test else "a share of the training images"
      warnings.warn(
        f"'test' is the folder of this name in {spec.dir}: the run's own test images are {others}."
      )
    return own

  def role(self, name: str) -> str:
    """The one of ROLES that a name stands for; else the name itself.

    Raises:
      ValueError: there are no validation images.
    """
    spec = self.spec
    # A role's own name comes first, then the config's names for splits, then other spellings.
    if name in ("train", "test") or name == "validation" and spec.validation:
      return name
    alike = folder.spellings(name) or (name,)
    # "val" is the folder of that name; where there is none, the images held out.
    held_out = "val" in alike and spec.validation
    if name and name == spec.test_split and not (held_out and not self._has_test(alike)):
      return "test"
    if name and name == spec.train_split:
      return "train"
    if held_out:
      return "validation"
    for role, own in (("test", spec.test_split), ("train", spec.train_split)):
      if own.casefold() in alike:
        return role
    if name == "validation":
      raise ValueError("there is no validation split: config.data.validation is 0.")
    return name

  def _has_test(self, names: tuple[str, ...]) -> bool:
    """Whether the test images are a split of one of these names, or a slice."""
    own = self.name("test")
    return own.casefold() in names or not self._is_folder and bool(own)

  def part(self, which: str):
    """The examples of a role, or of another split of the dataset.

    Raises:
      ValueError, OSError: they are not there.
    """
    # A test set of its own needs no look at the training images.
    if which == "test" and self.name("test"):
      return self.whole("test")
    if which in ROLES:
      return self._parts[which]
    return self._open(folder.split_folder(self.spec.dir, which) if self._is_folder else which)

  @property
  def _is_folder(self) -> bool:
    return self.spec.name == encoded.FOLDER

  @property
  def siblings(self) -> list[str]:
    """The folders beside the run's own that are called as splits are, and are not read."""
    if not self._is_folder:
      return []
    return folder.siblings(self.spec.dir, [self.name(role) for role in ("train", "test")])

  def name(self, role: str) -> str:
    """The split, or folder, of the "train" or "test" images; "" for a share of the others."""
    # To look costs a look into every class.
    if role not in self._names:
      self._names[role] = self._find(role)
    return self._names[role]

  def _find(self, role: str) -> str:
    spec, share = self.spec, bool(self.spec.test_share)
    if self._is_folder and role == "train":
      return folder.training_folder(spec.dir, spec.train_split, share)
    if self._is_folder:
      return folder.test_folder(spec.dir, spec.test_split, share)
    if role == "test" and not spec.test_split and not share:
      raise ValueError(
        "config.data.test_split is empty: name a split, or a slice such as "
        "train[80%:], or set --config.data.test_share=0.2 to test on a fifth of "
        "the training images."
      )
    return spec.train_split if role == "train" else spec.test_split

  def whole(self, role: str):
    """All examples of the split, or folder, that the "train" or "test" images are in."""
    if role not in self._sets:
      try:
        self._sets[role] = self._open(self.name(role))
      except folder.NoClasses as error:
        if role == "train":
          raise
        raise ValueError(f"{str(error).rstrip('.')}; or {TAKE_A_SHARE}.") from None
    return self._sets[role]

  @functools.cached_property
  def sets(self) -> dict:
    """The sets that all examples are from, by role: "train", and "test" where it has a set."""
    return {role: self.whole(role) for role in ("train", "test") if self.name(role)}

  @functools.cached_property
  def identity(self) -> dict[str, dict]:
    """For each of `sets`, the numbers that another set does not have."""
    return {role: examples.identity() for role, examples in self.sets.items()}

  @functools.cached_property
  def _parts(self) -> dict:
    """The examples of every role whose examples are from the training split."""
    # Tests first: a validation set is then a share of what is left to train on.
    spec, parts = self.spec, {"train": self.whole("train")}
    for role, wanted, field in (
      ("test", 0 if self.name("test") else spec.test_share, "test_share"),
      ("validation", spec.validation, "validation"),
    ):
      if wanted:
        parts["train"], parts[role] = self._held_out(parts["train"], wanted, field)
    return parts

  def _open(self, split: str):
    module = encoded if self._crops else sources
    return module.load(self.spec.name, split, self.spec.dir or None)

  def _held_out(self, examples, wanted: float, field: str):
    size = number(examples)
    count = held(wanted, size)
    if not 0 < count < size:
      raise ValueError(
        f"config.data.{field} is {wanted:g}, but {self.spec.name} has only {size} "
        "training examples."
      )
    return (encoded if self._crops else sources).hold_out(examples, count)

  def check_overlap(self):
    """Raises ConfigError if training and test images have examples in common."""
    train, test = (self.name(role) for role in ("train", "test"))
    with _one_sentence():
      overlap = test and self._overlap(train, test)
    if overlap:
      apart = (
        "" if self._is_folder else "take slices apart, such as train[:80%] and train[80%:], or "
      )
      raise ConfigError(
        f"config.data.train_split {train!r} and config.data.test_split {test!r} have images in "
        f"common: {apart}{TAKE_A_SHARE}."
      )

  def _overlap(self, train: str, test: str) -> bool:
    # One folder may have two names, by a link or by the case of letters.
    if self._is_folder:
      return self.whole("train").path.samefile(self.whole("test").path)
    builder = prepared.open_builder(self.spec.name, self.spec.dir or None)
    parts = [prepared.check_split(builder, name) for name in (train, test)]
    return parts[0].overlaps(parts[1])


TAKE_A_SHARE = (
  "set --config.data.test_split= --config.data.test_share=0.2 to test on a fifth of "
  "the training images"
)


def number(examples) -> int:
  """How many examples a `sources.Dataset` or an `encoded.Examples` has."""
  return len(examples.labels if isinstance(examples, sources.Dataset) else examples)


def held(wanted: float, size: int) -> int:
  """How many of ``size`` examples ``wanted`` stands for: a share of them below 1, else a number."""
  return round(wanted * size) if wanted < 1 else int(wanted)
