"""Eight replicas with unequal data: averaged, the same on each, and the same on every path."""

import functools
import re
import types
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax.data import augment
from apprentice_jax.data.augment import Augmentation, augmented
from apprentice_jax.data.batches import Chunk, DeviceBatch, DeviceData, example_indices
from apprentice_jax.distill import flat
from apprentice_jax.distill.step import Batch, Rates, State, Trainer, global_norm
from apprentice_jax.models import health
from apprentice_jax.models.precision import Precision, Quantization
from apprentice_jax.models.residual import ResNet
from apprentice_jax.training import parallel
from apprentice_jax.training.dispatch import (
  HOST_STEPS,
  NEXT,
  NOBODY,
  THIS,
  Dispatch,
  Program,
  dispatch,
)
from apprentice_jax.training.evaluate import evaluator
from apprentice_jax.training.optimizer import SGD, Adam
from apprentice_jax.training.program import (
  Hyperparameters,
  Part,
  Settings,
  Step,
  View,
  begun,
  initialiser,
  make_apply,
  normalise,
)

DEVICES, BATCH, SIZE, CHUNK = 8, 32, 100, 3
CLASSES = 5
WEIGHTS = dict(alpha=1.0, beta=0.5, gamma=0.5, temperature=1.0)
NET = ResNet(stages=(1, 1), width=4, num_classes=CLASSES)
# Ternary weights only: an activation that rounds to another level, from float32 sums in another
# order, would be a difference of its own.
LOW = NET.clone(quantization=Quantization(Precision(32, 2)))
PLAIN = Settings(
  NET, SGD(), augmentation=Augmentation(1, True), mean=(0.4,), std=(0.3,), steps_per_dispatch=CHUNK
)
ONE = Dispatch("", 1, THIS)
# As on a TPU, and as on a GPU: nobody waits, and a dispatch takes all steps of a chunk.
DYNAMIC, FIXED = Dispatch("while", CHUNK, NOBODY), Dispatch("scan", CHUNK, NOBODY)
JOINT = PLAIN._replace(student=LOW, teacher=NET, teacher_optimizer=SGD())


@pytest.fixture(scope="module")
def data():
  r = np.random.default_rng(0)
  images = r.integers(0, 256, (SIZE, 8, 8, 1), np.uint8)
  # Brighter from image to image, so that the replicas' moments differ.
  images = (images * np.linspace(0.1, 1, SIZE)[:, None, None, None]).astype(np.uint8)
  return DeviceData(images, r.integers(0, CLASSES, SIZE).astype(np.int32))


def initial(settings, data):
  """The starting state, on the host; parameters and statistics away from their defaults."""

  def start(model, optimizer, seed):
    images = jnp.asarray(data.images[:8], jnp.float32) / 255
    net = initialiser(model.clone(norm_axis=None))(jax.random.key(seed), images, {})
    r = np.random.default_rng(seed)
    stats = jax.tree.map(lambda s: s + 0.1 * r.random(s.shape).astype(np.float32), net.batch_stats)
    return net._replace(batch_stats=stats, opt_state=optimizer.build().init(net.params))

  teacher = settings.teacher and start(settings.teacher, settings.teacher_optimizer, 1)
  return jax.device_get(State(start(settings.student, settings.student_optimizer, 0), teacher))


def test_training_steps_are_compiled_to_be_fast():
  for row in (ONE, DYNAMIC, FIXED):
    program = Program(PLAIN, row)
    assert program._resident.thorough and program._fed.thorough
  assert not initialiser(NET).thorough


def sorted_indices(count=1):
  """Replica r gets the images from 12 r on: unequal shares."""
  index = np.stack([np.arange(4) + 12 * r for r in range(DEVICES)])[:, None]
  index = np.concatenate([index + 4 * s for s in range(count)], 1)
  index = np.pad(index, ((0, 0), (0, CHUNK - count), (0, 0)))
  return Chunk(index.astype(np.int32), np.zeros_like(index, np.int32))


def rates(student=0.1, teacher=0.05):
  return Rates(np.full(CHUNK, student, np.float32), np.full(CHUNK, teacher, np.float32))


def hyper(seed=0, **weights):
  return Hyperparameters(dict(WEIGHTS, **weights), rates(), jax.random.key(seed))


