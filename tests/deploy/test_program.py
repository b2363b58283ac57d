"""NumPy and compiled: the same bits; NumPy against sums done one by one."""

import compare
import jax
import numpy as np
import pytest
from networks import lowered, made

from apprentice_jax.deploy import interpret, program
from apprentice_jax.deploy.network import Conv, Mean, Value, Weights, accumulator_bound


@pytest.mark.parametrize(
  "kind",
  [
    dict(weights="ttq", residual=True, shortcut="conv"),
    dict(weights="ttq", per_channel=False),
    dict(precision="3A,5W"),
    dict(name="resnet18", width=0.0625, precision="8A,4W"),
  ],
  ids=str,
)
def test_with_8_bit_ends_every_bit_is_equal(kind):
  images = made(**kind)[3]
  network, found = lowered("8bit", **kind), {}
  logits = interpret.logits(
    network, images, observe=lambda name, acc, value: found.update({name: (acc, value)})
  )
  compiled, sums, values = compare.lowered(network)(images, {})
  assert found.keys() == values.keys()
  for name, (acc, value) in found.items():
    if acc is not None:
      assert acc.dtype == np.int32 == sums[name].dtype
      np.testing.assert_array_equal(acc, sums[name], err_msg=name)
    if name != "head":  # whose multiplication and addition may be contracted
      assert value.dtype == values[name].dtype
      np.testing.assert_array_equal(value, values[name], err_msg=name)
  np.testing.assert_allclose(compiled, logits, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [dict(), dict(precision="32A,2W", weights="ttq")], ids=str)
def test_float_ends_agree_but_for_the_order_of_their_sums(kind):
  images, network = made(**kind)[3], lowered(**kind)
  wanted = interpret.logits(network, images)
  found = program.predictor(network).logits(images)
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5 * np.abs(wanted).max())


def by_hand(x, levels, stride):
  """The sums of a convolution, one by one, in Python's integers."""
  (height, width), (batch, rows, columns, _) = levels.shape[:2], x.shape
  out = np.zeros((batch, -(-rows // stride), -(-columns // stride), levels.shape[-1]), object)
  for n, i, j, f in np.ndindex(*out.shape):
    for a, b in np.ndindex(height, width):
      y, z = i * stride + a - (height - 1) // 2, j * stride + b - (width - 1) // 2
      if 0 <= y < rows and 0 <= z < columns:
        out[n, i, j, f] += sum(int(p) * int(q) for p, q in zip(x[n, y, z], levels[a, b, :, f]))
  return out


@pytest.mark.parametrize(
  "size, stride, rows, top, low, high",
  [
    (3, 1, 1, 1, 0, 255),
    (3, 2, 2, 1, 0, 255),
    (1, 2, 1, 7, 0, 15),
    (7, 2, 1, 127, -128, 127),
    (3, 1, 1, 255, -128, 127),
  ],
)
def test_accumulators_by_hand(size, stride, rows, top, low, high):
  random = np.random.default_rng(0)
  levels = random.integers(-top, top + 1, (size, size, 2, 3)).astype(np.int16)
  x = random.integers(low, high + 1, (2, 5, 4, 2)).astype(np.int8 if low else np.uint8)
  zeros = np.zeros((rows, 3), np.float32)
  node = Conv("c", "x", stride, False, Weights(levels, 2 if top == 1 else 8), zeros, zeros[0])
  sides = [levels] if rows == 1 else [np.maximum(levels, 0), np.maximum(-levels, 0)]
  found = interpret.accumulate(node, x, Value((5, 4, 2), "levels", low, high, 8))
  assert found.dtype == np.int32
  for side, sums in zip(sides, found, strict=True):
    np.testing.assert_array_equal(sums, by_hand(x, side, stride))


@pytest.mark.parametrize(
  "low, high, channels, top", [(0, 255, 5000, 127), (-128, 127, 5000, 127), (0, 255, 40000, 200)]
)
def test_sums_beyond_float32_are_put_together_from_digits(low, high, channels, top):
  """All at their largest: far beyond 2**24, and not a multiple of a power of two."""
  levels = np.full((1, 1, channels, 2), top, np.int16)
  levels[0, 0, :, 1] = np.random.default_rng(0).integers(-top, top + 1, channels)
  x = np.full((1, 1, 1, channels), high, np.int8 if low else np.uint8)
  x[..., ::2] = low or high - 4
  zeros = np.zeros((1, 2), np.float32)
  node = Conv("c", "x", 1, False, Weights(levels, 8, top > 127), zeros, zeros[0])
  value = Value((1, 1, channels), "levels", low, high, 8)
  wanted = (x[0, 0, 0].astype(object) @ levels[0, 0].astype(object)).astype(np.int64)
  assert accumulator_bound(node, value) > 2**24
  np.testing.assert_array_equal(interpret.accumulate(node, x, value)[0, 0, 0, 0], wanted)
  found = jax.jit(
    lambda x: program._exact(
      lambda x, k: program._convolve(x, k, 1),
      x,
      levels.astype(np.float32),
      value,
      int(np.abs(levels).sum((0, 1, 2)).max()),
    )
  )(x)
  np.testing.assert_array_equal(found[0, 0, 0], wanted)


def test_pools_and_means_by_hand():
  x = np.random.default_rng(0).integers(0, 256, (1, 5, 6, 2)).astype(np.uint8)
  pooled = interpret.max_pool(x)
  assert pooled.shape == (1, 3, 3, 2)
  for i, j in np.ndindex(3, 3):
    window = x[0, max(2 * i - 1, 0) : 2 * i + 2, max(2 * j - 1, 0) : 2 * j + 2]
    np.testing.assert_array_equal(pooled[0, i, j], window.max((0, 1)))
  mean = interpret._mean(np, Mean("m", "x", False, 1 / 30), x)
  np.testing.assert_allclose(mean[0, 0, 0], x.mean((0, 1, 2)), rtol=1e-6)
