"""The command line that the benchmarks share.

Each of them measures, prints its table, and with ``--out=FILE.json`` writes the whole report.
"""

import json
import pathlib
import sys
import warnings
from collections.abc import Callable

from apprentice_jax import environment
from apprentice_jax.cli.flags import check_folder
from apprentice_jax.errors import ApprenticeError, ConfigError
from apprentice_jax.training import networks


def main(measure: Callable[[list[str]], tuple[dict, str]], table: Callable[[dict], str]):
  """Measures, and ends the process; a wrong input gets one sentence and status 2.

  Args:
    measure: takes the command's arguments, and returns the report and where to write it ("":
      nowhere).
    table: the report as text.
  """
  environment.restart_with_memory_settings()
  environment.set_xla_flags(quick=True)
  if not environment.has_tpu():
    environment.without_tpu()
  warnings.formatwarning = lambda message, *_, **__: f"{message}\n"
  try:
    report, out = measure(sys.argv[1:])
  except ApprenticeError as error:
    print(f"{pathlib.Path(sys.argv[0]).name}: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
  print(table(report))
  if out:
    pathlib.Path(out).write_text(json.dumps(report, indent=1))


def of_config(run: Callable) -> Callable[[list[str]], tuple[dict, str]]:
  """`main`'s ``measure`` for a benchmark of a config, whose flags are those of `apprentice bench`.

  Args:
    run: takes the config and returns the report.
  """

  def measure(arguments: list[str]) -> tuple[dict, str]:
    from apprentice_jax.cli import config_file, parser
    from apprentice_jax.training import devices

    flags = parser.parse(["bench", *arguments])
    if not flags.config:
      raise ConfigError("this benchmark needs --config=FILE:key=value,...")
    config = config_file.load(flags)
    check_folder(flags.out)
    devices.start(config.cpu_devices)
    return run(networks.named(config)), flags.out

  return measure
