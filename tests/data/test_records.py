"""Record files that are missing, cut off or damaged, and examples without a label, decoded and
encoded."""

import pathlib
import re

import numpy as np
import pytest
from array_record.python import array_record_module
from tensorflow_datasets.proto import tf_example_pb2

from apprentice_jax.data import crops, digits, encoded, sources, stream


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("APPRENTICE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def records(tmp_path):
  """The file of the digits' test split, the test's own."""
  digits.prepare(tmp_path)
  (path,) = tmp_path.glob("**/digits-test*")
  return path


def change(path, changes, count=None):
  """Writes the records anew, each through changes[its place]."""
  reader = array_record_module.ArrayRecordReader(str(path))
  found = [reader.read([i])[0] for i in range(reader.num_records())]
  reader.close()
  writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
  for i, record in enumerate(found[:count]):
    writer.write(changes[i](record) if i in changes else record)
  writer.close()


def labelled(label):
  def changed(record):
    example = tf_example_pb2.Example.FromString(record)
    example.features.feature["label"].int64_list.value[:] = [label]
    return example.SerializeToString()

  return changed


def overwrite(path, start, stop):
  content = bytearray(path.read_bytes())
  content[start:stop] = bytes(stop - start)
  path.write_bytes(content)


def open_both(where):
  """Each way to read the test split, checked as at the start of a run."""

  def streamed():
    examples = encoded.load("digits", "test", where)
    examples.check()
    return examples

  return [lambda: sources.load("digits", "test", where), streamed]


WHOLE_FILES = [
  (
    "missing",
    lambda path: path.unlink(),
    r"1 of the 1 record files of digits/1\.0\.0 test are missing, such as .*digits-test.*: "
    r"bring them back, or .*",
  ),
  (
    "empty",
    lambda path: path.write_bytes(b""),
    r"the record file .* is cut off or damaged \(.*\): bring it back.*",
  ),
  (
    "cut off",
    lambda path: path.write_bytes(path.read_bytes()[:-100_000]),
    r"the record file .* is cut off or damaged \(.*\): bring it back, "
    r"or prepare the dataset again\.",
  ),
  (
    "another",
    lambda path: change(path, {}, 100),
    r"the record file .* holds 100 records instead of 360: bring it back, "
    r"or prepare the dataset again\.",
  ),
]


@pytest.mark.parametrize(
  "spoil, sentence", [row[1:] for row in WHOLE_FILES], ids=[row[0] for row in WHOLE_FILES]
)
def test_a_file_that_is_not_whole(spoil, sentence, records, tmp_path):
  spoil(records)
  for opened in open_both(str(tmp_path)):
    with pytest.raises(ValueError) as raised:
      opened()
    assert re.fullmatch(sentence, str(raised.value)), str(raised.value)


def test_damage_within_a_file(records, tmp_path):
  size = records.stat().st_size
  overwrite(records, size // 4, size // 4 + 64)
  with pytest.raises(
    ValueError, match=r"^an example of digits/1.0.0 test from 0 on is damaged \(.*\): prepare "
  ):
    sources.load("digits", "test", str(tmp_path))
  examples = encoded.load("digits", "test", str(tmp_path))
  examples.check()
  found = list(examples.read(range(360)))
  bad = [i for i, (file, label) in enumerate(found) if not file]
  assert bad and all(found[i] == (b"", -1) for i in bad) and len(bad) < 360
  # The others are what they were.
  whole = pathlib.Path(digits.prepare(tmp_path / "whole"))
  expected = list(encoded.load("digits", "test", str(whole)).read(range(360)))
  assert all(found[i] == expected[i] for i in range(360) if i not in bad)


def test_an_image_that_is_none(records, tmp_path):
  def spoilt(record):
    example = tf_example_pb2.Example.FromString(record)
    example.features.feature["image"].bytes_list.value[:] = [b"hello"]
    return example.SerializeToString()

  change(records, {70: spoilt})
  with pytest.raises(ValueError) as raised:
    sources.load("digits", "test", str(tmp_path))
  assert str(raised.value) == (
    "example 70 of digits/1.0.0 test is no image that can be read (cannot identify image "
    "file): prepare the dataset again."
  )


def test_a_record_that_is_none(records, tmp_path):
  change(
    records,
    {3: lambda record: b"hello", 5: lambda record: tf_example_pb2.Example().SerializeToString()},
  )
  found = list(encoded.load("digits", "test", str(tmp_path)).read(range(7)))
  assert [i for i, pair in enumerate(found) if pair == (b"", -1)] == [3, 5]
  with pytest.raises(
    ValueError, match=r"^an? .*digits/1.0.0 test .*: prepare the dataset again\.$"
  ):
    sources.load("digits", "test", str(tmp_path))


# -1 is how tfds writes that the class is not known; 10 is no class of ten.


def test_some_without_a_label_are_refused_where_images_are_decoded(records, tmp_path):
  change(records, {7: labelled(-1), 100: labelled(-1), 359: labelled(10)})
  with pytest.raises(ValueError) as raised:
    sources.load("digits", "test", str(tmp_path))
  assert str(raised.value) == (
    "3 of the 360 examples of split 'test' of digits/1.0.0 have no label: use another "
    "split, or prepare the dataset without them."
  )


@pytest.fixture
def partly(records, tmp_path):
  """The test split, of which examples 7 and 9 have no label."""
  change(records, {7: labelled(-1), 9: labelled(10)})
  return encoded.load("digits", "test", str(tmp_path))


CROPS = crops.Crops(size=8, resize=8)
SAID = [f"example {i} of digits/1.0.0 test (it has no label)" for i in (7, 9)]


def test_no_label_is_no_class_in_evaluation(partly):
  shares = stream.EvaluationShares(partly, CROPS, stream.Layout(20))
  share = shares[0]
  assert np.flatnonzero(share.mask == 0).tolist() == [7, 9]
  assert share.unreadable.splitlines() == SAID
  expected = [label for _, label in partly.read(range(20))]
  assert all(share.labels[i] == expected[i] for i in range(20) if i not in (7, 9))


def test_no_label_is_no_class_in_training(partly):
  shares = stream.TrainingShares(partly, CROPS, 0, stream.Layout(60), 6)  # an epoch
  found = [shares[i] for i in range(6)]
  assert sorted(line for share in found for line in share.unreadable.splitlines()) == SAID
  labels = np.concatenate([share.labels for share in found])
  assert labels.min() == 0 and labels.max() == 9
  # The next example takes the place of each.
  expected = np.array(
    [label for _, label in partly.read([8 if i == 7 else 10 if i == 9 else i for i in range(360)])]
  )
  np.testing.assert_array_equal(
    np.bincount(labels, minlength=10), np.bincount(expected, minlength=10)
  )


def test_a_slice_of_records(records, tmp_path):
  where = str(tmp_path)
  whole, part = (encoded.load("digits", split, where) for split in ("test", "test[100:110]"))
  assert list(part.read([0, 9, 3])) == list(whole.read([100, 109, 103]))
  assert part.name(3) == whole.name(103) == "example 103 of digits/1.0.0 test"
