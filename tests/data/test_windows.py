"""The windows of random crops: where they lie, and that they are functions of seed, epoch and
index."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice_jax.data import crops as cropping
from apprentice_jax.data.crops import Crops

# Random numbers.


def test_uniforms_are_a_function_of_their_arguments():
  first = cropping.uniforms(1, 2, 3)
  assert first.shape == (11, 4) and first.dtype == np.float64
  assert np.all((0 <= first) & (first < 1))
  np.random.seed(0)
  for other in ((0, 0, 0), (1, 2, 4), (1, 2, 2), (9, 9, 9)):
    cropping.uniforms(*other)
  np.testing.assert_array_equal(cropping.uniforms(1, 2, 3), first)
  # As they come from the order of examples: no matter which integers those are.
  np.testing.assert_array_equal(cropping.uniforms(1, np.int32(2), np.int32(3)), first)


def test_uniforms_may_not_change():
  # Runs that are continued depend on them.
  np.testing.assert_array_equal(cropping.uniforms(1, 2, 3)[[0, 10]], PINNED)


PINNED = [
  [0.44893787036453536, 0.11713073957272446, 0.09918642884022555, 0.6199261257604023],
  [0.2716139346050104, 0.7016143077802536, 0.7324870855790052, 0.9657147037949066],
]


def test_uniforms_of_no_two_examples_are_alike():
  seeds, epochs, indices = (0, 1, 2), (0, 1, 2, 300), (0, 1, 2, 2**31 - 1)
  # Streams that are shifted against each other would share numbers.
  numbers = np.concatenate(
    [cropping.uniforms(s, e, i).ravel() for s in seeds for e in epochs for i in indices]
  )
  assert len(set(numbers.tolist())) == len(numbers) == 48 * 44


def test_uniforms_are_uniform():
  numbers = np.stack([cropping.uniforms(0, e, i) for e in range(20) for i in range(50)])
  # To 5 standard deviations, for each of the 44 places.
  assert np.abs(numbers.mean(0) - 0.5).max() < 5 / np.sqrt(12 * 1000)
  assert np.abs(numbers.var(0) - 1 / 12).max() < 5 / np.sqrt(180 * 1000)
  together = np.corrcoef(numbers.reshape(1000, 44).T) - np.eye(44)
  assert np.abs(together).max() < 6 / np.sqrt(1000)


# Windows.


SETTINGS = [
  Crops(),
  Crops(area=(0.25, 0.5), ratio=(0.5, 1.0)),
  Crops(area=(1.0, 1.0)),
  Crops(area=(0.01, 0.02), ratio=(1.0, 1.0)),
]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from(SETTINGS), st.integers(0, 10**6))
def test_window_lies_inside_and_is_a_function_of_its_draws(height, width, crops, index):
  draws = cropping.uniforms(0, 0, index)
  window = cropping.random_window(height, width, crops, draws)
  assert window == cropping.random_window(height, width, crops, draws.copy())
  assert all(type(side) is int for side in window)
  assert 0 <= window.top and 0 < window.height and window.top + window.height <= height
  assert 0 <= window.left and 0 < window.width and window.left + window.width <= width


@pytest.mark.parametrize("crops", SETTINGS[:2])
@pytest.mark.parametrize("height, width", [(3000, 4000), (4000, 3000), (2000, 2000)])
def test_window_is_spread_evenly(crops, height, width):
  count = 2000
  windows = np.array(
    [
      cropping.random_window(height, width, crops, cropping.uniforms(5, 1, i)) for i in range(count)
    ],
    np.float64,
  )
  top, left, h, w = windows.T
  area, ratio = h * w / (height * width), w / h
  slack = 1e-3  # Sides are whole pixels.
  assert area.min() > crops.area[0] - slack and area.max() < crops.area[1] + slack
  assert ratio.min() > crops.ratio[0] - slack and ratio.max() < crops.ratio[1] + slack
  # Uniform up to what does not fit: the first attempt fits where both sides do.
  draws = np.stack([cropping.uniforms(5, 1, i)[0] for i in range(count)])
  drawn_area = crops.area[0] + draws[:, 0] * (crops.area[1] - crops.area[0])
  low, high = np.log(crops.ratio)
  drawn_ratio = np.exp(low + draws[:, 1] * (high - low))
  fits = (np.sqrt(drawn_area * height * width / drawn_ratio) < height - 1) & (
    np.sqrt(drawn_area * height * width * drawn_ratio) < width - 1
  )
  assert fits.mean() > 0.6
  np.testing.assert_allclose(area[fits], drawn_area[fits], rtol=5e-3)
  np.testing.assert_allclose(ratio[fits], drawn_ratio[fits], rtol=5e-3)
  # Small windows always fit: their areas, ratios and places are uniform, and do not
  # depend on each other.
  bound = np.mean(crops.area) * 0.9
  small = area < bound
  assert small.sum() > 500
  places = np.stack(
    [
      (area - crops.area[0]) / (bound - crops.area[0]),
      (np.log(ratio) - low) / (high - low),
      top / (height - h + 1),
      left / (width - w + 1),
    ]
  )[:, small]
  assert places.min(1).max() < 0.02 and places.max(1).min() > 0.98
  np.testing.assert_allclose(places.mean(1), 0.5, atol=5 / np.sqrt(12 * small.sum()))
  assert np.abs(np.corrcoef(places) - np.eye(4)).max() < 5 / np.sqrt(small.sum())


def test_mean_area_of_the_default_is_what_it_is_for_inception_crops():
  # (0.08 + 1) / 2 = 0.54, less what large windows lose by not fitting.
  areas = []
  for i in range(4000):
    window = cropping.random_window(500, 500, Crops(), cropping.uniforms(0, 0, i))
    areas.append(window.height * window.width / 500**2)
  assert 0.44 < np.mean(areas) < 0.51
  assert np.min(areas) < 0.09 and np.max(areas) > 0.9


def test_each_of_seed_epoch_and_index_changes_the_window():
  window = lambda *which: cropping.random_window(3000, 4000, Crops(), cropping.uniforms(*which))
  windows = {window(s, e, i) for s in range(5) for e in range(5) for i in range(5)}
  assert len(windows) == 125


@pytest.mark.parametrize(
  "height, width, expected",
  [
    # A ratio of up to 4 / 3 or down to 3 / 4, in whole pixels, in the middle.
    (1, 1000, (0, 499, 1, 1)),
    (1000, 1, (499, 0, 1, 1)),
    (1, 1, (0, 0, 1, 1)),
    (3, 1000, (0, 498, 3, 4)),
    (1000, 3, (498, 0, 4, 3)),
    (30, 1000, (0, 480, 30, 40)),
    (1000, 30, (480, 0, 40, 30)),
  ],
)
def test_window_of_extreme_shapes(height, width, expected):
  # Attempts of at least nine tenths of the area cannot fit.
  crops = Crops(area=(0.9, 1.0))
  for index in range(20):
    window = cropping.random_window(height, width, crops, cropping.uniforms(0, 0, index))
    assert window == expected


def test_window_is_the_whole_image_if_nothing_else_has_its_area():
  crops = Crops(area=(1.0, 1.0))
  assert cropping.random_window(30, 35, crops, cropping.uniforms(0, 0, 0)) == (0, 0, 30, 35)


def test_ratio_is_width_over_height():
  crops = Crops(area=(0.1, 0.1), ratio=(2.0, 2.0))
  window = cropping.random_window(1000, 1000, crops, cropping.uniforms(0, 0, 0))
  assert (window.height, window.width) == (round(math.sqrt(50000)), round(math.sqrt(200000)))


def test_all_ten_attempts_are_tried():
  draws = np.zeros((11, 4))
  draws[:, 0] = 1  # All of a landscape's area, as a portrait: does not fit.
  draws[9] = (0.0, 0.5, 0.0, 0.0)  # The last attempt: 8 % of it, square.
  draws[10] = (0.0, 0.5, 0.9, 0.9)  # Not an attempt.
  side = round(math.sqrt(0.08 * 300 * 600))
  assert cropping.random_window(300, 600, Crops(), draws) == (0, 0, side, side)


def test_no_more_than_ten_attempts_are_tried():
  draws = np.zeros((11, 4))
  draws[:, 0] = 1
  draws[10] = (0.0, 0.5, 0.0, 0.0)
  # The largest in the middle: a height of 300 allows a width of 400.
  assert cropping.random_window(300, 600, Crops(), draws) == (0, 100, 300, 400)


@pytest.mark.parametrize(
  "draw, top, left", [(0.0, 0, 0), (0.49, 0, 49), (0.51, 1, 51), (1 - 2**-53, 1, 100)]
)
def test_first_and_last_place_are_possible(draw, top, left):
  crops, draws = Crops(area=(0.5, 0.5), ratio=(1.0, 1.0)), np.full((11, 4), draw)
  assert cropping.random_window(100, 200, crops, draws) == (0, left, 100, 100)  # All of the height.
  assert cropping.random_window(200, 100, crops, draws) == (left, 0, 100, 100)
  crops = crops._replace(area=(100 / 121, 100 / 121))
  assert cropping.random_window(11, 11, crops, draws) == (top, top, 10, 10)