def train(program, settings, data, count=1, seed=0, **weights):
  """The state after some steps, and their metrics, step by step."""
  state, parts, most = parallel.replicate(initial(settings, data)), [], program.row.steps
  for first in range(0, count, most):
    part = Part(first, min(most, count - first), first + most >= count)
    chunk, numbers = sorted_indices(count), hyper(seed, **weights)
    state, metrics = program.train(state, parallel.replicate(data), chunk, numbers, part)
    parts.append({k: m if program.row.loop else m[None] for k, m in metrics.items()})
  return state, metrics if program.row.loop and len(parts) == 1 else {
    k: [m for part in parts for m in part[k][:most]] for k in metrics
  }


def history(metrics, count):
  return {k: np.asarray(v)[:count] for k, v in jax.device_get(metrics).items()}


def assert_close(a, b, **tolerance):
  chex.assert_trees_all_close(jax.device_get(a), jax.device_get(b), **tolerance)


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


def shares(data, settings, seed=0):
  """What each replica is given in the first step, as one device would compute it."""
  chunk, key = sorted_indices(), jax.random.key(seed)
  for index, epoch in zip(chunk.index[:, 0], chunk.epoch[:, 0]):
    images = augmented(jnp.asarray(data.images), index, epoch, key, settings.augmentation)
    yield Batch(
      normalise(images, settings.mean, settings.std, jnp.float32), jnp.asarray(data.labels[index])
    )


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


@pytest.fixture(scope="module")
def plain_one_by_one(data):
  return train(Program(PLAIN, ONE), PLAIN, data, 2)


@pytest.mark.parametrize("row", [None, DYNAMIC])
def test_a_loop_on_the_devices_gives_the_same_numbers(row, plain_one_by_one, data):
  program = Program(PLAIN, row)
  assert program.row.steps == CHUNK <= HOST_STEPS
  state, metrics = train(program, PLAIN, data, 2)
  # Other convolution kernels inside a loop, hence other roundings.
  assert_close(state, plain_one_by_one[0], rtol=1e-3, atol=1e-4)
  assert_close(history(metrics, 2), history(plain_one_by_one[1], 2), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("first, count", [(0, 2), (1, 2), (0, CHUNK)])
def test_a_loop_of_fixed_length_takes_as_many_steps(first, count, loops, data):
  settings, dynamic, fixed = loops
  found = [
    program.train(
      parallel.replicate(initial(settings, data)),
      parallel.replicate(data),
      sorted_indices(CHUNK),
      hyper(),
      Part(first, count),
    )
    for program in (dynamic, fixed)
  ]
  (state, metrics), (fixed_state, fixed_metrics) = jax.device_get(found)
  assert_close(fixed_state, state, rtol=1e-5, atol=1e-6)
  assert_close(history(fixed_metrics, count), history(metrics, count), rtol=1e-5, atol=1e-6)
  assert metrics["activations"][count - 1].any() and not metrics["activations"][: count - 1].any()


def test_a_batch_that_is_fed_without_a_branch_is_looked_at_as_well(loops, data):
  settings, dynamic, fixed = loops
  index = sorted_indices().index[:, 0]
  numbers = Hyperparameters(WEIGHTS, Rates(np.float32(0.1), np.float32(0)))
  batch = DeviceBatch(data.images[index], data.labels[index], np.ones(index.shape, np.float32))
  found = [
    program.feed(parallel.replicate(initial(settings, data)), batch, numbers, observe)
    for program in (dynamic, fixed)
    for observe in (True, False)
  ]
  seen, unseen, fixed_seen, fixed_unseen = jax.device_get(found)
  assert_close(fixed_seen, seen, rtol=1e-5, atol=1e-6)
  assert_close(fixed_unseen, unseen, rtol=1e-5, atol=1e-6)
  assert seen[1]["activations"].any() and not fixed_unseen[1]["activations"].any()


@pytest.mark.slow
@pytest.mark.parametrize("trains", [True, False])
def test_a_teacher_goes_through_a_loop_of_fixed_length(trains, data, monkeypatch):
  """Both networks packed, with arrays in the vectors and beside them; and a fixed teacher, which is
  not."""
  monkeypatch.setattr(flat, "LARGE", 100)
  settings = JOINT if trains else JOINT._replace(teacher_optimizer=None)
  start = initial(JOINT, data)
  if not trains:
    start = start._replace(teacher=start.teacher._replace(opt_state=None))
  assert {leaf.size < 100 for leaf in jax.tree.leaves(start.student.params)} == {True, False}
  found = [
    Program(settings, row).train(
      parallel.replicate(start),
      parallel.replicate(data),
      sorted_indices(CHUNK),
      hyper(),
      Part(0, 2),
    )
    for row in (FIXED, DYNAMIC)
  ]
  assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-5)
  assert_close(history(found[0][1], 2), history(found[1][1], 2), rtol=1e-4, atol=1e-5)
  moved = [
    np.array_equal(a, b)
    for a, b in zip(*map(jax.tree.leaves, (found[0][0].teacher.params, start.teacher.params)))
  ]
  assert not any(moved) if trains else all(moved)


