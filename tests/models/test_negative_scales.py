"""A trained step, clip or scale that one bad update has taken below zero comes back by training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax import models, quantizers
from apprentice_jax.models import Precision, QuantActivation, QuantConv, Quantization

x = np.random.default_rng(0).normal(size=(20, 64)).astype(np.float32)


@pytest.mark.parametrize(
  "quantize, rate, largest",
  [
    (lambda x, s: quantizers.lsq(x, s, 4, signed=False), 0.01, 0.5),
    (lambda x, s: quantizers.lsq(x, s, 4) - jnp.minimum(x, 0), 0.01, 1),
    (lambda x, s: quantizers.wrpn_weights(x, 4, s) - jnp.minimum(x, 0), 0.1, 5),
    (lambda x, s: quantizers.pact(x, s, 4), 0.1, 5),
  ],
  ids=["lsq_unsigned", "lsq", "wrpn_weights", "pact"],
)
def test_a_function_trains_back_from_below_zero(quantize, rate, largest):
  # The signed ones are asked for x itself, and the unsigned ones for what a ReLU leaves of it.
  loss = lambda s, x: jnp.mean((quantize(x, s) - jax.nn.relu(x)) ** 2)
  step = jax.jit(lambda s, x: s - rate * jax.grad(loss)(s, x))
  s = jnp.float32(-0.3)
  for batch in np.tile(x, (10, 1)):
    s = step(s, batch)
  assert 0 < s < largest and loss(s, x.ravel()) < 0.02


def test_layers_train_back_from_below_zero():
  q = Quantization(Precision(4, 4), weights="lsq", activations="lsq")
  act, conv = QuantActivation(q), QuantConv(2, q, kernel_size=1)
  images = jnp.asarray(x[:, :48].reshape(20, 4, 4, 3))
  kernel = jnp.asarray(x[0, :6].reshape(1, 1, 3, 2))
  target = jnp.einsum("bhwc,cf->bhwf", jax.nn.relu(images), kernel[0, 0])
  params = {
    "act": {"activation_step": jnp.float32(-0.1)},
    "conv": {"kernel": kernel, "weight_step": jnp.float32([-0.05, 0.2])},
  }

  def loss(params):
    y = conv.apply({"params": params["conv"]}, act.apply({"params": params["act"]}, images))
    return jnp.mean((y - target) ** 2)

  @jax.jit
  def step(params):
    gradients = jax.grad(loss)(params)
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients)

  before = float(loss(params))
  for _ in range(300):
    params = step(params)
  assert (
    params["act"]["activation_step"] > 0
  )  # weights' grids are symmetric: a step's sign is no matter
  assert loss(params) < 0.05 * before


def test_on_a_symmetric_grid_the_sign_of_a_step_is_no_matter():
  """So training may pass through 0, where a floor would stop it with a layer of zeros."""
  target = jnp.asarray(x)
  value = lambda v, s: jnp.sum((quantizers.lsq(v, s, 4, symmetric=True) - jnp.cos(target)) ** 2)
  for s in (0.1, 1e-3):
    (loss, gradients), (mirrored, mirrored_gradients) = (
      jax.value_and_grad(value, (0, 1))(target, jnp.float32(sign * s)) for sign in (1, -1)
    )
    assert loss == mirrored
    np.testing.assert_array_equal(gradients[0], mirrored_gradients[0])
    np.testing.assert_allclose(gradients[1], -mirrored_gradients[1], rtol=1e-6)


def test_a_positive_scale_has_the_gradient_it_had():
  gradient = lambda s: jax.grad(lambda s: jnp.sum(quantizers.lsq(x, s, 4) * x))(jnp.float32(s))
  u = x.astype(np.float64) / np.float32(0.1)
  expected = np.sum(
    x * np.where(u <= -8, -8, np.where(u >= 7, 7, np.round(x / np.float32(0.1)) - u))
  )
  np.testing.assert_allclose(gradient(0.1), expected, rtol=1e-4)


def test_names_of_the_packages():
  import apprentice_jax

  assert {"QuantConv", "QuantDense", "QuantActivation", "resnet", "Quantization"} <= set(
    dir(models)
  )
  assert {"train", "evaluate", "apprentice_loss", "quantizers", "models", "__version__"} <= set(
    dir(apprentice_jax)
  )
  for package in (models, apprentice_jax):
    names = dir(package)
    assert len(names) == len(set(names)) and "importlib" not in names and "_HOME" not in names
    assert all(hasattr(package, name) for name in names)
