"""Checkpoints of PyTorch's under our names: against PyTorch's own forward pass, and by hand."""

import argparse
import json
import pathlib
import struct
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import tools
from safetensors.numpy import save_file

from apprentice_jax.models import fit, resnet
from apprentice_jax.models.pytorch import pretrained, state_dict

sys.path.insert(0, str(pathlib.Path(__file__).parent))


@pytest.fixture
def nets():
  """The networks written in PyTorch."""
  tools.module("torch")
  import torch_resnets

  return torch_resnets


def _write(state, path, prefix="", wrapper=None):
  """Saves a state dict as people do."""
  import torch
  from safetensors import torch as tensors

  state = {prefix + name: tensor.contiguous() for name, tensor in state.items()}
  if path.suffix == ".safetensors":
    tensors.save_file(state, path, {"format": "pt"})
  else:
    torch.save({**wrapper, next(iter(wrapper)): state} if wrapper else state, path)


def _assert_logits(net, path, name, size, **kind):
  """Our network, with what the file holds, computes what PyTorch's does, to 2e-5 of the logits'
  standard deviation."""
  import torch_resnets

  found = pretrained.load(path)
  model = resnet(name, 10, **kind)
  random = np.random.default_rng(0)
  images = (random.normal(size=(2, size, size, 3)) + random.normal(size=(2, 1, 1, 3))).astype(
    np.float32
  )
  have = fit.shapes(found.params, found.batch_stats)
  assert fit.mismatch(have, model, images.shape[1:], "student", complete=True) == ""
  # Operation by operation: the compiler takes longer over a deep network than it takes to run once.
  ours = model.apply(
    {"params": found.params, "batch_stats": found.batch_stats}, jnp.asarray(images), False
  )
  theirs = torch_resnets.logits(net, images)
  assert np.ptp(theirs, axis=0).mean() > 0.1 * theirs.std()  # images are told apart
  np.testing.assert_allclose(ours / theirs.std(), theirs / theirs.std(), rtol=0, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
  "depth, file",
  [
    (18, "timm.safetensors"),
    (34, "net.pth"),
    (50, "timm.safetensors"),
    (101, "net.pth"),
    (152, "net.safetensors"),
  ],
)
def test_imagenet_logits_equal_pytorchs(depth, file, nets, tmp_path):
  net = nets.randomised(nets.imagenet(depth))
  _write(net.state_dict(), tmp_path / file)
  _assert_logits(net, tmp_path / file, f"resnet{depth}", 64)


@pytest.mark.slow
@pytest.mark.parametrize(
  "depth, shortcut, head, file, prefix, wrapper",
  [
    (20, "pad", "linear", "akamaster.th", "module.", {"state_dict": None, "best_prec1": 0.5}),
    (56, "pad", "linear", "akamaster.safetensors", "module.", None),
    (20, "downsample", "fc", "chenyaofo.pt", "", None),
    (56, "shortcut", "linear", "kuangliu.pth", "module.", {"net": None, "acc": 93.1, "epoch": 199}),
    (
      20,
      "downsample",
      "fc",
      "references.pth",
      "_orig_mod.module.",
      {"model": None, "args": argparse.Namespace(lr=0.1), "epoch": 3},
    ),
    (
      20,
      "downsample",
      "fc",
      "lightning.ckpt",
      "model.",
      {"state_dict": None, "pytorch-lightning_version": "2"},
    ),
    (20, "downsample", "fc", "finetuned.pth", "backbone.resnet.", {"state_dict": None}),
    (20, "downsample", "fc", "averaged.pth", "module.", {"model_ema": None, "model": "resnet20"}),
  ],
)
def test_small_logits_equal_pytorchs(depth, shortcut, head, file, prefix, wrapper, nets, tmp_path):
  net = nets.randomised(nets.small(depth, shortcut=shortcut, head=head))
  _write(net.state_dict(), tmp_path / file, prefix, wrapper)
  _assert_logits(
    net, tmp_path / file, f"resnet{depth}", 16, shortcut="pad" if shortcut == "pad" else "conv"
  )


