"""One training run, from its newest checkpoint to its result."""

import collections
import functools
import json
import math
import pathlib
import signal
import time
import warnings

import jax
import numpy as np

from apprentice_jax import config as configs
from apprentice_jax.data.batches import AHEAD, Streamed, example_indices
from apprentice_jax.data.splits import Splits
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.distill.step import Rates, State
from apprentice_jax.errors import ConfigError, Preempted, UnreadableImage
from apprentice_jax.files import write_whole
from apprentice_jax.models import health, magnitudes
from apprentice_jax.training import (
  chance,
  compiled,
  identity,
  parallel,
  predictions,
  preemption,
  processes,
  saved,
  start,
  starts,
  teacher_logits,
)
from apprentice_jax.training.checkpoint import Checkpoints
from apprentice_jax.training.dispatch import NOBODY, THIS, program
from apprentice_jax.training.evaluation import agreement, score
from apprentice_jax.training.optimizer import learning_rates, shortened
from apprentice_jax.training.program import Hyperparameters, Part
from apprentice_jax.training.progress import EVERY, Progress
from apprentice_jax.training.records import (
  HealthWatch,
  MetricsWriter,
  check_finite,
  host_memory,
  joined,
  of_layers,
)
from apprentice_jax.training.workdir import claim_classes, classes, write_config

PIXELS = 2  # how streamed images are reduced: with antialiasing since 2


