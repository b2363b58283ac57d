"""Last checkpoints as arrays: python results/unchanged/states.py FOLDER

Every workdir below FOLDER that has checkpoints gets a state.npz.
"""

import pathlib
import sys

import internals
import numpy as np


def main(folder: str):
  for checkpoints in sorted(pathlib.Path(folder).rglob("checkpoints")):
    np.savez(checkpoints.parent / "state.npz", **internals.checkpoint(checkpoints.parent))


if __name__ == "__main__":
  main(*sys.argv[1:])
