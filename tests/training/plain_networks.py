"""Networks of a user's own, for the tests of this folder."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

DRAWS = 8


class Net(nn.Module):
  classes: int

  @nn.compact
  def __call__(self, x, train):
    x = nn.relu(nn.Conv(4, (3, 3), strides=2, name="stem")(x))
    x = nn.Conv(8, (3, 3), name="conv")(x)
    x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x))
    return nn.Dense(self.classes, name="head")(jnp.mean(x, (1, 2)))


def net(num_classes):
  return Net(num_classes)


class Turn(nn.Module):
  @nn.compact
  def __call__(self, x, _):
    return nn.relu(nn.Dense(6, name="dense")(x)), None


class Loop(nn.Module):
  """Three dense layers whose kernels lie in one array, between two others."""

  @nn.compact
  def __call__(self, x, train):
    loop = nn.scan(Turn, {"params": 0}, split_rngs={"params": True}, length=3)
    x = nn.relu(nn.Dense(6, name="first")(x.reshape((x.shape[0], -1))))
    x, _ = loop(name="loop")(x, None)
    return nn.Dense(10, name="last")(x)


def loop(num_classes):
  return Loop()


class Tied(nn.Module):
  """It multiplies a dense layer's kernel again, transposed."""

  product: Callable

  @nn.compact
  def __call__(self, x, train):
    x = nn.relu(nn.Dense(6, name="first")(x.reshape((x.shape[0], -1))))
    middle = nn.Dense(4, name="middle")
    y = nn.relu(middle(x))
    y = self.product(y, middle.variables["params"]["kernel"].T)
    return nn.Dense(10, name="last")(x + y)


def tied(num_classes):
  return Tied(jnp.matmul)


def tied_by_a_convolution(num_classes):
  # jax multiplies no floats with integers here.
  convolve = lambda x, w: jax.lax.conv(x[..., None], w.T[..., None], (1,), "VALID")[..., 0]
  return Tied(convolve)


class Counting(nn.Module):
  """It takes its batch for a number."""

  @nn.compact
  def __call__(self, x, train):
    return nn.Dense(10)(x.reshape(len(x), -1))


def counting(num_classes):
  return Counting()


class Drawing(nn.Module):
  """A network with dropout that keeps the first DRAWS of its other random numbers."""

  classes: int
  rate: float = 0.5

  @nn.compact
  def __call__(self, x, train):
    x = nn.Dense(16, name="first")(x.reshape((x.shape[0], -1)))
    x = nn.relu(nn.Dense(16, name="hidden")(x))
    drawn = self.variable("batch_stats", "drawn", jnp.zeros, (DRAWS,))
    step = self.variable("batch_stats", "step", jnp.zeros, ())
    if train and not self.is_initializing():
      number = jax.random.uniform(self.make_rng("noise"))
      drawn.value = drawn.value.at[step.value.astype(int)].set(number)
      step.value += 1
    x = nn.Dropout(self.rate, deterministic=not train)(x)
    return nn.Dense(self.classes, name="head")(x)


def drawing(num_classes):
  return Drawing(num_classes)


def silenced(num_classes):
  return Drawing(num_classes, rate=1.0)
