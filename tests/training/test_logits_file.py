"""Files of logits as they are read, in both formats, and checked against a set's labels."""

import json
import types

import numpy as np
import pytest
from safetensors.numpy import save_file

from apprentice_jax.training import teachers
from apprentice_jax.training.teachers import table

LABELS = np.random.default_rng(0).integers(0, 3, 50).astype(np.int32)
ROWS = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)


def data(labels=LABELS, known=True):
  """A split; without ``known``, one whose labels take reading its images."""
  asked = lambda places: labels[places]
  return types.SimpleNamespace(size=len(labels), all_labels=labels if known else None, labels=asked)


def as_safetensors(path, labels, metadata):
  tensors = {"logits": ROWS.astype(np.float16), **({"labels": labels} if len(labels) else {})}
  save_file(tensors, path, metadata)
  return str(path)


def test_what_was_saved_is_read(tmp_path):
  path = tmp_path / "x.npz"
  table.save_logits(path, ROWS, LABELS, ("a", "b", "c"))
  found = table.load(str(path))
  assert teachers.kind(str(path)) == "logits" and found.class_names == ("a", "b", "c")
  found.check(data())
  index, outputs = np.array([7, 0, 49]), np.array([2, 0])
  np.testing.assert_array_equal(found.logits(None, index, outputs), ROWS[[7, 0, 49]][:, [2, 0]])


def test_safetensors(tmp_path):
  digest = table.labels_sha256(LABELS)
  said = {"labels_sha256": digest, "classes": json.dumps(["a", "b", "c"])}
  path = as_safetensors(tmp_path / "x.safetensors", (), said)
  found = table.load(path)
  assert teachers.kind(path) == "logits" and found.class_names == ("a", "b", "c")
  found.check(data())
  logits = found.logits(None, np.arange(50), np.arange(3))
  assert logits.dtype == np.float32
  np.testing.assert_allclose(logits, ROWS, atol=2e-3)
  with pytest.raises(ValueError, match="of other labels than the data's, by their SHA-256"):
    found.check(data(LABELS[::-1]))


def test_a_safetensors_file_of_parameters_is_a_checkpoint(tmp_path):
  save_file({"fc.weight": ROWS}, tmp_path / "x.safetensors")
  assert teachers.kind(str(tmp_path / "x.safetensors")) == ""


@pytest.mark.parametrize("known", [True, False])
def test_labels_are_compared(known, tmp_path):
  """All of them, or some where they are not known before the images are read."""
  path = as_safetensors(tmp_path / "x.safetensors", LABELS, {})
  found = table.load(path)
  found.check(data(known=known))
  other = LABELS.copy()
  other[-1] = (other[-1] + 1) % 3
  with pytest.raises(ValueError, match=r"has label \d in row 49, and the data's is \d: its rows"):
    found.check(data(other, known))


@pytest.mark.parametrize(
  "path, logits, labels, names, why",
  [
    ("x.pth", ROWS, LABELS, (), r"ends in .npz, not as .*x.pth does"),
    ("x.npz", ROWS, LABELS[:-1], (), r"there are logits \(50, 3\), and labels \(49,\)"),
    ("x.npz", ROWS, LABELS, ("a", "b"), "2 names are given for 3 classes"),
  ],
)
def test_what_does_not_fit_is_not_saved(path, logits, labels, names, why, tmp_path):
  with pytest.raises(ValueError, match=why):
    table.save_logits(tmp_path / path, logits, labels, names)
  assert not list(tmp_path.iterdir())
