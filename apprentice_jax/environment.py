"""What can be known of this machine before jax starts, without importing anything large."""

import glob

from apprentice_jax.training import tpu


def has_accelerator() -> bool:
  """Whether there is a GPU or a TPU that jax would use."""
  return bool(glob.glob("/dev/nvidia[0-9]*")) or tpu.has_tpu()
