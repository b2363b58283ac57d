"""Preparing without TensorFlow: digits, ArrayRecord files that are there, and what is refused."""

import sys

import pytest
from tiny_datasets import fails, generate, pretend, state

from apprentice_jax.data import sources
from apprentice_jax.data.prepare import prepare

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("name", ["digits", "digits:1.0.0"])
def test_digits(name, data_dir, without_tensorflow):
  for _ in range(2):
    assert prepare(name, str(data_dir / "new")) == str(data_dir / "new" / "digits" / "1.0.0")
  assert sources.load("digits", "test", str(data_dir / "new")).images.shape == (360, 8, 8, 1)


def test_digits_by_default(tmp_path, without_tensorflow):
  assert prepare("digits") == str(tmp_path / "cache" / "tfds" / "digits" / "1.0.0")


def test_array_record_stays_as_it_is(data_dir, without_tensorflow, no_download):
  folder = generate(data_dir, "array_record")
  before = state(folder)
  assert prepare("prepare_tiny", str(data_dir)) == str(folder)
  assert state(folder) == before


@pytest.mark.parametrize("name", ["mnist", "imagenet2012", "pretended"])
def test_tensorflow_is_missing(name, data_dir, without_tensorflow):
  folder = pretend(data_dir, "tfrecord")
  before = state(folder)
  fails(
    name,
    data_dir,
    rf"preparing '{name}' takes TensorFlow, once: pip install 'apprentice-jax\[prepare\]'\.",
  )
  assert state(folder) == before and len(list(data_dir.iterdir())) == 1


def test_code_that_cannot_be_imported(data_dir, monkeypatch, without_tensorflow):
  monkeypatch.setitem(sys.modules, "pandas", None)
  fails("dices", data_dir, "preparing 'dices' takes TensorFlow, once: pip install .*")


def test_unknown(data_dir, without_tensorflow):
  fails(
    "fashion-mnist/a:1.2.3",
    data_dir,
    "tfds has no dataset 'fashion-mnist': did you mean 'fashion_mnist'.*[?]",
  )
  fails("qqq", data_dir, r"tfds has no dataset 'qqq': see tensorflow.org/datasets/catalog\.")
