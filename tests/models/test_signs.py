"""What a trace shows to be never below zero, and what it does not."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.ad_checkpoint import checkpoint_name

from apprentice_jax.models.signs import marks


def scanned(turn):
  return lambda x, w: jax.lax.scan(lambda c, _: (turn(c, w), None), nn.relu(x), length=3)[0]


NEVER = {
  "relu": lambda x, w: nn.relu(x),
  "relu6": lambda x, w: nn.relu6(x),
  "hard sigmoid": lambda x, w: nn.hard_sigmoid(x),
  "sigmoid": lambda x, w: nn.sigmoid(x),
  "softmax": lambda x, w: nn.softmax(x),
  "absolute": lambda x, w: jnp.abs(x),
  "a square": lambda x, w: x * x + x**2 + jnp.square(x),
  "pooled": lambda x, w: nn.avg_pool(nn.max_pool(nn.relu(x), (2, 2)), (2, 2)),
  "a mean": lambda x, w: jnp.mean(nn.relu(x), (1, 2)),
  "a sum of two": lambda x, w: nn.relu(x) + nn.relu(w),
  "moved": lambda x, w: jnp.pad(nn.relu(x)[:, ::2], ((0, 0), (1, 1), (0, 0), (0, 0))).reshape(-1),
  "compiled apart": lambda x, w: jax.jit(nn.relu)(x) * 0.5,
  "rematerialised": lambda x, w: jax.checkpoint(lambda x: nn.relu(x) / 3)(x),
  "a choice": lambda x, w: jax.lax.cond(w.sum() > 0, nn.relu, nn.sigmoid, x),
  "dropped": lambda x, w: jnp.where(w > 0, nn.relu(x) / 0.5, 0.0),
  "a loop": scanned(lambda c, w: nn.relu(w) + c),
}
PERHAPS = {
  "an argument": lambda x, w: x,
  "leaky relu": lambda x, w: nn.leaky_relu(x),
  "gelu": lambda x, w: nn.gelu(x),
  "silu": lambda x, w: nn.silu(x),
  "tanh": lambda x, w: jnp.tanh(x),
  "scaled": lambda x, w: nn.relu(x) * w,
  "shifted": lambda x, w: nn.relu(x) + w,
  "a difference": lambda x, w: nn.relu(x) - nn.relu(w),
  "less a constant": lambda x, w: nn.relu(x) - 0.5,
  "negated": lambda x, w: -nn.relu(x),
  "the lesser": lambda x, w: jnp.minimum(nn.relu(x), w),
  "a choice": lambda x, w: jax.lax.cond(w.sum() > 0, nn.relu, nn.silu, x),
  "convolved": lambda x, w: nn.relu(x) @ jnp.ones((4, 4)),
  "a loop": scanned(lambda c, w: c + w),
  # Never below zero, but no operation shows it.
  "softplus": lambda x, w: nn.softplus(x),
  "a logarithm": lambda x, w: jnp.log(nn.relu(x)),
}
CASES = [(f, True) for f in NEVER.values()] + [(f, False) for f in PERHAPS.values()]


@pytest.mark.parametrize("f, answer", CASES, ids=[*NEVER, *(f"perhaps {n}" for n in PERHAPS)])
def test_answers(f, answer):
  marked = lambda x, w: checkpoint_name(f(x, w), "here")
  shapes = (jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32),) * 2
  found = marks(jax.make_jaxpr(marked)(*shapes))
  assert found["here"].nonnegative == answer


def test_a_mark_in_a_loop_counts_every_turn_and_the_worst():
  def turn(c, _):
    return checkpoint_name(c, "here") - 1, None

  f = lambda x: jax.lax.scan(turn, nn.relu(x), length=5)
  mark = marks(jax.make_jaxpr(f)(jax.ShapeDtypeStruct((3, 2), jnp.float32)))["here"]
  assert mark.elements == 30 and not mark.nonnegative
