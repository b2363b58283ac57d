"""One ResNet for CIFAR-10 in our layers, in plain ones, and in plain ones that are quantized.

Its training step is that of train.py, without a teacher.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from plain_flax import NORM, ResNet
from train import Split, train_step

import apprentice_jax
from apprentice_jax.models import resnet
from apprentice_jax.models.norm import BatchNorm

IMAGE, CLASSES = (32, 32, 3), 10
OPTIMIZER = optax.sgd(0.01, momentum=0.9)


def our_norm(use_running_average, dtype, name=None, scale_init=None):
  """Our batch norm with the arguments of flax's."""
  del scale_init
  return BatchNorm(not use_running_average, dtype=dtype, name=name)


def conv(features, size, strides=(1, 1), **options):
  """nn.Conv with our padding: SAME pads an even image at stride 2 on one side alone."""
  return nn.Conv(features, size, strides, [((k - 1) // 2,) * 2 for k in size], **options)


def act(x):
  """ReLU, and a quantization point where our ResNet has one."""
  return apprentice_jax.activation(x, relu=True)


def sides(depth: int, precision: str, dtype=jnp.float32) -> dict[str, nn.Module]:
  """The network of ``depth`` = 6n + 2 layers in each way."""
  stages = ((depth - 2) // 6,) * 3

  def plain(norm, act=act):
    return ResNet(CLASSES, stages, conv=conv, norm=norm, act=act, dtype=dtype)

  def quantized(*args):
    return apprentice_jax.quantize(plain(*args), precision)

  return {
    "ours": resnet(f"resnet{depth}", CLASSES, precision, shortcut="conv", dtype=dtype),
    "quantized": quantized(our_norm),
    "quantized, nn.relu": quantized(our_norm, lambda x: apprentice_jax.activation(nn.relu(x))),
    "quantized, nn.BatchNorm": quantized(NORM),
    "plain": plain(our_norm),
    "plain, nn.BatchNorm": plain(NORM),
  }


def arguments(net, batch: int):
  """The arguments of `step` for a network, as a function for `jax.eval_shape` or `jax.jit`."""
  images = jax.random.normal(jax.random.key(0), (batch, *IMAGE))
  variables = dict(net.init(jax.random.key(1), images, train=True))
  split = Split(images, jnp.arange(batch) % CLASSES)
  teacher = jnp.zeros((batch, CLASSES))
  return variables, OPTIMIZER.init(variables["params"]), split, teacher, 0.0


def step(net):
  """`train.train_step` of a network, of `arguments` alone."""
  return lambda *args: train_step(net, OPTIMIZER.update, *args)