def test_names_and_axes():
  """Both ways."""
  kernel = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7).astype(np.float32)  # out, in, height, width
  ones = lambda *shape: np.ones(shape, np.float32)
  params, stats, names = pretrained.convert(
    {
      "conv1.weight": kernel,
      "layer2.0.bn2.running_var": ones(4),
      "layer2.0.downsample.0.weight": kernel,
      "layer2.0.downsample.1.bias": ones(2),
      "layer2.0.bn2.num_batches_tracked": np.array(3),
      "fc.weight": ones(10, 64),
    }
  )
  assert params["stem"]["kernel"].shape == (5, 7, 3, 2)
  assert params["stem"]["kernel"][4, 6, 2, 1] == kernel[1, 2, 4, 6]
  assert params["stage2_block1"]["shortcut"]["kernel"].shape == (5, 7, 3, 2)
  assert params["stage2_block1"]["shortcut_norm"]["bias"].shape == (2,)
  assert params["head"]["kernel"].shape == (64, 10)
  assert list(stats["stage2_block1"]["norm2"]) == ["var"]
  assert names["stage2_block1/shortcut_norm/bias"] == "layer2.0.downsample.1.bias"
  spelled = pretrained.Pretrained(params, stats, names).spelled
  assert spelled("stem/kernel", (5, 7, 3, 2)) == ("conv1.weight", (2, 3, 5, 7))
  assert spelled("head/kernel", (64, 10)) == ("fc.weight", (10, 64))
  assert spelled("stage3_block2/norm1/mean", (4,)) == ("layer3.1.bn1.running_mean", (4,))


@pytest.mark.parametrize(
  "prefix",
  [
    "",
    "module.",
    "model.",
    "_orig_mod.module.",
    "backbone.",
    "encoder.",
    "net.",
    "network.",
    "model.resnet50.",
    "base_model.",
  ],
)
@pytest.mark.parametrize("head", ["fc", "linear", "classifier", "head", "fc.1", "classifier.0"])
def test_prefixes_and_heads_of_tutorials(prefix, head):
  ones = lambda *shape: np.ones(shape, np.float32)
  found = pretrained.convert(
    {
      f"{prefix}conv1.weight": ones(4, 3, 3, 3),
      f"{prefix}{head}.weight": ones(10, 4),
      f"{prefix}{head}.bias": ones(10),
      "n_averaged": np.array(7),
    }
  )
  assert list(found.names.items()) == [
    ("stem/kernel", f"{prefix}conv1.weight"),
    ("head/kernel", f"{prefix}{head}.weight"),
    ("head/bias", f"{prefix}{head}.bias"),
  ]
  assert found.spelled("stem_norm/scale", (4,)) == (f"{prefix}bn1.weight", (4,))


def test_a_head_beside_what_was_pretrained():
  found = pretrained.convert(
    {
      "backbone.conv1.weight": np.ones((4, 3, 3, 3), np.float32),
      "classifier.1.weight": np.ones((10, 4), np.float32),
    }
  )
  assert found.names == {
    "stem/kernel": "backbone.conv1.weight",
    "head/kernel": "classifier.1.weight",
  }


def test_half_precision_is_read_as_it_is(tmp_path):
  """Numbers whose 16 bits are known."""
  header = {
    "a": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]},
    "b": {"dtype": "F16", "shape": [2], "data_offsets": [8, 12]},
  }
  text = json.dumps(header).encode()
  data = struct.pack("<4H", 0x3F80, 0xC020, 0x0001, 0x7F7F) + struct.pack("<2H", 0x3C00, 0xFBFF)
  (tmp_path / "x").write_bytes(struct.pack("<Q", len(text)) + text + data)  # whatever it is called
  found = state_dict.read(tmp_path / "x")
  assert {name: array.dtype for name, array in found.items()} == {"a": np.float32, "b": np.float32}
  np.testing.assert_array_equal(found["a"], [[1, -2.5], [2.0**-133, (2 - 2.0**-7) * 2.0**127]])
  np.testing.assert_array_equal(found["b"], [1, -65504])


@pytest.mark.slow
@pytest.mark.parametrize("file", ["x.safetensors", "x.pth"])
def test_every_bfloat16_is_pytorchs(file, tmp_path):
  torch = tools.module("torch")
  values = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
  _write({"x": values, "n": torch.tensor(3)}, tmp_path / file)
  found = state_dict.read(tmp_path / file)
  np.testing.assert_array_equal(found["x"], values.float().numpy())
  assert found["x"].dtype == np.float32 and found["n"] == 3


# What is refused, and how. Each sentence names the file, or is prefixed by it in `start.load`.


