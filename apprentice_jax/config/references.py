"""Published accuracies to set beside one's own: ``config.study.references``."""

from typing import NamedTuple

from apprentice_jax.errors import ConfigError
from apprentice_jax.models.precision import Precision


class Reference(NamedTuple):
  """A published accuracy.

  Attributes:
    network: name, at another width than 1 as in "resnet8 at width 0.25": see `network`.
    precision: such as "32A,2W".
    accuracy: percent.
    source: whose it is, and how it was taken.
  """

  network: str
  precision: str
  accuracy: float
  source: str


def parse(text: str) -> Reference:
  """Reads ``NETWORK|PRECISION|ACCURACY|SOURCE``, such as "resnet20|32A,2W|91.13|TTQ, best epoch".

  Raises:
    ConfigError: one sentence about what is wrong.
  """
  # At most three cuts, since a source's own words may hold a bar.
  parts = [part.strip() for part in str(text).split("|", 3)]
  try:
    if len(parts) < 4 or not all(parts):
      raise ValueError
    accuracy = float(parts[2])
  except ValueError:
    raise ConfigError(
      f"config.study.references has {text!r}: write NETWORK|PRECISION|ACCURACY|SOURCE, the "
      "accuracy in percent, such as 'resnet20|32A,2W|91.13|TTQ, best epoch'."
    ) from None
  if not 0 <= accuracy <= 100:
    raise ConfigError(
      f"config.study.references has {text!r}: an accuracy in percent is between 0 and 100."
    )
  try:
    return Reference(parts[0], str(Precision.parse(parts[1])), accuracy, parts[3])
  except ValueError as error:
    raise ConfigError(f"config.study.references has {text!r}: {error}") from None


def network(config) -> str:
  """How references name a config's "student" or "teacher"."""
  return config.name if config.width == 1 else f"{config.name} at width {config.width:g}"
