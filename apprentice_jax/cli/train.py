"""Trains the student of a config, and the teacher that it needs, in a workdir.

The same command continues an interrupted run, and trains nothing in a finished one.
"""

import pathlib

from apprentice_jax.cli import config_file
from apprentice_jax.cli import flags as shared

HELP = "train a network"


def flags(parser):
  shared.config(parser)
  parser.add_argument(
    "--workdir", metavar="DIR", help="the run's folder, for checkpoints, metrics and the report"
  )
  shared.data_dir(parser)
  shared.processes(parser)


def run(given):
  shared.need(given, "config", "workdir")
  from apprentice_jax.config import unread

  config = config_file.load(given, data_dir=given.data_dir)
  changed = [name.removeprefix("config.") for name in given.names if name.startswith("config.")]
  for sentence in unread(config, changed):
    shared.note(sentence)
  shared.join(given)
  from apprentice_jax.training import preemption

  # SIGTERM may come while devices start or programs compile.
  with preemption.listening():
    from apprentice_jax.data.splits import open_splits
    from apprentice_jax.training import api, cluster, devices, finish
    from apprentice_jax.training.workdir import result

    devices.start(config.cpu_devices, given.workdir)
    workdir = pathlib.Path(given.workdir)
    finished = result(workdir) is not None
    # A package that the exports need should not be missed after hours of training.
    finish.check(config, chosen="export" in changed)
    splits = open_splits(config.data)
    api.train(config, given.workdir, splits=splits)
    if finished and cluster.first():
      print(f"{given.workdir} has finished already: nothing was trained.")
    finish.write(config, workdir, splits)
