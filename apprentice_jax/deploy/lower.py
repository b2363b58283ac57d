"""From a trained network to the one that is deployed: integer levels, batch norm folded, grids.

Batch norm is ``y * multiplier + addend``, and a convolution's result is ``acc * (weight scale *
input step)``, so the two are one multiplication and one addition per channel. Where an activation
grid of step s follows, they are divided by s, in float64 and rounded once, and nothing is left to
divide. Rounding at other places than training does moves a value by some 1e-7 of its size: an
activation that lies so close to the middle between two levels may get the other one.
"""

import functools
import math

import jax
import numpy as np

from apprentice_jax.deploy.network import (
  ENDS,
  FRACTION,
  FULL,
  Add,
  BadNetwork,
  Conv,
  Image,
  MaxPool,
  Mean,
  Network,
  Node,
  Quantize,
  Relu,
  Rescale,
  Weights,
  check,
)
from apprentice_jax.models.layers import QuantActivation, QuantConv, encode_weights
from apprentice_jax.models.norm import EPSILON
from apprentice_jax.models.precision import Quantization
from apprentice_jax.models.residual import ResNet
from apprentice_jax.quantizers.learned import SMALLEST_CLIP
from apprentice_jax.quantizers.rule import SMALLEST_SCALE


def lower(
  model: ResNet,
  params,
  batch_stats,
  *,
  image_shape,
  class_names,
  mean,
  std,
  resize: int = 0,
  architecture: str = "resnet",
  ends: str = "float",
) -> Network:
  """Lowers a trained network.

  Args:
    model: as `models.resnet` makes it. Whatever its dtype, float32 is computed.
    params, batch_stats: its variables, of which the running statistics count.
    image_shape, class_names, mean, std, resize, architecture: see `Network`.
    ends: "float", or "8bit": layers that training left in full precision get 8-bit weights,
      symmetric, with one scale per output channel; and where activations are quantized, the images
      are put on a signed 8-bit grid that holds all normalised pixels, and the mean before the
      classifier on an unsigned one. "7bit": likewise with weights of 7 bits, of which two products
        with 8-bit activations fit 16 bits: processors without VNNI
      add them so (see `fast`).

  Raises:
    BadNetwork: a number is not finite, or a grid has no positive step.
  """
  if model.conv is not QuantConv or model.act is not QuantActivation:
    raise BadNetwork(
      "a ResNet of other layers than QuantConv and QuantActivation, with their own settings, "
      "cannot be "
      "exported"
    )
  if ENDS[ends] != FULL and model.quantization.precision.weights == FULL:
    raise BadNetwork(
      f"{ENDS[ends]}-bit ends are for networks with quantized weights, not "
      f"{model.quantization.precision}"
    )
  numpy = functools.partial(jax.tree.map, np.asarray)
  lowering = _Lowering(model, numpy(params), numpy(batch_stats), image_shape, ENDS[ends])
  mean, std = (tuple(map(float, v)) for v in (mean, std))
  network = Network(
    tuple(lowering.nodes(mean, std)),
    tuple(image_shape),
    tuple(class_names),
    architecture,
    str(model.quantization.precision),
    mean,
    std,
    resize,
  )
  check(network)
  return network


