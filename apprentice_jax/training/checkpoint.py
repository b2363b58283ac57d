"""Checkpoints: the one module that says orbax.

A checkpoint holds ``state`` (what trains: parameters, batch statistics, optimizer state) and ``meta``
(JSON: step, examples seen, seconds, seed, devices, config).
"""

import logging
from typing import Optional

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from apprentice_jax.distill.step import Network, State

logging.getLogger("absl").setLevel(logging.WARNING)


class Checkpoints:
  """The checkpoints of one workdir; a context manager.

  Args:
    workdir: of the run.
    keep: how many to keep; None for a reader, which creates and deletes nothing.
  """

  def __init__(self, workdir, keep: Optional[int] = None):
    self._manager = ocp.CheckpointManager(
        epath.Path(workdir).absolute() / "checkpoints",
        options=ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=keep is not None),
        item_handlers={"state": ocp.StandardCheckpointHandler(),
                       "meta": ocp.JsonCheckpointHandler()})

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._manager.wait_until_finished()
    self._manager.close()

  def latest(self) -> Optional[int]:
    """The step of the newest checkpoint, or None."""
    return self._manager.latest_step()

  def save(self, step: int, state: State, meta: dict):
    # A copy: the buffers themselves are given up to the next step while this is still writing.
    self._manager.save(step, args=ocp.args.Composite(
        state=ocp.args.StandardSave(jax.tree.map(jnp.copy, _trained(state))),
        meta=ocp.args.JsonSave(dict(meta, step=step))))

  def restore(self, state: State) -> tuple[State, dict]:
    """The newest checkpoint, placed as ``state`` is; what does not train is taken from ``state``."""
    trained = _trained(state)
    restored = self._manager.restore(self.latest(), args=ocp.args.Composite(
        state=ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, trained)),
        meta=ocp.args.JsonRestore()))
    networks = {k: Network(**v) for k, v in restored.state.items()}
    return State(networks["student"], networks.get("teacher", state.teacher)), restored.meta

  def student(self) -> Network:
    """The student of the newest checkpoint, in NumPy arrays, without optimizer state."""
    # Onto one device, wherever the checkpoint was written.
    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place),
                          self._manager.item_metadata(self.latest()).state.tree)
    restored = self._manager.restore(self.latest(), args=ocp.args.Composite(
        state=ocp.args.StandardRestore(target))).state["student"]
    return Network(*jax.device_get((restored["params"], restored["batch_stats"])))


def _trained(state: State) -> dict:
  networks = {"student": state.student, "teacher": state.teacher}
  return {k: n._asdict() for k, n in networks.items() if n is not None and n.opt_state is not None}
