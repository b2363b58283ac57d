"""Batches too small for batch norm: one value per channel has no variance, and training on it ends
in nonsense."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from apprentice_jax.errors import ConfigError
from apprentice_jax.models.norm import BatchNorm
from apprentice_jax.models.residual import ResNet


def check(config, networks: dict[str, ResNet], image_shape: tuple[int, int, int]):
  """Raises ConfigError where a batch norm of a network that trains would see one value per channel.

  Every device normalises by its own share of the batch, or all of them by the whole batch with
  ``sync_batch_norm``.

  Args:
    config: the run's, with its ``batch_size``.
    networks: those that train, by their places in the config.
    image_shape: (height, width, channels).
  """
  devices, batch = jax.device_count(), config.batch_size
  if (batch if config.sync_batch_norm else batch // devices) != 1:
    return
  for which, network in networks.items():
    layer = next((name for name, count in pixels(network, image_shape).items() if count == 1), None)
    if layer is None:
      continue
    on = "" if devices == 1 else f" on {devices} devices"
    ways = [f"config.batch_size={2 * batch}"]
    if batch > 1:
      ways += ["config.cpu_devices=1"] * (jax.devices()[0].platform == "cpu") + [
        "config.sync_batch_norm=True"
      ]
    raise ConfigError(
      f"config.batch_size is {batch}{on}: {layer} of the {which} would normalise each channel by a "
      f"single value; set {', or '.join(ways)}."
    )


def pixels(network: ResNet, image_shape: tuple[int, int, int]) -> dict[str, int]:
  """How many values of one image each batch norm of a network sees per channel, by layer."""
  result = {}

  def look(function, args, kwargs, context):
    if isinstance(context.module, BatchNorm) and context.method_name == "__call__":
      result["/".join(context.module.path)] = math.prod(args[0].shape[1:-1])
    return function(*args, **kwargs)

  init = network.clone(
    norm_axis=None
  ).init  # without synchronised batch norm, which needs the replicas' axis
  with nn.intercept_methods(look):
    jax.eval_shape(lambda key: init(key, jnp.zeros((1, *image_shape)), True), jax.random.key(0))
  return result
