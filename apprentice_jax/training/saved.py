"""Trained networks where they are kept: workdirs of ours, and checkpoints of PyTorch's."""

import pathlib
import zlib
from collections.abc import Callable

import jax
import numpy as np

from apprentice_jax.distill.step import Network
from apprentice_jax.errors import ConfigError
from apprentice_jax.models.pytorch import pretrained
from apprentice_jax.training.checkpoint import Checkpoints
from apprentice_jax.training.workdir import result


def read(path: str) -> tuple[Network, Callable | None]:
  """The network in ``path`` as it is there, see `load`, and how its file spells our names (None: as
  we do)."""
  place, spelled = source(path), None
  if place.is_dir():
    with Checkpoints(place) as checkpoints:
      if checkpoints.latest() is None:
        raise ConfigError(f"{path} has no checkpoint yet: train it to the end first.")
      finished = result(place)
      found, step = checkpoints.student()
    if finished is not None and finished["steps"] != step:
      raise ConfigError(
        f"the last checkpoint of {path}, of step {finished['steps']}, is damaged: bring "
        "it back from a copy, or train anew."
      )
  else:
    try:
      given = pretrained.load(place)
    except ValueError as error:
      prefix = "" if str(place) in str(error) else f"{path}: "
      raise ConfigError(f"{prefix}{error}") from None
    found, spelled = Network(given.params, given.batch_stats), given.spelled
  return found, spelled


def checksum(network: Network) -> int:
  """The sum of the CRC-32 of a network's arrays."""
  arrays = jax.tree.leaves(jax.device_get((network.params, network.batch_stats)))
  return sum(zlib.crc32(np.ascontiguousarray(a).tobytes()) for a in arrays)


def source(path: str) -> pathlib.Path:
  """The workdir, or the checkpoint file, at path."""
  source = pathlib.Path(path)
  if (source / "cells").is_dir():
    raise ConfigError(
      f"{path} holds a study: give the workdir of one of its runs, {path}/cells/..."
    )
  if not (source.is_dir() and (source / "config.json").exists()) and not source.is_file():
    raise ConfigError(f"{path} is neither a workdir nor a checkpoint file.")
  return source
