"""What a measurement was made on."""

import os
import pathlib
import platform
import re


def machine() -> dict:
  """Devices, processor, cores, system, versions."""
  import jax
  import jaxlib

  device = jax.devices()[0]
  return {
    "devices": jax.device_count(),
    "kind": device.device_kind,
    "platform": device.platform,
    "processor": processor(),
    "cores": os.cpu_count(),
    "system": f"{platform.system()} {platform.machine()}",
    "python": platform.python_version(),
    "jax": jax.__version__,
    "jaxlib": jaxlib.__version__,
  }


def processor() -> str:
  """The processor's name, as the system calls it."""
  # Python's own answer is the architecture alone on Linux.
  try:
    found = re.search(r"^model name\s*: (.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
  except OSError:
    found = None
  return found[1].strip() if found else platform.processor() or platform.machine()


def sentence(found: dict) -> str:
  """`machine`'s answer in a line."""
  return "{devices} x {kind} ({processor}, {cores} cores, {system}), jax {jax}".format(**found)
