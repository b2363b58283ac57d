"""How two lists of classes' names differ, in words."""

import unicodedata

# What a name may differ in without a reader seeing it, and how a name looks without it.
_UNSEEN = (
    ("Unicode normal form", lambda name: unicodedata.normalize("NFC", name)),
    ("letter case", lambda name: unicodedata.normalize("NFC", name).casefold()),
    ("blanks", lambda name: "".join(unicodedata.normalize("NFC", name).split())),
    ("letter case and blanks",
     lambda name: "".join(unicodedata.normalize("NFC", name).casefold().split())))


def difference(some, others) -> str:
  """A clause that says how two lists of names differ, which they do.

  Args:
    some, others: the names.

  Returns:
    Two names that differ only in their normal form, letter case or blanks, spelled out, if there
    are any; else up to five names that only one list has, or their order.
  """
  only, only_others = sorted(set(some) - set(others)), sorted(set(others) - set(some))
  for what, seen in _UNSEEN:
    twins = {seen(name): name for name in only_others}
    for name in only:
      if seen(name) in twins:
        return f"{_spelled(name)} and {_spelled(twins[seen(name)])} differ only in {what}"
  differing = sorted({*only, *only_others}) or ["their order"]
  return f"{', '.join(differing[:5])} differ"


def _spelled(name: str) -> str:
  """A name in quotes, with its bytes where letters do not show them."""
  return repr(name) if name.isascii() else f"{name!r} ({ascii(name)[1:-1]})"
