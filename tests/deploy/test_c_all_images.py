"""The command that compares the C code's logits with the definition's over a test set."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest
import tools
from networks import NAMES, lowered, made

from apprentice_jax.data import sources
from apprentice_jax.deploy import interpret, packed

SCRIPT = pathlib.Path(__file__).parents[2] / "results" / "mcu" / "all_images.py"


@pytest.fixture
def command(monkeypatch):
  """The script, for images and labels of the tests' networks."""
  spec = importlib.util.spec_from_file_location("all_images", SCRIPT)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  images = made()[3]
  labels = np.argmax(interpret.logits(lowered("8bit"), images), -1).astype(np.int32)
  labels[0] = (labels[0] + 1) % len(NAMES)
  data = sources.Dataset(images, labels, NAMES)
  monkeypatch.setattr(sources, "load", lambda name, split, folder: data)
  return module


def test_equal_images_are_counted(command, tmp_path, capsys, monkeypatch):
  tools.program("gcc")
  model, out = tmp_path / "student.packed", tmp_path / "result.json"
  packed.write(lowered("8bit"), model)
  monkeypatch.setattr(command, "BATCH", 4)
  assert command.main([f"--model={model}", f"--out={out}"]) == 0
  assert capsys.readouterr().out == (
    "6 of 6 images: the same logits to the bit\naccuracy of the C code: 83.33%\n"
  )
  result = json.loads(out.read_text())
  assert (result["images"], result["equal"], result["accuracy"]) == (6, 6, 5 / 6)

  def another(network, images, logits=interpret.logits):
    """One bit of one logit of each batch is another."""
    result = logits(network, images)
    result.view(np.uint32)[0, 2] ^= 1
    return result

  monkeypatch.setattr(interpret, "logits", another)
  assert command.main([f"--model={model}", "--limit=5", f"--out={out}"]) == 1
  assert json.loads(out.read_text())["equal"] == 3


def test_other_classes_are_refused(command, tmp_path, capsys, monkeypatch):
  packed.write(lowered("8bit"), tmp_path / "student")
  data = sources.load("cifar10", "test", None)._replace(class_names=tuple("0123456789"))
  monkeypatch.setattr(sources, "load", lambda *_: data)
  assert command.main([f"--model={tmp_path / 'student'}"]) == 2
  assert "student knows other classes than cifar10: 0, 1, 2" in capsys.readouterr().err
