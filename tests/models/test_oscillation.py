"""Oscillating weights: the algorithm against NumPy, one weight at a time; kernels by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax.models import oscillation
from apprentice_jax.models.levels import encode_weights
from apprentice_jax.models.oscillation import MOMENTUM, Tracked, tracked_on
from apprentice_jax.models.precision import Precision, Quantization

TWN = Quantization(Precision(32, 2))
KINDS = [dataclasses.replace(TWN, weights=kind) for kind in ("twn", "lsq", "ttq", "wrpn")]
LSQ = KINDS[1]


class Weight:
  """One weight, as algorithm 1 of the paper has it."""

  def __init__(self, level):
    self.last, self.direction, self.frequency = level, 0, 0.0
    self.mean, self.frozen = float(level), None

  def see(self, level, threshold):
    if self.frozen is not None:
      return
    direction = np.sign(level - self.last)
    oscillated = bool(direction) and direction == -self.direction
    self.frequency = MOMENTUM * oscillated + (1 - MOMENTUM) * self.frequency
    if direction:
      self.direction = direction
    if self.frequency > threshold:
      self.frozen = np.round(self.mean)
    self.mean = MOMENTUM * level + (1 - MOMENTUM) * self.mean
    self.last = level


def test_equals_the_paper_weight_by_weight():
  r = np.random.default_rng(0)
  # Some weights change their level often, some rarely.
  often = r.random(40)[:, None] < np.linspace(0, 1, 30)[None]
  levels = np.float32(np.where(often, r.integers(-1, 2, (40, 30)), 1))
  weights = [Weight(level) for level in levels[0]]
  tracked = Tracked(jnp.zeros(30), jnp.zeros(30), jnp.asarray(levels[0]))
  for step, (before, after) in enumerate(zip(levels, levels[1:])):
    threshold = 0.12 - 0.002 * step
    tracked = tracked_on(tracked, before, after, threshold)
    for weight, level in zip(weights, after):
      weight.see(level, threshold)
    frozen = np.array([w.frozen is not None for w in weights])
    np.testing.assert_array_equal(np.isinf(tracked.frequency), frozen)
    expected = [w.mean if w.frozen is None else w.frozen for w in weights]
    np.testing.assert_allclose(tracked.level, expected, rtol=1e-5, atol=1e-6)
    moving = [w.frequency for w in weights if w.frozen is None]
    np.testing.assert_allclose(tracked.frequency[~frozen], moving, rtol=1e-5, atol=1e-7)
  assert 3 < frozen.sum() < 27 and {w.frozen for w in weights} > {0.0, 1.0}


def layer(q, seed=0):
  kernel = 0.1 * np.random.default_rng(seed).standard_normal((3, 3, 4, 8)).astype(np.float32)
  own = {"lsq": {"weight_step": jnp.full(8, 0.1)}}
  own["ttq"] = {"positive": jnp.full(8, 0.1), "negative": jnp.full(8, 0.12)}
  return {"kernel": jnp.asarray(kernel), **own.get(q.weights, {})}


def levels_of(q, params):
  levels = encode_weights(q, params["kernel"], params).levels
  return np.asarray(levels[0] - levels[1] if isinstance(levels, tuple) else levels)


@pytest.mark.parametrize("q", KINDS, ids=lambda q: q.weights)
def test_frozen_weights_keep_their_level_and_no_other_weight_is_touched(q):
  before, update = {"conv": layer(q), "stem": layer(q, 2)}, layer(q, 1)["kernel"]
  kernel = before["conv"]["kernel"]
  after = {**before, "conv": {**before["conv"], "kernel": kernel + 0.3 * update}}
  tracked = oscillation.start(q, before)
  assert tracked.keys() == {"conv"}  # the stem is in full precision
  np.testing.assert_array_equal(tracked["conv"].level, levels_of(q, before["conv"]))
  # The first half of the output channels has been oscillating, above level 0 or around 1.
  frequency = jnp.zeros(kernel.shape).at[..., :4].set(0.5)
  tracked = {"conv": tracked["conv"]._replace(frequency=frequency)}
  found, tracked, share = oscillation.freeze(q, before, after, tracked, 0.1)
  np.testing.assert_array_equal(np.isinf(tracked["conv"].frequency), frequency > 0)
  np.testing.assert_array_equal(found["conv"]["kernel"][..., 4:], after["conv"]["kernel"][..., 4:])
  level = levels_of(q, before["conv"])
  np.testing.assert_array_equal(levels_of(q, found["conv"])[..., :4], level[..., :4])
  assert (levels_of(q, after["conv"]) != level)[..., :4].any()
  # From now on updates do not move them.
  moved = {**found, "conv": {**found["conv"], "kernel": found["conv"]["kernel"] + update}}
  np.testing.assert_allclose(share, 0.5)
  again, *_ = oscillation.freeze(q, found, moved, tracked, 1.0)
  np.testing.assert_array_equal(levels_of(q, again["conv"])[..., :4], level[..., :4])
  # TTQ's threshold follows the layer's largest weight, and some weights have to follow it.
  if q.weights != "ttq":
    kept = found["conv"]["kernel"][..., :4]
    np.testing.assert_array_equal(again["conv"]["kernel"][..., :4], kept)
  np.testing.assert_array_equal(again["conv"]["kernel"][..., 4:], moved["conv"]["kernel"][..., 4:])


def test_a_frozen_weight_follows_a_scale_that_would_change_its_level():
  before = {"conv": {"kernel": jnp.array([[0.1, 0.02]]).T, "weight_step": jnp.array([0.1])}}
  tracked = {"conv": Tracked(jnp.full((2, 1), jnp.inf), jnp.zeros((2, 1)), jnp.array([[1.0], [0]]))}
  after = {"conv": {**before["conv"], "weight_step": jnp.array([0.3])}}  # 0.1 would be level 0
  found, *_ = oscillation.freeze(LSQ, before, after, tracked, 0.1)
  np.testing.assert_allclose(found["conv"]["kernel"], [[0.3], [0.02]])


def test_damping_by_hand():
  # Ternary, of step 1: 0.4 is 0.4 from its level, 0.8 is 0.2 from it, 3 is beyond the last.
  params = {"conv": {"kernel": jnp.array([[0.4, 0.8, 3.0]]).T, "weight_step": jnp.array([1.0])}}
  loss, gradient = jax.value_and_grad(lambda p: oscillation.damping(LSQ, p))(params)
  np.testing.assert_allclose(loss, 0.4**2 + 0.2**2, rtol=1e-5)
  np.testing.assert_allclose(gradient["conv"]["kernel"][:, 0], [0.8, -0.4, 0], atol=1e-6)
  np.testing.assert_array_equal(gradient["conv"]["weight_step"], [0])
