"""The joint loss against NumPy in float64, against PyTorch, and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tools

from apprentice_jax import apprentice_loss

BATCH, CLASSES = 6, 5


def log_softmax(z):
  z = z - z.max(-1, keepdims=True)
  return z - np.log(np.exp(z).sum(-1, keepdims=True))


def softmax(z):
  return np.exp(log_softmax(z))


def reference(student, teacher, labels, alpha, beta, gamma, tau):
  """Equation 1 of the paper, with a temperature, in float64."""
  student, teacher = np.float64(student), np.float64(teacher)
  hard = lambda z: -np.mean(log_softmax(z)[np.arange(len(labels)), labels])
  soft = -np.mean(np.sum(softmax(teacher / tau) * log_softmax(student / tau), -1))
  parts = {"teacher_ce": hard(teacher), "student_ce": hard(student), "distill": tau**2 * soft}
  return alpha * parts["teacher_ce"] + beta * parts["student_ce"] + gamma * parts["distill"], parts


def draw(seed=0, scale=3.0):
  r = np.random.default_rng(seed)
  logits = (scale * r.standard_normal((2, BATCH, CLASSES))).astype(np.float32)
  return *logits, r.integers(0, CLASSES, BATCH).astype(np.int32)


SETTINGS = [
  (1.0, 0.5, 0.5, 1.0),
  (1.0, 0.5, 0.5, 4.0),
  (0.0, 0.3, 0.7, 0.5),
  (2.0, 0.0, 0.0, 1.0),
  (0.0, 1.0, 0.0, 1.0),
  (0.0, 0.0, 1.5, 3.0),
]


@pytest.mark.parametrize("alpha, beta, gamma, tau", SETTINGS)
@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_equals_numpy(alpha, beta, gamma, tau, scale):
  student, teacher, labels = draw(1, scale)
  loss, parts = apprentice_loss(
    student, teacher, labels, alpha=alpha, beta=beta, gamma=gamma, temperature=tau
  )
  expected, expected_parts = reference(student, teacher, labels, alpha, beta, gamma, tau)
  assert loss.dtype == jnp.float32 and loss.shape == ()
  np.testing.assert_allclose(loss, expected, rtol=2e-6)
  assert parts.keys() == expected_parts.keys()
  for name, value in parts.items():
    np.testing.assert_allclose(value, expected_parts[name], rtol=2e-6, err_msg=name)


def test_defaults_are_the_papers():
  student, teacher, labels = draw(2)
  np.testing.assert_allclose(
    apprentice_loss(student, teacher, labels)[0],
    reference(student, teacher, labels, 1.0, 0.5, 0.5, 1.0)[0],
    rtol=2e-6,
  )


def test_by_hand():
  # Two classes. The teacher says 3/4 and 1/4, the student 1/2 and 1/2, the label is the second:
  # teacher log 4, student log 2, distillation log 2.
  loss, parts = apprentice_loss(
    jnp.zeros((1, 2)),
    jnp.log(jnp.array([[3.0, 1.0]])),
    jnp.array([1]),
    alpha=1.0,
    beta=10.0,
    gamma=100.0,
  )
  np.testing.assert_allclose(parts["teacher_ce"], np.log(4), rtol=1e-6)
  np.testing.assert_allclose(parts["student_ce"], np.log(2), rtol=1e-6)
  np.testing.assert_allclose(parts["distill"], np.log(2), rtol=1e-6)
  np.testing.assert_allclose(loss, np.log(4) + 110 * np.log(2), rtol=1e-6)


def test_without_teacher_only_beta_counts():
  student, _, labels = draw(3)
  loss, parts = apprentice_loss(student, None, labels, alpha=7.0, beta=0.25, gamma=9.0)
  expected = reference(student, student, labels, 0.0, 0.25, 0.0, 1.0)[1]["student_ce"]
  np.testing.assert_allclose(loss, 0.25 * expected, rtol=2e-6)
  assert parts.keys() == {"student_ce"}


def teacher_gradient_of(student, teacher, labels, **kwargs):
  return jax.grad(lambda z: apprentice_loss(student, z, labels, **kwargs)[0])(jnp.asarray(teacher))


@pytest.mark.parametrize("tau", [1.0, 3.0])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_teacher_gradient(alpha, tau):
  student, teacher, labels = draw(4)
  gamma = 0.7
  alone = alpha * (softmax(teacher) - np.eye(CLASSES)[labels]) / BATCH
  constant = teacher_gradient_of(
    student, teacher, labels, alpha=alpha, gamma=gamma, temperature=tau
  )
  np.testing.assert_allclose(constant, alone, atol=1e-6)
  if alpha == 0:
    assert not np.any(constant)  # exactly: a fixed target
  # d/dz^T of -sum p log q: -p * (log q - sum p log q), times gamma * tau^2 / tau / batch.
  p, log_q = softmax(teacher / tau), log_softmax(student / tau)
  third = -gamma * tau / BATCH * p * (log_q - np.sum(p * log_q, -1, keepdims=True))
  both = teacher_gradient_of(
    student, teacher, labels, alpha=alpha, gamma=gamma, temperature=tau, teacher_gradient=True
  )
  np.testing.assert_allclose(both, alone + third, atol=2e-6)
  assert np.abs(third).max() > 0.05


@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_student_gradient_of_the_third_term(tau):
  student, teacher, labels = draw(5)
  gamma = 0.5
  loss = lambda z: apprentice_loss(
    z, teacher, labels, alpha=1.0, beta=0.0, gamma=gamma, temperature=tau
  )[0]
  gradient = jax.grad(loss)(jnp.asarray(student))
  expected = gamma * tau * (softmax(student / tau) - softmax(teacher / tau)) / BATCH
  np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_logits_are_computed_in_float32(dtype):
  student, teacher, labels = draw(6)
  student, teacher = jnp.asarray(student, dtype), jnp.asarray(teacher, dtype)
  loss, parts = apprentice_loss(student, teacher, labels, temperature=3.0)
  expected, expected_parts = reference(student, teacher, labels, 1.0, 0.5, 0.5, 3.0)
  assert loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, expected, rtol=2e-6)
  np.testing.assert_allclose(parts["distill"], expected_parts["distill"], rtol=2e-6)


@pytest.mark.parametrize(
  "student, teacher, labels",
  [
    (np.zeros((2, 3)), np.zeros((2, 4)), np.zeros(2, int)),
    (np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 3), int)),
    (np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(2)),
  ],
  ids=["classes", "one-hot", "float labels"],
)
def test_wrong_shapes_and_types_are_refused(student, teacher, labels):
  with pytest.raises(AssertionError):
    apprentice_loss(jnp.asarray(student), jnp.asarray(teacher), jnp.asarray(labels))


@pytest.mark.slow
def test_equals_torch():
  torch = tools.module("torch")
  functional = torch.nn.functional
  student, teacher, labels = draw(7)
  alpha, beta, gamma, tau = 1.0, 0.4, 0.6, 2.0
  z_s, z_t = (torch.tensor(z, requires_grad=True) for z in (student, teacher))
  y = torch.tensor(labels, dtype=torch.int64)
  target = functional.softmax(z_t.detach() / tau, -1)
  loss = (
    alpha * functional.cross_entropy(z_t, y)
    + beta * functional.cross_entropy(z_s, y)
    + gamma * tau**2 * functional.cross_entropy(z_s / tau, target)
  )
  loss.backward()
  ours, gradients = jax.value_and_grad(
    lambda s, t: apprentice_loss(
      s, t, labels, alpha=alpha, beta=beta, gamma=gamma, temperature=tau
    )[0],
    (0, 1),
  )(jnp.asarray(student), jnp.asarray(teacher))
  np.testing.assert_allclose(ours, loss.item(), rtol=2e-6)
  np.testing.assert_allclose(gradients[0], z_s.grad.numpy(), atol=1e-6)
  np.testing.assert_allclose(gradients[1], z_t.grad.numpy(), atol=1e-6)


def test_shares_of_classes_weigh_the_cross_entropies_of_their_labels():
  student, teacher, labels = draw(6)
  other, share = labels[::-1], np.linspace(0, 1, BATCH, dtype=np.float32)[:, None]
  one_hot = np.eye(CLASSES, dtype=np.float32)
  soft = jnp.asarray(share * one_hot[labels] + (1 - share) * one_hot[other])
  _, parts = apprentice_loss(student, teacher, soft)
  for name, z in (("student_ce", student), ("teacher_ce", teacher)):
    log_p = log_softmax(np.float64(z))
    each = [-log_p[np.arange(BATCH), y] for y in (labels, other)]
    expected = np.mean(share[:, 0] * each[0] + (1 - share[:, 0]) * each[1])
    np.testing.assert_allclose(parts[name], expected, rtol=2e-6)


def standardised(z):
  return (z - z.mean(-1, keepdims=True)) / z.std(-1, keepdims=True)


@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_standardised_logits_equal_numpy(tau):
  student, teacher, labels = draw(5)
  weights = dict(alpha=0.3, beta=0.1, gamma=0.9)
  loss, parts = apprentice_loss(
    student, teacher, labels, temperature=tau, standardised=True, **weights
  )
  # The third term alone sees them.
  own, soft = standardised(np.float64(student)), standardised(np.float64(teacher))
  expected = reference(student, teacher, labels, **weights, tau=tau)[1]
  expected["distill"] = reference(own, soft, labels, **weights, tau=tau)[1]["distill"]
  for name, value in parts.items():
    np.testing.assert_allclose(value, expected[name], rtol=1e-5, err_msg=name)
  total = 0.3 * parts["teacher_ce"] + 0.1 * parts["student_ce"] + 0.9 * parts["distill"]
  np.testing.assert_allclose(loss, total, rtol=1e-6)


def test_standardised_by_hand():
  # Of two classes any logits are +1 and -1 then, whatever their size.
  teacher, student = jnp.array([[7.0, 1.0]]), jnp.array([[-0.2, 0.3]])
  _, parts = apprentice_loss(student, teacher, jnp.array([0]), standardised=True)
  p = 1 / (1 + np.exp(-2))
  np.testing.assert_allclose(parts["distill"], -p * np.log(1 - p) - (1 - p) * np.log(p), rtol=1e-3)


def test_standardised_logits_without_spread_have_finite_gradients():
  loss = lambda z: apprentice_loss(z, 100 * z, jnp.array([1]), standardised=True, beta=0.0)[0]
  assert np.isfinite(jax.grad(loss)(jnp.zeros((1, 3)))).all()
