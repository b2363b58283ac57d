"""The report of studies that are there: of one anew, or one of several parts."""

from apprentice_jax.errors import ConfigError
from apprentice_jax.study import report, results
from apprentice_jax.training.workdir import disk_errors, local


def report_on(folders: list[str], out: str = "") -> str:
  """Writes results.csv, report.md, report.html and plots of studies.

  Args:
    folders: the workdirs of one study, or of its parts, which have the same config but for seeds,
      precisions, cells, variations and paths.
    out: where to; "": the workdir of the one study.

  Returns:
    The report's table.

  Raises:
    ConfigError: they are no studies, no parts of one, or ``out`` holds another one.
  """
  folders = [local(folder) for folder in folders]
  if len({folder.resolve() for folder in folders}) < len(folders):
    raise ConfigError("--workdir names a study twice.")
  if not out and len(folders) > 1:
    raise ConfigError("a report of several studies needs --out=DIR.")
  out = local(out or folders[0])
  # A report of several studies must not take the place of one study's own.
  own = len(folders) == 1 and out.resolve() == folders[0].resolve()
  if not own and (out / "config.json").exists():
    raise ConfigError(f"{out} holds a run or a study of its own: choose another --out.")
  studies = [results.load(folder) for folder in folders]
  rows = results.merged(studies)
  # Parts share all of the config but these lists.
  config = studies[0].config.copy_and_resolve_references()
  for field in ("references", "variations", "seeds", "cells"):
    config.study[field] = _union(study.config.study[field] for study in studies)
  missing = [name for s in studies for name in results.missing(s.config, rows)]
  with disk_errors(out):
    out.mkdir(parents=True, exist_ok=True)
    # The study's own file is there, and the study may be running and add to it.
    if not own:
      results.write(out / "results.csv", rows)
    earlier = [name for study in studies for name in results.earlier(study.folder, study.config)]
    return report.write(config, out, rows, folders, missing, earlier)


def _union(lists) -> tuple:
  return tuple(dict.fromkeys(item for items in lists for item in items))
