"""The magnitudes of trained TTQ networks: python results/ttq/magnitudes.py WORKDIR...

Prints, for each workdir, how many magnitudes there are, the least and the largest, and how many are
at their floor.
"""

import pathlib
import sys

import jax
import numpy as np

from apprentice_jax.models.magnitudes import FLOOR, SIDES
from apprentice_jax.training.checkpoint import Checkpoints


def main(*workdirs):
  for workdir in workdirs:
    with Checkpoints(workdir) as checkpoints:
      student, _ = checkpoints.student()
    leaves = jax.tree_util.tree_leaves_with_path(student.params)
    found = np.concatenate([np.ravel(array) for path, array in leaves if path[-1].key in SIDES])
    print(
      f"{pathlib.Path(workdir).name}: {found.size} magnitudes, {found.min():.4f} to "
      f"{found.max():.4f}, "
      f"{np.sum(found <= FLOOR)} at their floor"
    )


if __name__ == "__main__":
  main(*sys.argv[1:])
