"""Streams of batches: what comes is decided by its position, whoever reads it and however."""

import gc
import io
import multiprocessing
import re
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from apprentice_jax.data import crops as cropping
from apprentice_jax.data import digits, encoded, order, stream
from apprentice_jax.data.crops import Crops
from apprentice_jax.data.stream import EvaluationShares, Layout, TrainingShares

CROPS = Crops(size=8, resize=10)


class Listed:
  """Examples from a list of files; example i has the label 100 + i, so that labels tell them."""

  class_names = ("one",)

  def __init__(self, files):
    self.files, self.labels, self.reads = list(files), None, 0

  def __len__(self):
    return len(self.files)

  def read(self, indices):
    for i in indices:
      self.reads += 1
      yield self.files[i], 100 + int(i)

  def name(self, index):
    return f"image {index}"


def save(array, file_format="PNG"):
  file = io.BytesIO()
  Image.fromarray(array).save(file, file_format)
  return file.getvalue()


def photo(seed):
  """Noise of a size of its own."""
  r = np.random.default_rng(seed)
  return r.integers(0, 256, (*r.integers(9, 40, 2), 3)).astype(np.uint8)


def colour(i):
  return (i * 7 % 256, i * 3 % 256, i)


@pytest.fixture(scope="module")
def photos():
  return Listed(save(photo(i), "JPEG" if i % 2 else "PNG") for i in range(11))


@pytest.fixture(scope="module")
def colours():
  """Images of one colour each, which no crop changes."""
  return Listed(save(np.full((9 + i, 20 - i, 3), colour(i), np.uint8)) for i in range(11))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  root = tmp_path_factory.mktemp("photos")
  for i in range(11):
    path = root / "train" / "abc"[i % 3] / f"{i}.{'jpg' if i % 2 else 'png'}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(photo(i), "JPEG" if i % 2 else "PNG"))
  (root / "train" / "b" / "none.jpg").write_bytes(b"This is no image.")
  return encoded.Folder(str(root), "train")


def training(examples, layout, steps=5, seed=3, crops=CROPS):
  return TrainingShares(examples, crops, seed, layout, steps)


def equal(a, b):
  for x, y in zip(a, b, strict=True):
    np.testing.assert_array_equal(x, y)


def all_equal(shares, others):
  shares, others = list(shares), list(others)
  assert len(shares) == len(others)
  for a, b in zip(shares, others):
    equal(a, b)


def joined(shares):
  """One share of several."""
  *arrays, lines, logits = zip(*shares)
  assert not any(logits)
  return stream.Share(*(np.concatenate(a) for a in arrays), "\n".join(filter(None, lines)))


# Training.


def test_training_is_the_order_and_the_augmentation_of_each_example(photos):
  steps, batch, seed = 5, 4, 3
  source = training(photos, Layout(batch), steps, seed)
  assert len(source) == steps
  index, epoch = order.examples(seed, 11, 0, steps * batch)
  assert epoch[-1] == 1  # The end of an epoch falls inside a batch.
  for n in range(steps):
    share = source[n]
    assert share.images.dtype == np.uint8 and share.images.shape == (batch, 8, 8, 3)
    assert share.labels.dtype == np.int32 and share.mask.dtype == np.float32
    assert share.unreadable == "" and share.mask.tolist() == [1] * batch
    for j in range(batch):
      i, e = int(index[n * batch + j]), int(epoch[n * batch + j])
      expected = np.empty((8, 8, 3), np.uint8)
      cropping.training_image(photos.files[i], CROPS, seed, e, i, expected)
      np.testing.assert_array_equal(share.images[j], expected)
      assert share.labels[j] == 100 + i


def test_every_example_once_an_epoch(colours):
  epochs, size = 3, 11
  source = training(colours, Layout(6, 3, 0, 3), steps=6, crops=Crops(size=4))
  share = joined(source[n] for n in range(len(source)))
  seen = share.labels - 100
  for e in range(epochs):
    assert sorted(seen[e * size : (e + 1) * size]) == list(range(size))
  # And it is its image that comes with a label.
  for i, image in zip(seen, share.images):
    np.testing.assert_array_equal(image, np.broadcast_to(np.array(colour(i), np.uint8), (4, 4, 3)))


def test_epochs_seeds_and_examples_are_augmented_differently():
  same = save(photo(0))
  examples = Listed([same] * 4)
  images = np.concatenate(
    [training(examples, Layout(4), 3, seed)[n].images for seed in (0, 1) for n in range(3)]
  )
  assert len({image.tobytes() for image in images}) > 20  # Of 24.


def test_a_share_does_not_depend_on_what_was_read_before(photos):
  forth = [training(photos, Layout(4))[n] for n in range(5)]
  source = training(photos, Layout(4), steps=1000)
  source[999]
  all_equal(forth[::-1], [source[n] for n in reversed(range(5))])


