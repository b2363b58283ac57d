"""Packed files that nobody wrote: `hostile`, `plausible`, `renamed` and `flipped` make them, and
`outcome` reads them.

python tests/deploy/fuzz.py FILE COUNT     # a packed file, and how many to make of it
"""

import collections
import json
import pathlib
import struct
import sys

import numpy as np

from apprentice_jax.deploy import interpret, packed
from apprentice_jax.deploy.predictor import BadFile

WORDS = [
  "",
  "0",
  "-1",
  "2",
  "3",
  "99",
  "999999999",
  "1e9",
  "nan",
  "7fc00000",
  "7f800000",
  "ff800000",
  "00000000",
  "bf800000",
  "x",
  "../../etc/passwd",
  "image",
  "stem",
  "head",
  "Conv",
  "Add",
  "Relu",
  "Mean",
  "Image",
  "MaxPool",
  "Quantize",
  "Rescale",
  "1x4",
  "2x4",
  "1x999999999",
  "3x3x999999999x999999999:2bit",
  "3x3x3x4:base3",
  "3x3x4x4:8bit",
  "0x0x0x0:2bit",
  "3x3x4x4:1bit",
  "9" * 5000,
  "\0",
  "é",
  " ",
]
TENSORS = {
  "dtype": ["F64", "U8", "BOOL"],
  "shape": [[10**9, 10**9], [-1], []],
  "data_offsets": [[0, 10**12], [4, 0], [0, 4]],
}

# Halves of a step, and numbers around those that float32 and int32 hold exactly.
NUMBERS = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0**19, -(2.0**19), 2.0**20, 2.0**24, -(2.0**24), 2.0**30]
NUMBERS += [2.0**31, -(2.0**32), 1e15, -1e15, 1e38, -1e38, 3.4e38, 1e-20, 1e-45, np.nan, np.inf]
TEXTS = [
  "*/ #error",
  "*",
  "/",
  "\\",
  "?" * 2 + "/",
  '"',
  "%s",
  "\n",
  "\r",
  "\0",
  "é",
  "\u2028",
  "//",
  "'",
]


def parts(data: bytes):
  """(header, the bytes of tensors) of a safetensors file."""
  (length,) = struct.unpack("<Q", data[:8])
  return json.loads(data[8 : 8 + length]), data[8 + length :]


def rebuilt(header: dict, body: bytes) -> bytes:
  """A file of this header with the checksum that belongs to it."""
  text = json.dumps(header, separators=(",", ":")).encode()
  text += b" " * (-len(text) % 8)
  return packed.sign(struct.pack("<Q", len(text)) + text + body)


def hostile(random: np.random.Generator, data: bytes) -> bytes:
  """A file with a right checksum and something wrong in its lines, its tensors, or its numbers."""
  header, body = parts(data)
  metadata = header["__metadata__"]
  lines = [line.split(" ") for line in metadata["nodes"].split("\n")]
  line = lines[random.integers(len(lines))]
  match random.integers(6):
    case 0 | 1:
      line[random.integers(len(line))] = str(random.choice(WORDS))
    case 2:
      lines[random.integers(len(lines))] = line
    case 3:
      lines.remove(line)
    case 4:
      name = str(random.choice([k for k in header if k != "__metadata__"]))
      key = str(random.choice(list(header[name])))
      header[name][key] = TENSORS[key][random.integers(3)]
    case 5:
      body = bytearray(body)
      place = 4 * int(random.integers(len(body) // 4))
      body[place : place + 4] = struct.pack("<f", random.choice([np.nan, np.inf, 0.5, 1e38]))
  metadata["nodes"] = "\n".join(map(" ".join, lines))
  return rebuilt(header, bytes(body))


def plausible(random: np.random.Generator, data: bytes) -> bytes:
  """A file with a right checksum and other numbers, levels, grids or edges: often a network."""
  header, body = parts(data)
  body, about = bytearray(body), json.loads(header["__metadata__"]["about"])
  lines = [line.split(" ") for line in header["__metadata__"]["nodes"].split("\n")]
  tensors = [name for name in header if name != "__metadata__"]
  pick = lambda items: items[random.integers(len(items))]
  for _ in range(random.integers(1, 4)):
    line = pick(lines)
    match random.integers(6):
      case 0 | 1:
        begin, end = header[".scales"]["data_offsets"]
        for place in random.integers(begin // 4, end // 4, pick([1, 1, 30])):
          body[4 * place : 4 * place + 4] = struct.pack("<f", pick(NUMBERS))
      case 2:
        begin, end = header[pick(tensors)]["data_offsets"]
        for place in random.integers(begin, end, pick([1, 1, 30])):
          body[place] = random.integers(256)
      case 3:
        place = random.integers(1, len(line))
        if line[place].isdigit() and len(line[place]) < 8:
          line[place] = str(pick([0, 1, 1, 2, 3, 4, 7, 8]))
        elif len(line[place]) == 8:
          line[place] = struct.pack(">f", pick(NUMBERS)).hex()
      case 4:
        place = random.integers(1, len(line))
        if line[place] in [other[1] for other in lines]:
          line[place] = pick(lines)[1]
      case 5:
        about["image_shape"][random.integers(2)] = int(random.integers(1, 40))
  header["__metadata__"]["about"] = json.dumps(about, ensure_ascii=False)
  header["__metadata__"]["nodes"] = "\n".join(map(" ".join, lines))
  return rebuilt(header, bytes(body))


def renamed(random: np.random.Generator, data: bytes) -> bytes:
  """A file with a right checksum, in whose texts there is something that C may take for its own."""
  header, body = parts(data)
  about = json.loads(header["__metadata__"]["about"])
  for key in ("architecture", "precision", "class_names"):
    text = "".join(TEXTS[i] for i in random.integers(0, len(TEXTS), random.integers(4)))
    about[key] = [text, *about[key][1:]] if key == "class_names" else about[key] + text
  header["__metadata__"]["about"] = json.dumps(about, ensure_ascii=False)
  return rebuilt(header, body)


def flipped(random: np.random.Generator, data: bytes) -> bytes:
  """A file with some bits the other way round, and perhaps cut off."""
  changed = bytearray(data)
  for place in random.integers(0, len(data), random.integers(1, 4)):
    changed[place] ^= 1 << random.integers(8)
  return bytes(changed[: random.integers(len(data))] if random.random() < 0.3 else changed)


def outcome(data: bytes) -> str:
  """ "refused", or "read" if it is a network that runs; anything else is raised."""
  try:
    network = packed.decode(data)
  except BadFile:
    return "refused"
  with np.errstate(all="ignore"):  # 1e38 in a scale is a number
    logits = interpret.logits(network, np.zeros((1, *network.image_shape), np.uint8))
  assert logits.shape == (1, len(network.class_names))
  return "read"


def main(path, count):
  data, found = pathlib.Path(path).read_bytes(), collections.Counter()
  for seed in range(int(count)):
    random = np.random.default_rng(seed)
    changed = flipped(random, data)
    assert changed == data or outcome(changed) == "refused", seed
    found["flipped, refused"] += 1
    found["hostile, " + outcome(hostile(random, data))] += 1
  print(dict(found))


if __name__ == "__main__":
  main(*sys.argv[1:])
