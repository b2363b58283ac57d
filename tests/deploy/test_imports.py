"""Modules that run where jax is not installed."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["interpret", "network", "bits", "packed", "preprocessing"])
def test_a_module_needs_no_jax(module):
  code = f"import sys, apprentice_jax.deploy.{module}; assert 'jax' not in sys.modules"
  subprocess.run([sys.executable, "-c", code], check=True)
