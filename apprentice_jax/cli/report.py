"""Writes the report of a study anew, or one report of several parts of a study."""

import pathlib

from apprentice_jax.cli import flags as shared

HELP = "write a study's report anew, or one of its parts"


def flags(parser):
  add = parser.add_argument
  add("--workdir", metavar="DIR[,DIR,...]", help="the folder of the study, or of each part")
  add("--out", metavar="DIR", help="a folder for the report of several parts")


def run(given):
  shared.need(given, "workdir")
  shared.without_devices()
  from apprentice_jax.study import merge

  # A folder's name may have a comma, too.
  one = pathlib.Path(given.workdir).exists()
  print(merge.report_on([given.workdir] if one else given.workdir.split(","), given.out))
