"""The end of `apprentice train`: the report of a finished run, and the student's files."""

import importlib.util
import pathlib
import warnings

from apprentice_jax.data.splits import Splits
from apprentice_jax.deploy import registry
from apprentice_jax.errors import ConfigError
from apprentice_jax.training import cluster
from apprentice_jax.training.workdir import disk_errors


def check(config):
  """Raises ConfigError if a format of ``config.export`` takes a package that is not installed."""
  if "onnx" in config.export and not importlib.util.find_spec("onnx"):
    raise ConfigError(
      "config.export names onnx, which is not installed: pip install "
      "'apprentice-jax[export]', or leave it out."
    )


def write(config, workdir: pathlib.Path, splits: Splits):
  """Writes the report and the exported files, or those that are missing, and prints where they are.

  Every process has to call it: a checkpoint is read by all of them together.

  Args:
    config: the run's.
    workdir: of the finished run.
    splits: its images.
  """
  with disk_errors(workdir):
    cluster.on_first(lambda: _report(config, workdir, splits))
    # What is there stays: a finished run that is started again writes only what is missing.
    missing = cluster.share([name for name in config.export if not _file(workdir, name).exists()])
    if missing:
      _export(config, workdir, missing)
  for path in (_file(workdir, name) for name in config.export):
    if cluster.first() and path.exists():
      print(f"student: {path}, {registry.size(path):,} bytes")


def _report(config, workdir: pathlib.Path, splits: Splits):
  from apprentice_jax.training import report  # here: it loads matplotlib

  # The pictures of mistakes stay, too: to write them anew would read the images again.
  images = lambda index: splits[config.eval.final].sample(index)
  print(report.write_run(workdir, None if (workdir / report.MISTAKES_FILE).exists() else images))
  print(f"report: {workdir / 'report.html'}")


def _file(workdir: pathlib.Path, name: str) -> pathlib.Path:
  return workdir / f"student.{name}"


def _export(config, workdir: pathlib.Path, names: list[str]):
  """Writes the student in the formats of these names; one that cannot be written is warned of."""
  from apprentice_jax.training import export

  try:
    network = export.lowered(config, str(workdir))
  except ConfigError as error:
    warnings.warn(f"there is no exported student: {error}")
    return
  # All processes have read the checkpoint; one writes the files.
  if not cluster.first():
    return
  for name in names:
    path = _file(workdir, name)
    try:
      registry.write(network, name, path)
    except ConfigError as error:
      warnings.warn(f"there is no {path.name}: {error}")
