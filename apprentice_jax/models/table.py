"""The table of a network's layers: `summary`."""

import math
from typing import NamedTuple

import flax.linen as nn
import jax

from apprentice_jax.models.intercept import named
from apprentice_jax.models.precision import FULL, Precision
from apprentice_jax.models.traced import Layer, traced
from apprentice_jax.models.wrap import QuantizedModule, plan_of

_COLUMNS = ("layer", "kernel", "output", "precision", "parameters", "bytes", "MACs")


class Row(NamedTuple):
  """A layer of a network, or another module with parameters.

  Attributes:
    path: such as "block1/conv".
    layer: its trace; None of a module that is no convolution or dense layer.
    precision: of its input and its weights.
    parameters: numbers of its own, quantizers' aside.
    bytes: of weights at their bits, a float32 scale for each that the weights share, and float32
      for everything else.
  """

  path: str
  layer: Layer | None
  precision: Precision
  parameters: int
  bytes: int


def rows(module: nn.Module, args: tuple, kwargs: dict) -> list[Row]:
  """The layers of a module in the order of calls, then its other modules with parameters.

  Args:
    module: a plain module, or one of `quantize`.
    args, kwargs: of a call; arrays count by shape and dtype alone.
  """
  plain, quantized = module, {}
  if isinstance(module, QuantizedModule):
    plain, quantized = module.module, plan_of(module, args, kwargs).layers
  found = traced(plain.clone(parent=None, _deep_clone=True), args, kwargs)
  sizes, result = _parameters(found.params), []
  for path in [*found.layers, *(path for path in sizes if path not in found.layers)]:
    layer, count = found.layers.get(path), sizes[path]
    precision, size = Precision(), 4 * count
    if path in quantized:
      precision = module.quantization.precision
      size = _bytes(module.quantization, layer, count)
    result.append(Row(path, layer, precision, count, size))
  return result


def summary(module: nn.Module, *example, **kwargs) -> str:
  """The layers of a Flax Linen module as a table, and the sums of its columns.

  Bytes are those of a deployed network: weights at their bits, one float32 scale for each that the
  weights share, everything else in float32. MACs are multiply-accumulates of the whole example.

  Args:
    module: a plain module, or one of `quantize`.
    *example, **kwargs: the arguments of a call; arrays count by shape and dtype alone.

  Returns:
    Lines of text: one for each layer in the order of calls, one for each other module with
    parameters, and the total.
  """
  lines = []
  for row in rows(module, example, kwargs):
    cells, macs = ("", "", ""), 0
    if layer := row.layer:
      cells = (_shape(layer.kernel), _shape(layer.output), str(row.precision))
      macs = layer.macs
    lines.append((named(row.path), *cells, row.parameters, row.bytes, macs))
  total = ("total", "", "", "", *(sum(line[i] for line in lines) for i in (4, 5, 6)))
  return _aligned([_COLUMNS, *lines, total])


def _parameters(params) -> dict[str, int]:
  """Numbers of parameters, by the path of the module that holds them."""
  sizes = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    at = "/".join(str(getattr(key, "key", key)) for key in path[:-1])
    sizes[at] = sizes.get(at, 0) + math.prod(leaf.shape)
  return sizes


def _bytes(q, layer: Layer, count: int) -> int:
  weights = math.prod(layer.kernel)
  if q.precision.weights == FULL:
    return 4 * count
  scales = layer.channels if q.per_channel and q.weights != "dorefa" else 1
  scales *= 2 if q.weights == "ttq" else 1
  return math.ceil(weights * q.precision.weights / 8) + 4 * (count - weights + scales)


def _shape(shape) -> str:
  return "x".join(map(str, shape))


def _aligned(rows) -> str:
  cells = [[f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows]
  widths = [max(map(len, column)) for column in zip(*cells)]
  # Words to the left, numbers to the right.
  lines = [
    "  ".join(
      cell.ljust(width) if i < 4 else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths))
    ).rstrip()
    for row in cells
  ]
  rule = "-" * max(map(len, lines))
  return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])
