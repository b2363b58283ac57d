"""`Quantized` is a pair, and says so wherever it is used as an array."""

import copy
import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax import quantizers as Q

SENTENCE = "take x.values, or x._replace.levels=f.x.levels.. if f only moves or max-pools"
USES = {
  "add": lambda x: x + x,
  "add_number": lambda x: x + 1.0,
  "radd": lambda x: 1.0 + x,
  "add_array": lambda x: jnp.ones(3) + x,
  "add_tuple": lambda x: x + (1,),
  "sub": lambda x: x - 1,
  "mul": lambda x: x * 2,
  "rmul": lambda x: 2 * x,
  "div": lambda x: x / 2,
  "neg": lambda x: -x,
  "matmul": lambda x: x @ jnp.ones((4, 4)),
  "pow": lambda x: x**2,
  "abs": abs,
  "compare": lambda x: x > 0,
  "index": lambda x: x[0],
  "slice": lambda x: x[:1],
  "indices": lambda x: x[:, ::2],
  "mean": jnp.mean,
  "method": lambda x: x.mean(),
  "reshape": lambda x: x.reshape(2, -1),
  "jnp_reshape": lambda x: jnp.reshape(x, (2, -1)),
  "astype": lambda x: x.astype(jnp.float32),
  "shape": lambda x: x.shape,
  "dtype": lambda x: x.dtype,
  "T": lambda x: x.T,
  "concatenate": lambda x: jnp.concatenate([x, x], -1),
  "transpose": lambda x: jnp.transpose(x, (0, 3, 1, 2)),
  "pad": lambda x: jnp.pad(x, 1),
  "asarray": jnp.asarray,
  "numpy": np.asarray,
  "relu": nn.relu,
  "where": lambda x: jnp.where(True, x, 0),
  "max_pool": lambda x: nn.max_pool(x, (2, 2), (2, 2)),
  "avg_pool": lambda x: nn.avg_pool(x, (2, 2), (2, 2)),
  "conv": lambda x: nn.Conv(2, (3, 3)).init(jax.random.key(0), x),
  "dense": lambda x: nn.Dense(2).init(jax.random.key(0), x),
  "batch_norm": lambda x: nn.BatchNorm(True).init(jax.random.key(0), x),
  "flatten": lambda x: x.flatten(),
  "quantizer": lambda x: Q.twn(x),
}


def quantized():
  return Q.encode_ste(Q.pact, jnp.linspace(-1, 2, 64).reshape(1, 4, 4, 4), 1.5, 8)


@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_use_as_an_array_says_how_to_get_one(use, jitted):
  with pytest.raises((TypeError, AttributeError), match=SENTENCE):
    (jax.jit(use) if jitted else use)(quantized())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values(dtype):
  x = jnp.linspace(-1, 2, 24).astype(dtype)
  trained, stored = Q.encode_ste(Q.lsq, x, 0.1, 4), Q.encode(Q.lsq, x, 0.1, 4)
  assert trained.values.dtype == dtype and stored.values.dtype == jnp.float32
  np.testing.assert_array_equal(trained.values, Q.lsq(x, 0.1, 4))
  np.testing.assert_array_equal(stored.values, Q.lsq(x.astype(jnp.float32), 0.1, 4))
  pair = Q.encode_ste(Q.ttq, x, 0.5, 0.25)
  np.testing.assert_array_equal(pair.values, Q.ttq(x, 0.5, 0.25))


def test_gradients_through_values():
  x = jnp.linspace(-1, 2, 24)
  gradient = lambda f: jax.grad(lambda x, clip: jnp.sum(jnp.sin(f(x, clip))), (0, 1))(x, 1.2)
  for a, b in zip(
    gradient(lambda x, clip: Q.encode_ste(Q.pact, x, clip, 4).values),
    gradient(lambda x, clip: Q.pact(x, clip, 4)),
  ):
    np.testing.assert_allclose(a, b, 1e-5, 1e-5)


def test_a_pair_it_remains():
  x = quantized()
  levels, scale = x
  assert levels is x.levels and scale is x.scale and len(x) == 2
  for same in (
    copy.copy(x),
    copy.deepcopy(x),
    pickle.loads(pickle.dumps(x)),
    jax.tree.map(lambda a: a, x),
    jax.jit(lambda x: x)(x),
    Q.Quantized(*x),
    x._replace(scale=scale),
    Q.Quantized(**x._asdict()),
  ):
    assert isinstance(same, Q.Quantized)
    np.testing.assert_array_equal(same.levels, levels)
  assert repr(x).startswith("Quantized(levels=") and [
    k.name for (k,), _ in jax.tree_util.tree_leaves_with_path(x)
  ] == ["levels", "scale"]
  assert not hasattr(x, "shape") and not hasattr(x, "__nothing__")
