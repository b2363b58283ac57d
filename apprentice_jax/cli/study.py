"""Trains every scheme of a config at each precision and seed of its study, and writes a report.

The same command continues an interrupted study. --config.study.variations adds settings beside
the config's own, each with a name: "'tau4: loss.temperature=4','long: recipe.student.epochs=90'".
"""

from apprentice_jax.cli import config_file
from apprentice_jax.cli import flags as shared

HELP = "compare the schemes of a config, over precisions and seeds"


def flags(parser):
  shared.config(parser)
  parser.add_argument(
    "--workdir", metavar="DIR", help="the study's folder, for all runs and the report"
  )
  shared.data_dir(parser)
  parser.add_argument(
    "--status", **shared.SWITCH, help="print how far the study in --workdir is, running or not"
  )
  shared.processes(parser)


def run(given):
  if given.status:
    return _status(given)
  shared.need(given, "config", "workdir")
  config = config_file.load(given, data_dir=given.data_dir, study=True)
  shared.join(given)
  from apprentice_jax.training import preemption

  # SIGTERM may come while devices start, or between two runs.
  with preemption.listening():
    from apprentice_jax.study.report import verdict_in
    from apprentice_jax.study.run import run_study
    from apprentice_jax.training import cluster, devices

    devices.start(config.cpu_devices, given.workdir, config.study.jobs)
    table = run_study(config, given.workdir)
    if cluster.first():
      said = filter(None, (table, verdict_in(given.workdir)))
      print("\n\n".join([*said, f"report: {given.workdir}/report.html"]))


def _status(given):
  shared.unused(given, "config", "--status reads the study's own")
  shared.need(given, "workdir")
  shared.without_devices()
  from apprentice_jax.study import progress

  print(progress.status(given.workdir))
