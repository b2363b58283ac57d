"""All that has to be set before jax starts; nothing here imports jax or anything large."""

import glob
import importlib.util
import os
import pathlib
import platform
import sys

CUDA_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")  # what makes jax see a GPU
# Large pages, and memory that is kept: a training step on CPU takes and frees hundreds of
# megabytes. One arena (arena_max=1) would give nothing back and grow for many steps
# (results/bench/pause.py).
MALLOC = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776"
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"  # for each host device
# XLA's libraries take the time of a program, not the code that LLVM makes. At its default level
# LLVM takes three to five times as long over a network's initialisation; training steps alone run
# faster for it, and have it (see `training.compiled`).
QUICK = "--xla_backend_optimization_level=1"
_OWN_FLAGS = "APPRENTICE_XLA_FLAGS"  # those of XLA_FLAGS that this module added


def restart_with_memory_settings():
  """Starts this process anew with glibc's memory set by MALLOC, which glibc reads only then.

  Returns where there is an accelerator, no glibc, or a setting of the user's.
  """
  if (
    sys.platform == "linux"
    and "GLIBC_TUNABLES" not in os.environ
    and platform.libc_ver()[0] == "glibc"
    and not has_accelerator()
  ):
    os.environ["GLIBC_TUNABLES"] = MALLOC
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def set_xla_flags(quick: bool):
  """Adds XLA's flags for CPU to XLA_FLAGS, except those that the user has set.

  Args:
    quick: also lower LLVM's level, where there is no accelerator.
  """
  present = os.environ.get("XLA_FLAGS", "")
  own = [ONE_THREAD]
  if quick and not has_accelerator():
    own.append(QUICK)
  # The user's own value stands, whichever it is.
  added = [flag for flag in own if flag.partition("=")[0] not in present]
  os.environ["XLA_FLAGS"] = " ".join([present, *added]).strip()
  # A child process finds the parent's flags in XLA_FLAGS: they are still not the user's.
  os.environ[_OWN_FLAGS] = " ".join([os.environ.get(_OWN_FLAGS, ""), *added]).strip()


def compiles_quickly() -> bool:
  """Whether this module, and not the user, has lowered LLVM's level."""
  return QUICK in os.environ.get(_OWN_FLAGS, "").split()


def has_accelerator() -> bool:
  """Whether there is a GPU or a TPU that jax is going to use."""
  asked = os.environ.get("JAX_PLATFORMS", "").replace(" ", "").split(",")
  allowed = lambda *names: not any(asked) or any(name in asked for name in names)
  if allowed("cuda", "gpu") and has_gpu() and jax_sees_gpus():
    return True
  return allowed("tpu") and has_tpu()


def has_gpu() -> bool:
  """Whether there is an NVIDIA GPU, and no variable hides it."""
  hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1", "NoDevFiles")
  return bool(glob.glob("/dev/nvidia[0-9]*")) and not hidden


def jax_sees_gpus() -> bool:
  """Whether jax was installed with what it needs for NVIDIA's GPUs."""
  return any(importlib.util.find_spec(name) for name in CUDA_PLUGINS)


def has_tpu() -> bool:
  """Whether a device of this machine is of Google's PCI vendor number, as jax looks for TPUs."""
  vendors = glob.glob("/sys/bus/pci/devices/*/vendor")
  return any(pathlib.Path(v).read_text().strip() == "0x1ae0" for v in vendors)


def without_tpu():
  """Keeps libtpu, installed to plan with, from looking for a TPU on a machine without one.

  Its search prints complaints.
  """
  os.environ.update(
    TPU_SKIP_MDS_QUERY="1",
    TPU_ACCELERATOR_TYPE="v5litepod-1",
    TPU_WORKER_HOSTNAMES="localhost",
    TPU_WORKER_ID="0",
    TPU_STDERR_LOG_LEVEL="3",
    TPU_MIN_LOG_LEVEL="3",
  )
