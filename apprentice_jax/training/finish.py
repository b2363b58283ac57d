"""The end of `apprentice train`: the report of a finished run, and the student's files."""

import importlib.util
import pathlib
import warnings

from apprentice_jax.data.splits import Splits
from apprentice_jax.deploy import registry, web
from apprentice_jax.deploy.network import Lowered
from apprentice_jax.errors import ConfigError
from apprentice_jax.models.imported import is_imported
from apprentice_jax.training import cluster
from apprentice_jax.training.export import check_format
from apprentice_jax.training.workdir import disk_errors


def formats(config) -> tuple[str, ...]:
  """The formats of ``config.export``; a network of the user's own is left as StableHLO instead."""
  own = config.export and is_imported(config.student.name)
  return ("stablehlo",) if own else tuple(config.export)


def check(config, chosen: bool = True):
  """Checks ``config.export``, and prints which format stands in for another.

  Args:
    config: the run's.
    chosen: the user has named the formats; otherwise a config file has.

  Raises:
    ConfigError: a format takes a package that is not installed, or cannot hold the network.
  """
  if is_imported(config.student.name):
    others = [name for name in config.export if name != "stablehlo"]
    if others and chosen:
      check_format(f"config.student.name={config.student.name}", others[0])
    if others and cluster.first():
      print(
        f"{config.student.name} is a network of your own: it is left as StableHLO instead of "
        f"{', '.join(others)}."
      )
    return
  if "onnx" in config.export and not importlib.util.find_spec("onnx"):
    raise ConfigError(
      "config.export names onnx, which is not installed: pip install "
      "'apprentice-jax[export]', or leave it out."
    )
  if "web" in config.export:
    web.compiler()


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
    missing = cluster.share([name for name in formats(config) if not _whole(_file(workdir, name))])
    if missing:
      _export(config, workdir, missing)
  for path in (_file(workdir, name) for name in formats(config)):
    if cluster.first() and path.exists():
      print(f"student: {path}, {registry.size(path):,} bytes")


def _report(config, workdir: pathlib.Path, splits: Splits):
  from apprentice_jax.training import report  # here: it loads matplotlib

  # The pictures of mistakes stay, too: to write them anew would read the images again.
  images = lambda index: splits[config.eval.final].sample(index)
  print(report.write_run(workdir, None if (workdir / report.MISTAKES_FILE).exists() else images))
  print(f"report: {workdir / 'report.html'}")


def _file(workdir: pathlib.Path, name: str) -> pathlib.Path:
  # C code is a folder, and no file that a C compiler takes; a browser knows a page by its ending.
  named = {"c": "student_c", "web": "student.html"}
  return workdir / named.get(name, f"student.{name}")


def _whole(path: pathlib.Path) -> bool:
  # The file that makes a folder an exported one is written last.
  return path.is_file() or registry.recognised(path) == "c"


def _export(config, workdir: pathlib.Path, names: list[str]):
  """Writes the student in the formats of these names; one that cannot be written is warned of."""
  from apprentice_jax.training import export

  # The network is lowered once for each kind of ends.
  for ends in dict.fromkeys(map(registry.usual_ends, names)):
    files = {name: _file(workdir, name) for name in names if registry.usual_ends(name) == ends}
    try:
      network = export.lowered(config, str(workdir), ends=ends)
    except ConfigError as error:
      warnings.warn(f"there is no {', no '.join(path.name for path in files.values())}: {error}")
      continue
    # All processes have read the checkpoint; one writes the files.
    if cluster.first():
      for name, path in files.items():
        _write(network, name, path)


def _write(network: Lowered, name: str, path: pathlib.Path):
  options = {"name": "student"} if name == "c" else {}
  try:
    registry.write(network, name, path, **options)
  except ConfigError as error:
    warnings.warn(f"there is no {path.name}: {error}")
