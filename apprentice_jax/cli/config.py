"""Prints the fields of a config: those that differ from their defaults, or all of them."""

from apprentice_jax.cli import config_file
from apprentice_jax.cli import flags as shared

HELP = "print the fields of a config"


def flags(parser):
  shared.config(parser)
  parser.add_argument("--all", **shared.SWITCH, help="also print the fields at their defaults")
  parser.epilog = f"installed configs: {', '.join(config_file.installed())}"


def run(given):
  shared.need(given, "config")
  from apprentice_jax.config.fields import describe

  for field, value, text in describe(config_file.load(given), given.all):
    print(f"config.{field} = {value!r}\n    {text}")
