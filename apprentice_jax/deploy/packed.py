"""The packed file: a network's nodes and bit-packed weights in one safetensors file, with a
checksum over all.

The file's metadata are strings:

- "format";
- "sha256", of the file's bytes with these 64 digits as zeros;
- "about", JSON of the fields that `Lowered` has beside its nodes;
- "nodes", a line for each node, with its kind and its fields in the order of `network`.

In a line, whole numbers are decimal, and yes and no are 1 and 0. Float32 numbers are the 8
hexadecimal digits of their bits. Weights are their shape and packing (``3x3x16x32:2bit``, or
``:float``), multipliers their rows and columns (``1x32``). Addends are left out.

The tensor of a node's name holds its weights, uint8 as `bits` packs them or float32. The tensor
".scales", float32, holds multipliers and addends, one node's after the other's. So the size of a
file does not depend on the numbers that were learned.
"""

import dataclasses
import functools
import hashlib
import json
import math
import pathlib
import re
import struct

import numpy as np

from apprentice_jax.deploy import bits
from apprentice_jax.deploy.network import FULL, KINDS, BadNetwork, Lowered, Node, Weights, check
from apprentice_jax.deploy.predictor import BadFile, Predictor
from apprentice_jax.files import write_whole

FORMAT = "apprentice-jax packed network, version 1"
_START = b'{"__metadata__":{"format":"apprentice-jax packed'  # of the header, whatever the version
_UNSIGNED = "0" * 64
_HASH = re.compile(rb'"sha256":"([0-9a-f]{64})"')
# Of the fields in a node's line.
_WORDS = {
  str: re.compile(r"\w[\w./-]{0,199}", re.ASCII),
  int: re.compile(r"\d{1,9}", re.ASCII),
  bool: re.compile("[01]"),
  float: re.compile("[0-9a-f]{8}"),
}
_KERNEL = re.compile(r"(\d{1,9})x(\d{1,9})x(\d{1,9})x(\d{1,9}):([\w-]{1,9})", re.ASCII)
_ROWS = re.compile(r"([12])x(\d{1,9})", re.ASCII)
_SCALES = ".scales"  # no node has this name
_ABOUT = {
  "architecture": str,
  "precision": str,
  "class_names": [str],
  "image_shape": [int],
  "mean": [float],
  "std": [float],
  "resize": int,
}


def write(network: Lowered, path, packing: str = "bits"):
  """Writes a network to a file.

  Args:
    network: from `lower.lower`.
    path: of the file.
    packing: of ternary weights: "bits", 2 each, or "base3", five to a byte.
  """
  write_whole(path, encode(network, packing))


def read(path) -> Lowered:
  """The network in a file that `write` wrote.

  Raises:
    BadFile: it is none, or not as it was written.
    OSError: it cannot be read.
  """
  return decode(pathlib.Path(path).read_bytes())


def load(path) -> Predictor:
  """The network in a file, compiled; see `read`."""
  from apprentice_jax.deploy import program

  data = pathlib.Path(path).read_bytes()
  # A network does not know how its file is packed; a line of the header does.
  base3 = f":{bits.BASE3} ".encode() in _verified(data)
  try:
    predictor = program.predictor(decode(data))
  except BadNetwork as error:
    raise BadFile(str(error)) from None
  return predictor._replace(packing=bits.BASE3 if base3 else "bits")


def recognises(path) -> bool:
  """Whether the file at path is to be read by this module."""
  # Other safetensors files are checkpoints.
  with open(path, "rb") as file:
    return file.read(8 + len(_START))[8:] == _START


# A command writes the file and tells its size.
@functools.lru_cache(maxsize=1)
def encode(network: Lowered, packing: str = "bits") -> bytes:
  """The bytes of the file; see `write`."""
  tensors, lines, scales = {}, [], []
  for node in network.nodes:
    words = [type(node).__name__]
    for field in dataclasses.fields(node):
      value = getattr(node, field.name)
      if isinstance(value, Weights):
        words.append(_add_weights(tensors, node.name, value, packing))
      elif field.name == "multiplier" and isinstance(value, np.ndarray):
        words.append("x".join(map(str, value.shape)))
        scales += [value.reshape(-1), node.addend]
      elif field.name != "addend":
        words.append(_word(value))
    lines.append(" ".join(words))
  tensors[_SCALES] = np.concatenate(scales)
  about = _json({key: getattr(network, key) for key in _ABOUT})
  metadata = {"format": FORMAT, "sha256": _UNSIGNED, "about": about, "nodes": "\n".join(lines)}
  return sign(_safetensors(metadata, tensors))


