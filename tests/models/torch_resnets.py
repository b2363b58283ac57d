"""ResNets written in PyTorch with the names that people's checkpoints have; imported where PyTorch
is installed.

After pytorch/vision's `resnet.py` (v1.5: a bottleneck's stride is that of its 3x3 convolution) and
akamaster/pytorch_resnet_cifar10 (shortcuts without parameters: every second pixel, zero channels on
both sides).
"""

import torch
from torch import nn

IMAGENET = {
  18: (2, 2, 2, 2),
  34: (3, 4, 6, 3),
  50: (3, 4, 6, 3),
  101: (3, 4, 23, 3),
  152: (3, 8, 36, 3),
}


class Pad(nn.Module):
  """The 6n+2 repositories' option A."""

  def __init__(self, extra, stride):
    super().__init__()
    self.extra, self.stride = extra, stride

  def forward(self, x):
    half = self.extra // 2
    return nn.functional.pad(
      x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.extra - half)
    )


class Block(nn.Module):
  """A residual block; ``shortcut`` is "pad", or the name of what holds a convolution and a batch
  norm."""

  def __init__(self, channels, features, stride, bottleneck, shortcut):
    super().__init__()
    out = features * (4 if bottleneck else 1)
    shape = (
      [(channels, features, 1, 1), (features, features, 3, stride), (features, out, 1, 1)]
      if bottleneck
      else [(channels, features, 3, stride), (features, out, 3, 1)]
    )
    self.depth = len(shape)
    for i, (a, b, size, step) in enumerate(shape, 1):
      setattr(self, f"conv{i}", nn.Conv2d(a, b, size, step, size // 2, bias=False))
      setattr(self, f"bn{i}", nn.BatchNorm2d(b))
    self.way = ""
    if channels != out or stride != 1:
      self.way = shortcut if shortcut != "pad" else "pad"
      setattr(
        self,
        self.way,
        Pad(out - channels, stride)
        if shortcut == "pad"
        else nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)),
      )

  def forward(self, x):
    y = x
    for i in range(1, self.depth + 1):
      y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
      y = torch.relu(y) if i < self.depth else y
    return torch.relu(y + (getattr(self, self.way)(x) if self.way else x))


class Net(nn.Module):
  """stages of blocks, the first of ``width`` features; ``head`` is the classifier's name."""

  def __init__(
    self, stages, width, classes, bottleneck=False, shortcut="downsample", head="fc", stem=7
  ):
    super().__init__()
    self.conv1 = nn.Conv2d(3, width, stem, 2 if stem == 7 else 1, stem // 2, bias=False)
    self.bn1 = nn.BatchNorm2d(width)
    self.maxpool = nn.MaxPool2d(3, 2, 1) if stem == 7 else nn.Identity()
    channels, self.depth, self.head = width, len(stages), head
    for stage, blocks in enumerate(stages, 1):
      layers = []
      for block in range(blocks):
        stride = 2 if stage > 1 and block == 0 else 1
        layers.append(Block(channels, width, stride, bottleneck, shortcut))
        channels = width * (4 if bottleneck else 1)
      setattr(self, f"layer{stage}", nn.Sequential(*layers))
      width *= 2
    setattr(self, head, nn.Linear(channels, classes))

  def forward(self, x):
    x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
    for stage in range(1, self.depth + 1):
      x = getattr(self, f"layer{stage}")(x)
    return getattr(self, self.head)(x.mean((2, 3)))


def imagenet(depth, classes=10):
  """torchvision's and timm's resnet18 to resnet152."""
  return Net(IMAGENET[depth], 64, classes, bottleneck=depth >= 50)


def small(depth, classes=10, shortcut="pad", head="linear"):
  """resnet20 and its like: shortcut "pad" (akamaster), "shortcut" (its option B), "downsample"
  (chenyaofo)."""
  return Net(((depth - 2) // 6,) * 3, 16, classes, shortcut=shortcut, head=head, stem=3)


def randomised(net, seed=0):
  """The network with random weights, batch norms and running statistics, in inference mode.

  A block's last scales are small ones, so that the sum over 50 blocks does not grow, and some of
  the stem's are negative, which max-pooling tells from positive ones.
  """
  torch.manual_seed(seed)
  for name, module in net.named_modules():
    if isinstance(module, nn.Conv2d):
      nn.init.kaiming_normal_(module.weight, mode="fan_in")
    elif isinstance(module, nn.BatchNorm2d):
      nn.init.normal_(module.running_mean, 0, 0.3)
      nn.init.uniform_(module.running_var, 0.5, 2)
      nn.init.normal_(module.bias, 0, 0.3)
      nn.init.uniform_(module.weight, *((-1, 1.5) if name == "bn1" else (0.5, 1.5)))
      module.running_var.data[0], module.weight.data[0] = (
        1e-5,
        0.005,
      )  # as large as the epsilon, which then counts
  for block in (m for m in net.modules() if isinstance(m, Block)):
    getattr(block, f"bn{block.depth}").weight.data *= 0.3
  return net.eval()


def logits(net, images):
  """The network's own, of a NumPy (batch, height, width, channels)."""
  with torch.no_grad():
    return net(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
