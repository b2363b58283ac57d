"""What is compiled: one program per pair of networks and way of training them.

Learning rates, the loss's weights, seeds and the number of steps are arguments of a program, not
constants in it, so runs that differ in these alone (schemes B and C, the baseline and C's control,
seeds) share one, and `program` hands out the same one to all of them.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from apprentice_jax.data import order
from apprentice_jax.data.augment import Augmentation, augmented, normalise
from apprentice_jax.distill import flat
from apprentice_jax.distill.step import Batch, Network, Rates, State, Trainer, global_norm
from apprentice_jax.models import health
from apprentice_jax.models.layers import QuantConv
from apprentice_jax.models.residual import ResNet
from apprentice_jax.training import parallel
from apprentice_jax.training.compiled import Kept
from apprentice_jax.training.optimizer import SGD

HOST_STEPS = (
  4  # of one dispatch on CPU: what a step takes of memory it takes once, and a stop waits for few
)


class View(NamedTuple):
  """How a teacher sees the images.

  Attributes:
    mean, std: that it was trained with; (): the student's.
    augmented: as the student does; otherwise as they are stored.
    known: whether what it says of them is known, see `DeviceData`, and it is not run.
  """

  mean: tuple[float, ...] = ()
  std: tuple[float, ...] = ()
  augmented: bool = True
  known: bool = False


class Settings(NamedTuple):
  """All that a program depends on; hashable.

  Attributes:
    student, teacher: the networks; teacher None without one, or where its logits are known.
    student_optimizer, teacher_optimizer: teacher_optimizer None if the teacher is fixed.
    teacher_gradient: whether the distillation term trains the teacher too.
    augmentation, mean, std: of the images.
    view: how the teacher sees them.
    steps_per_dispatch: steps that a call is given; on CPU it takes a few of them, see
      `Program.together`.
  """

  student: ResNet
  student_optimizer: SGD
  teacher: ResNet | None = None
  teacher_optimizer: SGD | None = None
  teacher_gradient: bool = False
  augmentation: Augmentation = Augmentation()
  mean: tuple[float, ...] = (0.5,)
  std: tuple[float, ...] = (0.5,)
  view: View = View()
  steps_per_dispatch: int = 1


class DeviceData(NamedTuple):
  """A set that lives on every device: images uint8 (size, h, w, c), labels int32 (size,); and,
  where a fixed teacher's logits are known, these: float32 (epochs, size, classes), of the first
  epochs or of all that differ."""

  images: Any
  labels: Any
  logits: Any = None


class DeviceBatch(NamedTuple):
  """A batch that was read for the devices, a share each: images uint8 (devices, share, h, w, c),
  labels int32 and mask float32 (devices, share); mask is 0 where there is no image."""

  images: Any
  labels: Any
  mask: Any


@functools.lru_cache(maxsize=32)
def program(settings: Settings) -> "Program":
  """The program of these settings, compiled once per process."""
  return Program(settings)


def make_apply(model: ResNet):
  """The model as the pure function that `distill.step` takes."""

  def apply(params, batch_stats, images, train):
    variables = {"params": params, "batch_stats": batch_stats}
    if not train:
      return model.apply(variables, images, False), batch_stats
    logits, updated = model.apply(variables, images, True, mutable=["batch_stats"])
    return logits, updated["batch_stats"]

  return apply


def _loops_on_cpu(settings: Settings) -> bool:
  """Whether XLA:CPU has fast convolutions for these networks inside loops, too: it has none of
  integers there, nor those with which it computes gradients by itself, some of which take a hundred
  times as long."""
  return all(
    model.conv is QuantConv
    and model.im2col
    and model.dtype == jnp.float32
    and model.quantization.compute != "int8"
    for model in (settings.student, settings.teacher)
    if model
  )


class Program:
  """The compiled training step of one setting.

  Args:
    settings: what it depends on.
    backend, devices: see `parallel.over_replicas`.
    loop: whether a dispatch may take all of steps_per_dispatch steps, and nobody waits for it;
      default: except on CPU.
    fixed: whether that loop takes as many turns for any number of steps, and a step has no branch
      and as few kernels as may be; default: on GPUs, whose host would have to wait for the device
      in every step, to read what decides.
  """

  def __init__(
    self, settings: Settings, backend: str = "pmap", devices=None, loop=None, fixed=None
  ):
    self.settings = settings
    platform = (devices or jax.devices())[0].platform
    self._fixed = platform == "gpu" if fixed is None else fixed
    # A kernel takes a few microseconds on a GPU, whatever its size.
    few_kernels = lambda model: model.clone(paired_sums=True) if self._fixed else model
    self.trainer = Trainer(
      student=make_apply(few_kernels(settings.student)),
      student_optimizer=settings.student_optimizer.build(),
      teacher=settings.teacher and make_apply(few_kernels(settings.teacher)),
      teacher_optimizer=settings.teacher_optimizer and settings.teacher_optimizer.build(),
      teacher_gradient=settings.teacher_gradient,
      weight_health=functools.partial(health.weights, settings.student.quantization),
      activation_health=functools.partial(health.activations_of, settings.student),
      axis=parallel.AXIS,
      norm=(lambda tree: global_norm(flat.pack(tree)[0])) if self._fixed else global_norm,
    )

    def kept(name: str, function, mapped, donate=(0,), what="the training step"):
      over = parallel.over_replicas(
        function, mapped=mapped, donate=donate, backend=backend, devices=devices
      )
      return (
        over
        if devices
        else Kept(over, type(self), name, settings, backend, what=what, thorough=True)
      )

    dispatched, fed = (False, False, True, True, *[False] * 6), (False, True, False, False, False)
    self._one = kept("one of few kernels" if self._fixed else "one", self._step, dispatched)
    self._many = (
      kept("turns", self._turns, dispatched)
      if self._fixed
      else kept("many", self._steps, dispatched)
    )
    self._fed = (
      kept("fed blindly", self._fed_blindly, fed)
      if self._fixed
      else kept("fed", self._fed_step, fed)
    )
    self._look = kept(
      "look", self._look_at, (False, False, True), donate=(), what="the look at activations"
    )
    #: Whether `train` does not wait for what it dispatches.
    self.asynchronous = platform != "cpu" if loop is None else loop
    alone = (jax.device_count() if devices is None else len(devices)) == 1
    #: Whether a step is dispatched while the devices take the one before.
    self.ahead = self.asynchronous or alone
    #: The most steps of one dispatch.
    self.together = (
      settings.steps_per_dispatch
      if self.asynchronous
      else 1
      if alone or not _loops_on_cpu(settings)
      else min(HOST_STEPS, settings.steps_per_dispatch)
    )
    self._before = None  # the losses of the last dispatch

  def train(
    self,
    state: State,
    data: DeviceData,
    index,
    epoch,
    count: int,
    weights: dict,
    rates: Rates,
    key,
    observe: bool = True,
    first: int = 0,
  ):
    """Up to ``together`` training steps in one dispatch, on all devices.

    Args:
      state: as `Trainer.step` takes it; its buffers are given up.
      data: the training set.
      index, epoch: the examples of steps_per_dispatch steps, see `example_indices`.
      count: how many of the steps to take, at most ``together``.
      weights: of the loss's terms, and the temperature.
      rates: learning rates, float32 (steps_per_dispatch,) each.
      key: random key of the augmentation.
      observe: whether to look at the health of activations, in the last of these steps.
      first: the first of them.

    Returns:
      The new state, and the metrics of each step: dict of (steps_per_dispatch,) arrays, of which
        the
      first ``count`` count, or of lists of one.
    """
    assert 1 <= count <= self.together
    by_one = self.together == 1 and not self.asynchronous
    state, metrics = (self._one if by_one else self._many)(
      state,
      data,
      index,
      epoch,
      np.int32(first),
      np.int32(count),
      weights,
      rates,
      key,
      np.bool_(observe),
    )
    if not self.asynchronous:
      self._wait(metrics)
    return state, {k: [m] for k, m in metrics.items()} if by_one else metrics

  def feed(
    self, state: State, batch: DeviceBatch, weights: dict, rates: Rates, observe: bool = True
  ):
    """One training step, on all devices, on images that were read, cropped and flipped for it.

    Args:
      state: as `Trainer.step` takes it; its buffers are given up.
      batch: a share for each device, without gaps.
      weights: of the loss's terms, and the temperature.
      rates: learning rates, float32 scalars.
      observe: whether to look at the health of activations.

    Returns:
      The new state, and the step's metrics.
    """
    # Before the step, which takes the state.
    seen = self._look(*_health_of(state.student), batch.images) if self._fixed and observe else None
    state, metrics = self._fed(state, batch, weights, rates, np.bool_(observe))
    if seen is not None:
      metrics = {**metrics, "activations": seen}
    if not self.asynchronous:
      self._wait(metrics)
    return state, metrics

  def _wait(self, metrics: dict):
    """Waits on CPU for a dispatch; on a single device for the one before it, so that to start one
    costs no time. Several host devices share threads: a replica waiting in an all-reduce of one
    step can hold the thread that another needs to get there from the step before."""
    self._before, before = metrics["loss"], self._before
    jax.block_until_ready(before if self.ahead else metrics)

  def lower_train(self, state, data, index, epoch, weights, rates):
    """`train` for arguments of which only shapes and dtypes are given; to be compiled."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    number = jax.ShapeDtypeStruct((), jnp.int32)
    return self._many.lower(
      state,
      data,
      index,
      epoch,
      number,
      number,
      weights,
      rates,
      key,
      jax.ShapeDtypeStruct((), jnp.bool_),
    )

  def lower_feed(self, state, batch, weights, rates):
    """`feed` for arguments of which only shapes and dtypes are given; to be compiled."""
    return self._fed.lower(state, batch, weights, rates, jax.ShapeDtypeStruct((), jnp.bool_))

  def _fed_step(self, state, batch, weights, rates, observe):
    """The step of `feed`, on one replica."""
    return self.trainer.step(
      state, self._seen(batch.images, batch.images, batch.labels), weights, rates, observe
    )

  def _fed_blindly(self, state, batch, weights, rates, _):
    """`_fed_step` without a look at activations, nor a branch."""
    return self._fed_step(state, batch, weights, rates, False)

  def _look_at(self, params, batch_stats, images):
    """The health of activations on a batch of uint8 images, on one replica."""
    s = self.settings
    return self.trainer.look(params, batch_stats, normalise(images, s.mean, s.std, s.student.dtype))

  def _step(self, state, data, index, epoch, i, _, weights, rates, key, observe):
    """Step ``i`` of a dispatch, on one replica."""
    view, index, epoch = self.settings.view, index[i], epoch[i]
    logits = None
    if data.logits is not None:
      logits = data.logits[epoch % len(data.logits), index]
    images = augmented(data.images, index, epoch, key, self.settings.augmentation)
    stored = images if view.augmented else jnp.take(data.images, index, axis=0)
    batch = self._seen(images, stored, jnp.take(data.labels, index), logits)
    return self.trainer.step(
      state, batch, weights, Rates(rates.student[i], rates.teacher[i]), observe
    )

  def _seen(self, images, stored, labels, logits=None) -> Batch:
    """The batch of uint8 images as each network sees them; ``stored``: those for the teacher."""
    s, view = self.settings, self.settings.view
    batch = Batch(normalise(images, s.mean, s.std, s.student.dtype), labels, teacher_logits=logits)
    mean, std = view.mean or s.mean, view.std or s.std
    if (
      s.teacher is None
      or logits is not None
      or (stored is images and (mean, std) == (s.mean, s.std))
    ):
      return batch
    return batch._replace(teacher_images=normalise(stored, mean, std, s.teacher.dtype))

  def _steps(self, state, data, index, epoch, first, count, weights, rates, key, observe):
    """``count`` steps of a dispatch from step ``first``, on one replica."""
    rest = (weights, rates, key)
    step = jax.jit(self._step, inline=True)  # traced once, for its shapes and in the loop

    def body(i, carry):
      state, history = carry
      state, metrics = step(
        state, data, index, epoch, first + i, 1, *rest, observe & (i == count - 1)
      )
      return state, jax.tree.map(lambda h, m: h.at[i].set(m), history, metrics)

    metrics = jax.eval_shape(step, state, data, index, epoch, first, 1, *rest, observe)[1]
    history = jax.tree.map(lambda m: jnp.zeros((index.shape[0], *m.shape), m.dtype), metrics)
    return jax.lax.fori_loop(0, count, body, (state, history))

  def _turns(self, state, data, index, epoch, first, count, weights, rates, key, observe):
    """`_steps` in as many turns as there are steps in a dispatch: what those beyond ``count``
    change is dropped, and activations are looked at after the loop, whatever ``observe`` is. From
    turn to turn the state is packed: see `_packed`."""
    del observe
    start, unpack = _packed(state)

    def turn(carry, i):
      packed, seen = carry  # seen: the student that the last step that counts began with
      new, metrics = self._step(
        unpack(packed), data, index, epoch, first + i, 1, weights, rates, key, False
      )
      keep = functools.partial(jax.tree.map, lambda new, old: jnp.where(i < count, new, old))
      return (keep(_packed(new)[0], packed), keep(packed[0], seen)), metrics

    (packed, seen), history = jax.lax.scan(turn, (start, start[0]), jnp.arange(index.shape[0]))
    last = first + count - 1
    images = augmented(data.images, index[last], epoch[last], key, self.settings.augmentation)
    watched = self._look_at(*_health_of(unpack((seen, packed[1])).student), images)
    return unpack(packed), {
      **history,
      "activations": history["activations"].at[count - 1].set(watched),
    }