class _Lowering:
  """The nodes of one network, made in the order in which `ResNet` applies its layers."""

  def __init__(self, model: ResNet, params, stats, image_shape, ends: int):
    self._model, self._params, self._stats = model, params, stats
    self._image_shape, self._ends = image_shape, ends
    self._q, self._found = model.quantization, []
    self._quantized = self._q.precision.activations != FULL

  def nodes(self, mean, std) -> list[Node]:
    model = self._model
    x, step = self._image(mean, std)
    step, grid = self._grid("stem_act"), step
    y = self._conv("stem", "stem_norm", x, grid, step, 2 if model.imagenet_stem else 1)
    x = self._activation("stem_act", y, step)
    if model.imagenet_stem:
      # Training pools before it normalises. Either way it is the largest: the rounded product with
      # a positive multiplier grows with the accumulator, with a negative one it falls, and the
      # largest is taken after it.
      x = self._add(MaxPool("pool", x))
    for stage, blocks in enumerate(model.stages, 1):
      for block in range(1, blocks + 1):
        x, step = self._block(
          f"stage{stage}_block{block}", x, step, 2 if stage > 1 and block == 1 else 1
        )
    self._head(x, step)
    return self._found

  def _add(self, node: Node) -> str:
    self._found.append(node)
    return node.name

  def _image(self, mean, std):
    """The images, (name, step); on a grid where the stem's weights are integers."""
    channels = self._image_shape[-1]
    mean, std = (np.broadcast_to(np.asarray(v, np.float64), (channels,)) for v in (mean, std))
    multiplier, addend = 1 / (255 * std), -mean / std
    if not (self._quantized and self._integer_end("stem")):
      return self._add(Image("image", False, _float32(multiplier)[None], _float32(addend))), 1.0
    step = _step("image_act", np.max(np.abs([addend, 255 * multiplier + addend])) / 127)
    self._add(Image("image", True, *_in_fractions(multiplier[None], addend, step)))
    return self._add(Quantize("image_act", "image", 8, True, step)), step

  def _block(self, path: str, x: str, step: float, strides: int):
    """A residual block, (name, step) of its result."""
    params = self._params[path]
    count = 3 if self._model.bottleneck else 2
    out = self._grid(f"{path}/act")
    y, grid = x, step
    for i in range(1, count + 1):
      last = i == count
      after = (
        self._branch_grid(f"{path}/residual_act", out) if last else self._grid(f"{path}/act{i}")
      )
      y = self._conv(
        f"{path}/conv{i}",
        f"{path}/norm{i}",
        y,
        grid,
        after,
        strides if i == (2 if self._model.bottleneck else 1) else 1,
      )
      if last:
        y = self._on_grid(f"{path}/residual_act", y, after, out)
      else:
        y, grid = self._activation(f"{path}/act{i}", y, after), after
    features = params[f"conv{count}"]["kernel"].shape[-1]
    if "shortcut" in params:
      after = self._branch_grid(f"{path}/shortcut_act", out)
      s = self._conv(f"{path}/shortcut", f"{path}/shortcut_norm", x, step, after, strides)
      s = self._on_grid(f"{path}/shortcut_act", s, after, out)
    else:
      s = self._rescale(f"{path}/identity", x, step, out, strides, features)
    return self._activation(f"{path}/act", self._add(Add(f"{path}/add", y, s)), out), out

  def _head(self, x: str, step: float):
    height, width = self._image_shape[:2]
    halvings = len(self._model.stages) - 1 + 2 * self._model.imagenet_stem
    pixels = -(-height // 2**halvings) * -(-width // 2**halvings)
    if self._quantized and self._integer_end("head"):
      top = 2**self._q.precision.activations - 1
      grid = _step("mean_act", step * top / 255)  # the mean of few levels lies between them
      self._add(Mean("mean", x, True, float(_float32(step / grid * FRACTION / pixels))))
      x, step = self._add(Quantize("mean_act", "mean", 8, False, grid)), grid
    else:
      x, step = self._add(Mean("mean", x, False, float(_float32(step / pixels)))), 1.0
    self._conv("head", None, x, step, None, 1)

  def _conv(self, path: str, norm, x: str, step: float, after, strides: int) -> str:
    """A convolution or dense layer with its batch norm, whose input has a step; on a grid's way if
    ``after``."""
    weights, scale = self._weights(path)
    multiplier = scale * step
    if norm is None:
      addend = _leaf(self._params, path)["bias"].astype(np.float64)
    else:
      p, s = _leaf(self._params, norm), _leaf(self._stats, norm)
      factor = p["scale"].astype(np.float64) / np.sqrt(s["var"].astype(np.float64) + EPSILON)
      multiplier, addend = multiplier * factor, p["bias"] - s["mean"] * factor
    multiplier = np.broadcast_to(multiplier, (len(multiplier), weights.levels.shape[-1]))
    if after is None or not self._quantized:
      return self._add(
        Conv(path, x, strides, False, weights, _float32(multiplier), _float32(addend))
      )
    return self._add(
      Conv(path, x, strides, True, weights, *_in_fractions(multiplier, addend, after))
    )

  def _weights(self, path: str):
    """A layer's weights and their scale, float64 (1 or 2 rows, out or 1)."""
    p = _leaf(self._params, path)
    kernel, q = p["kernel"], self._q
    if q.quantizes_weights(path):
      levels, scale = jax.tree.map(
        np.asarray, _encode(q)(kernel, {k: v for k, v in p.items() if k != "bias"})
      )
      if isinstance(scale, tuple):
        levels, scale = levels[0] - levels[1], np.stack([scale[0], -scale[1]])
      _require_finite(path, levels, scale)
      levels = levels.astype(np.int16 if q.weight_level > 127 else np.int8)
      scale = scale.astype(np.float64).reshape((2, -1) if q.weights == "ttq" else (1, -1))
      weights = Weights(_as_filter(levels), q.precision.weights, q.weights == "dorefa")
    elif self._ends != FULL:
      top = 2 ** (self._ends - 1) - 1
      scale = (
        np.max(np.abs(kernel), axis=tuple(range(kernel.ndim - 1)), keepdims=True).astype(np.float64)
        / top
      )
      levels = np.rint(kernel / np.where(scale == 0, 1, scale))
      _require_finite(path, levels)
      weights, scale = Weights(_as_filter(levels.astype(np.int8)), self._ends), scale.reshape(1, -1)
    else:
      weights, scale = (
        Weights(_as_filter(kernel.astype(np.float32, copy=False)), FULL),
        np.ones((1, 1)),
      )
    return weights, scale

  def _integer_end(self, path: str) -> bool:
    return self._ends != FULL and not self._q.quantizes_weights(path)

  def _grid(self, path: str) -> float:
    """The step of the activation at path; 1 where activations are not quantized."""
    q = self._q
    if not self._quantized:
      return 1.0
    top = np.float32(1 / (2**q.precision.activations - 1))
    if q.activations == "pact":
      return _step(
        path, np.maximum(_leaf(self._params, path)["clip"], np.float32(SMALLEST_CLIP)) * top
      )
    if q.activations == "lsq":
      return max(
        _step(path, _leaf(self._params, path)["activation_step"]), float(np.float32(SMALLEST_SCALE))
      )
    return _step(path, top)

  def _branch_grid(self, path: str, out: float) -> float:
    """The step of the quantization point at the end of a branch; where there is none, that after
    the addition."""
    if self._q.residual and self._quantized:
      return max(
        _step(path, _leaf(self._params, path)["activation_step"]), float(np.float32(SMALLEST_SCALE))
      )
    return out

  def _on_grid(self, path: str, y: str, step: float, out: float) -> str:
    """The quantization point at the end of a branch, where there is one."""
    if not (self._q.residual and self._quantized):
      return y
    y = self._add(Quantize(path, y, self._q.precision.activations, True, step))
    return self._rescale(f"{path}_rescaled", y, step, out, 1, self._found[-2].addend.size)

  def _rescale(self, name, x, step, out, strides, channels) -> str:
    multiplier = float(_float32(step / out * FRACTION)) if self._quantized else 1.0
    return self._add(Rescale(name, x, strides, channels, multiplier))

  def _activation(self, path: str, y: str, step: float) -> str:
    if not self._quantized:
      return self._add(Relu(path, y))
    return self._add(Quantize(path, y, self._q.precision.activations, False, step))


@functools.cache
def _encode(q: Quantization):
  return jax.jit(functools.partial(encode_weights, q))  # compiled, as it is in training


def _leaf(tree: dict, path: str) -> dict:
  return functools.reduce(lambda t, key: t.get(key, {}), path.split("/"), tree)


def _as_filter(kernel: np.ndarray) -> np.ndarray:
  """A dense layer's (in, out) as the (1, 1, in, out) of a convolution."""
  return kernel.reshape((1,) * (4 - kernel.ndim) + kernel.shape)


def _in_fractions(multiplier, addend, step: float):
  """Multipliers and whole addends, float32, that give fractions of steps of a grid."""
  return _float32(multiplier / step * FRACTION), _float32(
    np.rint(np.asarray(addend, np.float64) / step * FRACTION)
  )


def _float32(x) -> np.ndarray:
  with np.errstate(over="ignore"):  # `check` says which layer's it is
    return np.asarray(x, np.float32)


def _step(path: str, step) -> float:
  step = float(np.float32(step))
  if not (step > 0 and math.isfinite(step)):
    raise BadNetwork(f"{path}: the activation grid has a step of {step}, which has no levels")
  return step


def _require_finite(path: str, *arrays):
  if not all(np.all(np.isfinite(a)) for a in arrays):
    raise BadNetwork(f"{path}: weights that are not finite")
