"""The order of examples: every one once per epoch, and a function of seed and position alone."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice_jax.data import order


@pytest.mark.parametrize("size, batch", [(10, 4), (7, 7), (5, 16), (1437, 64)])
def test_every_example_once_per_epoch_in_batches_that_run_over_its_end(size, batch):
  epochs = 3
  steps = -(-epochs * size // batch)
  parts = [order.examples(3, size, s * batch, batch) for s in range(steps)]
  index, epoch = (np.concatenate(p) for p in zip(*parts))
  assert index.dtype == epoch.dtype == np.int32
  assert all(len(i) == batch for i, _ in parts)
  for e in range(epochs):
    np.testing.assert_array_equal(np.flatnonzero(epoch == e), np.arange(e * size, (e + 1) * size))
    np.testing.assert_array_equal(np.sort(index[e * size : (e + 1) * size]), np.arange(size))


@settings(max_examples=50, deadline=None)
@given(
  st.integers(1, 40),
  st.integers(0, 200),
  st.lists(st.integers(0, 30), max_size=6),
  st.integers(0, 5),
)
def test_any_split_of_the_stream_gives_the_same_stream(size, start, counts, seed):
  whole = order.examples(seed, size, start, sum(counts))
  at, parts = start, [(np.empty(0, np.int32), np.empty(0, np.int32))]
  for count in counts:
    parts.append(order.examples(seed, size, at, count))
    at += count
  for both, pieces in zip(whole, zip(*parts)):
    np.testing.assert_array_equal(both, np.concatenate(pieces))


def test_epochs_and_seeds_differ():
  orders = [order.examples(seed, 50, 50 * e, 50)[0] for seed in (0, 1, 2) for e in (0, 1, 2)]
  assert len({tuple(o) for o in orders}) == 9
  assert tuple(range(50)) not in {tuple(o) for o in orders}


def test_nothing_but_seed_and_position_matters():
  first = order.examples(5, 20, 30, 25)[0]
  np.random.seed(1)
  order.permutation.cache_clear()
  order.examples(6, 20, 0, 100)
  np.testing.assert_array_equal(order.examples(5, 20, 30, 25)[0], first)
  # A position far into the stream, in another process.
  far = 20 * 2**32 + 7
  code = f"from apprentice_jax.data import order; print(*order.examples(5, 20, {far}, 9)[0])"
  printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert printed.stdout.split() == [str(i) for i in order.examples(5, 20, far, 9)[0]]


def test_each_place_of_the_epoch_is_taken_by_every_example_about_equally():
  counts = np.zeros((5, 5))
  for e in range(2000):
    counts[np.arange(5), order.permutation(0, e, 5)] += 1
  np.testing.assert_allclose(counts / 2000, 0.2, atol=0.05)  # 5.6 standard deviations


@pytest.mark.parametrize("size, batch", [(360, 8), (360, 7), (3, 8), (1, 1), (9, 9), (10, 9)])
def test_padded_covers_each_example_once(size, batch):
  index, mask = order.padded(size, batch)
  assert index.shape == mask.shape == (-(-size // batch), batch)
  assert index.dtype == np.int32 and mask.dtype == np.float32
  np.testing.assert_array_equal(index[mask == 1], np.arange(size))
  assert mask.sum() == size and set(np.unique(mask)) <= {0, 1}
  assert index.min() >= 0 and index.max() < size
