"""Tests run on eight virtual CPU devices, one thread each, with compiled programs kept on disk.

Small networks spend more time in the compiler than in what it makes, so it is told not to try hard.
"""

import os
import pathlib
import signal
import sys
import tempfile

# Before jax is imported.
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false "
  "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
CACHE = pathlib.Path(
  os.environ.get(
    "APPRENTICE_TEST_CACHE", pathlib.Path(tempfile.gettempdir()) / "apprentice-jax-tests"
  )
)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ["APPRENTICE_CACHE"] = str(CACHE / "data")

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # for the helper modules, in any import mode

if (
  signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # as in a shell's background job; the tests' programs would ignore it too
  signal.signal(signal.SIGINT, signal.default_int_handler)

# The files that take longest, begun first, so that no worker is left with one of them at the end.
SLOWEST = (
  "training/test_processes.py",
  "test_study.py",
  "test_cli.py",
  "training/test_teacher_logits.py",
  "training/test_resume.py",
  "plan/test_compiler.py",
  "bad_inputs/test_begun_runs.py",
  "deploy/test_onnx_exact.py",
  "deploy/test_onnx_fast.py",
  "deploy/test_mcu.py",
  "models/test_pretrained.py",
  "deploy/test_fold.py",
  "training/test_program.py",
  "training/test_loops.py",
  "test_bench_training.py",
  "launch/test_restart.py",
  "training/test_streaming.py",
)


def pytest_collection_modifyitems(items):
  def rank(item):
    path = item.path.as_posix()
    return next(
      (i for i, name in enumerate(SLOWEST) if path.endswith("tests/" + name)), len(SLOWEST)
    )

  items.sort(key=rank)  # stable: within a file, and among the others, as they are
