"""PyTorch checkpoints under our names: against PyTorch's own forward pass, and by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax.models import pretrained, resnet


def _torch_resnet(torch, blocks, projection):
  """A 6n+2 network written in PyTorch with the usual repositories' names."""
  nn, functional = torch.nn, torch.nn.functional

  class Block(nn.Module):
    def __init__(self, channels, features, stride):
      super().__init__()
      self.conv1 = nn.Conv2d(channels, features, 3, stride, 1, bias=False)
      self.bn1 = nn.BatchNorm2d(features)
      self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
      self.bn2 = nn.BatchNorm2d(features)
      self.stride, self.extra = stride, features - channels
      if projection and stride != 1:
        self.shortcut = nn.Sequential(nn.Conv2d(channels, features, 1, stride, bias=False),
                                      nn.BatchNorm2d(features))

    def forward(self, x):
      y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
      if hasattr(self, "shortcut"):
        return torch.relu(y + self.shortcut(x))
      x = x[:, :, ::self.stride, ::self.stride]
      half = self.extra // 2
      return torch.relu(y + functional.pad(x, (0, 0, 0, 0, half, self.extra - half)))

  class Net(nn.Module):
    def __init__(self):
      super().__init__()
      self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
      channels = 16
      for stage, features in enumerate((16, 32, 64), 1):
        layers = []
        for block in range(blocks):
          layers.append(Block(channels, features, 2 if stage > 1 and block == 0 else 1))
          channels = features
        setattr(self, f"layer{stage}", nn.Sequential(*layers))
      self.linear = nn.Linear(64, 10)

    def forward(self, x):
      x = torch.relu(self.bn1(self.conv1(x)))
      return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))

  return Net()


@pytest.mark.parametrize("projection", [False, True])
def test_logits_equal_pytorchs(projection, tmp_path):
  torch = pytest.importorskip("torch")
  torch.manual_seed(0)
  net = _torch_resnet(torch, 2, projection)
  for module in net.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
      torch.nn.init.normal_(module.running_mean, 0, 0.1)
      torch.nn.init.uniform_(module.running_var, 0.5, 2)
      torch.nn.init.uniform_(module.weight, 0.5, 2)
  net.eval()
  state = {"module." + k: v for k, v in net.state_dict().items()}
  torch.save({"state_dict": state, "best": 0.5}, tmp_path / "net.th")
  params, stats = pretrained.load(tmp_path / "net.th")
  images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
  model = resnet("resnet14", 10, shortcut="conv" if projection else "pad")
  ours = model.apply({"params": params, "batch_stats": stats}, jnp.asarray(images), False)
  with torch.no_grad():
    theirs = net(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
  np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_names_and_axes():
  kernel = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)  # out, in, height, width
  params, stats = pretrained.convert({
      "conv1.weight": kernel, "layer2.0.bn2.running_var": np.ones(4),
      "layer2.0.downsample.0.weight": kernel, "layer2.0.downsample.1.bias": np.ones(2),
      "layer2.0.bn2.num_batches_tracked": np.array(3), "fc.weight": np.ones((10, 64))})
  assert params["stem"]["kernel"].shape == (5, 7, 3, 2)
  assert params["stem"]["kernel"][4, 6, 2, 1] == kernel[1, 2, 4, 6]
  assert params["stage2_block1"]["shortcut"]["kernel"].shape == (5, 7, 3, 2)
  assert params["stage2_block1"]["shortcut_norm"]["bias"].shape == (2,)
  assert params["head"]["kernel"].shape == (64, 10)
  assert list(stats["stage2_block1"]["norm2"]) == ["var"]


def test_an_unknown_name_is_named():
  with pytest.raises(ValueError, match="'features.0.weight' is not a name of a ResNet"):
    pretrained.convert({"features.0.weight": np.ones(3)})


def test_a_file_that_is_no_checkpoint(tmp_path):
  pytest.importorskip("torch")
  (tmp_path / "x.th").write_bytes(b"no")
  with pytest.raises(ValueError, match="is not a PyTorch checkpoint"):
    pretrained.load(tmp_path / "x.th")
