"""Whether this machine has a TPU, found out without importing anything large: the command asks
before it starts."""

import glob
import os
import pathlib


def has_tpu() -> bool:
  """Whether a device of this machine is of Google's PCI vendor number, as jax looks for TPUs."""
  vendors = glob.glob("/sys/bus/pci/devices/*/vendor")
  return any(pathlib.Path(v).read_text().strip() == "0x1ae0" for v in vendors)


def without_tpu():
  """Keeps libtpu, installed to plan with, from looking for the TPU of a machine that has none,
  which it does with complaints. Before jax starts."""
  os.environ.update(
    TPU_SKIP_MDS_QUERY="1",
    TPU_ACCELERATOR_TYPE="v5litepod-1",
    TPU_WORKER_HOSTNAMES="localhost",
    TPU_WORKER_ID="0",
    TPU_STDERR_LOG_LEVEL="3",
    TPU_MIN_LOG_LEVEL="3",
  )
