"""Eight replicas with unequal data: averaged, and the same on each."""

import functools
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import (
  BATCH,
  CHUNK,
  CLASSES,
  DEVICES,
  DYNAMIC,
  FIXED,
  JOINT,
  LOW,
  NET,
  ONE,
  PLAIN,
  SIZE,
  WEIGHTS,
  assert_close,
  history,
  hyper,
  initial,
  made_data,
  shares,
  sorted_indices,
  train,
)

from apprentice_jax.data import augment
from apprentice_jax.data.batches import Chunk, example_indices
from apprentice_jax.distill.step import Rates, Trainer
from apprentice_jax.models import health
from apprentice_jax.training import parallel
from apprentice_jax.training.dispatch import (
  Program,
)
from apprentice_jax.training.evaluate import evaluator
from apprentice_jax.training.optimizer import SGD
from apprentice_jax.training.program import (
  Hyperparameters,
  Part,
  Step,
  View,
  initialiser,
  make_apply,
)


@pytest.fixture(scope="module")
def data():
  return made_data()


def test_training_steps_are_compiled_to_be_fast():
  for row in (ONE, DYNAMIC, FIXED):
    program = Program(PLAIN, row)
    assert program._resident.thorough and program._fed.thorough
  assert not initialiser(NET).thorough


@pytest.fixture(scope="module")
def joint():
  """Scheme A of a low-precision student, compiled once; its step may be traced once."""

  class Traced(Step):
    resident = chex.assert_max_traces(Step.resident, n=1)

  chex.clear_trace_counter()
  return Program(JOINT, step=Traced)


@pytest.fixture(scope="module")
def after_one(joint, data):
  return train(joint, JOINT, data)


@pytest.mark.slow
def test_state_and_metrics_are_the_mean_of_what_each_replica_alone_would_get(after_one, data):
  trainer = Trainer(
    make_apply(LOW),
    SGD().build(),
    make_apply(NET),
    SGD().build(),
    activation_health=functools.partial(health.activations_of, LOW),
  )
  step = jax.jit(trainer.step)
  alone = [
    jax.device_get(
      step(initial(JOINT, data), share, WEIGHTS, Rates(np.float32(0.1), np.float32(0.05)))
    )
    for share in shares(data, JOINT)
  ]
  # The first step is linear in gradients and moments: parameters, momentum and statistics average.
  mean = jax.tree.map(lambda *leaves: np.mean(leaves, 0, np.float64), *alone)
  state, metrics = after_one
  # float32 sums in another order.
  assert_close(state, mean[0], rtol=1e-4, atol=2e-6)
  found = {k: v[0] for k, v in metrics.items()}
  np.testing.assert_array_equal(
    found.pop("weights"),
    health.weights(LOW, initial(JOINT, data).student.params, jax.device_get(state).student.params),
  )
  # The norm is that of the averaged gradient: of the first momentum, but for the weight decay.
  norm = np.sqrt(
    sum(
      np.sum(g**2) for g in jax.tree.leaves((mean[0].student.opt_state, mean[0].teacher.opt_state))
    )
  )
  np.testing.assert_allclose(found.pop("gradient_norm"), norm, rtol=1e-2)
  assert mean[1].pop("gradient_norm") > 1.2 * norm
  assert_close(found, mean[1], rtol=1e-5, atol=1e-6)
  # The replicas did differ, in every collection: taking one's value instead would show.
  for collection in ("params", "batch_stats", "opt_state"):
    for leaf, *others in zip(*(jax.tree.leaves(getattr(a[0].student, collection)) for a in alone)):
      assert np.abs(leaf - np.mean([leaf, *others], 0)).max() > 1e-5