@pytest.mark.parametrize("replicas, local", [(2, 2), (4, 4), (4, 2), (8, 4), (8, 1)])
@pytest.mark.parametrize("kind", ["training", "evaluation"])
def test_any_division_into_replicas_and_processes_gives_the_same(replicas, local, kind, photos):
  def source(layout):
    return (
      training(photos, layout) if kind == "training" else EvaluationShares(photos, CROPS, layout)
    )

  whole = source(Layout(8))
  processes = [source(Layout(8, replicas, first, local)) for first in range(0, replicas, local)]
  assert {len(process) for process in processes} == {len(whole) * local}
  for step in range(len(whole)):
    shares = [process[step * local + i] for process in processes for i in range(local)]
    assert {len(share.labels) for share in shares} == {8 // replicas}
    equal(joined(shares), whole[step])


# Evaluation.


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 14), st.integers(1, 5), st.integers(1, 4))
def test_evaluation_covers_every_example_once(size, share, replicas):
  files = [save(np.full((5, 6, 3), colour(i), np.uint8)) for i in range(size)]
  layout, crops = Layout(share * replicas, replicas, 0, replicas), Crops(size=2, resize=3)
  source = EvaluationShares(Listed(files), crops, layout)
  steps = -(-size // (share * replicas))
  assert len(source) == steps * replicas
  shares = [source[n] for n in range(len(source))]
  assert all(s.images.shape == (share, 2, 2, 3) for s in shares)
  whole = joined(shares)
  real = whole.mask == 1
  assert set(whole.mask) <= {0, 1} and whole.unreadable == ""
  assert (whole.labels[real] - 100).tolist() == list(range(size))
  np.testing.assert_array_equal(whole.images[real, 0, 0], [colour(i) for i in range(size)])
  assert not whole.images[~real].any() and not whole.labels[~real].any()


def test_evaluation_of_each_image(photos):
  source = EvaluationShares(photos, CROPS, Layout(4))
  for n in range(3):
    share = source[n]
    assert share.labels.dtype == np.int32 and share.mask.dtype == np.float32
    for j, i in enumerate(range(4 * n, min(4 * n + 4, 11))):
      expected = np.empty((8, 8, 3), np.uint8)
      cropping.evaluation_image(photos.files[i], CROPS, expected)
      np.testing.assert_array_equal(share.images[j], expected)


# Images that cannot be read.


DAMAGE = {2: b"", 3: save(photo(3), "JPEG")[:-30], 7: b"This is no image.", 10: b"\xff\xd8"}
WHY = {
  2: r"it is empty or cannot be opened",
  3: r"image file is truncated .*",
  7: r"cannot identify image file",
  10: r".+",
}


@pytest.fixture
def damaged(photos):
  """Examples 2, 3, 7 and 10, the last one, are no images."""
  return Listed(DAMAGE.get(i, file) for i, file in enumerate(photos.files))


def test_unreadable_images_are_replaced_by_the_next_that_can_be_read(damaged, photos):
  source = training(damaged, Layout(11), steps=2)
  for n in range(2):
    share = source[n]
    index, epoch = order.examples(3, 11, 11 * n, 11)
    instead = [{2: 4, 3: 4, 7: 8, 10: 0}.get(i, i) for i in index.tolist()]
    assert (share.labels - 100).tolist() == instead and share.mask.tolist() == [1] * 11
    for j, (i, e) in enumerate(zip(instead, epoch.tolist())):
      expected = np.empty((8, 8, 3), np.uint8)
      cropping.training_image(photos.files[i], CROPS, 3, e, i, expected)
      np.testing.assert_array_equal(share.images[j], expected)
    # Each time that one is come upon: 3 also in place of 2.
    expected = [
      i for first in index.tolist() for i in {2: (2, 3)}.get(first, (first,)) if i in DAMAGE
    ]
    lines = share.unreadable.splitlines()
    assert [line.partition(" (")[0] for line in lines] == [f"image {i}" for i in expected]
    assert all(says(line, i) for line, i in zip(lines, expected))


def says(line, i):
  return re.fullmatch(rf"image {i} \({WHY[i]}\)", line)


def test_unreadable_images_are_masked_in_evaluation(damaged, photos):
  layout = Layout(8, 2, 0, 2)
  good, spoilt = (EvaluationShares(examples, CROPS, layout) for examples in (photos, damaged))
  good, spoilt = (joined(source[n] for n in range(len(source))) for source in (good, spoilt))
  readable = np.array([i not in DAMAGE and i < 11 for i in range(16)])
  np.testing.assert_array_equal(spoilt.mask, readable)
  for a, b in ((spoilt.images, good.images), (spoilt.labels, good.labels)):
    np.testing.assert_array_equal(a[readable], b[readable])
    assert not a[~readable].any()
  lines = spoilt.unreadable.splitlines()
  assert len(lines) == 4 and all(says(line, i) for line, i in zip(lines, DAMAGE))


def test_replacing_ends_where_no_image_can_be_read():
  examples = Listed([b""] * 7)
  share = training(examples, Layout(4))[0]
  assert not share.images.any()
  # The first image uses the attempts up, each of the others has one line of its own.
  lines = share.unreadable.splitlines()
  assert stream.SUBSTITUTES < len(lines) <= stream.SUBSTITUTES + 4
  assert examples.reads <= len(lines)
  assert {line.partition(" (")[0] for line in lines} == {f"image {i}" for i in range(7)}


@pytest.mark.parametrize("limit, gaps", [(60, 0), (100, 0), (59, 1), (8, 24)])
def test_as_many_are_replaced_as_the_limit_says(limit, gaps, monkeypatch):
  # Of every four images one can be read: 3 + 2 + 1 attempts fail, wherever an epoch begins.
  monkeypatch.setattr(stream, "SUBSTITUTES", limit)
  examples = Listed(save(photo(i)) if i % 4 == 3 else b"" for i in range(40))
  share = training(examples, Layout(40), steps=1)[0]
  empty = ~share.images.reshape(40, -1).any(1)
  lines = share.unreadable.splitlines()
  assert empty[share.labels % 4 != 3].all() and not empty[share.labels % 4 == 3].any()
  if gaps < 2:
    assert empty.sum() == gaps and len(lines) == 60
  else:  # Those that can be read are, even behind a gap.
    assert empty.sum() >= gaps and (~empty).sum() >= 10 and len(lines) > limit


def test_file_that_is_gone(tmp_path):
  for name in "ab":
    path = tmp_path / "train" / "class" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(photo(0)))
  examples = encoded.Folder(str(tmp_path), "train")
  path.unlink()
  share = EvaluationShares(examples, CROPS, Layout(2))[0]
  assert share.mask.tolist() == [1, 0]
  assert share.unreadable == f"{path} (it is empty or cannot be opened)"


