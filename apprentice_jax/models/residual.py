"""One residual network for small images (6n+2 layers) and for ImageNet (18 to 152 layers).

He et al., "Deep Residual Learning for Image Recognition", 2015, https://arxiv.org/abs/1512.03385;
the bottleneck has its stride on the 3x3 convolution ("v1.5").
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from apprentice_jax.errors import nearest
from apprentice_jax.models.layers import QuantActivation, QuantConv, QuantDense
from apprentice_jax.models.levels import CONVOLVED, values
from apprentice_jax.models.norm import BatchNorm
from apprentice_jax.models.precision import Precision, Quantization
from apprentice_jax.quantizers import Quantized

SMALL_IMAGE_DEPTHS = (8, 14, 20, 32, 44, 56, 110)
IMAGENET_STAGES = {
  18: (2, 2, 2, 2),
  34: (3, 4, 6, 3),
  50: (3, 4, 6, 3),
  101: (3, 4, 23, 3),
  152: (3, 8, 36, 3),
}
# What the backward pass finds of a block that was rematerialised: everything, as if it were not;
# the sums of its convolutions, from which the rest is elementwise; nothing but the block's input.
REMAT = {
  "none": None,
  "elementwise": jax.checkpoint_policies.save_only_these_names(CONVOLVED),
  "blocks": jax.checkpoint_policies.nothing_saveable,
}
NAMES = tuple(f"resnet{d}" for d in sorted([*SMALL_IMAGE_DEPTHS, *IMAGENET_STAGES]))


class Block(nn.Module):
  """A residual block: two 3x3 convolutions, or with ``bottleneck`` 1x1, 3x3, 1x1.

  The input is an activation, quantized or not; it feeds the first convolution and the shortcut
  alike. The output is one again.

  Attributes:
    width: channels inside; the output has as many, or four times as many for a bottleneck.
    strides: of the block.
    bottleneck: the block's kind.
    shortcut: where shapes differ, "pad" (subsample, zero channels on both sides, no parameters) or
      "conv" (1x1 convolution and batch norm).
    conv, norm, act: the layers to build it from.
    residual_act: the quantization point of a branch before the addition, or None.
  """

  width: int
  strides: int
  bottleneck: bool
  shortcut: str
  conv: Any
  norm: Any
  act: Any
  residual_act: Any = None

  @nn.compact
  def __call__(self, x):
    features = self.width * (4 if self.bottleneck else 1)
    kernels = (1, 3, 1) if self.bottleneck else (3, 3)
    # On the 3x3 convolution: "v1.5".
    stride_at = 2 if self.bottleneck else 1
    y = x
    for i, size in enumerate(kernels, 1):
      last = i == len(kernels)
      y = self.conv(
        features if last else self.width,
        kernel_size=(size, size),
        strides=self.strides if i == stride_at else 1,
        name=f"conv{i}",
      )(y)
      y = self.norm(name=f"norm{i}")(y)
      if not last:
        y = self.act(name=f"act{i}")(y)
    y = self._on_grid(y, "residual_act")
    return self.act(name="act")(y + self._shortcut(x, features, y.dtype))

  def _on_grid(self, y, name):
    """The quantization point of a branch before the addition, where there is one."""
    if self.residual_act is None:
      return y
    return values(self.residual_act(name=name)(y), y.dtype)

  def _shortcut(self, x, features, dtype):
    channels = (x.levels if isinstance(x, Quantized) else x).shape[-1]
    if self.shortcut == "conv" and (channels != features or self.strides != 1):
      # At full resolution the gradient computes it again: it is one of the largest arrays of all.
      project = Block._projected
      if self.strides == 1:
        project = nn.remat(project, static_argnums=2)
      return project(self, x, features)
    # New channels are half before and half behind the old ones.
    x = values(x, dtype)[:, :: self.strides, :: self.strides]
    extra = features - channels
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (extra // 2, extra - extra // 2)))

  def _projected(self, x, features):
    y = self.conv(features, kernel_size=(1, 1), strides=self.strides, name="shortcut")(x)
    return self._on_grid(self.norm(name="shortcut_norm")(y), "shortcut_act")


@functools.lru_cache(maxsize=64)  # a deep network's take a second
def variable_shapes(model: "ResNet", image_shape: tuple[int, int, int]) -> dict:
  """Returns the shapes of a network's variables for images of (height, width, channels).

  The collections are "params", "batch_stats", "accumulators" and, where activations are quantized,
  "health".
  """
  images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  # Without synchronised batch norm: nothing waits for other replicas.
  init = model.clone(norm_axis=None).init
  return jax.eval_shape(lambda key, x: init(key, x, True), jax.random.key(0), images)


class ResNet(nn.Module):
  """A residual network; `resnet` makes one by name.

  Attributes:
    stages: blocks per stage; each stage after the first halves the resolution.
    width: channels of the first stage, doubled in each following one.
    num_classes: outputs.
    bottleneck, shortcut: see `Block`.
    imagenet_stem: 7x7 stride 2 and max-pooling, instead of 3x3.
    quantization: precision, quantizers, and which layers stay in full precision.
    dtype: of the computation, float32 or bfloat16; parameters and statistics are float32.
    norm_axis: mesh axis over which batch moments are averaged while training (synchronised batch
      norm), or None: each replica normalises by its own.
    im2col: see `models.convolution`.
    paired_sums: see `BatchNorm`.
    remat: one of REMAT, what of a block the backward pass computes again instead of keeping it.
    conv, act: what the network is built from, with the arguments of `QuantConv`, `QuantActivation`.
  """

  stages: Sequence[int]
  width: int
  num_classes: int
  bottleneck: bool = False
  shortcut: str = "pad"
  imagenet_stem: bool = False
  quantization: Quantization = Quantization()
  dtype: Any = jnp.float32
  norm_axis: str | None = None
  im2col: bool = True
  paired_sums: bool = False
  remat: str = "none"
  conv: Any = QuantConv
  act: Any = QuantActivation

  @nn.compact
  def __call__(self, x, train: bool):
    """Normalised images (batch, height, width, channels) -> float32 logits (batch, num_classes)."""
    conv = functools.partial(
      self.conv, quantization=self.quantization, dtype=self.dtype, im2col=self.im2col
    )
    norm = functools.partial(
      BatchNorm,
      train=train,
      dtype=self.dtype,
      axis_name=self.norm_axis,
      paired_sums=self.paired_sums,
    )
    act = functools.partial(self.act, quantization=self.quantization)
    residual_act = functools.partial(act, signed=True) if self.quantization.residual else None

    size, strides = (7, 2) if self.imagenet_stem else (3, 1)
    x = conv(self.width, kernel_size=(size, size), strides=strides, name="stem")(x)
    # Pooled inside the norm, so that the largest array of all need not exist.
    pool = _max_pool if self.imagenet_stem else None
    x = act(name="stem_act")(norm(name="stem_norm", pool=pool)(x))
    kind = Block if REMAT[self.remat] is None else nn.remat(Block, policy=REMAT[self.remat])
    for stage, blocks in enumerate(self.stages, 1):
      for block in range(1, blocks + 1):
        x = kind(
          self.width * 2 ** (stage - 1),
          2 if stage > 1 and block == 1 else 1,
          self.bottleneck,
          self.shortcut,
          conv,
          norm,
          act,
          residual_act,
          name=f"stage{stage}_block{block}",
        )(x)
    # Averages of values are on no grid, so the head gets values.
    x = jnp.mean(values(x, jnp.float32), axis=(1, 2))
    head = QuantDense(
      self.num_classes, quantization=self.quantization, dtype=self.dtype, name="head"
    )
    return head(x.astype(self.dtype)).astype(jnp.float32)


def _max_pool(x):
  return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))


def resnet(
  name: str,
  num_classes: int,
  precision="32A,32W",
  *,
  width: float = 1.0,
  shortcut: str | None = None,
  dtype=jnp.float32,
  norm_axis: str | None = None,
  im2col: bool = True,
  remat: str = "none",
  **quantization,
) -> ResNet:
  """Makes a ResNet by name.

  Args:
    name: "resnet8", 14, 20, 32, 44, 56, 110 (6n+2, for small images: 16/32/64 channels) or
      "resnet18", 34, 50, 101, 152 (ImageNet).
    num_classes: outputs.
    precision: such as "8A,2W"; or a `Precision`.
    width: multiplies every stage's channels.
    shortcut: "pad" (default for 6n+2) or "conv" (default for ImageNet).
    dtype: of the computation, float32 or bfloat16.
    norm_axis: mesh axis for synchronised batch norm.
    im2col: whether convolutions on CPU are computed in the ways of `models.cpu`, which are
      faster there.
    remat: "none", "elementwise" (of a block, only convolutions are kept for the backward pass) or
      "blocks" (nothing but its input): memory for time.
    **quantization: further fields of `Quantization`: weights, activations, per_channel, ...

  Returns:
    A Linen module; ``module.apply(variables, images, train)`` gives logits.

  Raises:
    ValueError: no such network, precision, quantizer, shortcut or remat.
  """
  if name not in NAMES:
    raise ValueError(f"network {name!r} does not exist: {nearest(name, NAMES)}")
  depth = int(name.removeprefix("resnet"))
  imagenet = depth in IMAGENET_STAGES
  shortcut = shortcut or ("conv" if imagenet else "pad")
  if shortcut not in ("pad", "conv"):
    raise ValueError(f"shortcut {shortcut!r} does not exist: choose 'pad' or 'conv'.")
  if remat not in REMAT:
    raise ValueError(f"remat {remat!r} does not exist: {nearest(remat, REMAT)}")
  if not width > 0 or round(16 * width) < 1:
    raise ValueError(f"width {width} leaves no channels: it multiplies 16 (6n+2) or 64 (ImageNet).")
  if not isinstance(precision, Precision):
    precision = Precision.parse(precision)
  return ResNet(
    stages=IMAGENET_STAGES[depth] if imagenet else ((depth - 2) // 6,) * 3,
    width=round((64 if imagenet else 16) * width),
    num_classes=num_classes,
    bottleneck=depth >= 50 and imagenet,
    shortcut=shortcut,
    imagenet_stem=imagenet,
    quantization=Quantization(precision, **quantization),
    dtype=dtype,
    norm_axis=norm_axis,
    im2col=im2col,
    remat=remat,
  )