class Run:
  """One run: its program, data and schedule; `run` is all there is to call.

  Steps are counted in chunks of config.steps_per_dispatch, from step 0: a chunk's mean metrics are
  one record, and checkpoints and scores fall on the end of a chunk. Only a run that is told to stop
  saves within one; the metrics of the chunk so far are then in the checkpoint.
  """

  def __init__(
    self, config, workdir: pathlib.Path, splits: Splits, teacher: str, student: str, role="student"
  ):
    self.config, self.workdir, self.role = config, workdir, role
    self.splits, self.data = splits, splits["train"]
    self.settings = start.settings(config, len(self.data.class_names))
    self.program = program(self.settings)
    self.initial = start.initial_state(config, self.settings, self.data, teacher, student)
    # A fixed teacher whose logits are known, on the host: it is needed for them and at the end, not
    # in between.
    self.teacher = (
      start.fixed_teacher(config, self.data, teacher) if self.settings.view.known else None
    )
    self.logits = None

    recipe = start.student_recipe(config)
    self.per_epoch = self.data.size / config.batch_size
    self.steps = round(recipe.epochs * self.per_epoch)
    if recipe.epochs and not self.steps:
      raise ConfigError(
        f"{recipe.epochs} epochs of {self.data.size} examples are less than a step."
      )
    self.rates, self.teacher_rates = (
      learning_rates(shortened(r, self.steps, self.per_epoch), self.steps, self.per_epoch)
      for r in (recipe, start.recipe(config, "teacher"))
    )
    weights = SCHEMES[config.scheme].weights(config.loss.alpha, config.loss.beta, config.loss.gamma)
    weights["temperature"] = config.loss.temperature
    # float32, as all other arguments: a Python number makes another program.
    self.weights = parallel.replicate({k: np.float32(v) for k, v in weights.items()})
    self.key = parallel.replicate(jax.random.fold_in(jax.random.key(config.seed), 3))
    self.names = health.names(self.settings.student, self.data.image_shape)
    self.health = HealthWatch(str(workdir), self.per_epoch)
    # (count, metrics) of the dispatches of the chunk so far; see `records.joined`.
    self.history = []
    # What a run must find again when it continues, beside its config.
    self.identity = {
      "train_size": self.data.size,
      "teacher": self._teachers_checksum(),
      **identity.starts(config, self.data, teacher, student),
    }
    self.unreadable = 0  # images, of the steps before this start
    self.waited = 0.0  # seconds for data, since the last record
    self.feed, self.inflight = None, collections.deque()
    self.pace = None  # seconds of a step, of the last dispatch
    self.chunk = None  # see `_prepared`

  def _teachers_checksum(self) -> int:
    """That of a fixed teacher, which is in no checkpoint; 0 without one."""
    teacher = self.teacher.network if self.teacher else self.initial.teacher
    if teacher is None or self.settings.teacher_optimizer is not None:
      return 0
    return saved.checksum(teacher)

  def _doubt_teacher(self, state: State):
    """Warns of a fixed teacher that seems to know other classes; of a workdir they are known and
    have been compared. One with a new head may have been trained too little."""
    given = self.config.teacher.init
    if (
      self.identity["teacher"]
      and given
      and (self.config.teacher.head == "new" or not classes(given))
    ):
      s, own = self.settings, self.teacher
      model, network = (
        (own.model, parallel.replicate(own.network)) if own else (s.teacher, state.teacher)
      )
      chance.look(
        self.config, model, network, self.data, s.view.mean or s.mean, s.view.std or s.std
      )

  def _known_logits(self):
    """The fixed teacher's logits, on every device."""
    return parallel.replicate(
      teacher_logits.known(
        self.teacher.model,
        parallel.replicate(self.teacher.network),
        self.identity["teacher"],
        self.settings,
        self.data,
        start.known_epochs(self.settings, self.steps / self.per_epoch),
        self.key,
        self.config.batch_size,
        functools.partial(_check_stop, "computing the teacher's logits; finished epochs are kept"),
      )
    )

  def run(self) -> dict:
    config = self.config
    processes.on_first(lambda: claim_classes(self.workdir, self.data.class_names))
    with Checkpoints(self.workdir, config.checkpoint.keep) as self.checkpoints:
      state, step, seconds = self._begin()
      processes.on_first(lambda: write_config(self.workdir, config))
      processes.on_first(lambda: starts.record(self.workdir))
      self.began = self.read_at = time.monotonic() - seconds
      if not step:
        self._doubt_teacher(state)
      if self.teacher is not None and step < self.steps:
        self.logits = self._known_logits()
      with MetricsWriter(self.workdir, step) as self.metrics:
        self.progress = Progress(
          self.workdir.name,
          self.steps,
          step,
          config.batch_size,
          self.role,
          compiled.seconds,
          announced=processes.first(),
        )
        if isinstance(self.data, Streamed):
          with self.data.training(config.seed, config.batch_size, step, self.steps) as self.feed:
            state = self._loop(state, step)
        else:
          state = self._loop(state, step)
        final = self._finish(state)
    processes.on_first(
      lambda: write_whole(self.workdir / "result.json", json.dumps(final, indent=1), durable=True)
    )
    return final

  def _begin(self) -> tuple[State, int, float]:
    """The state to go on from, its step, and the seconds spent before."""
    state, self.initial = self.initial, None  # its buffers are given up to the first step
    if self.checkpoints.latest() is None:
      return state, 0, 0.0
    if any(
      not shape and name.endswith(magnitudes.SIDES)
      for name, shape in self.checkpoints.student_shapes().items()
    ):
      raise ConfigError(
        f"{self.workdir} cannot continue: it began with an earlier TTQ, whose steps were too "
        "large; "
        "choose another --workdir."
      )
    state, meta = self.checkpoints.restore(state)
    if isinstance(self.data, Streamed) and meta.get("pixels", 1) != PIXELS:
      warnings.warn(
        f"{self.workdir} began with images that were reduced without antialiasing: its numbers "
        "will not be "
        "those of an unbroken run."
      )
    if meta["devices"] != jax.device_count():
      warnings.warn(
        f"{self.workdir} continues on {jax.device_count()} devices and began on "
        f"{meta['devices']}: its numbers will not be those of an unbroken run."
      )
    for what, sentence in (
      ("train_size", "it began with {} training images, and there are {} now: bring them back"),
      *(
        (what, sentence + " (checksums {} and {}): bring that back")
        for what, sentence in identity.WORDS.items()
      ),
    ):
      if meta.get(what, self.identity[what]) != self.identity[what]:
        raise ConfigError(
          f"{self.workdir} cannot continue: "
          f"{sentence.format(meta[what], self.identity[what])}, or choose another "
          "--workdir."
        )
    self.history = [
      (1, {k: np.asarray(v, np.float32) for k, v in metrics.items()})
      for metrics in meta.get("history", ())
    ]
    # JSON does not tell (0, 2) from (0,).
    for _, metrics in self.history:
      for kind, columns in zip(("weights", "activations"), self.names.columns):
        metrics[kind] = metrics[kind].reshape(len(getattr(self.names, kind)), len(columns))
    self.unreadable = meta.get("unreadable", 0)
    return state, meta["step"], meta["seconds"]

  def _loop(self, state: State, step: int) -> State:
    self.read_at, self.compiled = time.monotonic(), compiled.seconds()
    pending = None  # the chunk before, whose metrics are read while the devices do the next
    self._score_if_due(state, step)  # a stop may have come between
    while step < self.steps:
      if stop := preemption.requested(together=step == self._chunk(step)):
        self._record(pending)  # before saving: a non-finite loss must not be saved
        self._stop(state, step, stop)
      end = min(self._chunk(step) + self.settings.steps_per_dispatch, self.steps)
      try:
        batch = self._batch()
      except Exception:  # an image that cannot be read, or a worker process that a signal ended
        if jax.process_count() == 1:  # others know nothing of it: they are in the next step
          self._record(pending)
          self._save_within_chunk(state, step)
          if stop := preemption.requested():
            self._stop(state, step, stop)
        raise
      began = time.monotonic() - compiled.seconds()
      state, count = self._advance(state, batch, step, end)
      step += count
      self.pace = (time.monotonic() - compiled.seconds() - began) / count
      chunks = []
      if step == end:
        chunks, pending, self.history = [pending], (step, self.history), []
      save = step == end and self._due(self.config.checkpoint.every_epochs, step)
      if save or self.program.row.waits != NOBODY or self._scores_due(step):
        chunks, pending = [*chunks, pending], None  # see above
      self._record(*chunks)
      if processes.first():
        self.progress.step(self._done(step))
      if save:  # before scoring, which takes time in which a machine may be taken away
        self._save(state, step)
      self._score_if_due(state, step)
    if not self.steps:
      self._save(state, 0)
    return state

  def _batch(self):
    """The next batch of a stream; None where the images live on the devices."""
    began = time.monotonic()
    batch = next(self.feed) if self.feed is not None else None
    self.waited += time.monotonic() - began
    return batch

  def _advance(self, state: State, batch, step: int, end: int) -> tuple[State, int]:
    """Takes steps, at least one and at most to ``end``; returns the new state and how many."""
    began = time.monotonic()
    if batch is not None:
      rates = Rates(self.rates[step], self.teacher_rates[step])
      state, metrics = self.program.feed(
        state, batch, Hyperparameters(self.weights, rates), observe=step + 1 == end
      )
      self.inflight.append(metrics["loss"])
      if len(self.inflight) > AHEAD:  # batches wait in the devices' memory
        jax.block_until_ready(self.inflight.popleft())
      self.history.append((1, metrics))
      return state, 1
    count = self._count(step, end)
    first, chunk, hyper = self._prepared(self._chunk(step), end)
    self.waited += time.monotonic() - began
    data = self.data.on_devices._replace(logits=self.logits)
    part = Part(step - first, count, observe=step + count == end)
    state, metrics = self.program.train(state, data, chunk, hyper, part)
    self.history.append((count, metrics))
    return state, count

  def _count(self, step: int, end: int) -> int:
    """How many steps to dispatch: one at first, and where they are slow, so that the progress is
    seen."""
    row = self.program.row
    most = min(end - step, row.steps)
    if row.waits == NOBODY or jax.process_count() > 1:
      return most
    return 1 if self.pace is None or self.pace * most > EVERY else most

  def _done(self, step: int) -> int:
    """The last step that the devices are known to have taken, of those dispatched up to ``step``;
    0: not known."""
    if self.program.row.waits != NOBODY:
      return step if self.program.row.waits == THIS else step - 1
    return step - len(self.inflight) if self.feed is not None else 0

  def _prepared(self, first: int, end: int):
    """``first``, and what the steps from there to ``end`` take: examples and rates, placed once for
    all of them."""
    if self.chunk is None or self.chunk[0] != first:
      config, steps = self.config, self.settings.steps_per_dispatch
      chunk = example_indices(
        config.seed, self.data.size, first, end - first, steps, config.batch_size
      )
      fill = lambda rates: np.pad(rates[first:end], (0, steps - (end - first)))
      rates = parallel.replicate(Rates(fill(self.rates), fill(self.teacher_rates)))
      self.chunk = first, chunk, Hyperparameters(self.weights, rates, self.key)
    return self.chunk

  def _record(self, *chunks):
    """Writes the mean metrics of chunks (each its last step, its history), of those that there are.

    The devices do not say when they were done with which: rates are those of all of them together.
    """
    chunks = [(last, joined(history)) for last, history in filter(None, chunks)]
    if not chunks:
      return
    now = time.monotonic()
    trained = now - self.read_at - (compiled.seconds() - self.compiled)  # see `compiled.seconds`
    rates = {
      "images_per_second": sum(len(h["loss"]) for _, h in chunks)
      * self.config.batch_size
      / trained,
      "data_wait": self.waited / trained,
    }
    self.read_at, self.waited, self.compiled = now, 0.0, compiled.seconds()
    for last, history in chunks:
      self._write(last, history, {**rates, "seconds": now - self.began})

  def _write(self, last: int, history: dict, times: dict):
    """Writes the means of steps' metrics, of which the last is ``last``."""
    check_finite(history, last)
    record = {k: float(v.mean()) for k, v in history.items() if v.ndim == 1}
    record.update(
      epoch=last * self.config.batch_size / self.data.size,
      examples=last * self.config.batch_size,
      learning_rate=float(self.rates[last - 1]),
      **times,
      **host_memory(),
    )
    if self.feed is not None:
      record["unreadable_images"] = self._unreadable()
    record.update(of_layers(self.names, history))
    self.metrics.write(last, record)
    if processes.first():
      self.progress.record(last, record)
      self.health.look(last, record, self.rates[last - 1] >= 0.1 * self.rates.max())

  def _unreadable(self) -> int:
    here = self.feed.unreadable if self.feed else 0
    return self.unreadable + (
      processes.sum_of(here) if self.config.data.unreadable == "skip" else here
    )

  def _chunk(self, step: int) -> int:
    """The first step of the chunk that ``step`` is in."""
    return step - step % self.settings.steps_per_dispatch

  def _due(self, every_epochs: float, step: int) -> bool:
    """Whether the chunk that ends with ``step`` completes a period; the last one does."""
    if step == self.steps:
      return True
    every = every_epochs * self.per_epoch
    return bool(every) and math.floor(step / every) > math.floor(self._chunk(step - 1) / every)

  def _scores_due(self, step: int) -> bool:
    """Whether the validation split is to be scored after ``step``, and has not been."""
    every = self.config.eval.every_epochs
    at_end = step and (step == self.steps or step == self._chunk(step))
    return bool(
      every
      and at_end
      and self._due(every, step)
      and not self.metrics.has(step, "validation_accuracy")
    )

  def _score_if_due(self, state: State, step: int):
    if self._scores_due(step):
      try:
        self.metrics.write(step, self._scores(state, "validation"))
      except Preempted as stop:
        self._stop(state, step, stop.signal)
      except UnreadableImage:
        if jax.process_count() == 1:
          self._save_within_chunk(state, step)
        raise

  def _scores(self, state: State, split: str, final: bool = False) -> dict:
    """Accuracy and loss of the student, and of a teacher that trains, on a split; in the end of any
    teacher, and on how many images it and the student agree."""
    networks = {"student": (self.settings.student, state.student)}
    if self.settings.teacher_optimizer or final and state.teacher:
      networks["teacher"] = self.settings.teacher, state.teacher
    elif final and self.teacher:
      networks["teacher"] = self.teacher.model, parallel.replicate(self.teacher.network)
    check, s = functools.partial(_check_stop, "scoring; training is saved"), self.settings
    own = {"student": (s.mean, s.std), "teacher": (s.view.mean or s.mean, s.view.std or s.std)}
    found = {
      which: score(self.config, *network, self.splits[split], check, own[which])
      for which, network in networks.items()
    }
    scores = {
      f"{split}{'' if which == 'student' else '_teacher'}_{k}": scored[k]
      for which, scored in found.items()
      for k in ("accuracy", "loss", "count")
    }
    if final and "teacher" in found:
      scores[f"{split}_agreement"] = agreement(found["student"], found["teacher"])
    if final:
      answers, data = found["student"]["answers"], self.splits[split]
      processes.on_first(
        lambda: predictions.write(self.workdir, answers, data.class_names, data.name)
      )
    return scores

  def _save(self, state: State, step: int):
    steps = joined(self.history)
    history = [
      {k: v[i].tolist() for k, v in steps.items()} for i in range(len(steps.get("loss", ())))
    ]
    self.metrics.sync()  # what a checkpoint says was written, was
    self.checkpoints.save(
      step,
      state,
      {
        "examples": step * self.config.batch_size,
        "seconds": time.monotonic() - self.began,
        "pixels": PIXELS,
        "unreadable": self._unreadable(),
        "history": history,
        **self.identity,
        "seed": self.config.seed,
        "devices": jax.device_count(),
        "config": configs.flat(self.config),
      },
    )

  def _save_within_chunk(self, state: State, step: int):
    """Saves if anything is new; not a state that a non-finite loss has spoiled."""
    if history := joined(self.history):
      check_finite(history, step)
    if step and self.checkpoints.latest() != step:
      self._save(state, step)

  def _stop(self, state: State, step: int, number: int):
    self._save_within_chunk(state, step)
    raise Preempted(
      f"stopped by {signal.Signals(number).name} and saved at step {step} of "
      f"{self.steps}: the same command continues from there.",
      number,
    )

  def _finish(self, state: State) -> dict:
    scores = self._scores(state, self.config.eval.final, final=True)
    self.metrics.write_once(self.steps, scores)
    return {
      **scores,
      "steps": self.steps,
      "examples": self.steps * self.config.batch_size,
      "seconds": time.monotonic() - self.began,
    }


def _check_stop(doing: str):
  """Raises Preempted if the run is to stop."""
  if number := preemption.requested(together=False):
    raise Preempted(
      f"stopped by {signal.Signals(number).name} while {doing}: the same command continues.", number
    )
