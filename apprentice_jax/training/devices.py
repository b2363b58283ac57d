"""The devices of this process, and the cache of what is compiled for them."""

import os
import pathlib

import jax

from apprentice_jax import config as configs
from apprentice_jax.files import cache_dir
from apprentice_jax.training import compiled
from apprentice_jax.training.workdir import read_config


def start(cpu_devices: int | None, workdir="", jobs: int = 1):
  """Chooses the number of host devices and turns the compilation cache on, before any of jax's
  devices is used.

  Args:
    cpu_devices: where there is no accelerator; None: as the run in workdir has it, or one.
    workdir: of a run, or "".
    jobs: processes that are to share a GPU. Where there are several, each takes the memory that it
      needs when it needs it, instead of most of it from the start.
  """
  if jobs > 1:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
  # A run continues on as many devices as it began on: each normalises its own share of a batch.
  if cpu_devices is None and workdir and os.path.exists(pathlib.Path(workdir, "config.json")):
    cpu_devices = configs.restored(read_config(pathlib.Path(workdir))).cpu_devices
  # A count in XLA_FLAGS is the user's own, and stays.
  if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    jax.config.update("jax_num_cpu_devices", cpu_devices or 1)
  # A cache that the user has set stays as it is.
  if not jax.config.jax_compilation_cache_dir:
    jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla"))
    # Small programs too: hundreds of them, a few hundredths of a second each, add up.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compiled.keep_in(cache_dir() / "programs")
  if not jax.process_index():
    among = f", {jax.process_count()} processes" if jax.process_count() > 1 else ""
    print(f"running on {jax.device_count()} x {jax.devices()[0].device_kind}{among}", flush=True)
