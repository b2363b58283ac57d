"""Functions that return no network which the command could train, for `rows_of_imported`."""

import flax.linen as nn
import jax.numpy as jnp


class Head(nn.Module):
  """A network whose outputs, calls, variables and random numbers can be wrong."""

  classes: int
  dropout: float = 0.0
  cached: bool = False

  @nn.compact
  def __call__(self, x, train):
    if self.cached:
      self.variable("cache", "last", lambda: jnp.zeros(()))
    x = nn.Dropout(self.dropout, deterministic=False)(x.reshape(len(x), -1))
    return nn.Dense(self.classes)(x)


class NoTrain(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.Dense(10)(x.reshape(len(x), -1))


class Transposed(nn.Module):
  @nn.compact
  def __call__(self, x, train):
    x = nn.ConvTranspose(2, (3, 3), name="up")(nn.Conv(2, (3, 3))(x))
    return nn.Dense(10)(jnp.mean(x, (1, 2)))


def good(num_classes):
  return Head(num_classes)


def a_number(num_classes):
  return 3


def no_train(num_classes):
  return NoTrain()


def seven_classes(num_classes):
  return Head(7)


def dropout(num_classes):
  return Head(num_classes, dropout=0.5)


def cached(num_classes):
  return Head(num_classes, cached=True)


def transposed(num_classes):
  return Transposed()


def failing(num_classes):
  raise RuntimeError("no such depth")
