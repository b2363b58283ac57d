"""How a report's numbers were made: the last starts of the workdirs that they come from."""

import re
import shlex

from apprentice_jax.document import Code, Heading, Table
from apprentice_jax.training.workdir import read_starts

FIELDS = ("date", "folder", "commit", "version", "jax", "devices")  # of a start
STARTS = 5  # that a report shows


def origin(*workdirs) -> list:
  """The blocks of a report on the last starts of workdirs; [] without a record."""
  records = [start for workdir in workdirs for start in read_starts(workdir)]
  records.sort(key=lambda start: start["date"])
  if not records:
    return []
  last = records[-STARTS:]
  rows = [[str(start.get(field, "")) for field in FIELDS] for start in last]
  caption = f"The last {STARTS} of {len(records)} starts." if len(records) > STARTS else ""
  # A continued study has the same command again.
  commands = list(dict.fromkeys(readable(start.get("command", "")) for start in last))
  said = "The command:" if len(commands) == 1 else "The commands, in their order:"
  return [Heading("How it was made"), Table(caption, FIELDS, rows), Code(said, commands)]


def readable(command: str) -> str:
  """A command in the shell's words, with as few quotes as it takes.

  Where the value of a flag needs quotes, the flag's name stands before them. Double quotes are
  around a single quote, which `shlex.join` would take apart.
  """
  try:
    return " ".join(map(_quoted, shlex.split(command)))
  except ValueError:
    return command


def _quoted(word: str) -> str:
  flag, equals, value = word.partition("=")
  if equals and flag.startswith("--") and shlex.quote(flag) == flag:
    return f"{flag}={_quoted(value)}" if value else word
  # A shell at a terminal reads "!" even within double quotes.
  if "!" in word or shlex.quote(word) == word:
    return shlex.quote(word)
  return '"' + re.sub(r'(["$`\\])', r"\\\1", word) + '"'
