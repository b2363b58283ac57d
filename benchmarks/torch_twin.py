"""The training step of two networks in PyTorch, as its users write it: what `beside_torch`
compares with.

Networks, joint loss and SGD are the same, and so are the quantizers: TWN or LSQ weights, PACT or
LSQ activations. Values are quantized in floating point; gradients go straight through by ``y +
(y_q - y).detach()``.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from apprentice_jax.models.precision import FULL, Quantization
from apprentice_jax.models.residual import ResNet
from apprentice_jax.quantizers import lsq_range

WEIGHTS = ("twn", "lsq")
ACTIVATIONS = ("pact", "lsq")


def supports(quantization: Quantization) -> bool:
  """Whether there is a twin of networks quantized so."""
  precision = quantization.precision
  return (
    not quantization.residual
    and (precision.weights == FULL or quantization.weights in WEIGHTS and quantization.per_channel)
    and (precision.activations == FULL or quantization.activations in ACTIVATIONS)
  )


def _straight_through(x, quantized):
  return x + (quantized - x).detach()


class _GradientScale(torch.autograd.Function):
  """The identity, whose gradient is multiplied by a factor."""

  @staticmethod
  def forward(ctx, x, factor):
    ctx.factor = factor
    return x.view_as(x)

  @staticmethod
  def backward(ctx, g):
    return g * ctx.factor, None


def _lsq(x, step, low, high, factor):
  step = _GradientScale.apply(step, factor)
  u = torch.clamp(x / step, low, high)
  return _straight_through(u, torch.round(u)) * step


class Conv(nn.Conv2d):
  """A convolution whose weights may be quantized, per output channel."""

  def __init__(self, inputs, features, size, strides, path, quantization):
    super().__init__(inputs, features, size, strides, (size - 1) // 2, bias=False)
    nn.init.kaiming_normal_(self.weight, mode="fan_out")
    self.kind = quantization.weights if quantization.quantizes_weights(path) else None
    if self.kind == "lsq":
      self.top = quantization.weight_level
      mean = self.weight.detach().abs().mean((1, 2, 3), keepdim=True)
      self.weight_step = nn.Parameter(2 * mean / math.sqrt(self.top))

  def _quantized(self):
    w = self.weight
    if self.kind == "twn":
      magnitude = w.detach().abs()
      kept = magnitude > 0.7 * magnitude.mean((1, 2, 3), keepdim=True)
      scale = (magnitude * kept).sum((1, 2, 3), keepdim=True) / kept.sum(
        (1, 2, 3), keepdim=True
      ).clamp(min=1)
      return _straight_through(w, torch.sign(w) * kept * scale)
    factor = 1 / math.sqrt(w[0].numel() * self.top)
    return _lsq(w, self.weight_step, -self.top, self.top, factor)

  def forward(self, x):
    return self._conv_forward(x, self._quantized() if self.kind else self.weight, None)


class Activation(nn.Module):
  """ReLU, or an activation quantizer, whose clip at 0 is one."""

  def __init__(self, quantization):
    super().__init__()
    bits = quantization.precision.activations
    self.kind = None if bits == FULL else quantization.activations
    if self.kind == "pact":
      self.levels = 2**bits - 1
      self.clip = nn.Parameter(torch.tensor(6.0))
    elif self.kind == "lsq":
      self.top = lsq_range(bits, signed=False)[1]
      self.activation_step = nn.Parameter(torch.tensor(6.0 / self.top))

  def forward(self, x):
    if self.kind is None:
      return F.relu(x)
    if self.kind == "lsq":
      factor = 1 / math.sqrt(x[0].numel() * self.top)
      return _lsq(x, self.activation_step, 0, self.top, factor)
    y = torch.minimum(F.relu(x), self.clip)
    step = self.clip.detach() / self.levels
    return _straight_through(y, torch.round(y / step) * step)


class Block(nn.Module):
  """A residual block; see `apprentice_jax.models.residual.Block`."""

  def __init__(self, inputs, width, strides, network: ResNet, path):
    super().__init__()
    features = width * (4 if network.bottleneck else 1)
    q = network.quantization
    shapes = (
      [(inputs, width, 1, 1), (width, width, 3, strides), (width, features, 1, 1)]
      if network.bottleneck
      else [(inputs, width, 3, strides), (width, features, 3, 1)]
    )
    self.count, self.strides, self.extra = len(shapes), strides, features - inputs
    for i, shape in enumerate(shapes, 1):
      setattr(self, f"conv{i}", Conv(*shape, f"{path}/conv{i}", q))
      setattr(self, f"bn{i}", nn.BatchNorm2d(shape[1]))
      if i < self.count:
        setattr(self, f"act{i}", Activation(q))
    self.act, self.downsample = Activation(q), None
    if network.shortcut == "conv" and (self.extra or strides != 1):
      self.downsample = nn.Sequential(
        Conv(inputs, features, 1, strides, f"{path}/shortcut", q), nn.BatchNorm2d(features)
      )

  def forward(self, x):
    y = x
    for i in range(1, self.count + 1):
      y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
      if i < self.count:
        y = getattr(self, f"act{i}")(y)
    return self.act(y + self._shortcut(x))

  def _shortcut(self, x):
    if self.downsample is not None:
      return self.downsample(x)
    if self.strides == 1 and not self.extra:
      return x
    sides = (self.extra // 2, self.extra - self.extra // 2)
    return F.pad(x[:, :, :: self.strides, :: self.strides], (0, 0, 0, 0, *sides))


class Network(nn.Module):
  """A `ResNet` in PyTorch, with the names of its checkpoints; NCHW in, logits out."""

  def __init__(self, network: ResNet, channels: int = 3):
    super().__init__()
    q, width = network.quantization, network.width
    size, strides = (7, 2) if network.imagenet_stem else (3, 1)
    self.conv1 = Conv(channels, width, size, strides, "stem", q)
    self.bn1, self.act = nn.BatchNorm2d(width), Activation(q)
    self.pool = nn.MaxPool2d(3, 2, 1) if network.imagenet_stem else nn.Identity()
    self.stages, inputs = len(network.stages), width
    for stage, blocks in enumerate(network.stages, 1):
      made = []
      for block in range(1, blocks + 1):
        made.append(
          Block(
            inputs,
            width * 2 ** (stage - 1),
            2 if stage > 1 and block == 1 else 1,
            network,
            f"stage{stage}_block{block}",
          )
        )
        inputs = width * 2 ** (stage - 1) * (4 if network.bottleneck else 1)
      setattr(self, f"layer{stage}", nn.Sequential(*made))
    self.fc = nn.Linear(inputs, network.num_classes)

  def forward(self, x):
    x = self.act(self.pool(self.bn1(self.conv1(x))))
    for stage in range(1, self.stages + 1):
      x = getattr(self, f"layer{stage}")(x)
    return self.fc(x.mean((2, 3)))


def joint_loss(student, teacher, labels, *, alpha, beta, gamma, temperature=1.0):
  """`apprentice_jax.distill.loss.apprentice_loss` in PyTorch; teacher None leaves out its terms."""
  loss = beta * F.cross_entropy(student, labels)
  if teacher is None:
    return loss
  soft = F.softmax(teacher.detach() / temperature, 1)
  return (
    loss
    + alpha * F.cross_entropy(teacher, labels)
    + (gamma * temperature**2 * F.cross_entropy(student / temperature, soft))
  )


def _decaying(network):
  """Two groups of parameters: convolutions' weights and clips decay."""
  groups = {True: [], False: []}
  for name, parameter in network.named_parameters():
    decays = parameter.ndim in (2, 4) and name.endswith(".weight") or name.endswith("clip")
    groups[decays].append(parameter)
  return groups


