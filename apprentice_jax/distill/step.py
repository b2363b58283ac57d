"""The training and evaluation steps of one replica, as pure functions.

They are handed apply functions and know no model. Gradients, running batch statistics and metrics
are averaged over the replicas inside the step, so that the state is the same on each of them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from apprentice_jax.distill.loss import apprentice_loss

# apply(params, batch_stats, images, train[, random key]) -> (logits, new batch_stats)
Apply = Callable[..., tuple[jax.Array, Any]]


class Network(NamedTuple):
  """A network's state; ``opt_state`` is None if it does not train."""

  params: Any
  batch_stats: Any
  opt_state: Any = None


class State(NamedTuple):
  """All that training changes, and a fixed teacher beside it; ``teacher`` is None without one."""

  student: Network
  teacher: Network | None = None


class Batch(NamedTuple):
  """One replica's share.

  Attributes:
    images: (batch, height, width, channels), normalised for the student.
    labels: integer (batch,), or of mixed images float (batch, classes), the share of each class.
    teacher_images: what a teacher sees instead; None: the same.
    teacher_logits: (batch, classes), of a fixed teacher whose logits are known; None: it is run.
    key: of the random numbers that networks draw while they train; None: they draw none.
  """

  images: jax.Array
  labels: jax.Array
  teacher_images: jax.Array | None = None
  teacher_logits: jax.Array | None = None
  key: jax.Array | None = None


class Rates(NamedTuple):
  """The numbers of one step that a schedule gives.

  Attributes:
    student, teacher: learning rates.
    threshold: how often a weight oscillates that freezes; None: none does.
    damping: the weight of the damping term; None: there is none.
  """

  student: jax.Array
  teacher: jax.Array
  threshold: jax.Array | None = None
  damping: jax.Array | None = None


class Tracking(NamedTuple):
  """The ``opt_state`` of a network whose weights may freeze: its optimizer's state, and how its
  weights oscillate."""

  optimizer: Any
  weights: Any


def global_norm(tree: Any) -> jax.Array:
  """The Euclidean norm of all numbers of a tree's arrays together."""
  return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))