def _json(value) -> str:
  return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _safetensors(metadata: dict, tensors: dict) -> bytes:
  """The bytes of a safetensors file; the library's own order metadata differently each time."""
  header, data, end = {"__metadata__": metadata}, [], 0
  kinds = {np.dtype(np.float32): "F32", np.dtype(np.uint8): "U8"}
  # The larger items come first, so that each is aligned.
  for name, array in sorted(tensors.items(), key=lambda item: -item[1].itemsize):
    offsets = [end, end + array.nbytes]
    header[name] = {"dtype": kinds[array.dtype], "shape": array.shape, "data_offsets": offsets}
    data.append(array.astype(array.dtype.newbyteorder("<")).tobytes())
    end += array.nbytes
  text = _json(header).encode()
  # The format wants the tensors at a multiple of eight bytes.
  text += b" " * (-len(text) % 8)
  return b"".join([struct.pack("<Q", len(text)), text, *data])


def sign(data: bytes) -> bytes:
  """A file's bytes with the checksum that belongs to them."""
  # The digits have the same place and length before and after, so zeros can stand for them.
  start = _HASH.search(data).start(1)
  blank = data[:start] + _UNSIGNED.encode() + data[start + 64 :]
  return data[:start] + hashlib.sha256(blank).hexdigest().encode() + data[start + 64 :]


def _add_weights(tensors, name, weights: Weights, packing) -> str:
  chosen = "float"
  if weights.bits == FULL:
    tensors[name] = weights.levels
  else:
    possible = bits.packings(weights)
    chosen = possible[packing == bits.BASE3 and len(possible) > 1]
    tensors[name] = bits.pack(weights.levels, chosen)
  return "x".join(map(str, weights.levels.shape)) + ":" + chosen


def _word(value) -> str:
  if isinstance(value, float):
    return struct.pack(">f", value).hex()
  return str(int(value) if isinstance(value, bool) else value)


def decode(data: bytes) -> Lowered:
  """The network that a file's bytes hold.

  Raises:
    BadFile: they are not what `encode` made.
  """
  # The checksum first: what follows reads a file as `encode` made it, or a forged one.
  header = _verified(data)
  from safetensors import SafetensorError
  from safetensors.numpy import load as load_tensors

  try:
    tensors = load_tensors(data)
    metadata = json.loads(header)["__metadata__"]
  except (SafetensorError, ValueError, KeyError, TypeError) as error:
    raise BadFile(f"it is no safetensors file ({' '.join(str(error).split())[:100]})") from None
  keys = {"format", "sha256", "about", "nodes"}
  _require(set(metadata) == keys, "its metadata is not of this format")
  name = metadata["format"]
  _require(name == FORMAT, f"it is of format {name[:60]!r}, not {FORMAT!r}")
  about = _about(metadata["about"])
  scales = _Scales(_tensor(tensors, _SCALES, np.float32, None))
  nodes = tuple(_node(line, tensors, scales) for line in metadata["nodes"].split("\n"))
  # Every byte has a meaning: two different files never hold the same network.
  _require(not len(scales.left), "it has scales of no node")
  _require(not tensors, f"it has a tensor {next(iter(tensors), '')[:60]!r} of no node")
  network = Lowered(nodes, **about)
  try:
    check(network)
  except BadNetwork as error:
    raise BadFile(str(error)) from None
  return network


def _verified(data: bytes) -> bytes:
  """The header, once the checksum is known to be right."""
  length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
  whole = 0 < length <= len(data) - 8 and data[8:9] == b"{"
  _require(whole, "it is no safetensors file, or was cut off")
  header = data[8 : 8 + length]
  signed = len(_HASH.findall(header)) == 1
  _require(signed, "it is no packed network: its metadata has no checksum")
  _require(sign(data) == data, "it is damaged: its checksum is not that of its bytes")
  return header


