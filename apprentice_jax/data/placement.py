"""Arrays on the devices: a copy on each, or a share on each.

`training.parallel.over_replicas` takes them from there without moving them.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "replicas"


def mesh(devices=None) -> Mesh:
  """The devices, by default all, along the one axis `AXIS`."""
  return Mesh(np.asarray(devices if devices is not None else jax.devices()), (AXIS,))


def replicate(tree, devices=None):
  """Puts a copy of every array on each device.

  Several processes bring a copy each, which have to be the same: see `parallel.same_on_all`.
  """
  sharding = NamedSharding(mesh(devices), PartitionSpec())
  if jax.process_count() == 1:
    return jax.device_put(tree, sharding)

  def place(leaf):
    if jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key):
      return jax.random.wrap_key_data(place(jax.random.key_data(leaf)))
    # Not device_put, which would compare the values of all processes.
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda part: host[part])

  return jax.tree.map(place, tree)


def join(shares: Sequence[np.ndarray], devices=None) -> jax.Array:
  """Puts one array on each of this process's devices; returns (devices of all processes, ...)."""
  sharding = NamedSharding(mesh(devices), PartitionSpec(AXIS))
  local = [d for d in sharding.mesh.devices if d.process_index == jax.process_index()]
  parts = [jax.device_put(share[None], device) for share, device in zip(shares, local, strict=True)]
  return jax.make_array_from_single_device_arrays(
    (sharding.mesh.size, *shares[0].shape), sharding, parts
  )


def split(array: np.ndarray, devices=None):
  """Divides the last axis, the batch, among the devices: (..., batch) -> (devices, ..., share)."""
  count = mesh(devices).size
  parts = array.reshape(*array.shape[:-1], count, array.shape[-1] // count)
  parts = np.ascontiguousarray(np.moveaxis(parts, -2, 0))
  sharding = NamedSharding(mesh(devices), PartitionSpec(AXIS))
  # Several processes have the whole array each, and put their own devices' parts there.
  if jax.process_count() == 1:
    return jax.device_put(parts, sharding)
  return jax.make_array_from_callback(parts.shape, sharding, lambda part: parts[part])
