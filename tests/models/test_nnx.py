"""The pure quantizers, and the loss, inside `flax.nnx`."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from apprentice_jax import apprentice_loss, quantizers


class Layer(nnx.Module):
  """A dense layer of ternary weights behind a PACT activation."""

  def __init__(self, rngs):
    self.kernel = nnx.Param(jax.random.normal(rngs.params(), (6, 4)))
    self.clip = nnx.Param(jnp.float32(1.5))

  def __call__(self, x):
    return quantizers.pact(x, self.clip[...], 8) @ quantizers.twn(self.kernel[...], axis=-1)


def test_nnx_jit_and_grad_are_the_functions_own():
  layer, x = Layer(nnx.Rngs(0)), jnp.linspace(-1, 3, 30).reshape(5, 6)
  teacher, labels = jnp.sin(jnp.arange(20.0)).reshape(5, 4), jnp.arange(5) % 4
  loss = lambda logits: apprentice_loss(logits, teacher, labels, temperature=2.0)[0]
  step = nnx.jit(nnx.value_and_grad(lambda layer, x: loss(layer(x))))
  value, gradients = step(layer, x)
  kernel, clip = layer.kernel[...], layer.clip[...]
  plain = lambda kernel, clip: loss(quantizers.pact(x, clip, 8) @ quantizers.twn(kernel, axis=-1))
  expected, (g_kernel, g_clip) = jax.value_and_grad(plain, (0, 1))(kernel, clip)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  np.testing.assert_allclose(gradients["kernel"][...], g_kernel, 1e-5, 1e-5)
  np.testing.assert_allclose(gradients["clip"][...], g_clip, 1e-5, 1e-5)
