"""The constants of a network as C code: tensors, weights, layers.

A public function gives the text of an initialiser, or of whole definitions.
"""

import numpy as np

from apprentice_jax.deploy.c import masks
from apprentice_jax.deploy.c.plan import Branch, Layer, Tensor
from apprentice_jax.deploy.network import FRACTION, FULL, BadNetwork, Conv

LIMIT = 2.0**31  # where a number stops in the C code
FLOATS = 2.0**127  # half of the largest float32


def tensor_constant(t: Tensor) -> str:
  """An NN_tensor_t."""
  height, width, channels = t.shape
  return (
    f"{{{t.start}u, {t.plane}u, {t.pitch}, {height}, {width}, {channels}, {t.border}, {t.zero}}}"
  )


def weight_arrays(conv: Conv, label: str, channels: list[bytes]) -> list[str]:
  """The arrays of a convolution: each output channel's bytes, multipliers, addends."""
  return [
    array("uint8_t", f"{label}_weights", np.frombuffer(b"".join(channels), np.uint8)),
    array("float", f"{label}_multiplier", conv.multiplier.T.ravel()),
    array("float", f"{label}_addend", conv.addend),
  ]


def coded_weights(conv: Conv, label: str, bits: int = 0) -> list[str]:
  """The weights of the stem or the classifier: codes, or floats in the same order."""
  if conv.weights.bits != FULL:
    return weight_arrays(conv, label, _codes(conv, bits))
  floats = conv.weights.levels.transpose(3, 0, 1, 2).ravel()
  return [array("float", f"{label}_floats", floats), *weight_arrays(conv, label, [b"\0"])]


def _codes(conv: Conv, bits: int = 0) -> list[bytes]:
  """Each output channel's codes in the order of rows, columns and input channels."""
  w = conv.weights
  bits = bits or w.bits
  levels = w.levels.astype(np.int64).transpose(3, 0, 1, 2).reshape(w.levels.shape[3], -1)
  codes = (levels + w.top) // 2 if w.odd else levels + w.top
  return [
    np.packbits((c[:, None] >> np.arange(bits)) & 1, bitorder="little").tobytes() for c in codes
  ]


def conv_constant(branch: Branch, label: str, names: dict[int, str]) -> str:
  """An NN_conv_t on planes; ``names``: of tensors, by id."""
  conv, w = branch.conv, branch.conv.weights
  size = len(masks.encode(w, branch.segment)[0])
  return _fields(
    conv,
    f"&{names[id(branch.input)]}",
    label,
    size,
    branch.segment,
    len(masks.digits(w)),
    branch.own,
  )


def coded_constant(conv: Conv, label: str) -> str:
  """An NN_conv_t whose weights are codes."""
  if conv.weights.bits == FULL:
    return _fields(conv, "NULL", label, 0, 0, 0, None)
  bits = 8 if label == "NN_first" else 0
  return _fields(conv, "NULL", label, len(_codes(conv, bits)[0]), 0, 0, None)


def _fields(conv, tensor, label, size, segment, digits, own) -> str:
  w = conv.weights
  rows, columns = w.levels.shape[:2]
  bits, top, recoded = w.bits, w.top, masks.recoded(w)
  if bits == FULL:
    bits = top = recoded = 0
  return (
    f"{{{tensor}, {label}_weights, {label}_multiplier, {label}_addend, {size}, "
    f"{segment}, {rows}, {columns}, {conv.stride}, {bits}, {int(w.odd)}, {digits}, "
    f"{len(conv.multiplier)}, {int(recoded)}, {int(own is not None)}, {top}, "
    f"{_own(own)}}}"
  )


def _own(own) -> str:
  """A branch's own grid, and what its levels are of the next one's."""
  if own is None:
    return "0, 0, 0.0f"
  grid, rescale = own
  return f"{grid.low}, {grid.high}, {number(rescale.multiplier)}"