def _refusal(state):
  with pytest.raises(ValueError) as error:
    pretrained.convert({name: np.ones(shape, np.float32) for name, shape in state.items()})
  assert "\n" not in str(error.value)
  return str(error.value)


def test_unknown_names_are_named():
  assert _refusal({"features.0.weight": 3, "conv1.weight": (4, 3, 3, 3)}) == (
    "'features.0.weight' is not a name of a ResNet of torchvision, timm or the 6n+2 repositories."
  )
  transformer = {f"module.blocks.{i}.attn.weight": 3 for i in range(6)}
  assert _refusal(transformer) == (
    "'module.blocks.0.attn.weight', 'module.blocks.1.attn.weight', 'module.blocks.2.attn.weight', "
    "'module.blocks.3.attn.weight' and 2 more are not names of a ResNet of torchvision, timm or "
    "the 6n+2 "
    "repositories."
  )
  assert "'layer1.0.se.fc1.weight' is not a name" in _refusal({"layer1.0.se.fc1.weight": 3})
  assert "'layer1.0.downsample.2.weight' is not a name" in _refusal(
    {"layer1.0.downsample.2.weight": 3}
  )


def test_timms_deep_stem_is_another_network():
  """resnet50d: three convolutions, an average pooling before the shortcut's."""
  names = [
    "conv1.0.weight",
    "conv1.1.weight",
    "conv1.3.weight",
    "conv1.6.weight",
    "bn1.weight",
    "layer1.0.downsample.1.weight",
    "layer1.0.downsample.2.weight",
  ]
  assert _refusal({name: 3 for name in names}) == (
    "'conv1.0.weight', 'conv1.1.weight' and 2 more are of a stem of three convolutions, as timm's "
    "resnet50d and its "
    "like have it, which is another network: take one with a single first convolution, such as "
    "resnet50."
  )


def test_two_networks_in_one_are_refused():
  assert _refusal({"module.fc.weight": (2, 2), "model.fc.weight": (2, 2)}) == (
    "'module.fc.weight' and 'model.fc.weight' have the same place in a ResNet: save one network "
    "alone."
  )


def test_a_classifier_of_several_layers_is_refused():
  assert _refusal(
    {"fc.0.weight": (8, 4), "fc.0.bias": 8, "fc.3.weight": (10, 8), "fc.3.bias": 10}
  ) == (
    "'fc.0.weight' and 'fc.3.weight' are of a classifier of several layers: a network here has a "
    "single one."
  )


def test_whole_numbers_are_no_weights():
  with pytest.raises(ValueError, match="'conv1.weight' holds numbers of type int8, not floats"):
    pretrained.convert({"conv1.weight": np.ones((4, 3, 3, 3), np.int8)})


@pytest.mark.slow
def test_a_pickled_module_is_refused(tmp_path):
  torch = tools.module("torch")
  for new_container in (True, False):
    torch.save(
      torch.nn.Linear(2, 2), tmp_path / "x.pth", _use_new_zipfile_serialization=new_container
    )
    with pytest.raises(ValueError) as error:
      pretrained.load(tmp_path / "x.pth")
    assert str(error.value) == (
      f"{tmp_path / 'x.pth'} has torch.nn.modules.linear.Linear pickled in it, and nothing pickled "
      "is run here: if "
      "you trust it, open it with PyTorch and save its tensors alone, "
      "torch.save(model.state_dict(), FILE)."
    )


def test_files_that_are_no_checkpoints(tmp_path):
  def sentence(name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
      pretrained.load(path)
    return str(error.value).replace(str(path), "FILE")

  assert sentence("x.safetensors", b"no").startswith(
    "FILE is not a safetensors file, or one that was cut off ("
  )
  save_file({"conv1.weight": np.ones(3, np.float32)}, tmp_path / "whole.safetensors")
  whole = (tmp_path / "whole.safetensors").read_bytes()
  assert "or one that was cut off" in sentence("y", whole[:-1])


@pytest.mark.slow
def test_torchscript_is_named(tmp_path):
  torch = tools.module("torch")
  torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
  with pytest.raises(ValueError, match="script.pt is a TorchScript program: save its tensors"):
    pretrained.load(tmp_path / "script.pt")


def test_a_type_that_is_not_read(tmp_path):
  text = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
  (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"ab")
  with pytest.raises(
    ValueError, match="x.safetensors: 'a' is of type F8_E4M3, which is not read: convert it to F32."
  ):
    pretrained.load(tmp_path / "x.safetensors")
