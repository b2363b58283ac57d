"""A warning where a fixed teacher is no better than chance: its classes may come in another
order."""

import warnings

import numpy as np
import pytest
from runs import named_torch, tiny

from apprentice_jax.data.splits import open_splits
from apprentice_jax.training import api, evaluate, networks, parallel

MANY = np.repeat(np.arange(10), 12)


@pytest.mark.parametrize(
  "predicted, labels, is_chance",
  [
    (MANY, MANY, False),
    (np.roll(MANY, 12), MANY, True),  # another order
    (np.zeros(120, int), MANY, True),  # one class whatever it sees
    (np.where(np.arange(120) % 3, 9 - MANY, MANY), MANY, False),  # a third is right
    (np.arange(120) % 10, MANY, True),
    # Nine of ten are of one class: to name it always is chance, to know half of the others is more.
    (np.zeros(120, int), np.arange(120) < 12, True),
    (np.arange(120) < 6, np.arange(120) < 12, False),
    (np.zeros(120, int), np.zeros(120, int), False),
  ],
)  # nothing to tell
def test_more_than_chance(predicted, labels, is_chance):
  right = int(np.sum(predicted == labels))
  found = evaluate.by_chance(predicted, labels.astype(int))
  random = np.random.default_rng(0)
  np.testing.assert_allclose(
    found,
    np.mean([np.sum(random.permutation(predicted) == labels) for _ in range(2000)]),
    rtol=0.05,
  )
  assert evaluate.is_chance(right, found, len(labels)) == is_chance


def test_labels_are_those_of_the_sampled_images():
  config = tiny()
  resident = open_splits(config.data)["train"]
  config.data.image_size = config.data.resize = 8
  streamed = open_splits(config.data)["train"]
  some = np.array([5, 900, 17])
  np.testing.assert_array_equal(resident.labels(some), streamed.labels(some))
  np.testing.assert_array_equal(resident.labels(some), resident._dataset.labels[[5, 17, 900]])


@pytest.fixture(scope="module")
def good(tmp_path_factory):
  """A network that has learned the digits."""
  folder = tmp_path_factory.mktemp("good")
  config = tiny(scheme="baseline", precision="32A,32W", recipe__student__epochs=3.0)
  api.train(config, folder / "run")
  return folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize("cached", [False, True])
def test_a_file_in_another_order_is_warned_of(cached, good, tmp_path):
  network, _ = networks.read(str(good))
  for order, warned in ((range(10), False), ([*range(1, 10), 0], True)):
    file = named_torch(network, tmp_path / f"{warned}.safetensors", order)
    config = tiny(
      scheme="B",
      teacher__init=file,
      recipe__student__epochs=0.1,
      recipe__student__warmup_epochs=0.0,
      teacher_input__cached=cached,
      data__augmentation_epochs=1,
    )
    with warnings.catch_warnings(record=True) as said:
      warnings.simplefilter("always")
      api.train(config, tmp_path / f"run{warned}")
    said = [
      str(w.message) for w in said if "by chance" in str(w.message) or "of chance" in str(w.message)
    ]
    assert len(said) == warned
    if warned:
      assert (
        said[0].startswith(f"{file} is right on ")
        and "of 128 training images, no more than the " in said[0]
      )
      assert "in their order (0, 1, 2, 3, ...;" in said[0]


def test_the_share_that_is_right_is_the_networks(good, monkeypatch):
  """By the loop's own program, of the images that are looked at, against NumPy's."""
  config = tiny(teacher__init="X")
  data = open_splits(config.data)["train"]
  network, model = networks.read(str(good))[0], networks.model(config, "teacher", 10)
  asked = []
  monkeypatch.setattr(evaluate, "is_chance", lambda *of: asked.append(of))
  evaluate.doubt_teacher(config, model, parallel.replicate(network), data, (0.5,), (0.5,))
  some = np.sort(evaluate.permutation(0, 0, data.size)[:128])
  images = (np.float32(data.sample(some)) / 255 - 0.5) / 0.5
  logits = model.apply(
    {"params": network.params, "batch_stats": network.batch_stats}, images, False
  )
  assert asked[0][0] == np.sum(np.argmax(logits, -1) == data.labels(some)) and asked[0][2] == 128