@dataclasses.dataclass(frozen=True)
class Trainer:
  """What a training step is made of.

  Attributes:
    student, teacher: apply functions; teacher None without one.
    student_optimizer, teacher_optimizer: optax transformations whose updates are multiplied by
      minus the learning rate; teacher_optimizer None if the teacher is fixed.
    teacher_gradient: whether the distillation term trains the teacher too.
    standardised: whether the distillation term sees standardised logits.
    freeze: (student's params before, after the update, what is tracked, threshold) -> the params,
      what is tracked, and the share that is frozen; None: no weight freezes. See `Tracking`.
    damping: student's params -> the damping term, a float32 scalar; or None.
    weight_health: (student's params before, after the update, shape of an image) -> float32
      (layers, n), or None.
    activation_health: (student's params, batch_stats, images) -> float32 (sites, n), or None.
    axis: name of the replicas' mesh axis, or None for a single one.
    norm: the Euclidean norm of all gradients together.
  """

  student: Apply
  student_optimizer: optax.GradientTransformation
  teacher: Apply | None = None
  teacher_optimizer: optax.GradientTransformation | None = None
  teacher_gradient: bool = False
  standardised: bool = False
  freeze: Callable[[Any, Any, Any, jax.Array], tuple[Any, Any, jax.Array]] | None = None
  damping: Callable[[Any], jax.Array] | None = None
  weight_health: Callable[[Any, Any, tuple], jax.Array] | None = None
  activation_health: Callable[[Any, Any, jax.Array], jax.Array] | None = None
  axis: str | None = None
  norm: Callable[[Any], jax.Array] = global_norm

  def step(self, state: State, batch: Batch, weights: dict, rates: Rates, observe=True):
    """One step on one replica.

    Args:
      state: parameters, batch statistics and optimizer states; the same on every replica.
      batch: this replica's share.
      weights: "alpha", "beta", "gamma" and "temperature" of `apprentice_loss`.
      rates: learning rates.
      observe: whether to look at the health of activations; the same on every replica. False
        itself, not an array, leaves the look out of the program.

    Returns:
      The new state, and metrics, float32: scalars "loss", its unweighted terms, "gradient_norm" (of
      all that trains), "student_accuracy" and "teacher_accuracy" on this batch; "damping", and the
      share "frozen" of weights, where there are; with weight_health
      and activation_health their results, "weights" and "activations" (zeros unless observed).
      State and metrics are the same on every replica.
    """
    chex.assert_rank(batch.images, 4)
    # One gradient for all that trains: a joint teacher's comes with the student's.
    trains_teacher = self.teacher_optimizer is not None
    trained = {"student": state.student.params}
    if trains_teacher:
      trained["teacher"] = state.teacher.params

    # The apply function of a network that draws nothing needs to take no key.
    key_of = lambda network: () if batch.key is None else (jax.random.fold_in(batch.key, network),)

    def loss_of(trained):
      stats, logits = {}, {}
      # The scopes' names stay with every operation, in profiles and for `apprentice plan`.
      with jax.named_scope("student"):
        logits["student"], stats["student"] = self.student(
          trained["student"], state.student.batch_stats, batch.images, True, *key_of(0)
        )
      # Logits that are kept save the teacher's forward pass.
      if batch.teacher_logits is not None:
        logits["teacher"] = batch.teacher_logits
      elif self.teacher is not None:
        params = trained.get("teacher", state.teacher.params)
        with jax.named_scope("teacher"):
          logits["teacher"], teacher_stats = self.teacher(
            params,
            state.teacher.batch_stats,
            batch.images if batch.teacher_images is None else batch.teacher_images,
            trains_teacher,
            *key_of(1),
          )
        # A fixed teacher is in inference mode: its statistics stay.
        if trains_teacher:
          stats["teacher"] = teacher_stats
      loss, parts = apprentice_loss(
        logits["student"],
        logits.get("teacher"),
        batch.labels,
        teacher_gradient=self.teacher_gradient,
        standardised=self.standardised,
        **weights,
      )
      if self.damping is not None:
        parts["damping"] = self.damping(trained["student"])
        loss += rates.damping * parts["damping"]
      accuracy = {f"{name}_accuracy": _accuracy(z, batch.labels) for name, z in logits.items()}
      return loss, (stats, {"loss": loss, **parts, **accuracy})

    gradients, (stats, metrics) = jax.grad(loss_of, has_aux=True)(trained)
    # Of the parameters before the update, which these activations come from.
    if self.activation_health is not None:
      metrics["activations"] = self._observed(state.student, batch.images, observe)
    # Statistics and metrics, too: the state has to be the same on every replica.
    if self.axis is not None:
      gradients, stats, metrics = jax.lax.pmean((gradients, stats, metrics), self.axis)

    with jax.named_scope("optimizer"):
      metrics["gradient_norm"] = self.norm(gradients)
      student, found = self._updated_student(
        state.student, gradients["student"], stats["student"], rates
      )
      metrics.update(found)
      teacher = state.teacher
      if trains_teacher:
        teacher = _update(
          self.teacher_optimizer,
          state.teacher,
          gradients["teacher"],
          stats["teacher"],
          rates.teacher,
        )
    if self.weight_health is not None:
      with jax.named_scope("health"):
        params = state.student.params, student.params
        metrics["weights"] = self.weight_health(*params, batch.images.shape[1:])
    return State(student, teacher), metrics

  def _updated_student(self, student: Network, gradients, stats, rates: Rates):
    """The student after the update, and metrics of it."""
    if self.freeze is None:
      return _update(self.student_optimizer, student, gradients, stats, rates.student), {}
    opt_state, tracked = student.opt_state
    before = student._replace(opt_state=opt_state)
    after = _update(self.student_optimizer, before, gradients, stats, rates.student)
    params, tracked, frozen = self.freeze(before.params, after.params, tracked, rates.threshold)
    opt_state = Tracking(after.opt_state, tracked)
    return after._replace(params=params, opt_state=opt_state), {"frozen": frozen}

  def _observed(self, student: Network, images: jax.Array, observe) -> jax.Array:
    """The health of activations, if it is to be looked at.

    It takes a forward pass of its own, on a few images, inside a conditional. The training step's
    own activations must stay fused with the convolutions: reading them makes ResNet-50 take 1.6
    times as long, by the TPU compiler's estimate.
    """
    arguments = (student.params, student.batch_stats, images)
    # Zeros in its place, since both branches of a conditional return the same shape.
    health = jax.eval_shape(self.activation_health, *arguments)
    nothing = jnp.zeros(health.shape, health.dtype)
    if not health.size or observe is False:
      return nothing
    with jax.named_scope("health"):
      return jax.lax.cond(observe, self.activation_health, lambda *_: nothing, *arguments)

  def look(self, params, batch_stats, images: jax.Array) -> jax.Array:
    """The health of the student's activations, as `step` finds it, from the parameters and
    statistics before it."""
    with jax.named_scope("health"):
      health = self.activation_health(params, batch_stats, images)
      return health if self.axis is None else jax.lax.pmean(health, self.axis)


class Predicted(NamedTuple):
  """A network's answers to a batch, each of shape (batch,).

  Attributes:
    label, predicted: int32, the true class and the network's; -1 where an example does not count.
    confidence: float32, the softmax of the predicted class.
  """

  label: jax.Array
  predicted: jax.Array
  confidence: jax.Array


def evaluate_batch(
  apply: Apply, network: Network, batch: Batch, mask: jax.Array
) -> tuple[dict, Predicted]:
  """Scores one replica's batch, of which the examples count where mask is 1.

  Returns:
    Sums, float32 scalars: "correct", "loss" (of cross-entropies) and "count"; and the answers.
  """
  logits, _ = apply(network.params, network.batch_stats, batch.images, False)
  loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
  predicted = jnp.argmax(logits, -1).astype(jnp.int32)
  return {
    "correct": jnp.sum(mask * (predicted == batch.labels)),
    "loss": jnp.sum(jnp.where(mask > 0, loss, 0)),
    "count": jnp.sum(mask),
  }, Predicted(
    jnp.where(mask > 0, batch.labels, -1),
    jnp.where(mask > 0, predicted, -1),
    jnp.max(jax.nn.softmax(logits.astype(jnp.float32), -1), -1),
  )


def _accuracy(logits, labels):
  # Of a mixed image, the class with the largest share counts.
  if labels.ndim == 2:
    labels = jnp.argmax(labels, -1)
  return jnp.mean(jnp.argmax(logits, -1) == labels, dtype=jnp.float32)


def _update(optimizer, network, gradients, batch_stats, rate) -> Network:
  updates, opt_state = optimizer.update(gradients, network.opt_state, network.params)
  params = jax.tree.map(lambda p, u: p - rate * u, network.params, updates)
  return Network(params, batch_stats, opt_state)