def test_statistics_by_hand(after_one, data):
  start = initial(JOINT, data)
  kernel = start.teacher.params["stem"]["kernel"]
  outputs = np.stack(
    [
      jax.lax.conv_general_dilated(
        share.images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
      )
      for share in shares(data, JOINT)
    ]
  ).astype(np.float64)
  old, new = (s.teacher.batch_stats["stem_norm"] for s in (start, after_one[0]))
  own = {"mean": outputs.mean((1, 2, 3)), "var": outputs.var((1, 2, 3))}
  for name, moments in own.items():
    np.testing.assert_allclose(
      new[name], 0.9 * old[name] + 0.1 * moments.mean(0), rtol=1e-4, atol=1e-6
    )
  # Not the whole batch's variance, which holds the spread between the replicas too.
  whole = outputs.var((0, 1, 2, 3))
  assert np.all(whole > own["var"].mean(0) + 1e-4)


def test_state_is_the_same_on_every_device(after_one):
  for path, leaf in jax.tree_util.tree_leaves_with_path(after_one):
    copies = [np.asarray(s.data) for s in leaf.addressable_shards]
    assert len(copies) == DEVICES and len(leaf.sharding.device_set) == DEVICES
    for copy in copies[1:]:
      np.testing.assert_array_equal(copy, copies[0], err_msg=jax.tree_util.keystr(path))


def test_buffers_are_given_up(joint, data):
  state = parallel.replicate(initial(JOINT, data))
  on_device = parallel.replicate(data)
  new, _ = joint.train(state, on_device, sorted_indices(), hyper(), Part(0, 1))
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
  assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((new, on_device)))


def test_weights_rates_seeds_and_counts_need_no_new_program(joint, data):
  # The other tests have used up what `joint` allows.
  losses = set()
  for i, count in enumerate((1, 3, 2)):
    state, metrics = train(joint, JOINT, data, count, seed=i, gamma=0.1 * i, temperature=1.0 + i)
    losses.add(float(metrics["loss"][0]))
    assert np.count_nonzero(metrics["loss"]) == count
  assert len(losses) == 3


def test_shard_map_gives_the_same_numbers(joint, data):
  mapped = train(Program(JOINT, backend="shard_map"), JOINT, data, 2)
  # The same operations; only the order of an all-reduce may differ.
  assert_close(mapped, train(joint, JOINT, data, 2), rtol=1e-5, atol=1e-6)


def test_step_by_step_gives_the_same_numbers(joint, data):
  single = Program(JOINT._replace(student=LOW.clone(im2col=False)))
  (state, metrics), expected = train(single, JOINT, data, 2), train(joint, JOINT, data, 2)
  assert single.row == ONE
  assert_close(state, expected[0], rtol=1e-3, atol=1e-4)
  assert_close(history(metrics, 2), history(expected[1], 2), rtol=1e-3, atol=1e-4)


def test_fewer_devices_may_be_chosen(data):
  devices = jax.devices()[2:4]
  chunk = Chunk(*(a.reshape(2, 4, CHUNK, 4)[:, 0] for a in sorted_indices(2)))
  program = Program(PLAIN, devices=devices)
  state = parallel.replicate(initial(PLAIN, data), devices)
  new, _ = program.train(state, parallel.replicate(data, devices), chunk, hyper(), Part(0, 1))
  assert all(leaf.devices() == set(devices) for leaf in jax.tree.leaves(new))


@pytest.mark.parametrize("batch", [40, 7, 1000])
def test_evaluation_counts_every_example_once(data, batch):
  net = initial(PLAIN, data).student
  found = evaluator(NET, PLAIN.mean, PLAIN.std)(
    parallel.replicate(net), parallel.replicate(data), batch
  )
  images = (data.images / 255.0 - 0.4) / 0.3
  logits = NET.apply(
    {"params": net.params, "batch_stats": net.batch_stats}, jnp.asarray(images, jnp.float32), False
  )
  correct = np.argmax(logits, -1) == data.labels
  loss = -np.asarray(jax.nn.log_softmax(logits))[np.arange(SIZE), data.labels]
  assert found["count"] == SIZE
  np.testing.assert_allclose(found["accuracy"], correct.mean(), atol=1e-6)
  np.testing.assert_allclose(found["loss"], loss.mean(), rtol=1e-4)
  answers = found[
    "answers"
  ]  # an example's place is its number; the filling comes after all of them
  np.testing.assert_array_equal(answers.label[:SIZE], data.labels)
  np.testing.assert_array_equal(answers.predicted[:SIZE], np.argmax(logits, -1))
  assert (answers.predicted[SIZE:] == -1).all() and (answers.label[SIZE:] == -1).all()


