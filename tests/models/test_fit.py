"""What is said of networks that do not fit: which ones they are, and how the config asks for
them."""

import jax
import numpy as np
import pytest

from apprentice_jax.models import ResNet, fit, resnet
from apprentice_jax.models.pytorch import pretrained

SHAPE = (16, 16, 3)


def said(found, wanted, which="teacher", shape=SHAPE):
  """What is said of a network where another is wanted, by our names."""
  return fit.mismatch(fit.expected(found, SHAPE), wanted, shape, which)


def of_pytorch(network, prefix="", projection="downsample", head="fc"):
  """A network's variables as a checkpoint of PyTorch's has them, from our names by hand."""
  state = {}
  for name, shape in fit.expected(network, SHAPE).items():
    *block, module, leaf = name.split("/")
    module = {
      "stem": "conv1",
      "stem_norm": "bn1",
      "head": head,
      "shortcut": f"{projection}.0",
      "shortcut_norm": f"{projection}.1",
    }.get(module, module.replace("norm", "bn"))
    if block:
      stage, number = block[0].removeprefix("stage").split("_block")
      module = f"layer{stage}.{int(number) - 1}.{module}"
    leaf = {
      "kernel": "weight",
      "scale": "weight",
      "mean": "running_mean",
      "var": "running_var",
    }.get(leaf, leaf)
    shape = {4: lambda h, w, i, o: (o, i, h, w), 2: lambda i, o: (o, i), 1: lambda n: (n,)}[
      len(shape)
    ](*shape)
    state[f"{prefix}{module}.{leaf}"] = np.zeros(shape, np.float32)
  return pretrained.convert(state)


def said_of_pytorch(found, wanted, which="teacher"):
  have = fit.shapes(found.params, found.batch_stats)
  return fit.mismatch(have, wanted, SHAPE, which, spelled=found.spelled)


@pytest.mark.parametrize(
  "name, precision", [("resnet8", "32A,32W"), ("resnet8", "8A,2W"), ("resnet50", "32A,32W")]
)
def test_a_network_fits_itself(name, precision):
  wanted = resnet(name, 10, precision)
  assert said(resnet(name, 10), wanted) == ""
  assert said_of_pytorch(of_pytorch(resnet(name, 10)), wanted) == ""
  left_out = fit.mismatch(
    fit.expected(resnet(name, 10), SHAPE), wanted, SHAPE, "student", complete=True
  )
  assert ("it holds a network of another precision" in left_out) == (precision != "32A,32W")


def test_another_shortcut_names_the_fix():
  pad, conv = resnet("resnet8", 10), resnet("resnet8", 10, shortcut="conv")
  assert said_of_pytorch(of_pytorch(conv, "module.", "shortcut", "linear"), pad) == (
    "holds another network: a resnet8 with conv shortcuts, not pad "
    "(module.layer2.0.shortcut.0.weight is not in the "
    "network; module.layer2.0.shortcut.1.bias is not in the network; "
    "module.layer2.0.shortcut.1.weight is not in the "
    "network; module.layer3.0.shortcut.0.weight is not in the network; and 6 more): use "
    "--config.teacher.shortcut=conv."
  )
  assert said_of_pytorch(of_pytorch(pad, "module."), conv, "student") == (
    "holds another network: a resnet8 with pad shortcuts, not conv "
    "(module.layer2.0.downsample.0.weight is missing, "
    "not (32, 16, 1, 1); module.layer2.0.downsample.1.bias is missing, not (32,); "
    "module.layer2.0.downsample.1.weight is missing, not (32,); "
    "module.layer3.0.downsample.0.weight is missing, not "
    "(64, 32, 1, 1); and 6 more): use --config.student.shortcut=pad."
  )


