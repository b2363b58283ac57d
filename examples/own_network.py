"""A MobileNet-like network of one's own, trained as a ternary student: python own_network.py

The same from the command line, in this folder:

    apprentice train --config=digits --config.student.name=own_network:mobilenet --workdir=runs/own
"""

import functools

import flax.linen as nn
import jax.numpy as jnp

import apprentice_jax
from apprentice_jax.configs import digits

# The default momentum of 0.99 would outlast so short a run.
Norm = functools.partial(nn.BatchNorm, momentum=0.9)


class Separable(nn.Module):
  """A depthwise and a pointwise convolution (Howard et al., https://arxiv.org/abs/1704.04861)."""

  features: int
  strides: int = 1

  @nn.compact
  def __call__(self, x, train):
    norm = lambda y: nn.relu(Norm(use_running_average=not train)(y))
    channels = x.shape[-1]
    depthwise = nn.Conv(channels, (3, 3), self.strides, feature_group_count=channels)
    x = norm(depthwise(x))
    return norm(nn.Conv(self.features, (1, 1))(x))


class MobileNet(nn.Module):
  classes: int
  width: float

  @nn.compact
  def __call__(self, x, train):
    wide = lambda channels: round(channels * self.width)
    x = nn.Conv(wide(32), (3, 3), name="stem")(x)
    x = nn.relu(Norm(use_running_average=not train)(x))
    for features, strides in ((64, 1), (128, 2), (128, 1)):
      x = Separable(wide(features), strides)(x, train)
    return nn.Dense(self.classes, name="head")(jnp.mean(x, (1, 2)))


def mobilenet(num_classes, width=1.0):
  """What --config.student.name=own_network:mobilenet calls; width is --config.student.width."""
  return MobileNet(num_classes, width)


if __name__ == "__main__":
  config = digits.get_config("scheme=B,precision=8A2W")
  config.student.name = "own_network:mobilenet"
  result = apprentice_jax.train(config, "runs/own_network")
  print(f"{result['test_accuracy']:.1%} of the test images, at 8A,2W")
