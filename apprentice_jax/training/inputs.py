"""The splits of the configured dataset, read once per process and kept on the devices."""

import functools

from apprentice_jax.config import ConfigError
from apprentice_jax.data import sources
from apprentice_jax.training import parallel
from apprentice_jax.training.program import DeviceData


def dataset(config, split: str) -> sources.Dataset:
  """The "train", "validation" or "test" images of config.data, on the host."""
  d = config.data
  return _dataset(d.name, d.dir, d.train_split, d.test_split, d.validation, split)


def device_data(config, split: str) -> DeviceData:
  """The same on every device, as uint8."""
  d = config.data
  return _device_data(d.name, d.dir, d.train_split, d.test_split, d.validation, split)


@functools.lru_cache(maxsize=8)
def _dataset(name, folder, train_split, test_split, validation, split):
  try:
    full = sources.load(name, test_split if split == "test" else train_split, folder or None)
  except ValueError as error:
    raise ConfigError(str(error)) from None
  if split == "test":
    return full
  if validation >= len(full.labels):
    raise ConfigError(f"config.data.validation is {validation}, but {name} has only "
                      f"{len(full.labels)} training examples.")
  rest, held_out = sources.hold_out(full, validation) if validation else (full, None)
  return rest if split == "train" else held_out


@functools.lru_cache(maxsize=8)
def _device_data(*key):
  data = _dataset(*key)
  return parallel.replicate(DeviceData(data.images, data.labels))


def check(config):
  """Raises ConfigError if the images do not fit the config."""
  data = dataset(config, "train")
  channels = data.images.shape[-1]
  if len(config.data.mean) not in (1, channels):
    raise ConfigError(f"config.data.mean has {len(config.data.mean)} values, but the images of "
                      f"{config.data.name} have {channels} channels.")
  if config.batch_size > len(data.labels):
    raise ConfigError(f"config.batch_size is {config.batch_size}, but {config.data.name} has only "
                      f"{len(data.labels)} training examples.")
