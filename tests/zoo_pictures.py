"""Pictures that NumPy draws, and the logits that the zoo's networks are expected to have on them.

`python tests/zoo_pictures.py` writes the logits of all networks, by `deploy.interpret`.
"""

import json
import pathlib

import numpy as np

from apprentice_jax import zoo
from apprentice_jax.deploy import interpret, packed

EXPECTED = pathlib.Path(__file__).with_name("zoo_logits.json")
COUNT = 6


def draw(seed: int, height: int, width: int) -> np.ndarray:
  """A disc before a background of two colours that run into each other, with noise.

  Only whole numbers are computed, so that the pixels are the same on every machine.

  Args:
    seed: of colours, places and noise.
    height, width: of the picture.

  Returns:
    uint8 (height, width, 3).
  """
  # NumPy promises that the numbers of RandomState never change, other than those of Generator.
  random = np.random.RandomState(seed)
  top, bottom, colour = random.randint(0, 256, (3, 3))
  y, x = np.mgrid[:height, :width][..., None]
  pixels = (top * (height - 1 - y) + bottom * y) // (height - 1) + 0 * x
  centre = random.randint(height // 4, 3 * height // 4), random.randint(width // 4, 3 * width // 4)
  radius = random.randint(height // 6, height // 2)
  inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
  pixels = np.where(inside, colour, pixels) + random.randint(-12, 13, (height, width, 3))
  return np.clip(pixels, 0, 255).astype(np.uint8)


def batch(image_shape) -> np.ndarray:
  """The pictures of a network, uint8 (COUNT, height, width, 3)."""
  return np.stack([draw(seed, *image_shape[:2]) for seed in range(COUNT)])


def write():
  """Writes EXPECTED."""
  networks = []
  for name in zoo.names():
    network = packed.read(zoo.path(name))
    logits = interpret.logits(network, batch(network.image_shape)).astype(np.float64)
    rows = ",\n  ".join(map(json.dumps, logits.tolist()))
    networks.append(f" {json.dumps(name)}: [\n  {rows}]")
  EXPECTED.write_text("{\n" + ",\n".join(networks) + "\n}\n")


if __name__ == "__main__":
  write()
