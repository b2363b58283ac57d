"""What a network costs: parameters, multiply-accumulates and bytes, layer by layer."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from apprentice_jax.models.layers import QuantConv, QuantDense
from apprentice_jax.models.precision import FULL
from apprentice_jax.quantizers import Quantized


class LayerCost(NamedTuple):
  """One convolution or dense layer, for one image.

  Attributes:
    path: its name, such as ``stage1_block1/conv1``.
    weights: number of weights.
    weight_bits, activation_bits: bits of a weight, and of an input value (32: float).
    channels: output channels.
    macs: multiply-accumulates.
  """
  path: str
  weights: int
  weight_bits: int
  activation_bits: int
  channels: int
  macs: int

  @property
  def bytes(self) -> int:
    """Weights at their bits, and two float32 per output channel: folded scale and bias."""
    return -(-self.weights * self.weight_bits // 8) + 8 * self.channels


def parameters(model: nn.Module, image_shape) -> int:
  """The number of parameters, batch norm's included, of the model on images (h, w, c)."""
  return sum(a.size for a in jax.tree.leaves(_shapes(model, image_shape)["params"]))


def layers(model: nn.Module, image_shape) -> list[LayerCost]:
  """The cost of every convolution and dense layer, in order; nothing is computed.

  Args:
    model: as `models.resnet` makes it.
    image_shape: (height, width, channels).
  """
  found = []

  def record(next_function, args, kwargs, context):
    out = next_function(*args, **kwargs)
    module = context.module
    if isinstance(module, (QuantConv, QuantDense)) and context.method_name == "__call__":
      kernel, path = module.variables["params"]["kernel"], "/".join(module.path)
      q = module.quantization
      found.append(LayerCost(
          path, kernel.size, q.precision.weights if q.quantizes_weights(path) else FULL,
          q.precision.activations if isinstance(args[0], Quantized) else FULL,
          module.features, kernel.size * int(np.prod(out.shape[1:-1]))))
    return out

  with nn.intercept_methods(record):
    _shapes(model, image_shape)
  return found


def model_bytes(model: nn.Module, image_shape) -> int:
  """Bytes of the network with its weights at their bits and batch norm folded."""
  return sum(layer.bytes for layer in layers(model, image_shape))


def _shapes(model, image_shape):
  images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  init = model.clone(norm_axis=None).init
  return jax.eval_shape(lambda k, x: init(k, x, False), jax.random.key(0), images)
