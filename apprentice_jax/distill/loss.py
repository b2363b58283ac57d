"""The joint loss of teacher and apprentice."""

import chex
import jax
import jax.numpy as jnp
import optax


def apprentice_loss(
  student_logits,
  teacher_logits,
  labels,
  *,
  alpha=1.0,
  beta=0.5,
  gamma=0.5,
  temperature=1.0,
  teacher_gradient=False,
  standardised=False,
):
  """The weighted sum of three cross-entropies that trains an apprentice.

  With teacher logits z^T, student logits z^A and labels y::

      loss = alpha * H(y, softmax(z^T)) + beta * H(y, softmax(z^A))
             + gamma * tau^2 * H(softmax(z^T / tau), softmax(z^A / tau))

  This is eq. 1 of Mishra & Marr, "Apprentice", ICLR 2018, https://arxiv.org/abs/1711.05852, which
  has tau = 1. At other temperatures tau^2 keeps the size of the third term's gradient (Hinton et
  al., 2015, https://arxiv.org/abs/1503.02531). With beta = 0 the student learns from the teacher
  alone, without labels, as in N2UQ (Liu et al., CVPR 2022, https://arxiv.org/abs/2111.14826).

  Without a teacher it is the plain cross-entropy, times beta:

  >>> z, y = jnp.array([[0.0, 0.0]]), jnp.array([1])
  >>> loss, parts = apprentice_loss(z, None, y, beta=1.0)
  >>> round(float(loss), 4)  # log 2
  0.6931

  Args:
    student_logits: float (batch, classes).
    teacher_logits: float (batch, classes), or None, which drops the alpha and gamma terms.
    labels: integer (batch,), or float (batch, classes), the share of each class in an image.
    alpha, beta, gamma: weights of the terms.
    temperature: tau.
    teacher_gradient: whether the third term also trains the teacher; by default its softmax is a
      constant target.
    standardised: whether the third term sees each image's logits less their mean, divided by their
      standard deviation (Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024,
      https://arxiv.org/abs/2403.01427). The student then learns their shape, not their size.

  Returns:
    The loss, a float32 scalar, mean over the batch; and a dict of the unweighted terms
    "teacher_ce", "student_ce" and "distill" (those there are).
  """
  mixed = labels.ndim == 2
  chex.assert_rank([student_logits, labels], [2, 2 if mixed else 1])
  chex.assert_type(labels, float if mixed else int)
  # Sums of exponentials of bfloat16 logits would lose the small classes.
  student_logits = student_logits.astype(jnp.float32)
  cross_entropy = optax.softmax_cross_entropy_with_integer_labels
  if mixed:
    cross_entropy = optax.softmax_cross_entropy
  parts = {"student_ce": jnp.mean(cross_entropy(student_logits, labels))}
  loss = beta * parts["student_ce"]
  if teacher_logits is not None:
    chex.assert_equal_shape([student_logits, teacher_logits])
    teacher_logits = teacher_logits.astype(jnp.float32)
    parts["teacher_ce"] = jnp.mean(cross_entropy(teacher_logits, labels))
    # A joint teacher learns from the labels; the student is not to pull it towards itself.
    soft = teacher_logits if teacher_gradient else jax.lax.stop_gradient(teacher_logits)
    own = student_logits
    if standardised:
      own, soft = jax.nn.standardize(own), jax.nn.standardize(soft)
    parts["distill"] = temperature**2 * jnp.mean(
      optax.softmax_cross_entropy(own / temperature, jax.nn.softmax(soft / temperature))
    )
    loss = loss + alpha * parts["teacher_ce"] + gamma * parts["distill"]
  return loss, parts
