"""Names of classes: read from a file, found in another list, and how two lists differ."""

import functools
import importlib.resources
import itertools
import pathlib
import re
import unicodedata

IMAGENET = "imagenet"
# What names that mean the same may differ in, and a name without it, in this order.
_ASPECTS = {
  "Unicode normal form": lambda name: unicodedata.normalize("NFKC", name),
  "letter case": str.casefold,
  "underscores": lambda name: name.replace("_", " "),
  "blanks": lambda name: " ".join(name.split()),
}
_WNID = re.compile(r"(n\d{8})\s+(\S.*)")  # as in n01440764 tench, Tinca tinca


def read(source: str) -> tuple[str, ...]:
  """The names of a network's outputs, in their order.

  Args:
    source: a text file with one name a line; or "imagenet": the 1,000 classes of ILSVRC 2012 in the
      order of their WordNet ids, which is the order of torchvision's and timm's networks.

  Raises:
    ValueError: the file cannot be read, has an empty line between names, or is empty.
  """
  if source == IMAGENET:
    return imagenet()
  try:
    text = pathlib.Path(source).expanduser().read_text(encoding="utf-8-sig")
  except OSError as error:
    raise ValueError(f"cannot read {source}: {error.strerror}.") from None
  except UnicodeDecodeError:
    raise ValueError(
      f"{source} is no text in UTF-8: it must have the name of a class on each line."
    ) from None
  names = tuple(line.strip() for line in text.rstrip().splitlines())
  if not names or not all(names):
    what = f"no name on line {names.index('') + 1}" if names else "no names"
    raise ValueError(f"{source} has {what}: it must have the name of a class on each line.")
  return names


@functools.cache
def imagenet() -> tuple[str, ...]:
  """ImageNet's 1,000 classes, such as "n01440764 tench, Tinca tinca".

  The ids and their order are those of ILSVRC 2012 (https://image-net.org/challenges/LSVRC/2012).
  The names are WordNet's (https://wordnet.princeton.edu). timm 1.0.31 lists both, in
  imagenet_synsets.txt and imagenet_synset_to_lemma.txt (Apache 2.0).
  """
  file = importlib.resources.files("apprentice_jax.data").joinpath("imagenet_classes.txt")
  return tuple(file.read_text(encoding="utf-8").splitlines())


def places(wanted, names) -> tuple[int, ...]:
  """Where each of the wanted classes is among others.

  A class is found by its name; of "n01440764 tench, Tinca tinca" each of "n01440764", "tench" and
  "Tinca tinca" is one. Where no name is the same to the letter, names that `folded` makes the same
  are.

  Args:
    wanted, names: of classes.

  Returns:
    For each of the wanted its index in ``names``, no two the same.

  Raises:
    ValueError: a class is not there, or is there twice, or two are the same; the message goes on
      from what has the names.
  """
  # To the letter first: two classes may differ in what `folded` drops.
  exact, alike = _index(names, str), _index(names, folded)
  found = {name: exact.get(name) or alike.get(folded(name), []) for name in wanted}
  if missing := [name for name in wanted if not found[name]]:
    raise ValueError(
      f"lacks {len(missing)} of the {len(wanted)} classes of the data: {listed(missing)}"
    )
  for name, at in found.items():
    if len(at) > 1:
      raise ValueError(f"has more than one class {name!r}: {listed([names[i] for i in at])}")
  # Two synonyms of one class would train its output on both.
  owner = {}
  for name, (at,) in found.items():
    if (other := owner.setdefault(at, name)) != name:
      raise ValueError(f"has one class, {names[at]!r}, for both {other!r} and {name!r} of the data")
  return tuple(found[name][0] for name in wanted)


def listed(names, most: int = 5) -> str:
  """The first few of some names, and how many more there are."""
  more = len(names) - most
  return ", ".join(map(repr, names[:most])) + (f" and {more:,} more" if more > 0 else "")


def _index(names, key) -> dict[str, list[int]]:
  """The places of each name that a class has."""
  index = {}
  for i, name in enumerate(names):
    # A set, since two synonyms may be one name when folded.
    for one in {key(one) for one in _synonyms(name)}:
      index.setdefault(one, []).append(i)
  return index


def _synonyms(name: str) -> tuple[str, ...]:
  wordnet = _WNID.fullmatch(name)
  return (name, wordnet[1], *map(str.strip, wordnet[2].split(","))) if wordnet else (name,)


def same_classes(names, data_names, same_data: bool = False) -> bool:
  """Whether a network's classes are those of a dataset, in the same order.

  Args:
    names: of the network's outputs.
    data_names: of the dataset's classes.
    same_data: the network is known to be of this dataset. Its copy may then have numbers in place
      of names, as tfds gives where the file of names is missing.
  """
  numbers = tuple(map(str, range(len(names))))
  return tuple(data_names) in ((tuple(names), numbers) if same_data else (tuple(names),))


def difference(some, others) -> str:
  """A clause that says how two lists of names differ, which they do.

  Args:
    some, others: the names.

  Returns:
    Two names that `folded` makes the same, spelled out, if there are any. Else up to five names
    that only one list has, or their order.
  """
  # Twins first: lists that look the same puzzle a reader most.
  only, only_others = sorted(set(some) - set(others)), sorted(set(others) - set(some))
  twins = {folded(name): name for name in only_others}
  for name in only:
    if twin := twins.get(folded(name)):
      return f"{_spelled(name)} and {_spelled(twin)} differ only in {_apart(name, twin)}"
  differing = sorted({*only, *only_others}) or ["their order"]
  return f"{', '.join(differing[:5])} differ"


def folded(name: str, aspects=tuple(_ASPECTS)) -> str:
  """A name without what a reader may overlook; names that are the same then are alike."""
  for aspect in aspects:
    name = _ASPECTS[aspect](name)
  return name


def _apart(name: str, twin: str) -> str:
  """The fewest aspects without which two names that are alike are the same."""
  for count in range(1, len(_ASPECTS) + 1):
    for aspects in itertools.combinations(_ASPECTS, count):
      if folded(name, aspects) == folded(twin, aspects):
        return " and ".join(aspects)
  raise ValueError(f"{name!r} and {twin!r} are not alike.")


def _spelled(name: str) -> str:
  """A name in quotes, with its bytes where letters do not show them."""
  return repr(name) if name.isascii() else f"{name!r} ({ascii(name)[1:-1]})"
