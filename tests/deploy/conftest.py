"""Lets the test files of this folder import helper modules under any import mode."""

import pathlib
import sys

_HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(_HERE), str(_HERE.parents[1] / "results" / "deploy")]
