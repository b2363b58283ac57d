"""Replicas: the one place that says pmap.

`over_replicas` runs a pure function on every device, each with its own slice of the mapped
arguments and the same copy of the others. The results must be the same on every replica: the
function averages over `AXIS`. One copy of them is returned, without a device axis, so state goes in
and out as it is.

Since jax 0.8 ``jax.pmap`` is jit of shard_map. ``backend="shard_map"`` says so directly, for the
day pmap goes, and gives the same numbers.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

# Whoever runs on replicas places arrays on them, too.
from apprentice_jax.data.placement import AXIS, join, mesh, replicate, split  # noqa: F401


def same_on_all(tree):
  """The arrays of process 0, on the host of every process."""

  if jax.process_count() == 1:
    return tree
  from jax.experimental.multihost_utils import broadcast_one_to_all

  return jax.tree.map(np.asarray, broadcast_one_to_all(jax.tree.map(np.asarray, tree)))


def global_view(tree):
  """Arrays with a copy on every device, as arrays of all processes: what pmap returns are arrays of
  this process's devices alone. Nothing is moved."""
  if jax.process_count() == 1:
    return tree
  sharding = NamedSharding(mesh(), PartitionSpec())
  return jax.tree.map(
    lambda a: jax.make_array_from_single_device_arrays(
      a.shape, sharding, [s.data for s in a.addressable_shards]
    ),
    tree,
  )


def over_replicas(
  function: Callable,
  mapped: Sequence[bool],
  donate: Sequence[int] = (),
  backend: str = "pmap",
  devices=None,
) -> Callable:
  """Compiles ``function`` to run on every device at once.

  Args:
    function: takes positional arguments; averages its results over `AXIS`.
    mapped: for each argument, whether it has a leading axis of devices (removed for the function).
    donate: arguments whose buffers are given up for the results.
    backend: "pmap" or "shard_map".
    devices: to use; default all.

  Returns:
    The compiled function; its results are those of every replica.
  """
  if backend == "pmap":
    return jax.pmap(
      function,
      axis_name=AXIS,
      in_axes=tuple(0 if m else None for m in mapped),
      out_axes=None,
      donate_argnums=tuple(donate),
      devices=devices,
    )

  def block(*args):  # shard_map keeps the mapped axis, with size one
    take = lambda a, m: jax.tree.map(lambda x: x[0], a) if m else a
    return function(*map(take, args, mapped))

  specs = tuple(PartitionSpec(AXIS) if m else PartitionSpec() for m in mapped)
  return jax.jit(
    jax.shard_map(
      block, mesh=mesh(devices), in_specs=specs, out_specs=PartitionSpec(), check_vma=False
    ),
    donate_argnums=tuple(donate),
  )
