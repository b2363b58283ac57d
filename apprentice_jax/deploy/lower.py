"""From a trained network to the one that is deployed: integer levels, batch norm folded, grids.

Batch norm is ``y * multiplier + addend``. A convolution's result is ``acc * (weight scale * input
step)``. So the two are one multiplication and one addition per channel. Where an activation grid of
step s follows, they are divided by s, in float64 and rounded once, and nothing is left to divide.
Training rounds at other places, which moves a value by some 1e-7 of its size. An activation so
close to the middle between two levels may get the other one.
"""

import functools
import math
from typing import NamedTuple

import jax
import numpy as np

from apprentice_jax.deploy import network as nodes
from apprentice_jax.deploy.network import ENDS, FRACTION, FULL, BadNetwork, Lowered, Quantize
from apprentice_jax.models.layers import QuantActivation, QuantConv
from apprentice_jax.models.levels import encode_weights
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
) -> Lowered:
  """Lowers a trained network.

  Args:
    model: as `models.resnet` makes it. Whatever its dtype, float32 is computed.
    params, batch_stats: its variables, of which the running statistics count.
    image_shape, class_names, mean, std, resize, architecture: see `Lowered`.
    ends: of layers that training left in full precision: "float", "8bit" or "7bit". The latter two
      give them symmetric weights of so many bits, with one scale per output channel. Where
      activations are quantized, the images then lie on a signed 8-bit grid that holds all
      normalised pixels, and the mean before the classifier on an unsigned one. Two products of
      7-bit weights and 8-bit activations fit 16 bits, in which processors without VNNI add them
      (see `onnx.fast`).

  Raises:
    BadNetwork: a number is not finite, or a grid has no positive step.
  """
  if model.conv is not QuantConv or model.act is not QuantActivation:
    raise BadNetwork(
      "a ResNet of other layers than QuantConv and QuantActivation, with their own settings, "
      "cannot be exported"
    )
  if ENDS[ends] != FULL and model.quantization.precision.weights == FULL:
    raise BadNetwork(
      f"{ENDS[ends]}-bit ends are for networks with quantized weights, not "
      f"{model.quantization.precision}"
    )
  # From here on NumPy alone, in float64 where scales are multiplied.
  params, batch_stats = jax.tree.map(np.asarray, (params, batch_stats))
  mean, std = (tuple(map(float, v)) for v in (mean, std))
  image_shape, class_names = tuple(image_shape), tuple(class_names)
  lowering = _Lowering(model, params, batch_stats, ENDS[ends])
  built, precision = lowering.build(image_shape, mean, std), str(model.quantization.precision)
  network = Lowered(
    tuple(built), image_shape, class_names, architecture, precision, mean, std, resize
  )
  # Here a number that is not finite gets the name of its layer.
  nodes.check(network)
  return network


class _Levels(NamedTuple):
  """A node of levels and their step; or a node of float values, with a step of 1."""

  name: str
  step: float


