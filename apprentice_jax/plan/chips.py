"""TPU chips, as published, and slices of them, as the compiler knows them."""

import math
import os
import re
from typing import NamedTuple

from apprentice_jax import environment
from apprentice_jax.errors import ConfigError


class Chip(NamedTuple):
  """A chip, which jax sees as one device.

  Attributes:
    flops: peak, bfloat16, a second.
    memory: bytes of HBM.
    links: bytes a second to other chips, over all links, in one direction.
    flops_per_cycle: of its matrix units; with ``flops`` this gives the clock.
    axes: dimensions of the net of chips; two links each.
    config: how the compiler is told that both cores of a chip are one device, if it has to be.
  """

  flops: float
  memory: int
  links: float
  flops_per_cycle: int
  axes: int = 2
  config: str = ""

  @property
  def clock(self) -> float:
    """Cycles a second."""
    return self.flops / self.flops_per_cycle


# Peaks, memory and links: https://cloud.google.com/tpu/docs/v5e and the pages of the others. Of
# links the pages give both directions together or all-reduce bandwidth of a pod; this is one
# direction. Matrix units: four of 128x128 in v5e, eight in v4 and v5p; v6e's peak and compiler
# agree on what four of 256x256 would do. Each does a multiplication and an addition per cell and
# cycle.
CHIPS = {
  "v4": Chip(275e12, 32 * 2**30, 300e9, 8 * 128**2 * 2, 3, "megacore"),
  "v5e": Chip(197e12, 16 * 2**30, 200e9, 4 * 128**2 * 2),
  "v5p": Chip(459e12, 95 * 2**30, 600e9, 8 * 128**2 * 2, 3),
  "v6e": Chip(918e12, 32 * 2**30, 400e9, 4 * 256**2 * 2),
}


def bandwidth(topology: str) -> float:
  """Bytes a second that the chip of a slice with the fewest neighbours sends to them, in one
  direction.

  An axis of v5e or v6e is closed to a ring where it spans a pod (16). The axes of v4 and v5p are
  closed where all are multiples of four. Elsewhere a chip at a corner has half of its links.
  """
  name, _, shape = topology.partition(":")
  chip, sizes = CHIPS[name], [int(n) for n in shape.split("x")]
  rings = [n == 16 if chip.axes == 2 else all(n % 4 == 0 for n in sizes) for n in sizes]
  # A chip at the end of an open axis has one neighbour there.
  links = sum(0 if n == 1 else 2 if ring else 1 for n, ring in zip(sizes, rings))
  return chip.links * links / (2 * chip.axes)


def slice_with(name: str, chips: int) -> str:
  """The topology of a slice of so many chips, a power of two, with axes as alike as can be:
  "v5e:4x8"."""
  sizes = [1] * CHIPS[name].axes
  while math.prod(sizes) < chips:
    sizes[sizes.index(min(sizes))] *= 2
  return f"{name}:{'x'.join(map(str, sorted(sizes)))}"


def slice_of(topology: str):
  """The chip and the devices of a slice such as ``v5e:16x16``.

  Raises:
    ConfigError: there is no such chip or slice, or libtpu is not installed.
  """
  name, colon, shape = topology.partition(":")
  if name not in CHIPS:
    raise ConfigError(f"--topology has {topology!r}: chips are {', '.join(CHIPS)}, as in v5e:2x4.")
  if not colon or not re.fullmatch(r"\d+(x\d+){1,2}", shape):
    raise ConfigError(
      f"--topology has {topology!r}: write chip and shape, as in v5e:2x4 or v4:4x4x4."
    )
  chip = CHIPS[name]
  # Compiling needs neither a TPU nor the machine's metadata, and can happen beside another process.
  environment.without_tpu()
  os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
  try:
    import libtpu  # noqa: F401
  except ImportError:
    raise ConfigError(
      "plan compiles with libtpu, which is not installed: pip install 'apprentice-jax[plan]'."
    ) from None
  from jax.experimental import topologies

  options = {"chip_config_name": chip.config} if chip.config else {}
  try:
    devices = topologies.get_topology_desc(topology, "tpu", **options).devices
  except Exception as error:
    raise ConfigError(
      f"--topology={topology}: the compiler knows no such slice "
      f"({str(error).splitlines()[0][:150]})."
    ) from None
  return chip, devices
