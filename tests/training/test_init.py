"""A checkpoint by PyTorch's names in the place of a workdir: the same network, and the same
numbers."""

import pathlib
import re

import jax
import numpy as np
import pytest
from runs import tiny
from safetensors.numpy import save_file

from apprentice_jax import cli
from apprentice_jax.data.splits import open_splits
from apprentice_jax.models.pytorch.pretrained import Pretrained
from apprentice_jax.training import networks

DIGITS = pathlib.Path(__file__).parents[2] / "configs" / "digits.py"


@pytest.fixture
def file(pretrained, tmp_path):
  """The workdir's network as a safetensors file by torchvision's names."""
  network = networks.load(str(pretrained), networks.model(tiny(), "teacher", 10), (8, 8, 1))
  spelled, tensors = Pretrained({}, {}, {}).spelled, {}
  for tree in network.params, network.batch_stats:
    for path, array in jax.tree_util.tree_leaves_with_path(tree):
      name, _ = spelled("/".join(key.key for key in path), array.shape)
      axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim, (0,))
      tensors[name] = np.ascontiguousarray(np.transpose(array, axes))
  assert "layer3.0.bn2.running_var" in tensors
  save_file(tensors, tmp_path / "net.safetensors", {"format": "pt"})
  return tmp_path / "net.safetensors"


def _equal(found, wanted):
  assert jax.tree.structure(found) == jax.tree.structure(wanted)
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_teacher_and_student_start_from_a_checkpoint_as_from_a_workdir(file, pretrained):
  config = tiny(scheme="C")
  built, data = networks.settings(config, 10), open_splits(config.data)["train"]
  _equal(
    networks.initial_state(config, built, data, str(file), str(file)),
    networks.initial_state(config, built, data, str(pretrained), str(pretrained)),
  )


def test_eval_scores_a_checkpoint_as_the_workdir(file, pretrained, capsys):
  said = []
  for arguments in (
    [f"--workdir={pretrained}"],
    [
      f"--model={file}",
      f"--config={DIGITS}:student=resnet8,width=0.25,precision=32A32W",
      "--config.data.mean=(0.5,)",
      "--config.data.std=(0.5,)",
    ],
  ):  # as `tiny` has them
    assert cli.main(["eval", *arguments]) == 0
    said.append(re.search("test: accuracy .* examples", capsys.readouterr().out)[0])
  assert said[0] == said[1]


def test_eval_names_the_flag_of_the_student(file, capsys):
  assert (
    cli.main(
      ["eval", f"--model={file}", f"--config={DIGITS}:student=resnet8,width=0.5,precision=32A32W"]
    )
    == 2
  )
  assert capsys.readouterr().err.rstrip().endswith(": use --config.student.width=0.25.")
