"""SGD against PyTorch's, Adam against NumPy, what decays, and the learning rates by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tools

from apprentice_jax.config import recipe
from apprentice_jax.training.optimizer import SGD, Adam, learning_rates, optimizer

NAMES = (
  "kernel",
  "bias",
  "scale",
  "clip",
  "positive",
  "negative",
  "weight_step",
  "activation_step",
)


@pytest.mark.slow
@pytest.mark.parametrize(
  "momentum, nesterov, decay",
  [(0.9, True, 1e-2), (0.9, False, 1e-2), (0.0, False, 0.0), (0.5, True, 0.0)],
)
def test_equals_torch(momentum, nesterov, decay):
  torch = tools.module("torch")
  r = np.random.default_rng(0)
  start = r.standard_normal((3, 4)).astype(np.float32)
  gradients = r.standard_normal((6, 3, 4)).astype(np.float32)
  rates = [0.1, 0.2, 0.2, 0.05, 0.0, 0.1]

  theirs = torch.nn.Parameter(torch.tensor(start))
  optimizer = torch.optim.SGD(
    [theirs], lr=1.0, momentum=momentum, nesterov=nesterov, weight_decay=decay
  )
  ours = {"conv": {"kernel": jnp.asarray(start)}}
  ours_optimizer = SGD(momentum, nesterov, decay).build()
  state = ours_optimizer.init(ours)
  for gradient, rate in zip(gradients, rates):
    optimizer.param_groups[0]["lr"] = rate
    theirs.grad = torch.tensor(gradient)
    optimizer.step()
    updates, state = ours_optimizer.update({"conv": {"kernel": jnp.asarray(gradient)}}, state, ours)
    ours = jax.tree.map(lambda p, u, rate=rate: p - rate * u, ours, updates)
    np.testing.assert_allclose(
      ours["conv"]["kernel"], theirs.detach().numpy(), rtol=1e-5, atol=1e-6
    )


def test_adam_equals_numpy_and_leaves_the_others_to_sgd():
  r = np.random.default_rng(0)
  params = {"conv": {"kernel": r.standard_normal(5), "clip": r.standard_normal(5)}}
  params = jax.tree.map(jnp.float32, params)
  alone = {"conv": {"clip": params["conv"]["clip"]}}
  ours, plain = Adam(SGD(weight_decay=0.5), ("kernel",), 0.1).build(), SGD(weight_decay=0.5).build()
  state, plain_state, m, v = ours.init(params), plain.init(alone), 0, 0
  for step in (1, 2, 3):
    gradients = jax.tree.map(lambda p: jnp.float32(r.standard_normal(p.shape)), params)
    updates, state = ours.update(gradients, state, params)
    expected, plain_state = plain.update(
      {"conv": {"clip": gradients["conv"]["clip"]}}, plain_state, alone
    )
    np.testing.assert_array_equal(updates["conv"]["clip"], expected["conv"]["clip"])
    # Kingma & Ba, 2015, algorithm 1; nothing decays.
    g = np.float64(gradients["conv"]["kernel"])
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    moved = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    np.testing.assert_allclose(updates["conv"]["kernel"], 0.1 * moved, rtol=1e-4)


def test_a_recipe_has_adam_at_its_own_rate():
  assert optimizer(recipe()) == SGD()
  found = optimizer(recipe(adam=("kernel", "bias"), adam_rate=0.002, learning_rate=0.1))
  assert found == Adam(SGD(), ("kernel", "bias"), 0.02)


@pytest.mark.parametrize(
  "decay, decaying",
  [(None, {"kernel", "clip"}), (("kernel", "bias"), {"kernel", "bias"}), ((), set())],
)
def test_what_decays(decay, decaying):
  optimizer = SGD(weight_decay=0.5) if decay is None else SGD(weight_decay=0.5, decay=decay)
  params = {"block": {"conv": {name: jnp.ones(2) for name in NAMES}}, "kernel": jnp.ones(2)}
  zero = jax.tree.map(jnp.zeros_like, params)
  chain = optimizer._replace(momentum=0.0, nesterov=False).build()
  updates, _ = chain.update(zero, chain.init(params), params)
  for name, update in updates["block"]["conv"].items():
    np.testing.assert_array_equal(update, 0.5 if name in decaying else 0.0, err_msg=name)
  np.testing.assert_array_equal(updates["kernel"], 0.5 if "kernel" in decaying else 0.0)


@pytest.mark.parametrize(
  "settle_steps, steps, settling", [(0, 10, 0), (50, 11, 1), (2, 29, 2), (2, 30, 2), (5, 9, 0)]
)
@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_the_last_steps_are_at_rate_zero(settle_steps, steps, settling, schedule):
  r = recipe(schedule=schedule, settle_steps=settle_steps, warmup_epochs=0.5)
  rates = learning_rates(r, steps, 4.0)
  assert rates.dtype == np.float32 and len(rates) == steps
  assert np.all(rates[: steps - settling] > 0) and np.all(rates[steps - settling :] == 0)
  shorter = learning_rates(
    recipe(schedule=schedule, settle_steps=0, warmup_epochs=0.5), steps - settling, 4.0
  )
  np.testing.assert_array_equal(rates[: steps - settling], shorter)


def test_warm_up_then_cosine():
  # Ten steps, two of warm-up: 0.4 * (1/2, 2/2), then 0.4 * (1 + cos(pi t / 8)) / 2.
  rates = learning_rates(recipe(learning_rate=0.4, warmup_epochs=0.5, settle_steps=0), 10, 4.0)
  cosine = [0.2 * (1 + math.cos(math.pi * t / 8)) for t in range(8)]
  assert rates.dtype == np.float32
  np.testing.assert_allclose(rates, [0.2, 0.4, *cosine], rtol=1e-5)
  np.testing.assert_allclose(rates[6], 0.2, rtol=1e-5)  # half-way
  assert 0 < rates[-1] < 0.02


def test_cosine_without_warm_up_starts_at_the_peak():
  rates = learning_rates(recipe(learning_rate=1.0, warmup_epochs=0.0), 4, 4.0)
  np.testing.assert_allclose(
    rates, [1.0, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)], rtol=1e-5
  )


@pytest.mark.parametrize("warmup_epochs, first", [(0.0, []), (0.5, [0.5, 1.0])])
def test_milestones_are_fractions_of_the_whole_run(warmup_epochs, first):
  rates = learning_rates(
    recipe(
      learning_rate=1.0,
      schedule="step",
      milestones=(0.5, 0.75),
      factor=0.1,
      warmup_epochs=warmup_epochs,
      settle_steps=0,
    ),
    12,
    4.0,
  )
  np.testing.assert_allclose(
    rates, first + [1.0] * (6 - len(first)) + [0.1] * 3 + [0.01] * 3, rtol=1e-5
  )


@pytest.mark.parametrize(
  "steps, warmup_epochs, expected",
  [(4, 0.0, [0.3] * 4), (4, 1.0, [0.15, 0.3, 0.3, 0.3]), (0, 1.0, []), (2, 2.0, [0.075, 0.15])],
)  # the run ends before the warm-up does
def test_constant(steps, warmup_epochs, expected):
  rates = learning_rates(
    recipe(learning_rate=0.3, schedule="constant", warmup_epochs=warmup_epochs), steps, 2.0
  )
  np.testing.assert_allclose(rates, expected, rtol=1e-5)
