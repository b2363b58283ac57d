"""Names of classes: read from a file, and those of one list found in another."""

import functools
import importlib.resources
import pathlib
import re
import unicodedata

IMAGENET = "imagenet"
_WNID = re.compile(r"(n\d{8})\s+(\S.*)")  # as in n01440764 tench, Tinca tinca


def read(source: str) -> tuple[str, ...]:
  """The names of a network's outputs, in their order.

  Args:
    source: a text file with one name a line; or "imagenet": the 1,000 classes of ILSVRC 2012 in the order of their
      WordNet ids, which is the order of torchvision's and timm's networks.

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
    raise ValueError(f"{source} is no text in UTF-8: it must have the name of a class on each line.") from None
  names = tuple(line.strip() for line in text.rstrip().splitlines())
  if not names or not all(names):
    what = f"no name on line {names.index('') + 1}" if names else "no names"
    raise ValueError(f"{source} has {what}: it must have the name of a class on each line.")
  return names


@functools.cache
def imagenet() -> tuple[str, ...]:
  """ImageNet's 1,000 classes, such as "n01440764 tench, Tinca tinca".

  The ids and their order are those of ILSVRC 2012 (https://image-net.org/challenges/LSVRC/2012), the names are
  WordNet's (https://wordnet.princeton.edu); both as timm 1.0.31 lists them (imagenet_synsets.txt and
  imagenet_synset_to_lemma.txt, Apache 2.0).
  """
  file = importlib.resources.files("apprentice_jax.data").joinpath("imagenet_classes.txt")
  return tuple(file.read_text(encoding="utf-8").splitlines())


def places(wanted, names) -> tuple[int, ...]:
  """Where each of the wanted classes is among others.

  A class is found by its name; of "n01440764 tench, Tinca tinca" each of "n01440764", "tench" and "Tinca tinca" is one.
  Where no name is the same to the letter, neither capitals nor underscores nor the form of Unicode count.

  Args:
    wanted, names: of classes.

  Returns:
    For each of the wanted its index in ``names``, no two the same.

  Raises:
    ValueError: a class is not there, or is there twice, or two are the same; the message goes on from what has the names.
  """
  exact, alike = _index(names, str), _index(names, _folded)
  found = {name: exact.get(name) or alike.get(_folded(name), []) for name in wanted}
  if missing := [name for name in wanted if not found[name]]:
    raise ValueError(f"lacks {len(missing)} of the {len(wanted)} classes of the data: {listed(missing)}")
  for name, at in found.items():
    if len(at) > 1:
      raise ValueError(f"has more than one class {name!r}: {listed([names[i] for i in at])}")
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
    for one in {key(one) for one in _synonyms(name)}:
      index.setdefault(one, []).append(i)
  return index


def _synonyms(name: str) -> tuple[str, ...]:
  wordnet = _WNID.fullmatch(name)
  return (name, wordnet[1], *map(str.strip, wordnet[2].split(","))) if wordnet else (name,)


def _folded(name: str) -> str:
  return " ".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").split())
