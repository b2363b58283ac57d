"""Measures how fast a config trains here, and where the time goes that is not the step's."""

import json
import pathlib

from apprentice_jax.cli import config_file
from apprentice_jax.cli import flags as shared

HELP = "measure how fast a config trains"


def flags(parser):
  shared.config(parser)
  parser.add_argument("--out", metavar="FILE.json", help="a file to write all numbers to")


def run(given):
  shared.need(given, "config")
  config = config_file.load(given)
  shared.check_folder(given.out)
  from apprentice_jax.bench import training
  from apprentice_jax.training import devices, networks

  devices.start(config.cpu_devices)
  report = training.measure(networks.named(config))
  print(training.table(report))
  if given.out:
    pathlib.Path(given.out).write_text(json.dumps(report, indent=1))


def moved(what: str) -> str:
  """The sentence about ``--what``, whose kinds have become programs of their own."""
  from apprentice_jax.bench import MOVED

  if what in MOVED:
    return f"bench --what={what} is now `{MOVED[what]}`, in the project's repository."
  return "bench takes no --what: it measures the training of a config."
