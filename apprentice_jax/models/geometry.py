"""Where a convolution's filter is applied: strides, padding, dilation and groups, as
`flax.linen.Conv` has them."""

import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax

Padding = str | int | Sequence[int | tuple[int, int]] | None
PADDINGS = ("SAME", "SAME_LOWER", "VALID")


class Geometry(NamedTuple):
  """The geometry of a 2-D convolution; each pair is of height and width.

  Attributes:
    size: of the kernel.
    strides: pixels from one place of the filter to the next.
    padding: (before, after) in either direction.
    dilation: pixels from one weight of the filter to the next.
    groups: of channels that are convolved apart.
  """

  size: tuple[int, int]
  strides: tuple[int, int]
  padding: tuple[tuple[int, int], tuple[int, int]]
  dilation: tuple[int, int] = (1, 1)
  groups: int = 1

  @property
  def usual(self) -> bool:
    """Whether it is what a ResNet has: one stride, padding ``(size - 1) // 2``, no dilation, no
    groups."""
    return self == Geometry(self.size, (self.strides[0],) * 2, usual_padding(self.size))


def usual_padding(size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
  return tuple(((k - 1) // 2,) * 2 for k in size)


def geometry(
  shape: tuple[int, ...],
  features: int,
  kernel_size,
  strides,
  padding: Padding,
  dilation,
  groups: int,
) -> Geometry:
  """The geometry of a layer, of which every number may be given for both directions at once.

  Args:
    shape: of the input, (batch, height, width, channels).
    features: output channels.
    kernel_size, strides, dilation: a whole number, or one for height and one for width.
    padding: "SAME", "SAME_LOWER", "VALID", a whole number, or for height and width a number or a
      pair (before, after); None: ``(size - 1) // 2`` on every side.
    groups: of channels and features.

  Raises:
    ValueError: an argument is none of these, or groups divide channels or features with a
      remainder.
  """
  if len(shape) != 4:
    raise ValueError(
      f"a convolution takes (batch, height, width, channels), not an array of {len(shape)} "
      "dimensions."
    )
  size = _pair("kernel_size", kernel_size, 1)
  strides = _pair("strides", strides, 1)
  dilation = _pair("kernel_dilation", dilation, 1)
  _pair("feature_group_count", groups, 1)
  if shape[-1] % groups or features % groups:
    raise ValueError(
      f"feature_group_count={groups} has to divide both the {shape[-1]} input channels and the "
      f"{features} features."
    )
  # SAME depends on the image's size, so paddings by name are worked out last.
  if padding is None:
    pads = usual_padding(size)
  elif isinstance(padding, str):
    if padding not in PADDINGS:
      raise ValueError(
        f"padding {padding!r} is not one: use {', '.join(PADDINGS)}, whole numbers, or pairs of "
        "them."
      )
    reach = tuple((k - 1) * d + 1 for k, d in zip(size, dilation))
    pads = tuple(map(tuple, jax.lax.padtype_to_pads(shape[1:3], reach, strides, padding)))
  elif isinstance(padding, Sequence) and len(padding) == 2:
    pads = tuple(_pair("padding", p, 0) for p in padding)
  else:
    pads = (_pair("padding", padding, 0),) * 2
  return Geometry(size, strides, pads, dilation, groups)


def _pair(name: str, value, least: int) -> tuple[int, int]:
  """A whole number twice, or two of them."""
  try:
    pair = tuple(map(operator.index, value if isinstance(value, Sequence) else (value, value)))
  except TypeError:
    pair = ()
  if len(pair) != 2 or min(pair) < least:
    raise ValueError(
      f"{name}={value!r} is not one: give whole numbers of at least {least}, one or two of them."
    )
  return pair