@pytest.mark.parametrize("fixed", [False, True])
def test_a_loop_of_fixed_length_has_no_branch(fixed, loops, data, monkeypatch):
  conditionals, cond = [], jax.lax.cond
  monkeypatch.setattr(jax.lax, "cond", lambda *args: conditionals.append(args) or cond(*args))
  settings, chunk = loops[0], sorted_indices(CHUNK)
  program = Program(settings, FIXED if fixed else DYNAMIC)
  lowered = program.lower_train(initial(settings, data), data, chunk, hyper())
  assert bool(conditionals) != fixed
  # And few kernels: batch norm's sums are in pairs, the gradients' norm is that of a vector.
  assert (
    bool(re.search(r"stablehlo.reduce\(.*\), \(.*tensor<f32>, tensor<f32>\)", lowered.as_text()))
    == fixed
  )
  assert (program.step.trainer.norm is global_norm) != fixed


@pytest.fixture(scope="module")
def loops():
  """Settings of quantized activations, and their program in a loop: of a length that varies, and of
  a fixed one."""
  settings = PLAIN._replace(student=NET.clone(quantization=Quantization(Precision(2, 32))))
  return settings, *(Program(settings, row) for row in (DYNAMIC, FIXED))


@pytest.mark.parametrize(
  "changed",
  [
    {"im2col": False},
    {"dtype": jnp.bfloat16},
  ],
)
def test_what_is_slow_in_a_loop_on_cpu_is_dispatched_step_by_step(changed):
  for which in ("student", "teacher"):
    assert dispatch(JOINT._replace(**{which: NET.clone(**changed)}), jax.devices()) == ONE


class Device(NamedTuple):
  platform: str


@pytest.mark.parametrize(
  "platform, devices, chunk, expected",
  [
    ("gpu", 1, 9, Dispatch("scan", 9, NOBODY)),
    ("gpu", 8, 9, Dispatch("scan", 9, NOBODY)),
    ("tpu", 1, 9, Dispatch("while", 9, NOBODY)),
    ("tpu", 8, 9, Dispatch("while", 9, NOBODY)),
    ("cpu", 1, 9, Dispatch("", 1, NEXT)),
    ("cpu", 8, 9, Dispatch("while", HOST_STEPS, THIS)),
    ("cpu", 8, CHUNK, Dispatch("while", CHUNK, THIS)),
  ],
)
def test_the_table_of_dispatches(platform, devices, chunk, expected):
  settings = JOINT._replace(steps_per_dispatch=chunk)
  assert dispatch(settings, [Device(platform)] * devices) == expected
  if (platform, chunk) == ("cpu", 9):
    assert Program(settings, devices=jax.devices()[:devices]).row == expected


def test_step_by_step_gives_the_same_numbers(joint, data):
  single = Program(JOINT._replace(student=LOW.clone(im2col=False)))
  (state, metrics), expected = train(single, JOINT, data, 2), train(joint, JOINT, data, 2)
  assert single.row == ONE
  assert_close(state, expected[0], rtol=1e-3, atol=1e-4)
  assert_close(history(metrics, 2), history(expected[1], 2), rtol=1e-3, atol=1e-4)


def test_activations_are_looked_at_in_the_last_step_alone(data):
  model = NET.clone(quantization=Quantization(Precision(2, 32)))
  settings = PLAIN._replace(student=model)
  program = Program(settings)
  _, metrics = train(program, settings, data, 2)
  first, last = (np.asarray(metrics["activations"][i]) for i in range(2))
  assert first.shape == (5, 2) and not first.any()
  # Those of the first step, by hand: the mean over the replicas, each on the first of its images.
  _, metrics = train(program, settings, data, 1)
  net = initial(settings, data).student
  each = [
    health.activations_of(model, net.params, net.batch_stats, share.images[: health.IMAGES])
    for share in shares(data, settings)
  ]
  np.testing.assert_allclose(metrics["activations"][0], np.mean(each, 0), atol=1e-2)
  assert np.std(each, 0).max() > 0.02 and last.any()


