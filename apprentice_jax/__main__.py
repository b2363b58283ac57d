import sys

from apprentice_jax.cli import command

sys.exit(command())
