"""Checkpoints: the one module that says orbax.

A checkpoint holds ``state`` (what trains: parameters, batch statistics, optimizer state) and
``meta`` (JSON: step, examples seen, seconds, seed, devices, config). Beside the checkpoints,
``checksums`` holds the CRC-32 of their files. A checkpoint that is not what was written, or cannot
be read, is passed over for the one before.
"""

import contextlib
import ctypes
import errno
import itertools
import json
import logging
import os
import re
import warnings
import zlib

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from apprentice_jax.distill.step import Network, State
from apprentice_jax.errors import BrokenCheckpoints, ConfigError
from apprentice_jax.training import cluster, parallel

# Orbax logs with a traceback for each array what it then raises.
logging.getLogger("absl").setLevel(logging.CRITICAL)


class Checkpoints:
  """The checkpoints of one workdir; a context manager.

  Args:
    workdir: of the run.
    keep: how many to keep; None for a reader, which creates and deletes nothing.
  """

  def __init__(self, workdir, keep: int | None = None):
    self._folder = epath.Path(workdir).absolute() / "checkpoints"
    self._checksums = self._folder.parent / "checksums"
    self._writes, self._saving = keep is not None, None
    # Orbax's threads would wait for minutes.
    if self._writes:
      cluster.on_first(lambda: self._check_disk(0))
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        create=self._writes,
        async_options=ocp.AsyncOptions(post_finalization_callback=self._write_checksums),
      ),
      item_handlers={"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()},
    )

  def __enter__(self):
    return self

  def __exit__(self, kind, *_):
    try:
      self._wait()
      self._manager.close()
    except Exception:
      # A save that failed; what ended the run before comes first.
      if kind is None:
        raise

  def latest(self) -> int | None:
    """The step of the newest checkpoint, or None."""
    return cluster.share(self._manager.latest_step())

  def save(self, step: int, state: State, meta: dict):
    """Begins to write a checkpoint; an error in writing one is raised by the next call or the end.

    Raises:
      OSError: it cannot be written.
    """
    trained = _trained(state)
    # One save after the other; this raises what went wrong with the last.
    self._wait()
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(trained))
    cluster.on_first(lambda: self._check_disk(size))
    self._saving = step
    # A copy: the buffers themselves are given up to the next step while this is still writing.
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(parallel.global_view(jax.tree.map(jnp.copy, trained))),
        meta=ocp.args.JsonSave(dict(meta, step=step)),
      ),
    )

  def _wait(self):
    """Waits until the last save is done.

    Raises:
      OSError: it failed.
    """
    try:
      self._manager.wait_until_finished()
    except ValueError as error:
      # The system's number is in tensorstore's text alone; a full disk gets the system's words.
      if code := re.search(r"os_error_code='(\d+)'", str(error)):
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from error
      raise OSError(
        f"a checkpoint could not be written ({str(error).splitlines()[0][:200]})"
      ) from error

  def _check_disk(self, needed: int):
    """Raises OSError where a save would fail, in a thread, and with a traceback for each array.

    By trying it: os.access and free bytes do not tell of quotas, read-only mounts, or limits on
    files. Where a file system cannot set space aside (buckets, network disks), that a file can be
    made has to do.
    """
    # A bucket has no space to set aside.
    if "://" in str(self._folder):
      return
    # Orbax passes over a name that is no number.
    probe = self._folder / "probe.tmp"
    probe.mkdir(parents=True, exist_ok=True)
    try:
      with open(probe / "space", "wb") as file:
        # An eighth more than the arrays, for what Orbax writes beside them.
        _set_space_aside(file.fileno(), needed + needed // 8 + 2**18)
    except OSError as error:
      if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
        raise
    finally:
      (probe / "space").unlink(missing_ok=True)
      probe.rmdir()

  def restore(self, state: State) -> tuple[State, dict]:
    """The newest good checkpoint, placed as ``state`` is; what does not train is ``state``'s."""
    restored, meta = self._read(jax.tree.map(ocp.utils.to_shape_dtype_struct, _trained(state)))
    networks = {k: Network(**v) for k, v in restored.items()}
    return State(networks["student"], networks.get("teacher", state.teacher)), meta

  def student(self) -> tuple[Network, int]:
    """The newest good checkpoint's student, NumPy arrays without optimizer state, and its step."""
    state, meta = self.contents()
    return Network(state["student"]["params"], state["student"]["batch_stats"]), meta["step"]

  def student_shapes(self) -> dict[str, tuple[int, ...]]:
    """The shapes of the newest checkpoint's student, by names such as "stem/kernel"; {} where they
    cannot be read."""
    step = self._manager.latest_step()
    try:
      stored = self._manager.item_metadata(step).state.tree["student"]["params"]
    except Exception:  # a damaged checkpoint, which `restore` passes over
      return {}
    return {
      "/".join(str(k.key) for k in path): tuple(leaf.shape)
      for path, leaf in jax.tree_util.tree_leaves_with_path(stored)
    }

  def contents(self) -> tuple[dict, dict]:
    """All of the newest good checkpoint: its state, a tree of NumPy arrays, and its meta."""
    state, meta = self._read(None)
    return jax.device_get(state), meta

  def _read(self, target) -> tuple[dict, dict]:
    """State and meta of the newest good checkpoint; ``target`` None: as it is, on one device."""
    steps, broken = sorted(self._manager.all_steps(), reverse=True), []
    for step in steps:
      verified = False
      try:
        verified = self._verified(step)
        found = self._manager.restore(
          step,
          args=ocp.args.Composite(
            state=ocp.args.StandardRestore(self._stored(step) if target is None else target),
            meta=ocp.args.JsonRestore(),
          ),
        )
      except Exception as error:
        # Whatever a damaged file leads to; where the checksums are right, it is not the file.
        if verified:
          raise
        broken.append((step, str(error).splitlines()[0] if str(error) else type(error).__name__))
        continue
      self._set_aside(broken, step)
      return found.state, found.meta
    raise BrokenCheckpoints(
      f"none of the checkpoints in {self._folder} can be read ({broken[0][1][:200]}): delete the "
      "workdir to start again, or bring one back from a copy."
    )

  def _write_checksums(self):
    """Notes the checksums of the files just written; forgets those of deleted checkpoints."""
    if jax.process_index():
      return
    with contextlib.suppress(OSError):  # of a full disk; the checkpoint itself is written
      self._checksums.mkdir(exist_ok=True)
      # The folder still has a temporary name, STEP.orbax-..., and outside state and meta is not
      # final.
      steps = {p.name.partition(".")[0]: p for p in self._folder.iterdir()}
      found = _crc(steps[str(self._saving)])
      found = {name: crc for name, crc in found.items() if name.startswith(("state/", "meta/"))}
      (self._checksums / f"{self._saving}.json").write_text(json.dumps(found))
      for old in self._checksums.iterdir():
        if old.stem not in steps:
          old.unlink()

  def _verify(self, step: int) -> bool:
    """Whether a checkpoint's files are known to be those that were written.

    Raises:
      ValueError: they are not.
    """
    try:
      written = json.loads((self._checksums / f"{step}.json").read_text())
    except (OSError, ValueError):
      # The run was killed before the file was whole.
      return False
    found = _crc(self._folder / str(step))
    for name, crc in written.items():
      if found.get(name) != crc:
        raise ValueError(f"{name} is {'not what was written' if name in found else 'missing'}")
    return True

  def _verified(self, step: int) -> bool:
    """`_verify`, by process 0 for all."""
    found = []

    def look():
      try:
        found.append(self._verify(step))
      except ValueError as error:
        # The kind of error that `on_first` passes on.
        raise ConfigError(str(error)) from error

    cluster.on_first(look)
    return cluster.share(found and found[0])

  def _stored(self, step: int):
    # Onto one device, wherever the checkpoint was written.
    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
      lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place),
      self._manager.item_metadata(step).state.tree,
    )

  def _set_aside(self, broken: list[tuple[int, str]], good: int):
    for step, why in broken:
      folder = self._folder / str(step)
      kept = ""
      # Out of the way of the checkpoint that will be written anew for this step.
      if self._writes and cluster.first():
        names = (
          self._folder.parent / f"broken_checkpoint_{step}{n}"
          for n in itertools.chain([""], (f"_{i}" for i in itertools.count(2)))
        )
        aside = next(name for name in names if not name.exists())
        folder.rename(aside)
        (self._checksums / f"{step}.json").unlink(missing_ok=True)
        kept = f" and now called {aside}"
      warnings.warn(
        f"the checkpoint of step {step} is damaged ({why[:200]}){kept}: continuing from "
        f"step {good}."
      )
    # The managers of all processes look again, and not before the folder has its new name.
    if broken and self._writes:
      cluster.share(None)
      self._manager.reload()


def _trained(state: State) -> dict:
  networks = {"student": state.student, "teacher": state.teacher}
  return {k: n._asdict() for k, n in networks.items() if n is not None and n.opt_state is not None}


def _set_space_aside(file: int, size: int):
  """fallocate(2); not os.posix_fallocate, which writes the file in full where there is no such
  thing."""
  libc = ctypes.CDLL(None, use_errno=True)
  if not hasattr(libc, "fallocate"):
    return
  libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
  if libc.fallocate(file, 0, 0, size):
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))


def _crc(folder: epath.Path, prefix: str = "") -> dict[str, int]:
  """The CRC-32 of every file in a folder and the folders inside it."""
  result = {}
  for path in folder.iterdir():
    name = prefix + path.name
    result.update(
      _crc(path, name + "/") if path.is_dir() else {name: zlib.crc32(path.read_bytes())}
    )
  return result
