"""Whether variables can be those of a trained network: numbers, of which none makes images
alike."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

Spelled = Callable[[str, tuple[int, ...]], tuple[str, tuple[int, ...]]]


def check(path: str, params: Any, batch_stats: Any, spelled: Spelled | None = None):
  """Raises ValueError for a network that is broken, and warns of one that nobody has trained.

  Args:
    path: of the file or the workdir, for messages.
    params, batch_stats: trees of arrays under our names.
    spelled: see `fit.mismatch`.
  """
  name_of = lambda name, array: spelled(name, array.shape)[0] if spelled else name
  variables = _named(params) | _named(batch_stats)
  for name, array in variables.items():
    if why := _broken(name, array):
      raise ValueError(f"{path} holds a broken network: {name_of(name, array)} {why}.")
  # Training moves variances apart; all alike, they are an initialisation's, or were overwritten.
  moments = {
    leaf: {n: a for n, a in variables.items() if n.endswith(f"/{leaf}")} for leaf in ("mean", "var")
  }
  first = next(iter(moments["var"]), None)
  if first is None:
    return
  name, value = name_of(first, variables[first]), variables[first].ravel()[:1]
  if any(np.any(array != value) for array in moments["var"].values()):
    return
  same = f"{name} and all other variances of its batch norms are {float(value[0]):g}"
  if value == 0 or any(map(np.any, moments["mean"].values())):
    raise ValueError(f"{path} holds a broken network: {same}.")
  warnings.warn(f"{path}: {same}, and all means are 0: nobody has trained this network.")


def _named(tree: Any) -> dict[str, np.ndarray]:
  return {
    "/".join(key.key for key in path): np.asarray(array, np.float32)
    for path, array in jax.tree_util.tree_leaves_with_path(tree)
  }


def _broken(name: str, array: np.ndarray) -> str:
  """Why an array cannot be a trained network's; goes on from its name. "" if it can."""
  for what, bad in (("NaN", np.isnan(array)), ("infinite", np.isinf(array))):
    if np.any(bad):
      return f"is {what} in {np.sum(bad):,} of {array.size:,} places"
  if name.endswith("/var") and np.any(array < 0):
    return f"is a variance, and below 0 in {np.sum(array < 0):,} of {array.size:,} places"
  if name in ("stem/kernel", "head/kernel") and not np.any(array):
    return "is 0 everywhere: the network tells no images apart"
  return ""
