"""Rows: what is wrong is in the values of the images, or the format they are in."""

import io

import numpy as np
from PIL import Image
from rows import FOLDER, Row, folder, overwrite


def tiff(values):
  encoded = io.BytesIO()
  Image.fromarray(values).save(encoded, "TIFF")
  return encoded.getvalue()


VALUES = np.arange(144).reshape(12, 12)
FIRST = "none of the first 10 images can be read: {data}/train/a/00.jpg cannot be read (it"
EITHER = ", whose range is not known: save it with 8 or 16 bits)."
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)

ROWS = [
  Row(name, FOLDER, FIRST + sentence, folder(overwrite("train/*/*.jpg", encoded)))
  for name, encoded, sentence in [
    (
      "photos of 12 bits in 16",
      tiff((VALUES * 28).astype(np.uint16)),
      "s 16-bit values use no more than 12 bits and would come out black: stretch them to "
      "0..65535).",
    ),
    (
      "photos of 32 bits",
      tiff((VALUES * 100000).astype(np.int32)),
      "s values are 32-bit integers" + EITHER,
    ),
    ("photos of floats", tiff((VALUES / 144).astype(np.float32)), "s values are floats" + EITHER),
    (
      "photos of a phone",
      HEIC,
      " is a HEIC photo: convert it to JPEG, or pip install pillow-heif).",
    ),
  ]
]
