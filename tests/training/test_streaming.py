"""Runs on images that are read as they are needed, and what their metrics say."""

import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import scheme_config, tiny

import apprentice_jax
from apprentice_jax.data import sources
from apprentice_jax.training import api, networks
from apprentice_jax.training.program import normalise
from apprentice_jax.training.records import HealthWatch, read_records
from apprentice_jax.training.workdir import workdir_config


@pytest.mark.slow
def test_evaluation_is_exact(unbroken):
  # Against one batch of the images as they are: 8x8 stays 8x8, and grey becomes RGB.
  workdir = unbroken("A streamed")
  data = sources.load("digits", "test")
  config = workdir_config(workdir)
  model = networks.model(config, "student", 10)
  network = networks.load(str(workdir), model, (8, 8, 3), complete=True)
  images = normalise(jnp.asarray(np.repeat(data.images, 3, -1)), (0.5,), (0.5,), jnp.float32)
  logits = np.asarray(
    model.apply({"params": network.params, "batch_stats": network.batch_stats}, images, False),
    np.float64,
  )
  losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(360), data.labels]
  for batch in (1000, 100, 8):
    found = api.evaluate_network(_batched(config, batch), str(workdir))
    assert found["count"] == 360
    assert abs(found["accuracy"] - np.mean(logits.argmax(-1) == data.labels)) < 1.5 / 360
    np.testing.assert_allclose(found["loss"], losses.mean(), rtol=1e-3)
  assert apprentice_jax.evaluate(workdir, "train")["count"] == 1437


def _batched(config, batch):
  config = config.copy_and_resolve_references()
  config.eval.batch_size = batch
  return config


def test_what_a_streamed_run_leaves(unbroken):
  workdir = unbroken("A streamed")
  assert json.loads((workdir / "classes.json").read_text()) == [str(d) for d in range(10)]
  records = read_records(workdir)[:-1]
  for record in records:
    assert 0 <= record["data_wait"] <= 1 and record["unreadable_images"] == 0
    assert record["examples"] == 64 * record["step"]
    for kind, name in (
      ("zeros", "stage1_block1/conv1"),
      ("flips", "stage1_block1/conv1"),
      ("zeros", "stem_act"),
      ("saturation", "stem_act"),
    ):
      assert 0 <= record[f"{kind}/{name}"] < 1
  assert any(record["flips/stage3_block1/conv2"] > 0 for record in records)
  assert records[-1]["loss"] < records[0]["loss"]


def test_every_run_says_how_long_it_waited_for_data(unbroken):
  assert all(0 <= r["data_wait"] <= 1 for r in read_records(unbroken("B"))[:-1])


def test_validation_images_are_held_out_of_a_stream(tmp_path):
  config = tiny(
    scheme="baseline",
    data__image_size=8,
    data__resize=8,
    data__validation=137,
    eval__final="validation",
    recipe__student__epochs=0.1,
  )
  result = api.train(config, tmp_path)
  assert result["validation_count"] == 137 and result["steps"] == round(0.1 * 1300 / 64)
  assert apprentice_jax.evaluate(tmp_path, "train")["count"] == 1300


def look(records, learning=True, steps_per_epoch=10):
  watch = HealthWatch("run", steps_per_epoch)
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for step, record in records:
      watch.look(step, record, learning)
  return [str(w.message) for w in caught]


def test_a_layer_that_dies_is_named_once():
  healthy = [
    (step, {"loss": 1.0, "zeros/a": 0.999, "flips/a": 1e-6, "saturation/b": 0.98})
    for step in range(0, 100, 5)
  ]
  assert not look(healthy)
  (sentence,) = look([(5, {"zeros/block/conv": 1.0}), (10, {"zeros/block/conv": 1.0})])
  assert sentence.startswith("run: all of block/conv is zero at step 5")
  (sentence,) = look([(5, {"saturation/act": 0.995}), (10, {"saturation/act": 1.0})])
  assert sentence.startswith("run: 100% of act is at the end of its range at step 5")


def test_weights_that_never_flip_are_named_after_an_epoch():
  still = [(step, {"flips/conv": 0.0}) for step in (500, 1000, 1500, 2000)]
  (sentence,) = look(still, steps_per_epoch=1000)
  assert sentence.startswith("run: no weight of conv has changed its level from step 500 to 1500")
  assert not look(still, learning=False)  # the learning rate is too low for that to mean anything
  assert not look(
    [(500, {"flips/conv": 0.0}), (1000, {"flips/conv": 0.1}), (1500, {"flips/conv": 0.0})],
    steps_per_epoch=1000,
  )


@pytest.mark.parametrize("steps_per_epoch", [0.5, 3, 199])
def test_an_epoch_of_few_steps_says_nothing_of_weights_that_do_not_flip(steps_per_epoch):
  still = [(step, {"flips/conv": 0.0}) for step in range(1, 201)]
  assert not look(still, steps_per_epoch=steps_per_epoch)
  (sentence,) = look([*still, (201, {"flips/conv": 0.0})], steps_per_epoch=steps_per_epoch)
  assert "from step 1 to 201" in sentence


def test_a_run_warns_of_weights_that_are_all_zero(tmp_path):
  # WRPN to the letter: on a grid of [-1, 1], a usual initialisation rounds to zero.
  config = tiny(
    scheme="baseline",
    quantization__weights="wrpn",
    quantization__wrpn_scale="unit",
    recipe__student__epochs=0.3,
  )
  with pytest.warns(UserWarning, match="all of stage3_block1/conv1 is zero at step 5"):
    api.train(config, tmp_path)
  assert read_records(tmp_path)[0]["zeros/stage3_block1/conv1"] == 1


def test_the_stream_feeds_every_device_its_share():
  config = scheme_config("A streamed", None)
  from apprentice_jax.data.splits import open_splits

  with open_splits(config.data)["train"].training(config.seed, config.batch_size, 2, 4) as feed:
    batches = list(feed)
  assert len(batches) == 2
  for batch in batches:
    assert batch.images.shape == (8, 8, 8, 8, 3) and batch.images.dtype == np.uint8
    assert [s.device for s in batch.images.addressable_shards] == jax.devices()
    assert np.all(np.asarray(batch.mask) == 1)