def layer_constant(layer: Layer, label: dict[int, str], names: dict[int, str]) -> str:
  """An NN_layer_t; ``label``, ``names``: of branches and tensors, by id."""
  name = label[id(layer.branch)]
  stem = name == "NN_first"
  conv = (
    coded_constant(layer.branch.conv, name) if stem else conv_constant(layer.branch, name, names)
  )
  shortcut = f"&{label[id(layer.shortcut)]}" if layer.shortcut else "NULL"
  added, scale, before, stride = "NULL", "0.0f", 0, 0
  if layer.added:
    source, rescale = layer.added
    added, scale, stride = f"&{names[id(source)]}", number(rescale.multiplier), rescale.stride
    before = (rescale.channels - source.shape[2]) // 2
  return (
    f"{{{conv}, {shortcut}, {added}, {scale}, {before}, {stride}, {layer.band}, "
    f"{tensor_constant(layer.output)}, {layer.grid.low}, {layer.grid.high}}}"
  )


def is_large(layer: Layer) -> bool:
  """Whether a number on its way to the grid may be out of the C code's reach and matter.

  A number stops at `LIMIT`, far beyond the grid. That is no matter where all others together cannot
  bring the sum back to the grid.

  Raises:
    BadNetwork: numbers may leave float32, where the definition has none.
  """
  sums = [_terms(branch) for branch in layer.branches]
  terms = []
  for branch, inner in zip(layer.branches, sums):
    if branch.own:
      grid, rescale = branch.own
      largest = max(-grid.low, grid.high) * abs(float(rescale.multiplier))
      inner = [np.full(len(inner[0]), largest)]
    terms += inner
  if layer.added:
    source, rescale = layer.added
    terms.append(np.full(len(terms[0]), source.top * abs(float(rescale.multiplier))))
  every = [*(inner for branch, inner in zip(layer.branches, sums) if branch.own), terms]
  if max(np.sum(each, 0).max() for each in every) > FLOATS:
    raise BadNetwork(f"numbers of {layer.grid.name} may leave float32")
  return any(_cancels(each) for each in every)


def _cancels(terms: list[np.ndarray]) -> bool:
  """Whether all terms but the largest may bring a sum back from `LIMIT` to a grid."""
  others = np.sum(terms, 0) - np.max(terms, 0)
  return bool(np.any(others > LIMIT - 2 * FRACTION * 2**8))


def _terms(branch: Branch) -> list[np.ndarray]:
  """The largest magnitudes of what a branch adds, per output channel: products and addend."""
  conv = branch.conv
  addend = np.abs(conv.addend).astype(np.float64)
  if conv.weights.bits == FULL:
    return [np.full(len(addend), 2.0**62), addend]
  levels = conv.weights.levels.astype(np.int64)
  sides = np.stack([np.maximum(levels, 0), np.maximum(-levels, 0)]).sum((1, 2, 3))
  if branch.sides == 1:
    sides = sides.max(0, keepdims=True)
  return [*(_largest(branch) * sides * np.abs(conv.multiplier).astype(np.float64)), addend]


def _largest(branch) -> int:
  """The largest magnitude of the levels that a branch reads."""
  zero = branch.input.zero
  return max(branch.input.top - zero, zero)


def number(value) -> str:
  """A float32 constant, exactly."""
  return np.format_float_scientific(np.float32(value), unique=True, trim="0") + "f"


def array(kind: str, name: str, values) -> str:
  """A constant array of numbers."""
  show = number if kind == "float" else str
  rows, row = [], "  "
  for value in values:
    piece = show(value) + ", "
    if len(row) + len(piece) > 100:
      rows.append(row.rstrip())
      row = "  "
    row += piece
  body = "\n".join([*rows, row.rstrip().rstrip(",")])
  return f"static const {kind} {name}[{len(values)}] = {{\n{body}\n}};"


def quoted(text: str) -> str:
  """A string constant in ASCII."""
  data = text.encode()
  plain = lambda b: chr(b) if 32 <= b < 127 and b not in b'"\\?' else f"\\{b:03o}"
  return '"' + "".join(map(plain, data)) + '"'