# Reading ahead.


@pytest.fixture(params=["training", "evaluation"])
def source(request, folder):
  layout = Layout(4, 2, 0, 2)
  return (
    training(folder, layout)
    if request.param == "training"
    else EvaluationShares(folder, CROPS, layout)
  )


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_number_of_threads_does_not_matter(threads, source):
  all_equal(stream.read(source, threads=threads), [source[n] for n in range(len(source))])


def test_threads_share_the_files_of_a_prepared_dataset(tmp_path):
  digits.prepare(tmp_path / "data")
  records = encoded.load("digits", "test", str(tmp_path / "data"))
  layout = Layout(48, 4, 0, 4)  # The last step's shares: 12, 12, 0 and 0 of 360 examples.
  source = EvaluationShares(records, CROPS, layout)
  alone = [source[n] for n in range(len(source))]
  all_equal(stream.read(source, threads=5), alone)
  whole = joined(alone)
  assert whole.mask.sum() == 360 and whole.mask[:360].all() and whole.unreadable == ""
  assert whole.labels[:360].tolist() == [label for _, label in records.read(range(360))]


@pytest.mark.parametrize("place", [0, 1, 3, "last", "end"])
def test_any_start(place, source):
  size = len(source)
  first = {"last": size - 1, "end": size}.get(place, place)
  all_equal(stream.read(source, first, threads=2), [source[n] for n in range(first, size)])


@pytest.mark.parametrize("end", ["exhausted", "closed", "given up"])
def test_threads_end(end, source):
  before = set(threading.enumerate())
  shares = stream.read(source, threads=3)
  next(shares)
  started = set(threading.enumerate()) - before
  assert started
  if end == "exhausted":
    list(shares)
  elif end == "closed":
    shares.close()
    assert list(shares) == []
  else:
    del shares
    gc.collect()
  for thread in started:
    thread.join(60)
    assert not thread.is_alive()


def test_reader_that_is_closed_before_it_began(source):
  before = set(threading.enumerate())
  stream.read(source, threads=3).close()
  assert set(threading.enumerate()) <= before


def test_errors_reach_the_reader(photos):
  class Broken(Listed):
    def read(self, indices):
      raise RuntimeError("the disk is on fire")

  before = set(threading.enumerate())
  shares = stream.read(training(Broken(photos.files), Layout(4)), threads=2)
  with pytest.raises(RuntimeError, match="the disk is on fire"):
    next(shares)
  for thread in set(threading.enumerate()) - before:
    thread.join(60)
    assert not thread.is_alive()


def test_worker_processes_give_the_same_and_end(folder):
  source, before = training(folder, Layout(4, 2, 0, 2), steps=7), multiprocessing.active_children()
  shares = stream.read(source, 3, threads=2, workers=2)
  found = [next(shares) for _ in range(9)]
  workers = set(multiprocessing.active_children()) - set(before)
  assert len(workers) == 2
  all_equal(found, [source[n] for n in range(3, 12)])
  assert any(share.unreadable for share in found)
  shares.close()
  assert not any(worker.is_alive() for worker in workers)
  del found
  gc.collect()  # The arrays lie in memory that was shared with the processes.
