"""No NaN is made on the way from finite numbers to finite numbers, where `jax_debug_nans` looks at
every operation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax import apprentice_loss, quantizers
from apprentice_jax.models import Precision, QuantActivation, QuantConv, QuantDense, Quantization
from apprentice_jax.models.norm import BatchNorm

INPUTS = {
  "normal": np.linspace(-2, 3, 24, dtype=np.float32),
  "zeros": np.zeros(24, np.float32),
  "small": np.full(24, 1e-30, np.float32),
}
QUANTIZERS = {
  "ste_sign": quantizers.ste_sign,
  "ste_round": quantizers.ste_round,
  "twn": lambda x: quantizers.twn(x, axis=-1),
  "ste_clip": lambda x: quantizers.ste_clip(x, 0, 1),
  "ttq": lambda x: quantizers.ttq(x, 0.5, 0.25),
  "wrpn_weights": lambda x: quantizers.wrpn_weights(x, 4, 0.0),
  "wrpn_activations": lambda x: quantizers.wrpn_activations(x, 8),
  "dorefa_1": lambda x: quantizers.dorefa_weights(x, 1),
  "dorefa_4": lambda x: quantizers.dorefa_weights(x, 4),
  "pact": lambda x: quantizers.pact(x, 0.0, 4),
  "lsq": lambda x: quantizers.lsq(x, 0.0, 4),
  "lsq_init": lambda x: quantizers.lsq(x, quantizers.lsq_init(x, 4), 4),
  "encode": lambda x: x + quantizers.decode(quantizers.encode(quantizers.ttq, x, 0.5, 0.25)),
  "encode_ste": lambda x: quantizers.encode_ste(quantizers.twn, x).values,
}


@pytest.fixture(autouse=True)
def every_operation():
  with jax.debug_nans(True), jax.disable_jit():
    yield


@pytest.mark.parametrize("x", INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("quantize", QUANTIZERS.values(), ids=QUANTIZERS)
def test_quantizers(quantize, x):
  value, pullback = jax.vjp(quantize, jnp.asarray(x).reshape(4, 6))
  assert np.isfinite(value).all() and np.isfinite(pullback(value)[0]).all()


class Network(nn.Module):
  """A convolution of each precision, batch norm, and a classifier."""

  weights: str
  activations: str

  @nn.compact
  def __call__(self, x):
    q = Quantization(
      Precision(4, 2 if self.weights in ("twn", "ttq") else 4),
      weights=self.weights,
      activations=self.activations,
    )
    x = QuantActivation(q)(BatchNorm(train=True)(QuantConv(4)(x)))
    x = QuantActivation(q)(
      BatchNorm(train=True, paired_sums=True)(QuantConv(4, q, padding="SAME")(x))
    )
    return QuantDense(3)(jnp.mean(x.values, (1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("weights, activations", [("ttq", "lsq"), ("lsq", "pact")])
def test_layers_norm_and_loss(weights, activations):
  network, labels = Network(weights, activations), jnp.array([0, 2])
  for x in (
    np.zeros((2, 4, 4, 2), np.float32),
    np.random.default_rng(0).normal(size=(2, 4, 4, 2)).astype(np.float32),
  ):
    params = network.init(jax.random.key(0), jnp.asarray(x))["params"]

    def loss(params):
      logits = network.apply({"params": params}, x, mutable=["batch_stats", "health"])[0]
      return apprentice_loss(logits, 100 * logits, labels, temperature=4.0, teacher_gradient=True)[
        0
      ]

    gradients = jax.grad(loss)(params)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
