"""The images that a teacher's file takes: their size, type and order of axes."""

from typing import NamedTuple

PIXELS = "uint8"  # the type of images that are not normalised


class Pictures(NamedTuple):
  """What a program of images takes.

  Attributes:
    batch, height, width: 0 where the program takes any.
    channels: 1 or 3.
    channels_first: whether its axes are (batch, channels, height, width).
    dtype: "uint8", for images as they are, or a type of floats.
  """

  batch: int
  height: int
  width: int
  channels: int
  channels_first: bool
  dtype: str

  @property
  def is_float(self) -> bool:
    """Whether images are normalised for it."""
    return self.dtype != PIXELS

  def side(self, image_shape) -> tuple[int, int]:
    """(height, width) that images of a shape (height, width, channels) are resized to."""
    return self.height or int(image_shape[0]), self.width or int(image_shape[1])

  def check(self, image_shape):
    """Raises ValueError for images (height, width, channels) that cannot be resized for it."""
    if self.channels != image_shape[-1]:
      raise ValueError(
        f"takes images {self}, and the data's have {image_shape[-1]} "
        f"channel{'s' if image_shape[-1] > 1 else ''}: give a teacher of such images"
      )

  def __str__(self) -> str:
    height, width = (n or "any" for n in (self.height, self.width))
    return f"of {width}x{height} pixels and {self.channels} channel{'s' * (self.channels > 1)}"


def taken(shape, dtype: str) -> Pictures:
  """The images that an input of a program stands for.

  Args:
    shape: of the input; what is no number may be any.
    dtype: of the input, by NumPy's name.

  Raises:
    ValueError: it is no input of images.
  """
  sizes = [n if isinstance(n, int) and n > 0 else 0 for n in shape]
  floats = ("float32", "bfloat16", "float16")
  last, first = (len(sizes) == 4 and sizes[axis] in (1, 3) for axis in (3, 1))
  if dtype not in (PIXELS, *floats) or not (last or first):
    stated = ", ".join(map(str, shape))
    raise ValueError(
      f"takes {dtype} ({stated}), which are no images: a teacher takes one array of uint8 or float "
      "(batch, height, width, channels) or (batch, channels, height, width)"
    )
  # An image of 3 rows is rarer than one of 3 channels: the last axis decides where both fit.
  if last:
    return Pictures(*sizes, False, dtype)
  batch, channels, height, width = sizes
  return Pictures(batch, height, width, channels, True, dtype)


def scores(shape) -> int:
  """The number of a program's outputs; raises ValueError where its result is no (batch, classes)
  of a fixed number of classes."""
  if len(shape) != 2 or not isinstance(shape[1], int) or shape[1] < 1:
    stated = ", ".join(map(str, shape))
    raise ValueError(f"gives ({stated}), and a teacher gives logits (batch, classes)")
  return shape[1]


def pieces(count: int, batch: int) -> tuple[int, int]:
  """How many batches of a fixed size ``count`` images fill, and the images that fill up the last
  one."""
  number = -(-count // batch)
  return number, number * batch - count
