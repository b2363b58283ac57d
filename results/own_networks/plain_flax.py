"""Four small networks in plain Flax Linen, which know nothing of quantization.

Each is called as ``module.apply(variables, images, train)``: images are (batch, height, width,
channels), logits (batch, num_classes).
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

NORM = functools.partial(nn.BatchNorm, momentum=0.9)


class ResNetBlock(nn.Module):
  """A residual block of Flax's ImageNet example,
  https://github.com/google/flax/blob/main/examples/imagenet/models.py."""

  filters: int
  conv: Callable
  norm: Callable
  act: Callable
  strides: tuple[int, int] = (1, 1)

  @nn.compact
  def __call__(self, x):
    residual = x
    y = self.conv(self.filters, (3, 3), self.strides)(x)
    y = self.act(self.norm()(y))
    y = self.conv(self.filters, (3, 3))(y)
    y = self.norm(scale_init=nn.initializers.zeros_init())(y)
    if residual.shape != y.shape:
      residual = self.conv(self.filters, (1, 1), self.strides, name="conv_proj")(residual)
      residual = self.norm(name="norm_proj")(residual)
    return self.act(residual + y)


class ResNet(nn.Module):
  """The ResNet of the same example, with a stem for images of few pixels."""

  num_classes: int
  stage_sizes: tuple[int, ...] = (1, 1, 1)
  num_filters: int = 16
  conv: Callable = nn.Conv
  norm: Callable = NORM
  act: Callable = nn.relu
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x, train: bool = True):
    conv = functools.partial(self.conv, use_bias=False, dtype=self.dtype)
    norm = functools.partial(self.norm, use_running_average=not train, dtype=self.dtype)
    x = conv(self.num_filters, (3, 3), name="conv_init")(x)
    x = self.act(norm(name="bn_init")(x))
    for i, blocks in enumerate(self.stage_sizes):
      for j in range(blocks):
        strides = (2, 2) if i > 0 and j == 0 else (1, 1)
        x = ResNetBlock(self.num_filters * 2**i, conv, norm, self.act, strides)(x)
    return nn.Dense(self.num_classes, dtype=self.dtype)(jnp.mean(x, (1, 2)))


class CNN(nn.Module):
  """The network of Flax's MNIST example."""

  num_classes: int

  @nn.compact
  def __call__(self, x, train: bool = True):
    for features in (32, 64):
      x = nn.relu(nn.Conv(features, (3, 3))(x))
      x = nn.avg_pool(x, (2, 2), (2, 2))
    x = nn.relu(nn.Dense(256)(x.reshape((x.shape[0], -1))))
    return nn.Dense(self.num_classes)(x)


class MobileNet(nn.Module):
  """Depthwise separable convolutions (Howard et al., 2017, https://arxiv.org/abs/1704.04861)."""

  num_classes: int
  filters: tuple[int, ...] = (32, 32, 64, 64)

  @nn.compact
  def __call__(self, x, train: bool = True):
    conv = functools.partial(nn.Conv, use_bias=False)
    act = lambda x: nn.relu(NORM(use_running_average=not train)(x))
    x = act(conv(self.filters[0], (3, 3))(x))
    for filters in self.filters:
      channels = x.shape[-1]
      strides = 1 if filters == channels else 2
      x = act(conv(channels, (3, 3), strides, feature_group_count=channels)(x))
      x = act(conv(filters, (1, 1))(x))
    return nn.Dense(self.num_classes)(jnp.mean(x, (1, 2)))


class ViT(nn.Module):
  """A vision transformer (Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929) that averages
  its tokens."""

  num_classes: int
  width: int = 64
  depth: int = 2
  patch: int = 2

  @nn.compact
  def __call__(self, x, train: bool = True):
    x = nn.Conv(self.width, (self.patch,) * 2, self.patch, padding="VALID", name="embedding")(x)
    x = x.reshape((x.shape[0], -1, self.width))
    x = x + self.param("positions", nn.initializers.normal(0.02), x.shape[1:])
    for _ in range(self.depth):
      x = x + nn.MultiHeadDotProductAttention(num_heads=4)(nn.LayerNorm()(x))
      y = nn.gelu(nn.Dense(2 * self.width)(nn.LayerNorm()(x)))
      x = x + nn.Dense(self.width)(y)
    return nn.Dense(self.num_classes, name="head")(jnp.mean(nn.LayerNorm()(x), 1))


NETWORKS = {"resnet": ResNet, "cnn": CNN, "mobilenet": MobileNet, "vit": ViT}
