"""JPEGs to time the input pipeline with, made from a folder of photos."""

import pathlib
from typing import NamedTuple

import numpy as np
import simplejpeg

from apprentice_jax.data import encoded
from apprentice_jax.data import images as decoding

_PIECE = 224


class Kind(NamedTuple):
  """A set of JPEGs to make from a folder of photos.

  Attributes:
    height, width: of each.
    quality: at which it is encoded, with chroma at half the resolution.
    files: how many.
  """

  height: int
  width: int
  quality: int
  files: int


# ImageNet's photos are mostly 500x375 and of 110 kB on average; the last have three megapixels.
KINDS = {
  "224x224": Kind(224, 224, 90, 1000),
  "500x375": Kind(375, 500, 97, 300),
  "2000x1500": Kind(1500, 2000, 90, 40),
}


def make(photos: encoded.Examples, kind: Kind, root: pathlib.Path) -> dict:
  """Writes JPEGs of one size into root/train/photos.

  Files of 224x224 are the photos, each once, as they are or the middle of them. Larger files are
  mosaics of photos at their own resolution: they have the detail of photos, not of an upscaling.

  Returns:
    "files" and "mean_bytes".
  """
  folder = root / "train" / "photos"
  folder.mkdir(parents=True)
  rng, small = np.random.default_rng(0), kind.height <= _PIECE and kind.width <= _PIECE
  files = min(kind.files, len(photos)) if small else kind.files
  chosen, total = rng.permutation(len(photos)), 0
  for i in range(files):
    if small:
      data = _photo(next(photos.read([chosen[i]]))[0], kind)
    else:
      data = _encode(_mosaic(photos, kind, rng), kind)
    (folder / f"{i:05d}.jpg").write_bytes(data)
    total += len(data)
  return {"files": files, "mean_bytes": total / files}


def _photo(data: bytes, kind: Kind) -> bytes:
  picture = decoding.inspect(data)
  if picture.pillow is None and (picture.height, picture.width) == (kind.height, kind.width):
    return data
  return _encode(_piece(data)[: kind.height, : kind.width], kind)


def _mosaic(photos: encoded.Examples, kind: Kind, rng) -> np.ndarray:
  # One row and one column too many, so that the seams are somewhere else in every picture.
  rows, columns = -(-kind.height // _PIECE) + 1, -(-kind.width // _PIECE) + 1
  whole = np.concatenate(
    [
      np.concatenate(
        [_piece(next(photos.read([rng.integers(len(photos))]))[0]) for _ in range(columns)], 1
      )
      for _ in range(rows)
    ]
  )
  top, left = rng.integers(_PIECE, size=2)
  return whole[top : top + kind.height, left : left + kind.width]


def _piece(data: bytes) -> np.ndarray:
  """The middle of a photo at its own resolution; a smaller one is continued by its mirror image."""
  pixels = decoding.pixels(decoding.inspect(data))
  top, left = (max(0, (side - _PIECE) // 2) for side in pixels.shape[:2])
  pixels = pixels[top : top + _PIECE, left : left + _PIECE]
  return np.pad(pixels, [(0, _PIECE - side) for side in pixels.shape[:2]] + [(0, 0)], "symmetric")


def _encode(pixels: np.ndarray, kind: Kind) -> bytes:
  return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), kind.quality, "RGB", "420")