def step_of(
  student: Network,
  teacher: Network | None,
  trains_teacher: bool,
  weights: dict,
  optimizer,
  rate: float,
  *,
  compiled: str = "",
  autocast: torch.dtype | None = None,
) -> Callable:
  """Returns step(images, labels) -> loss, which trains the networks.

  Args:
    student, teacher: on the device they stay on; teacher None without one.
    trains_teacher: or it is fixed, in inference mode, without gradients.
    weights: of the loss.
    optimizer: an `SGD` of `apprentice_jax.training.optimizer`.
    rate: learning rate.
    compiled: by torch.compile, in this mode: both networks and the loss, forward and backward; "":
      not.
    autocast: what networks and loss compute in; None: what the parameters are.
  """
  networks = [student] + ([teacher] if trains_teacher else [])
  groups = [
    {"params": parameters, "weight_decay": optimizer.weight_decay if decays else 0.0}
    for network in networks
    for decays, parameters in _decaying(network).items()
    if parameters
  ]
  sgd = torch.optim.SGD(
    groups,
    lr=rate,
    momentum=optimizer.momentum,
    nesterov=optimizer.nesterov,
    fused=next(student.parameters()).is_cuda or None,
  )
  student.train()
  if teacher is not None:
    teacher.train(trains_teacher)

  def loss_of(images, labels):
    if teacher is None or trains_teacher:
      targets = teacher and teacher(images)
    else:
      with torch.no_grad():
        targets = teacher(images)
    return joint_loss(student(images), targets, labels, **weights)

  loss_of = torch.compile(loss_of, mode=compiled) if compiled else loss_of

  def step(images, labels):
    sgd.zero_grad(set_to_none=True)
    torch.compiler.cudagraph_mark_step_begin()
    with torch.autocast(images.device.type, autocast, enabled=autocast is not None):
      loss = loss_of(images, labels)
    loss.backward()
    sgd.step()
    return loss.detach()

  return step
