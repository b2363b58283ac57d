"""An exported file that was read: a function of images, and the names of the classes."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from apprentice_jax.deploy.network import Lowered


class BadFile(ValueError):
  """A file that is not what an export wrote; the message says what is wrong."""


class Predictor(NamedTuple):
  """A network to score images with, whatever it was read from.

  Attributes:
    image_shape: (height, width, channels) of the images that it takes.
    class_names: in the order of the logits.
    resize: photos are resized to this short side before the centre is cut out; 0: to the network's
      own.
    logits: uint8 (batch, height, width, channels) -> float32 (batch, classes).
    network, packing: what it computes and how its weights are packed, where the file says so: in a
      packed file.
  """

  image_shape: tuple[int, int, int]
  class_names: tuple[str, ...]
  resize: int
  logits: Callable[[np.ndarray], np.ndarray]
  network: Lowered | None = None
  packing: str = "bits"
