"""The digits dataset, checked against scikit-learn itself."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn import datasets

from apprentice_jax.data import digits, sources


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  """The cache directory, this test's own."""
  monkeypatch.setenv("APPRENTICE_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache"


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
  """(train, test) as loaded from a fresh data_dir and a fresh cache."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("APPRENTICE_CACHE", str(tmp_path_factory.mktemp("cache")))
    data_dir = str(tmp_path_factory.mktemp("data"))
    return tuple(sources.load("digits", split, data_dir) for split in ("train", "test"))


def test_scale_is_the_stated_rule_and_can_be_undone():
  values = np.arange(17, dtype=np.float64)  # load_digits has floats.
  scaled = digits.scale(values)
  assert scaled.dtype == np.uint8
  np.testing.assert_array_equal(scaled, np.floor(values * 255 / 16 + 0.5))
  assert scaled[[0, 1, 8, 16]].tolist() == [0, 16, 128, 255]
  np.testing.assert_array_equal((16 * scaled.astype(int) + 127) // 255, values)


def test_sizes_and_types(splits):
  for dataset, size in zip(splits, (1437, 360)):
    assert dataset.images.shape == (size, 8, 8, 1) and dataset.images.dtype == np.uint8
    assert dataset.labels.shape == (size,) and dataset.labels.dtype == np.int32
    assert dataset.class_names == tuple("0123456789")
    assert not dataset.images.flags.writeable and not dataset.labels.flags.writeable


def test_every_image_and_label_is_scikit_learns(splits):
  # Images are told apart by their pixels, so each is found again together with its label.
  data = datasets.load_digits()
  pixels = digits.scale(data.images).reshape(len(data.images), -1)
  index = {row.tobytes(): i for i, row in enumerate(pixels)}
  assert len(index) == 1797
  found = []
  for dataset in splits:
    rows = [index[image.tobytes()] for image in dataset.images]
    assert rows == sorted(rows)  # The order is scikit-learn's.
    np.testing.assert_array_equal(dataset.labels, data.target[rows])
    found += rows
  assert sorted(found) == list(range(1797))


def test_split_is_stratified(splits):
  sizes = np.bincount(datasets.load_digits().target)
  test = np.bincount(splits[1].labels)
  np.testing.assert_array_equal(np.bincount(splits[0].labels) + test, sizes)
  assert np.all(np.abs(test - sizes * 360 / 1797) < 1)


def test_prepared_twice_gives_the_same(splits, cache):
  again = sources.load("digits", "test")  # Without a data_dir: in the cache directory.
  assert (cache / "tfds" / "digits" / "1.0.0").is_dir()
  np.testing.assert_array_equal(again.images, splits[1].images)
  np.testing.assert_array_equal(again.labels, splits[1].labels)


def test_prepare_writes_array_record_once_and_quietly(tmp_path, capfd):
  assert digits.prepare(tmp_path / "new") == tmp_path / "new"
  folder = tmp_path / "new" / "digits" / "1.0.0"
  files = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
  assert sum(".array_record-" in path.name for path in files) == 2
  digits.prepare(tmp_path / "new")
  assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == files
  assert [path.name for path in (tmp_path / "new").iterdir()] == ["digits"]
  assert capfd.readouterr() == ("", "")


def test_losing_the_race_to_prepare_is_no_error(tmp_path, monkeypatch):
  def win(builder, **kwargs):
    monkeypatch.undo()
    builder.download_and_prepare(**kwargs)
    raise OSError("Directory not empty")

  monkeypatch.setattr(digits.Digits, "download_and_prepare", win)
  digits.prepare(tmp_path)
  assert digits.Digits(data_dir=tmp_path).is_prepared()


def test_data_dir_that_cannot_be_written(tmp_path):
  (tmp_path / "file").write_text("")
  sentence = r"^'digits' cannot be prepared in .*file \(.*\): give a data_dir that can be written, "
  with pytest.raises(ValueError, match=sentence):
    digits.prepare(tmp_path / "file")


def test_cache_that_cannot_be_written_is_a_warning(tmp_path, monkeypatch):
  (tmp_path / "file").write_text("")
  monkeypatch.setenv("APPRENTICE_CACHE", str(tmp_path / "file"))
  with pytest.warns(UserWarning) as warned:
    assert len(sources.load("digits", "test").labels) == 360
  assert ["set APPRENTICE_CACHE" in str(warning.message) for warning in warned] == [True, True]


def test_loading_leaves_tensorflow_alone(tmp_path):
  code = (
    "import sys\n"
    "from apprentice_jax.data import sources\n"
    "assert 'tensorflow_datasets' not in sys.modules\n"
    f"assert len(sources.load('digits', 'test', {str(tmp_path)!r}).labels) == 360\n"
    "assert 'tensorflow' not in sys.modules\n"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
