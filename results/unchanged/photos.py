"""Draws photos of four classes, always the same: python results/unchanged/photos.py FOLDER

FOLDER gets train/CLASS and val/CLASS: blurred noise in JPEG, PNG and grey files. FOLDER.txt gets
the checksums of all.
"""

import hashlib
import pathlib
import sys

import numpy as np
from PIL import Image

COLOURS = {
  "apple": (200, 60, 50),
  "kiwi": (90, 170, 60),
  "plum": (90, 60, 150),
  "sky": (120, 170, 220),
}
COUNTS = {"train": 24, "val": 8}


def drawn(random, colour) -> Image.Image:
  """A photo of some size between 40 and 72 pixels, near a colour."""
  width, height = (int(side) for side in random.integers(40, 73, 2))
  coarse = np.clip(np.array(colour) + random.normal(0, 40, (6, 6, 3)), 0, 255)
  picture = Image.fromarray(coarse.astype(np.uint8))
  return picture.resize((width, height), Image.Resampling.BICUBIC)


def main(folder: str):
  random = np.random.default_rng(7)
  for split, count in COUNTS.items():
    for name, colour in COLOURS.items():
      place = pathlib.Path(folder) / split / name
      place.mkdir(parents=True)
      for i in range(count):
        picture = drawn(random, colour)
        if i % 8 == 3:
          picture = picture.convert("L")
        picture.save(place / (f"{i:02d}.png" if i % 8 == 5 else f"{i:02d}.jpg"))
  files = sorted(path for path in pathlib.Path(folder).rglob("*") if path.is_file())
  sums = [f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
  pathlib.Path(f"{folder}.txt").write_text("\n".join(sums) + "\n")


if __name__ == "__main__":
  main(*sys.argv[1:])
