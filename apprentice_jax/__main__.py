import sys

from apprentice_jax.cli import command

if __name__ == "__main__":  # not in processes that this one starts
  sys.exit(command())