def test_split_gives_each_device_its_part_of_the_batch():
  array = np.arange(2 * 24).reshape(2, 24)
  parts = parallel.split(array)
  assert parts.shape == (8, 2, 3)
  for r in range(8):
    np.testing.assert_array_equal(parts[r], array[:, 3 * r : 3 * r + 3])


def test_indices_of_a_dispatch_are_the_stream():
  index, epoch = example_indices(0, SIZE, 2, 3, 4, BATCH)
  assert index.shape == epoch.shape == (DEVICES, 4, BATCH // DEVICES)
  whole = np.moveaxis(index, 0, 1).reshape(4, BATCH)
  in_order, _ = example_indices(0, SIZE, 0, 4, 4, BATCH)
  np.testing.assert_array_equal(whole[:2], np.moveaxis(in_order, 0, 1).reshape(4, BATCH)[2:])
  epochs = np.moveaxis(epoch, 0, 1).reshape(4, BATCH)[:3].ravel()
  # Steps 2 to 4 are examples 64 to 159: the first epoch ends after 100.
  np.testing.assert_array_equal(epochs, np.arange(64, 160) // SIZE)
  assert not index[:, 3].any() and not epoch[:, 3].any()


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_both_networks_see_the_same_mixtures(mix, data):
  settings = PLAIN._replace(student=LOW, teacher=NET, mix=mix, view=View(mean=(0.1,), std=(0.2,)))
  images, labels = jnp.asarray(data.images[:6]), jnp.asarray(data.labels[:6])
  batch = Step(settings)._batch(images, images, labels, key=jax.random.key(0))
  pixels, seen = (
    255 * (s * x + m) for x, s, m in ((batch.images, 0.3, 0.4), (batch.teacher_images, 0.2, 0.1))
  )
  np.testing.assert_allclose(pixels, seen, atol=1e-3)
  assert np.abs(pixels - images).max() > 20
  # The labels tell how much of either image is there.
  own = augment.own_share(mix, jax.random.key(0), (6, 8, 8))
  np.testing.assert_allclose(pixels, own * images + (1 - own) * images[::-1], atol=1e-3)
  np.testing.assert_array_equal(batch.labels, augment.mixed_labels(labels, own, CLASSES))


def test_no_two_steps_or_replicas_mix_alike(data, monkeypatch):
  keys = []
  monkeypatch.setattr(Step, "_batch", lambda self, *args: keys.append(args[-1]))
  step = Step(PLAIN._replace(mix="mixup"))
  step.trainer = types.SimpleNamespace(step=lambda *_: None)
  device_data = jax.tree.map(jnp.asarray, data)
  chunk = example_indices(0, SIZE, 0, 2 * CHUNK, 2 * CHUNK, BATCH)
  chunk = jax.tree.map(np.asarray, chunk)
  for replica in range(2):
    own = Chunk(chunk.index[replica], chunk.epoch[replica])
    for i in range(2 * CHUNK):
      rates_of_all = Rates(*(np.zeros(2 * CHUNK, np.float32),) * 2)
      numbers = Hyperparameters(WEIGHTS, rates_of_all, jax.random.key(0))
      step.resident(None, device_data, own, numbers, Part(i, 1))
  assert len({tuple(jax.random.key_data(k).tolist()) for k in keys}) == 4 * CHUNK