class _Lowering:
  """The nodes of one network, made in the order in which `ResNet` applies its layers."""

  def __init__(self, model: ResNet, params, stats, ends: int):
    self._model, self._params, self._stats, self._ends = model, params, stats, ends
    self._q, self._nodes = model.quantization, []
    self._quantized = self._q.precision.activations != FULL

  def build(self, image_shape, mean, std) -> list[nodes.Node]:
    model = self._model
    image, step = self._image(image_shape[-1], mean, std), self._grid("stem_act")
    y = self._conv("stem", "stem_norm", image, step, 2 if model.imagenet_stem else 1)
    x = self._activation("stem_act", y, step)
    if model.imagenet_stem:
      # Training pools before it normalises. Either way it is the largest: the rounded product with
      # a positive multiplier grows with the accumulator, with a negative one it falls, and the
      # largest is taken after it.
      x = x._replace(name=self._add(nodes.MaxPool("pool", x.name)))
    for stage, blocks in enumerate(model.stages, 1):
      for block in range(1, blocks + 1):
        x = self._block(f"stage{stage}_block{block}", x, 2 if stage > 1 and block == 1 else 1)
    # The mean divides by the pixels that are left.
    halvings = len(model.stages) - 1 + 2 * model.imagenet_stem
    self._head(x, math.prod(-(-side // 2**halvings) for side in image_shape[:2]))
    return self._nodes

  def _add(self, node: nodes.Node) -> str:
    self._nodes.append(node)
    return node.name

  def _image(self, channels: int, mean, std) -> _Levels:
    """The images; on a grid where the stem's weights are integers."""
    mean, std = (np.broadcast_to(np.asarray(v, np.float64), (channels,)) for v in (mean, std))
    multiplier, addend = 1 / (255 * std), -mean / std
    fixed, step = self._quantized and self._integer_end("stem"), 1.0
    # The grid has to hold black and white of every channel.
    if fixed:
      step = _step("image_act", np.max(np.abs([addend, 255 * multiplier + addend])) / 127)
      multiplier, addend = _in_fractions(multiplier, addend, step)
    name = self._add(nodes.Image("image", fixed, _float32(multiplier)[None], _float32(addend)))
    if fixed:
      name = self._add(Quantize("image_act", name, 8, True, step))
    return _Levels(name, step)

  def _block(self, path: str, x: _Levels, strides: int) -> _Levels:
    """A residual block."""
    count, out, y = 3 if self._model.bottleneck else 2, self._grid(f"{path}/act"), x
    # The last convolution has no activation of its own: the one after the addition is its.
    for i in range(1, count):
      step = self._grid(f"{path}/act{i}")
      stride = strides if i == count - 1 else 1
      conv = self._conv(f"{path}/conv{i}", f"{path}/norm{i}", y, step, stride)
      y = self._activation(f"{path}/act{i}", conv, step)
    branch = self._branch(f"{path}/conv{count}", f"{path}/norm{count}", "residual", y, out)
    if "shortcut" in self._params[path]:
      names = f"{path}/shortcut", f"{path}/shortcut_norm", "shortcut"
      shortcut = self._branch(*names, x, out, strides)
    else:
      features = self._features(f"{path}/conv{count}")
      shortcut = self._rescale(f"{path}/identity", x, out, features, strides)
    total = self._add(nodes.Add(f"{path}/add", branch, shortcut))
    return self._activation(f"{path}/act", total, out)

  def _head(self, x: _Levels, pixels: int):
    """The mean, on a grid where the classifier's weights are integers; and the classifier."""
    fixed, step = self._quantized and self._integer_end("head"), 1.0
    if fixed:
      # The mean of few levels lies between them, and gets a grid of 8 bits over the same range.
      top = 2**self._q.precision.activations - 1
      step = _step("mean_act", x.step * top / 255)
    multiplier = x.step / step * (FRACTION if fixed else 1.0) / pixels
    name = self._add(nodes.Mean("mean", x.name, fixed, float(_float32(multiplier))))
    if fixed:
      name = self._add(Quantize("mean_act", name, 8, False, step))
    self._conv("head", None, _Levels(name, step), None)

  def _conv(self, path: str, norm, x: _Levels, after: float | None, strides: int = 1) -> str:
    """A convolution or dense layer with its batch norm; ``after``: the step of the grid that
    follows."""
    weights, scale = self._weights(path)
    if norm is None:
      multiplier, addend = scale * x.step, self._leaf(path)["bias"].astype(np.float64)
    else:
      p, s = self._leaf(norm), _leaf(self._stats, norm)
      factor = p["scale"].astype(np.float64) / np.sqrt(s["var"].astype(np.float64) + EPSILON)
      multiplier, addend = scale * x.step * factor, p["bias"] - s["mean"] * factor
    multiplier = np.broadcast_to(multiplier, (len(multiplier), weights.levels.shape[-1]))
    # The logits alone stay as they are: no grid follows them.
    fixed = self._quantized and after is not None
    if fixed:
      multiplier, addend = _in_fractions(multiplier, addend, after)
    multiplier, addend = _float32(multiplier), _float32(addend)
    return self._add(nodes.Conv(path, x.name, strides, fixed, weights, multiplier, addend))

  def _weights(self, path: str) -> tuple[nodes.Weights, np.ndarray]:
    """A layer's weights and their scale, float64 (1 or 2 rows, out or 1)."""
    q, p = self._q, self._leaf(path)
    kernel = p["kernel"]
    if q.quantizes_weights(path):
      of_quantizer = {k: v for k, v in p.items() if k != "bias"}
      levels, scale = jax.tree.map(np.asarray, _encode(q)(kernel, of_quantizer))
      # TTQ has one magnitude for positive weights and one for negative ones.
      if isinstance(scale, tuple):
        levels, scale = levels[0] - levels[1], np.stack([scale[0], -scale[1]])
      _require_finite(path, levels, scale)
      levels = levels.astype(np.int16 if q.weight_level > 127 else np.int8)
      scale = scale.astype(np.float64).reshape((2, -1) if q.weights == "ttq" else (1, -1))
      return nodes.Weights(_as_filter(levels), q.precision.weights, q.weights == "dorefa"), scale
    if self._ends == FULL:
      return nodes.Weights(_as_filter(kernel.astype(np.float32, copy=False)), FULL), np.ones((1, 1))
    # An end that training left in full precision: symmetric, a scale per output channel.
    largest = np.max(np.abs(kernel), axis=tuple(range(kernel.ndim - 1)), keepdims=True)
    scale = largest.astype(np.float64) / (2 ** (self._ends - 1) - 1)
    levels = np.rint(kernel / np.where(scale == 0, 1, scale))
    _require_finite(path, levels)
    return nodes.Weights(_as_filter(levels.astype(np.int8)), self._ends), scale.reshape(1, -1)

  def _leaf(self, path: str) -> dict:
    return _leaf(self._params, path)

  def _features(self, path: str) -> int:
    return self._leaf(path)["kernel"].shape[-1]

  def _integer_end(self, path: str) -> bool:
    return self._ends != FULL and not self._q.quantizes_weights(path)

  def _grid(self, path: str) -> float:
    """The step of the activation at path; 1 where activations are not quantized."""
    q = self._q
    if not self._quantized:
      return 1.0
    if q.activations == "lsq":
      return self._learned_step(path)
    top = np.float32(1 / (2**q.precision.activations - 1))
    if q.activations == "pact":
      top = np.maximum(self._leaf(path)["clip"], np.float32(SMALLEST_CLIP)) * top
    return _step(path, top)

  def _learned_step(self, path: str) -> float:
    step = _step(path, self._leaf(path)["activation_step"])
    return max(step, float(np.float32(SMALLEST_SCALE)))

  def _branch(
    self, path: str, norm: str, which: str, x: _Levels, out: float, strides: int = 1
  ) -> str:
    """The last convolution of a branch, on a quantization point of its own where there is one.

    Args:
      path, norm: of the layers.
      which: "residual" or "shortcut", as the point is called.
      x: the input.
      out: the step after the addition.
      strides: of the convolution.
    """
    if not (self._q.residual and self._quantized):
      return self._conv(path, norm, x, out, strides)
    act = f"{path.rpartition('/')[0]}/{which}_act"
    step = self._learned_step(act)
    y = self._conv(path, norm, x, step, strides)
    y = self._add(Quantize(act, y, self._q.precision.activations, True, step))
    return self._rescale(f"{act}_rescaled", _Levels(y, step), out, self._features(path))

  def _rescale(self, name: str, x: _Levels, out: float, channels: int, strides: int = 1) -> str:
    multiplier = float(_float32(x.step / out * FRACTION)) if self._quantized else 1.0
    return self._add(nodes.Rescale(name, x.name, strides, channels, multiplier))

  def _activation(self, path: str, y: str, step: float) -> _Levels:
    if self._quantized:
      node = Quantize(path, y, self._q.precision.activations, False, step)
    else:
      node = nodes.Relu(path, y)
    return _Levels(self._add(node), step)


@functools.cache
def _encode(q: Quantization):
  # Compiled, as it is in training: op by op, a rounding may differ.
  return jax.jit(functools.partial(encode_weights, q))


def _leaf(tree: dict, path: str) -> dict:
  return functools.reduce(lambda t, key: t.get(key, {}), path.split("/"), tree)


def _as_filter(kernel: np.ndarray) -> np.ndarray:
  """A dense layer's (in, out) as the (1, 1, in, out) of a convolution."""
  return kernel.reshape((1,) * (4 - kernel.ndim) + kernel.shape)


def _in_fractions(multiplier, addend, step: float):
  """Multipliers and whole addends that give fractions of steps of a grid."""
  addend = np.rint(np.asarray(addend, np.float64) / step * FRACTION)
  return multiplier / step * FRACTION, addend


def _float32(x) -> np.ndarray:
  # `check` says which layer an infinite number is of.
  with np.errstate(over="ignore"):
    return np.asarray(x, np.float32)


def _step(path: str, step) -> float:
  step = float(np.float32(step))
  if not (step > 0 and math.isfinite(step)):
    raise BadNetwork(f"{path}: the activation grid has a step of {step}, which has no levels")
  return step


def _require_finite(path: str, *arrays):
  if not all(np.all(np.isfinite(a)) for a in arrays):
    raise BadNetwork(f"{path}: weights that are not finite")
