"""The step of one replica under each scheme, on networks small enough to check by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.distill.step import Batch, Network, Rates, State, Trainer, evaluate_batch

CLASSES, FEATURES = 4, 12
OPTIMIZER = optax.trace(0.9)
CONFIGURED = dict(alpha=0.8, beta=0.3, gamma=0.7)
RATES = Rates(jnp.float32(0.2), jnp.float32(0.05))


def apply(params, batch_stats, images, train):
  """Batch norm and a dense layer; like a network, it has moments and uses them in inference."""
  x = images.reshape(len(images), -1) * params["scale"]
  mean = batch_stats["mean"]
  if train:
    mean = x.mean(0)
    batch_stats = {"mean": 0.9 * batch_stats["mean"] + 0.1 * mean}
  return jnp.tanh(x - mean) @ params["kernel"], batch_stats


def network(seed, trains=True):
  r = np.random.default_rng(seed)
  params = {
    "scale": jnp.ones(FEATURES),
    "kernel": jnp.asarray(r.standard_normal((FEATURES, CLASSES)), jnp.float32),
  }
  stats = {"mean": jnp.asarray(r.standard_normal(FEATURES), jnp.float32)}
  # Momentum from steps before, so that one that is dropped or zeroed shows.
  momentum = jax.tree.map(lambda p: 0.1 * jnp.ones_like(p), params)
  return Network(params, stats, optax.TraceState(momentum) if trains else None)


def batch(seed=0, size=8):
  r = np.random.default_rng(seed)
  return Batch(
    jnp.asarray(r.standard_normal((size, 2, 2, 3)), jnp.float32),
    jnp.asarray(r.integers(0, CLASSES, size), jnp.int32),
  )


def setting(name, **changes):
  """(trainer, state, weights) of a scheme."""
  scheme = SCHEMES[name]
  trainer = Trainer(
    apply,
    OPTIMIZER,
    teacher=apply if scheme.teacher else None,
    teacher_optimizer=OPTIMIZER if scheme.teacher == "joint" else None,
    **changes,
  )
  teacher = network(1, trains=scheme.teacher == "joint") if scheme.teacher else None
  return (trainer, State(network(0), teacher), dict(scheme.weights(**CONFIGURED), temperature=1.0))


def run(trainer, state, weights, data=None, rates=RATES):
  return jax.jit(trainer.step)(state, data or batch(), weights, rates)


def cross_entropy(logits, labels):
  return float(optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean())


def test_schemes_are_the_papers():
  facts = {name: (s.teacher, s.pretrained_student, s.recipe) for name, s in SCHEMES.items()}
  assert facts == {
    "baseline": (None, False, "student"),
    "A": ("joint", False, "student"),
    "B": ("fixed", False, "student"),
    "C": ("fixed", True, "finetune"),
    "C-control": (None, True, "finetune"),
  }
  weights = {
    name: tuple(s.weights(1.0, 0.5, 0.25)[k] for k in ("alpha", "beta", "gamma"))
    for name, s in SCHEMES.items()
  }
  alone, fixed = (0.0, 1.0, 0.0), (0.0, 0.5, 0.25)
  assert weights == {
    "baseline": alone,
    "C-control": alone,
    "A": (1.0, 0.5, 0.25),
    "B": fixed,
    "C": fixed,
  }


@pytest.mark.parametrize("name", SCHEMES)
def test_what_moves_and_what_does_not(name):
  trainer, state, weights = setting(name)
  new, metrics = run(trainer, state, weights)
  moved = lambda old, new: [
    not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new))
  ]
  assert jax.tree.structure(new) == jax.tree.structure(state)
  assert all(moved(state.student, new.student))
  if SCHEMES[name].teacher == "joint":
    assert all(moved(state.teacher, new.teacher))
  elif SCHEMES[name].teacher == "fixed":
    assert not any(moved(state.teacher, new.teacher))  # parameters and statistics, bit for bit
    assert new.teacher.opt_state is None
  else:
    assert new.teacher is None and "teacher_ce" not in metrics
  expected = {"loss", "student_ce", "student_accuracy", "gradient_norm"}
  if SCHEMES[name].teacher:
    expected |= {"teacher_ce", "distill", "teacher_accuracy"}
  assert metrics.keys() == expected


def test_the_update_is_that_of_the_loss_by_hand():
  trainer, state, weights = setting("B")
  data = batch()
  teacher_logits, _ = apply(state.teacher.params, state.teacher.batch_stats, data.images, False)
  p = jax.nn.softmax(teacher_logits)

  def loss(params):
    logits, _ = apply(params, state.student.batch_stats, data.images, True)
    log_q = jax.nn.log_softmax(logits)
    hard = -log_q[jnp.arange(8), data.labels].mean()
    return CONFIGURED["beta"] * hard - CONFIGURED["gamma"] * (p * log_q).sum(-1).mean()

  value, gradient = jax.value_and_grad(loss)(state.student.params)
  new, metrics = run(trainer, state, weights)
  np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
  np.testing.assert_allclose(
    metrics["gradient_norm"], np.sqrt(sum(np.sum(g**2) for g in gradient.values())), rtol=1e-5
  )
  for name, g in gradient.items():
    momentum = g + 0.9 * 0.1
    np.testing.assert_allclose(new.student.opt_state.trace[name], momentum, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
      new.student.params[name], state.student.params[name] - 0.2 * momentum, rtol=1e-5, atol=1e-6
    )
  mean = data.images.reshape(8, -1).mean(0)
  np.testing.assert_allclose(
    new.student.batch_stats["mean"], 0.9 * state.student.batch_stats["mean"] + 0.1 * mean, atol=1e-6
  )


@pytest.mark.parametrize("teacher_gradient", [None, False, True])
def test_the_third_term_trains_the_teacher_only_if_asked(teacher_gradient):
  # The teacher alone: as a baseline student whose cross-entropy counts alpha times.
  alone = Trainer(apply, OPTIMIZER)
  _, state, weights = setting("A")
  expected, _ = run(
    alone,
    State(state.teacher),
    dict(alpha=0.0, beta=CONFIGURED["alpha"], gamma=0.0, temperature=1.0),
    rates=Rates(RATES.teacher, RATES.student),
  )
  changes = {} if teacher_gradient is None else {"teacher_gradient": teacher_gradient}
  new, _ = run(setting("A", **changes)[0], state, weights)
  differences = [
    np.abs(a - b).max()
    for a, b in zip(jax.tree.leaves(expected.student.params), jax.tree.leaves(new.teacher.params))
  ]
  if teacher_gradient:
    assert min(differences) > 1e-4
  else:
    assert max(differences) < 1e-6
  # Either way the moments are those of its own forward pass.
  np.testing.assert_allclose(
    new.teacher.batch_stats["mean"], expected.student.batch_stats["mean"], atol=1e-6
  )


def test_a_fixed_teacher_runs_in_inference_mode():
  trainer, state, weights = setting("B")
  data = batch()
  _, metrics = run(trainer, state, weights, data)
  logits = {
    train: apply(state.teacher.params, state.teacher.batch_stats, data.images, train)[0]
    for train in (True, False)
  }
  np.testing.assert_allclose(
    metrics["teacher_ce"], cross_entropy(logits[False], data.labels), rtol=1e-5
  )
  assert abs(cross_entropy(logits[True], data.labels) - float(metrics["teacher_ce"])) > 0.01
  assert float(metrics["teacher_accuracy"]) == np.mean(np.argmax(logits[False], -1) == data.labels)


@pytest.mark.parametrize("name", SCHEMES)
def test_at_rate_zero_statistics_move_and_nothing_that_is_trained(name):
  trainer, state, weights = setting(name)
  after, _ = run(trainer, state, weights, rates=Rates(jnp.float32(0), jnp.float32(0)))
  chex.assert_trees_all_equal(after.student.params, state.student.params)
  np.testing.assert_allclose(
    after.student.batch_stats["mean"],
    0.9 * state.student.batch_stats["mean"] + 0.1 * batch().images.reshape(8, -1).mean(0),
    rtol=1e-5,
  )
  if state.teacher:
    chex.assert_trees_all_equal(after.teacher.params, state.teacher.params)


def test_many_steps_one_trace():
  trainer, state, weights = setting("A")
  chex.clear_trace_counter()
  step = jax.jit(chex.assert_max_traces(trainer.step, n=1))
  for i in range(5):
    weights = {k: np.float32(v + 0.1 * i) for k, v in weights.items()}
    state, _ = step(state, batch(seed=i), weights, Rates(np.float32(0.1 * i), np.float32(0.2)))
  with pytest.raises(AssertionError):  # what it would be to fail
    step(state, batch(size=4), weights, RATES)


def test_evaluation_counts_only_what_the_mask_lets_through():
  net, data = network(0), batch(1, size=6)
  logits, _ = apply(net.params, net.batch_stats, data.images, False)
  # A masked example counts nothing even where its loss is not a number.
  data = data._replace(images=data.images.at[5].set(jnp.nan))
  found, answers = evaluate_batch(apply, net, data, jnp.array([1, 1, 0, 1, 1, 0], jnp.float32))
  kept = np.array([0, 1, 3, 4])
  assert float(found["count"]) == 4
  counted = np.array([1, 1, 0, 1, 1, 0], bool)
  np.testing.assert_array_equal(answers.predicted, np.where(counted, np.argmax(logits, -1), -1))
  np.testing.assert_array_equal(answers.label, np.where(counted, data.labels, -1))
  odds = np.exp(logits[kept]) / np.exp(logits[kept]).sum(-1, keepdims=True)
  np.testing.assert_allclose(answers.confidence[kept], odds.max(-1), rtol=1e-5)
  assert float(found["correct"]) == np.sum((np.argmax(logits, -1) == data.labels)[kept])
  np.testing.assert_allclose(
    found["loss"], 4 * cross_entropy(logits[kept], data.labels[kept]), rtol=1e-5
  )