def test_synchronised_batch_norm_is_that_of_the_whole_batch(plain_one_by_one, data):
  settings = PLAIN._replace(student=NET.clone(norm_axis=parallel.AXIS))
  state, _ = train(Program(settings), settings, data)
  whole = Batch(*(jnp.concatenate(parts) for parts in list(zip(*shares(data, settings)))[:2]))
  expected, _ = jax.jit(Trainer(make_apply(NET), SGD().build()).step)(
    initial(PLAIN, data), whole, WEIGHTS, Rates(np.float32(0.1), np.float32(0.05))
  )
  assert_close(state, expected, rtol=1e-3, atol=1e-5)
  own = plain_one_by_one[0].student.batch_stats["stem_norm"]["var"]
  assert np.all(own < state.student.batch_stats["stem_norm"]["var"])


def test_fewer_devices_may_be_chosen(data):
  devices = jax.devices()[2:4]
  chunk = Chunk(*(a.reshape(2, 4, CHUNK, 4)[:, 0] for a in sorted_indices(2)))
  program = Program(PLAIN, devices=devices)
  state = parallel.replicate(initial(PLAIN, data), devices)
  new, _ = program.train(state, parallel.replicate(data, devices), chunk, hyper(), Part(0, 1))
  assert all(leaf.devices() == set(devices) for leaf in jax.tree.leaves(new))


def test_on_one_device_the_next_step_is_dispatched_while_one_runs(data, monkeypatch):
  devices = jax.devices()[:1]
  chunk = Chunk(*(np.asarray(a)[:1] for a in sorted_indices(CHUNK)))
  resident, found, waited = parallel.replicate(data, devices), [], []
  wait = jax.block_until_ready
  monkeypatch.setattr(jax, "block_until_ready", lambda what: waited.append(what) or wait(what))
  for waits in (NEXT, THIS):
    program = Program(PLAIN, ONE._replace(waits=waits), devices=devices)
    state, metrics = parallel.replicate(initial(PLAIN, data), devices), []
    for i in range(CHUNK):
      state, one = program.train(state, resident, chunk, hyper(), Part(i, 1, i == CHUNK - 1))
      metrics.append(one["loss"])
    found.append((state, metrics))
  losses = found[0][1]
  assert (
    waited[0] is None and waited[1] is losses[0] and waited[2] is losses[1]
  )  # each for the step before
  assert [metrics["loss"] for metrics in waited[3:]] == found[1][1]  # each for itself
  chex.assert_trees_all_equal(*found)


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


@pytest.mark.slow
def test_freezing_damping_mixing_and_adam_are_the_same_in_every_loop(data):
  adam = Adam(SGD(), ("kernel",), 0.1)
  settings = PLAIN._replace(
    student=LOW, student_optimizer=adam, mix="cutmix", freezes=True, damps=True
  )
  numbers = rates()._replace(
    threshold=np.full(CHUNK, 1e-3, np.float32), damping=np.full(CHUNK, 0.1, np.float32)
  )
  found = []
  for row in (ONE, DYNAMIC, FIXED):
    program, student = Program(settings, row), initial(PLAIN._replace(student=LOW), data).student
    state = parallel.replicate(State(begun(settings, "student", student)))
    for first in range(0, CHUNK, row.steps):
      part = Part(first, row.steps, first + row.steps == CHUNK)
      given = Hyperparameters(WEIGHTS, numbers, jax.random.key(0))
      state, _ = program.train(state, parallel.replicate(data), sorted_indices(CHUNK), given, part)
    found.append(jax.device_get(state))
  # Another program may round otherwise, and a weight at a border then flips.
  for other in found[1:]:
    close = [
      np.isclose(a, b, rtol=1e-3, atol=1e-5).mean()
      for a, b in zip(jax.tree.leaves(found[0]), jax.tree.leaves(other), strict=True)
    ]
    assert min(close) > 0.9, close
  tracked = found[0].student.opt_state.weights
  assert any(np.any(leaf) for leaf in jax.tree.leaves(tracked))


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
