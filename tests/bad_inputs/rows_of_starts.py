"""Rows: what is wrong is in the networks that a teacher or a student starts from."""

import fractions
import re
import shutil

import numpy as np
from rows import (
  BROKEN,
  HEADS,
  TAUGHT,
  TUNED,
  Row,
  by_torchvision,
  corrupt,
  file,
  half,
  overwrite,
  torch_file,
)

from apprentice_jax.training import export

ROWS = [
  # Teachers and students to start from.
  Row(
    "a teacher nowhere",
    TAUGHT + "{place}/none",
    "config.teacher.init={place}/none is neither a workdir nor a checkpoint file.",
  ),
  Row(
    "a teacher's folder without a run",
    TAUGHT + "{place}",
    "config.teacher.init={place} is neither a workdir nor a checkpoint file.",
  ),
  Row(
    "an unfinished teacher",
    TAUGHT + "{begun}",
    "config.teacher.init={begun} has not finished training: run it to its end.",
  ),
  Row(
    "a teacher of another class count",
    TAUGHT + "{of_photos} --config.data.image_size=8 --config.data.resize=8",
    "{of_photos} has the classes a, b, c, and the data have 0, 1, 2, 3, 4, 5, 6, 7, 8, 9: "
    + HEADS
    + ".",
  ),
  Row(
    "a teacher of other channels",
    TAUGHT + "{trained} --config.data.image_size=8 --config.data.resize=8",
    "{trained} holds another network: a resnet8 for 1-channel images, not 3 (stem/kernel is (3, 3, "
    "1, 4), not "
    "(3, 3, 3, 4)).",
  ),
  Row(
    "a deeper teacher",
    TAUGHT + "{trained} --config.teacher.name=resnet14",
    "{trained} holds another network: a resnet8, not a resnet14 (stage1_block2/conv1/kernel is "
    "missing, not "
    "(3, 3, 4, 4); stage1_block2/conv2/kernel is missing, not (3, 3, 4, 4); "
    "stage1_block2/norm1/bias is missing, "
    "not (4,); stage1_block2/norm1/scale is missing, not (4,); and 26 more): use "
    "--config.teacher.name=resnet8.",
  ),
  Row(
    "a wider teacher",
    TAUGHT + "{trained} --config.teacher.width=0.5",
    "{trained} holds another network: a resnet8 of width 0.25, not 0.5 (head/kernel is (16, 10), "
    "not (32, 10); "
    "stage1_block1/conv1/kernel is (3, 3, 4, 4), not (3, 3, 8, 8); stage1_block1/conv2/kernel is "
    "(3, 3, 4, 4), "
    "not (3, 3, 8, 8); stage1_block1/norm1/bias is (4,), not (8,); and 32 more): use "
    "--config.teacher.width=0.25.",
  ),
  Row(
    "a corrupted teacher",
    TAUGHT + "{place}/teacher",
    BROKEN,
    lambda place, made: corrupt(0, 1)(shutil.copytree(made["trained"], place / "teacher")),
  ),
  Row(
    "a teacher's file that is none",
    TAUGHT + "{place}/teacher.pth",
    "{place}/teacher.pth is not a PyTorch checkpoint with a state dict: it holds a Tensor, and no "
    "tensors by "
    "name, alone or under state_dict_ema, model_ema, ema, state_dict, model_state_dict, model, net "
    "or "
    "ema_state_dict.",
    torch_file(np.zeros(3)),
  ),
  Row(
    "a teacher's file of something else",
    TAUGHT + "{place}/teacher.pth",
    "{place}/teacher.pth is neither a file that torch.save wrote nor a safetensors file.",
    file("teacher.pth"),
  ),
  Row(
    "half a teacher's file",
    TAUGHT + "{place}/teacher.pth",
    "{place}/teacher.pth holds another network: fc.bias is missing, not (10,); fc.weight is "
    "missing, not (10, 16); "
    "layer1.0.conv1.weight is missing, not (4, 4, 3, 3); layer1.0.conv2.weight is missing, not (4, "
    "4, 3, 3); and "
    "32 more.",
    torch_file({"state_dict": {"conv1.weight": np.zeros((4, 1, 3, 3))}}),
  ),
  Row(
    "a teacher's file of another kind of network",
    TAUGHT + "{place}/teacher.pth",
    "{place}/teacher.pth: 'features.0.bias', 'features.0.weight' are not names of a ResNet of "
    "torchvision, timm or "
    "the 6n+2 repositories.",
    torch_file({"features.0.bias": np.zeros(4), "features.0.weight": np.zeros((4, 1, 3, 3))}),
  ),
  Row(
    "a teacher's file with something pickled",
    TAUGHT + "{place}/teacher.pth",
    "{place}/teacher.pth has fractions.Fraction pickled in it, and nothing pickled is run here: if "
    "you trust it, "
    "open it with PyTorch and save its tensors alone, torch.save(model.state_dict(), FILE).",
    torch_file(
      {"state_dict": {"conv1.weight": np.zeros((4, 1, 3, 3))}, "some": fractions.Fraction(1)}
    ),
  ),
  Row(
    "a teacher of other shortcuts",
    TAUGHT + "{place}/teacher.safetensors --config.teacher.shortcut=conv",
    "{place}/teacher.safetensors holds another network: a resnet8 with pad shortcuts, not conv "
    "(layer2.0.downsample.0.weight is missing, not (8, 4, 1, 1); layer2.0.downsample.1.bias is "
    "missing, not (8,); "
    "layer2.0.downsample.1.weight is missing, not (8,); layer3.0.downsample.0.weight is missing, "
    "not (16, 8, 1, "
    "1); and 6 more): use --config.teacher.shortcut=pad.",
    lambda place, made: by_torchvision(made["trained"], place / "teacher.safetensors"),
  ),
  Row(
    "a packed network as the teacher",
    TAUGHT + "{place}/teacher.packed",
    "{place}/teacher.packed is a packed network, which `apprentice export` wrote: give the workdir "
    "that it was "
    "exported from.",
    lambda place, made: export.export(made["trained"], "packed", place / "teacher.packed"),
  ),
  Row(
    "half a teacher's safetensors file",
    TAUGHT + "{place}/teacher.safetensors",
    re.compile(
      r".*/teacher\.safetensors is not a safetensors file, or one that was cut off \(.*\)\."
    ),
    lambda place, made: (
      by_torchvision(made["trained"], place / "teacher.safetensors"),
      overwrite("*.safetensors", half)(place),
    ),
  ),
  Row(
    "a student nowhere",
    TUNED + "{place}/none",
    "config.student.init={place}/none is neither a workdir nor a checkpoint file.",
  ),
  Row(
    "an unfinished student",
    TUNED + "{begun}",
    "config.student.init={begun} has not finished training: run it to its end.",
  ),
  Row(
    "a student of another class count",
    TUNED + "{of_photos}",
    "{of_photos} has the classes a, b, c, and the data have 0, 1, 2, 3, 4, 5, 6, 7, 8, 9: "
    + HEADS.replace("teacher", "student")
    + ".",
  ),
]
