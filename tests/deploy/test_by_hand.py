"""The definition against loops in plain Python: integers, and float32 numbers one at a time.

No array operation of NumPy takes part: a value is a list of rows of pixels of numbers.
"""

import numpy as np
import pytest
from networks import lowered, made

from apprentice_jax.deploy import interpret
from apprentice_jax.deploy.network import Add, Conv, Image, MaxPool, Mean, Quantize, Rescale

FRACTION = 2**20  # of a step of the grid that comes next


def times(a, b) -> np.float32:
  """A float32 product, rounded once: float64 holds the product of two float32 numbers."""
  return np.float32(float(a) * float(b))


def plus(a, b) -> np.float32:
  """A float32 sum: float64 is so wide that its own rounding cannot change it."""
  return np.float32(float(a) + float(b))


def whole(x) -> np.float32:
  return np.float32(round(float(x)))  # half to even


def pixels(x, function):
  return [[[function(c, v) for c, v in enumerate(pixel)] for pixel in row] for row in x]


def window(x, i, j, size, stride):
  """Offsets in a window around pixel (i, j) of the result, with the pixels that lie there."""
  for a in range(size):
    for b in range(size):
      y, z = i * stride + a - (size - 1) // 2, j * stride + b - (size - 1) // 2
      if 0 <= y < len(x) and 0 <= z < len(x[0]):
        yield a, b, x[y][z]


def scaled(node, c, sums) -> np.float32:
  products = [times(np.float32(s), row[c]) for s, row in zip(sums, node.multiplier.tolist())]
  if node.fixed:
    products = [whole(p) for p in products]
  total = products[0] if len(products) == 1 else plus(*products)
  return plus(total, node.addend.tolist()[c])


def image(node: Image, x):
  return pixels(x, lambda c, v: scaled(node, c, [v]))


def conv(node: Conv, x):
  kernel = node.weights.levels.tolist()
  size, channels = len(kernel), len(kernel[0][0][0])
  parts = [lambda w: w]
  if len(node.multiplier) == 2:
    parts = [lambda w: max(w, 0), lambda w: max(-w, 0)]

  def one(i, j, c):
    sums = [0] * len(parts)
    for a, b, pixel in window(x, i, j, size, node.stride):
      for k, v in enumerate(pixel):
        for row, part in enumerate(parts):
          sums[row] += v * part(kernel[a][b][k][c])
    return scaled(node, c, sums)

  rows, columns = (-(-side // node.stride) for side in (len(x), len(x[0])))
  return [[[one(i, j, c) for c in range(channels)] for j in range(columns)] for i in range(rows)]


def rescale(node: Rescale, x):
  before = (node.channels - len(x[0][0])) // 2
  after = node.channels - len(x[0][0]) - before
  zeros = lambda count: [np.float32(0)] * count
  multiplier = np.float32(node.multiplier)
  return [
    [
      [*zeros(before), *(whole(times(v, multiplier)) for v in pixel), *zeros(after)]
      for pixel in row[:: node.stride]
    ]
    for row in x[:: node.stride]
  ]


def add(node: Add, x, y):
  return [
    [[plus(a, b) for a, b in zip(p, q, strict=True)] for p, q in zip(r, s, strict=True)]
    for r, s in zip(x, y, strict=True)
  ]


def quantize(node: Quantize, x):
  low, high = (-(2 ** (node.bits - 1)), 2 ** (node.bits - 1) - 1)
  if not node.signed:
    low, high = 0, 2**node.bits - 1
  return pixels(x, lambda c, v: min(max(round(float(v) / FRACTION), low), high))


def max_pool(node: MaxPool, x):
  rows, columns = (-(-side // 2) for side in (len(x), len(x[0])))
  return [
    [
      [max(pixel[c] for _, _, pixel in window(x, i, j, 3, 2)) for c in range(len(x[0][0]))]
      for j in range(columns)
    ]
    for i in range(rows)
  ]


def mean(node: Mean, x):
  sums = [sum(pixel[c] for row in x for pixel in row) for c in range(len(x[0][0]))]
  product = lambda s: times(np.float32(s), np.float32(node.multiplier))
  return [[[whole(product(s)) if node.fixed else product(s) for s in sums]]]


RULES = {
  Image: image,
  Conv: conv,
  Rescale: rescale,
  Add: add,
  Quantize: quantize,
  MaxPool: max_pool,
  Mean: mean,
}


def by_hand(network, pixels_of_image) -> dict:
  """The result of every node for one image, by name."""
  results = {}
  for node in network.nodes:
    names = [getattr(node, f) for f in ("input", "first", "second") if hasattr(node, f)]
    results[node.name] = RULES[type(node)](
      node, *([results[name] for name in names] or [pixels_of_image])
    )
  return results


@pytest.mark.parametrize(
  "kind",
  [
    dict(weights="ttq", residual=True, shortcut="conv"),
    dict(precision="3A,5W"),
    dict(precision="4A,8W", weights="dorefa"),
    dict(name="resnet18", width=0.0625),
  ],
  ids=str,
)
def test_every_node_is_what_plain_python_computes(kind):
  network, images, results = lowered("8bit", **kind), made(**kind)[3][:1], {}
  interpret.logits(network, images, observe=lambda name, _, value: results.update({name: value[0]}))
  wanted = by_hand(network, images[0].tolist())
  assert results.keys() == wanted.keys()
  for name, value in wanted.items():
    np.testing.assert_array_equal(results[name], np.array(value, np.float32), err_msg=name)


def test_whole_numbers_round_half_to_even():
  assert [int(whole(x)) for x in (0.5, 1.5, 2.5, -0.5, -1.5)] == [0, 2, 2, 0, -2]
