"""What can be known of this machine before jax starts, without importing anything large."""

import glob
import importlib.util
import os

from apprentice_jax.training import tpu

CUDA_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")  # what makes jax see a GPU


def has_accelerator() -> bool:
  """Whether there is a GPU or a TPU that jax is going to use."""
  asked = os.environ.get("JAX_PLATFORMS", "").replace(" ", "").split(",")
  allowed = lambda *names: not any(asked) or any(name in asked for name in names)
  return (allowed("cuda", "gpu") and has_gpu() and jax_sees_gpus()) or (
    allowed("tpu") and tpu.has_tpu()
  )


def has_gpu() -> bool:
  """Whether there is an NVIDIA GPU, and no variable hides it."""
  hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1", "NoDevFiles")
  return bool(glob.glob("/dev/nvidia[0-9]*")) and not hidden


def jax_sees_gpus() -> bool:
  """Whether jax was installed with what it needs for NVIDIA's GPUs."""
  return any(importlib.util.find_spec(name) for name in CUDA_PLUGINS)
