"""Steps one by one, in a loop, and in a loop of fixed length: the same numbers on every path."""

import re
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import (
  CHUNK,
  DYNAMIC,
  FIXED,
  JOINT,
  LOW,
  NET,
  ONE,
  PLAIN,
  WEIGHTS,
  assert_close,
  history,
  hyper,
  initial,
  made_data,
  rates,
  shares,
  sorted_indices,
  train,
)

from apprentice_jax.data.batches import Chunk, DeviceBatch
from apprentice_jax.distill import flat
from apprentice_jax.distill.step import Batch, Rates, State, Trainer, global_norm
from apprentice_jax.models import health
from apprentice_jax.models.precision import Precision, Quantization
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
from apprentice_jax.training.optimizer import SGD, Adam
from apprentice_jax.training.program import (
  Hyperparameters,
  Part,
  begun,
  make_apply,
)


@pytest.fixture(scope="module")
def data():
  return made_data()


@pytest.fixture(scope="module")
def plain_one_by_one(data):
  return train(Program(PLAIN, ONE), PLAIN, data, 2)


@pytest.fixture(scope="module")
def loops():
  """Settings of quantized activations, and their program in a loop: of a length that varies, and of
  a fixed one."""
  settings = PLAIN._replace(student=NET.clone(quantization=Quantization(Precision(2, 32))))
  return settings, *(Program(settings, row) for row in (DYNAMIC, FIXED))


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
