"""Lets the test files of this folder import their helper module under any import mode."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