def _packed(state: State):
  """What changes of the state, packed: what the health of the student's activations depends on, and
  the rest; and the function from these two back to the state. A fixed teacher is not in it, so that
  what follows from its weights alone is computed once and not in every turn."""
  student, teacher = state
  fixed = teacher is None or teacher.opt_state is None
  watched, unpack_watched = flat.pack(_health_of(student))
  rest, unpack_rest = flat.pack((student.opt_state, None if fixed else teacher))

  def unpack(packed):
    optimizer, trained = unpack_rest(packed[1])
    return State(Network(*unpack_watched(packed[0]), optimizer), teacher if fixed else trained)

  return (watched, rest), unpack


def _health_of(student: Network) -> tuple:
  """What the health of its activations depends on."""
  return student.params, student.batch_stats


@functools.lru_cache(maxsize=32)
def initialiser(model: ResNet):
  """Returns initialise(key, images, given) -> Network, without optimizer state.

  ``images`` is a normalised batch: quantizers with a scale learned from data start from it.
  ``given`` is a tree of parameters to start from, of which any may be missing ({} starts from
  scratch): what is missing, such as the quantizers' own parameters, is initialised on the way of
  the batch through the network as given.
  """

  @jax.jit
  def initialise(key, images, given):
    _, variables = model.apply(
      {"params": given}, images, True, rngs={"params": key}, mutable=["params", "batch_stats"]
    )
    # Scales aside, the batch leaves no trace: statistics start from 0 and 1.
    stats = jax.tree_util.tree_map_with_path(
      lambda path, s: jnp.full_like(s, path[-1].key == "var"), variables["batch_stats"]
    )
    return Network(variables["params"], stats)

  return Kept(initialise, "initialise", model, what="the start of a network")


def example_indices(seed: int, size: int, first: int, count: int, settings: Settings, batch: int):
  """Index and epoch of ``count`` steps from step ``first``, split among the devices.

  Returns:
    int32 (devices, steps_per_dispatch, share) each, on the devices; steps beyond count hold zeros.
  """
  index, epoch = order.examples(seed, size, first * batch, count * batch)
  full = np.zeros((2, settings.steps_per_dispatch, batch), np.int32)
  full[0, :count] = index.reshape(count, batch)
  full[1, :count] = epoch.reshape(count, batch)
  return parallel.split(full[0]), parallel.split(full[1])
