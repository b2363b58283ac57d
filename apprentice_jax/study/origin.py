"""The part of a report that says where its numbers come from."""

from apprentice_jax.study.document import Heading, Table
from apprentice_jax.training import starts

FIELDS = ("date", "command", "folder", "commit", "version", "jax", "devices")
SHOWN = 5


def blocks(*workdirs) -> list:
  """The last starts of workdirs; nothing of runs before they were recorded."""
  found = sorted(
    (start for workdir in workdirs for start in starts.read(workdir)),
    key=lambda start: start["date"],
  )
  rows = [[str(start.get(field, "")) for field in FIELDS] for start in found[-SHOWN:]]
  caption = f"The last {SHOWN} of {len(found)} starts." if len(found) > SHOWN else ""
  return [Heading("How it was made"), Table(caption, FIELDS, rows)] if rows else []