def _about(text: str) -> dict:
  try:
    about = json.loads(text)
  except (ValueError, RecursionError):
    raise BadFile("its metadata 'about' is no JSON") from None
  complete = isinstance(about, dict) and about.keys() == _ABOUT.keys()
  _require(complete, "its metadata 'about' has other fields")
  for key, kind in _ABOUT.items():
    items = about[key] if isinstance(kind, list) else [about[key]]
    kind = kind[0] if isinstance(kind, list) else kind
    right = isinstance(items, list) and items and all(type(item) is kind for item in items)
    _require(right, f"its metadata 'about' has a wrong {key}")
  _require(len(about["image_shape"]) == 3, "its images have no height, width and channels")
  return {key: tuple(v) if isinstance(v, list) else v for key, v in about.items()}


class _Scales:
  """Multipliers and addends, taken one node after the other."""

  def __init__(self, scales: np.ndarray):
    _require(scales.ndim == 1, f"its scales have the shape {scales.shape}")
    self.left = scales

  def take(self, word: str, name: str) -> dict[str, np.ndarray]:
    match = _ROWS.fullmatch(word)
    _require(match, f"node {name} has multipliers {word[:40]!r}")
    rows, columns = map(int, match.groups())
    count = rows * columns
    _require(columns and count + columns <= len(self.left), f"node {name} has too few scales")
    multiplier, addend, self.left = np.split(self.left, [count, count + columns])
    return {"multiplier": multiplier.reshape(rows, columns), "addend": addend}


def _node(line: str, tensors: dict, scales: _Scales) -> Node:
  """The node of a line; what it has of ``tensors`` and ``scales`` is taken out of them."""
  kind, *words = line.split(" ")
  _require(kind in KINDS, f"it has a node of kind {kind[:40]!r}")
  # The fields of the class are the grammar of the line; its name comes first, for the sentences.
  values, words, name = {}, iter(words), ""
  for field in dataclasses.fields(KINDS[kind]):
    if field.name == "addend":
      continue
    word = next(words, "")
    if field.type is np.ndarray:
      values.update(scales.take(word, name))
    elif field.type is Weights:
      values[field.name] = _weights(word, name, tensors)
    else:
      values[field.name] = _value(word, field.type, name)
    name = values["name"]
  _require(next(words, None) is None, f"node {name} has a line that is too long")
  return KINDS[kind](**values)


def _value(word: str, kind: type, name: str):
  pattern = _WORDS[kind]
  _require(pattern.fullmatch(word), f"node {name} has {word[:40]!r} for a {kind.__name__}")
  if kind is float:
    return struct.unpack(">f", bytes.fromhex(word))[0]
  return bool(int(word)) if kind is bool else kind(word)


def _weights(word: str, name: str, tensors: dict) -> Weights:
  match = _KERNEL.fullmatch(word)
  _require(match, f"node {name} has weights {word[:60]!r}")
  *shape, packing = match.groups()
  shape = tuple(map(int, shape))
  if packing == "float":
    return Weights(_tensor(tensors, name, np.float32, shape), FULL)
  possible = re.fullmatch("[2-8]bit|[1-8]bit-odd|base3", packing)
  _require(possible, f"node {name} has the packing {packing!r}")
  count = math.prod(shape)
  data = _tensor(tensors, name, np.uint8, (bits.packed_size(count, packing),))
  _require(
    count and bits.whole(data, packing, count), f"node {name} has weights that are no levels"
  )
  return Weights(bits.levels(data, packing, shape), bits.bits_of(packing), packing.endswith("odd"))


def _tensor(tensors: dict, name: str, dtype, shape: tuple | None) -> np.ndarray:
  tensor = tensors.pop(name, None)
  _require(tensor is not None, f"it has no tensor {name}")
  _require(
    tensor.dtype == dtype and shape in (None, tensor.shape),
    f"tensor {name} is {tensor.dtype} {tensor.shape}, not {np.dtype(dtype)} {shape or ''}",
  )
  return tensor


def _require(ok, sentence: str):
  if not ok:
    raise BadFile(sentence)
