"""Values that follow from a config: its quantization, its batch on the devices, its paths."""

import math
import os

from apprentice_jax.errors import ConfigError
from apprentice_jax.models.precision import Precision, Quantization


def scaled(config, devices: int, batch: int = 0):
  """The config with its batch and learning rates following the number of devices.

  Where ``batch_per_device`` is set, the batch is that times the devices, at most ``largest_batch``.
  Every recipe's learning rate is then multiplied by batch / ``batch_size``; epochs stay as they
  are. With a warm-up this linear rule keeps ImageNet's accuracy up to large batches (Goyal
  et al., "Accurate, Large Minibatch SGD", 2017, https://arxiv.org/abs/1706.02677).

  Args:
    config: the config.
    devices: of all processes.
    batch: that of a run which has begun, to be kept; 0: there is none.

  Returns:
    A copy, in which ``batch_size`` and the learning rates are the run's own.
  """
  # Without it the batch is the config's own, whatever the machine: results then are, too.
  result = config.copy_and_resolve_references()
  if not config.batch_per_device:
    return result
  limit = max(config.largest_batch // devices, 1) * devices if config.largest_batch else math.inf
  result.batch_size = batch or min(config.batch_per_device * devices, limit)
  for recipe in result.recipe.values():
    recipe.learning_rate = recipe.learning_rate * result.batch_size / config.batch_size
    recipe.adam_rate = recipe.adam_rate * result.batch_size / config.batch_size
  # A scaled config that is scaled again stays as it is.
  result.batch_per_device = 0
  return result


def quantization(config, precision=None) -> Quantization:
  """The config's quantization, at its own or another precision."""
  return Quantization(
    Precision.parse(precision or config.precision),
    **{k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in config.quantization.items()},
  )


def expanded(path: str) -> str:
  """A path with a leading ``~`` or ``~user`` replaced by the home folder, which shells leave inside
  ``--flag=~/x``.

  Raises:
    ConfigError: there is no such user.
  """
  result = os.path.expanduser(path)
  if result.startswith("~"):
    user = result.partition("/")[0]
    raise ConfigError(
      f"{path} begins with {user}, and there is no such user: for a folder of this name write "
      f"./{path}."
    )
  return result