def test_another_depth_is_told():
  found = said_of_pytorch(of_pytorch(resnet("resnet56", 10)), resnet("resnet20", 10))
  assert found.startswith(
    "holds another network: a resnet56, not a resnet20 (layer1.3.conv1.weight is not in the "
    "network; "
  )
  assert found.endswith(" and 176 more): use --config.teacher.name=resnet56.")
  found = said_of_pytorch(of_pytorch(resnet("resnet50", 10)), resnet("resnet20", 100))
  assert found.startswith(
    "holds another network: a resnet50, not a resnet20, with conv shortcuts, not pad, for 10 "
    "classes, not 100 (fc.bias is (10,), not (100,); fc.weight is (10, 2048), not (100, 64); "
  )
  assert found.endswith(
    ": use --config.teacher.name=resnet50 --config.teacher.shortcut=conv, and "
    "--config.teacher.head=match or --config.teacher.head=new."
  )


def test_what_else_networks_differ_in():
  eight = resnet("resnet8", 10)
  assert said(resnet("resnet8", 100), eight) == (
    "holds another network: a resnet8 for 100 classes, not 10 (head/bias is (100,), not (10,); "
    "head/kernel is (64, "
    "100), not (64, 10)): use --config.teacher.head=match or --config.teacher.head=new."
  )
  assert said_of_pytorch(of_pytorch(resnet("resnet8", 100)), eight) == (
    "holds another network: a resnet8 for 100 classes, not 10 (fc.bias is (100,), not (10,); "
    "fc.weight is (100, 64), "
    "not (10, 64)): use --config.teacher.head=match or --config.teacher.head=new."
  )
  assert said(eight, eight, shape=(16, 16, 1)) == (
    "holds another network: a resnet8 for 3-channel images, not 1 (stem/kernel is (3, 3, 3, 16), "
    "not (3, 3, 1, "
    "16))."
  )
  found = said(resnet("resnet18", 10, width=0.25), resnet("resnet18", 10), "student")
  assert found.startswith("holds another network: a resnet18 of width 0.25, not 1 (")
  assert found.endswith("): use --config.student.width=0.25.")


@pytest.mark.parametrize(
  "stages, width, bottleneck, is_a",
  [
    (
      (2, 2, 2, 2),
      64,
      False,
      "a resnet18 that begins with a 3x3 convolution",
    ),  # kuangliu/pytorch-cifar's
    (
      (3, 3, 3),
      16,
      True,
      "a ResNet of 3+3+3 blocks that begins with a 3x3 convolution",
    ),  # bottlenecks: resnet29
    ((1, 2, 3), 16, False, "a ResNet of 1+2+3 blocks that begins with a 3x3 convolution"),
  ],
)
def test_networks_that_are_not_among_ours(stages, width, bottleneck, is_a):
  found = said_of_pytorch(
    of_pytorch(ResNet(stages, width, 10, bottleneck, "conv")), resnet("resnet18", 10)
  )
  assert found.startswith(f"holds another network: {is_a}, which is not among the networks here (")
  assert found.endswith(").") and "--config" not in found and "conv1.weight is (" in found


def test_no_network_is_guessed():
  """A wide_resnet50_2 has the names of a resnet50; half a file is none."""
  state = of_pytorch(resnet("resnet50", 10))
  params = jax.tree.map(lambda a: a, state.params)  # a copy
  params["stage1_block1"]["conv1"]["kernel"] = np.zeros((1, 1, 64, 128), np.float32)
  wide = state._replace(params=params)
  assert said_of_pytorch(wide, resnet("resnet50", 10)) == (
    "holds another network: layer1.0.conv1.weight is (128, 64, 1, 1), not (64, 64, 1, 1)."
  )
  assert said_of_pytorch(wide, resnet("resnet18", 10)).startswith(
    "holds another network: fc.weight is (10, 2048), not (10, 512); layer1.0.conv1.weight is (128, "
    "64, 1, 1), "
  )
  half = pretrained.convert({"conv1.weight": np.zeros((16, 3, 3, 3), np.float32)})
  assert said_of_pytorch(half, resnet("resnet8", 10)).startswith(
    "holds another network: fc.bias is missing, not (10,); fc.weight is missing, not (10, 64); "
  )
