"""The training loop of one run."""

import collections
import dataclasses
import functools
import signal
import time

import jax
import numpy as np

from apprentice_jax import config as configs
from apprentice_jax.data.batches import AHEAD, DeviceData, Feed, example_indices
from apprentice_jax.distill.step import State
from apprentice_jax.errors import Preempted, UnreadableImage
from apprentice_jax.training import cluster, compiled, parallel, predictions, preemption
from apprentice_jax.training.checkpoint import Checkpoints
from apprentice_jax.training.dispatch import NOBODY, THIS
from apprentice_jax.training.evaluate import agreement, score
from apprentice_jax.training.program import Hyperparameters, Part
from apprentice_jax.training.progress import EVERY
from apprentice_jax.training.records import Recorder, check_finite, joined

PIXELS = 2  # how streamed images are reduced: with antialiasing since 2


@dataclasses.dataclass
class Current:
  """What changes while a run trains.

  Attributes:
    state: the networks and optimizers, on every device; each dispatch gives its buffers up.
    step: steps that were dispatched.
    history: (count, metrics) of the dispatches of the chunk so far; see `records.joined`.
    pending: (last step, history) of the chunk before, whose metrics are not read yet; or None.
    unreadable: images that could not be read, of the steps before this start.
    chunk: (first step, `Chunk`, `Hyperparameters`) of the newest chunk, on the devices; or None.
    inflight: losses of the streamed steps that the devices may not have taken yet.
    pace: seconds of a step, of the last dispatch; None before the first.
  """

  state: State
  step: int = 0
  history: list = dataclasses.field(default_factory=list)
  pending: tuple | None = None
  unreadable: int = 0
  chunk: tuple | None = None
  inflight: collections.deque = dataclasses.field(default_factory=collections.deque)
  pace: float | None = None


class Loop:
  """Takes a run from its current step to its last.

  Args:
    run: what does not change, a `run.Run`.
    now: what does.
    checkpoints: where the run is saved.
    recorder: where its metrics go.
    source: the training images that live on the devices, or the batches of a stream.
  """

  def __init__(
    self, run, now: Current, checkpoints: Checkpoints, recorder: Recorder, source: DeviceData | Feed
  ):
    self.run, self.now = run, now
    self.checkpoints, self.recorder, self.source = checkpoints, recorder, source
    self.streamed = isinstance(source, Feed)

  def train(self):
    """Takes all steps; saves and scores on the way."""
    now, schedule = self.now, self.run.schedule
    program, every = self.run.program, self.run.config.checkpoint.every_epochs
    # 1. Score the network that the run continues from: a stop may have come between saving and
    # scoring.
    self._score_if_due()
    while now.step < schedule.steps:
      # 2. Stop where this is asked for. Metrics are read before: a non-finite loss must not be
      # saved.
      if stop := preemption.requested(together=now.step == schedule.chunk_of(now.step)):
        self._record(now.pending)
        self._stop(stop)
      # 3. Get a batch, and dispatch steps on it; or steps of the chunk of resident images.
      end = min(schedule.chunk_of(now.step) + schedule.chunk, schedule.steps)
      batch = self._batch()
      began = time.monotonic() - compiled.seconds()
      count = self._advance(batch, end)
      now.step += count
      now.pace = (time.monotonic() - compiled.seconds() - began) / count
      # 4. Read the metrics of the chunk before, while the devices do this one. Where the devices
      # are waited for in any case, read this chunk's, too.
      chunks = []
      if now.step == end:
        chunks, now.pending, now.history = [now.pending], (now.step, now.history), []
      save = now.step == end and schedule.due(every, now.step)
      if save or program.row.waits != NOBODY or self._scores_due():
        chunks, now.pending = [*chunks, now.pending], None
      self._record(*chunks)
      if cluster.first():
        self.recorder.progress.step(self._done())
      # 5. Save before scoring, which takes time in which a machine may be taken away.
      if save:
        self._save()
      # 6. Score the validation images.
      self._score_if_due()
    # 7. A run of no steps has a checkpoint, too.
    if not schedule.steps:
      self._save()

  def _batch(self):
    """The next batch of a stream; None where the images live on the devices."""
    if not self.streamed:
      return None
    try:
      with self.recorder.waiting():
        return next(self.source)
    except Exception:  # an image that cannot be read, or a worker process that a signal ended
      if jax.process_count() == 1:  # others know nothing of it: they are in the next step
        self._record(self.now.pending)
        self._save_within_chunk()
        if stop := preemption.requested():
          self._stop(stop)
      raise

  def _advance(self, batch, end: int) -> int:
    """Dispatches steps, at least one and at most to ``end``; returns how many."""
    run, now = self.run, self.now
    if batch is not None:
      count, rates = 1, run.schedule.rates_at(now.step)
      key = jax.random.fold_in(run.key, now.step) if run.settings.draws else None
      hyper, observe = Hyperparameters(run.weights, rates, key), now.step + 1 == end
      now.state, metrics = run.program.feed(now.state, batch, hyper, observe)
      # Batches wait in the devices' memory, so the host may not run far ahead.
      now.inflight.append(metrics["loss"])
      if len(now.inflight) > AHEAD:
        jax.block_until_ready(now.inflight.popleft())
    else:
      with self.recorder.waiting():
        count, (first, chunk, hyper) = self._count(end), self._prepared(end)
      part = Part(now.step - first, count, observe=now.step + count == end)
      now.state, metrics = run.program.train(now.state, self.source, chunk, hyper, part)
    now.history.append((count, metrics))
    return count

  def _count(self, end: int) -> int:
    """How many steps to dispatch: one at first, and where they are slow, so that progress shows."""
    row, pace = self.run.program.row, self.now.pace
    most = min(end - self.now.step, row.steps)
    # Several processes must dispatch the same steps, and each has a clock of its own.
    if row.waits == NOBODY or jax.process_count() > 1:
      return most
    return 1 if pace is None or pace * most > EVERY else most

  def _done(self) -> int:
    """The last step that the devices are known to have taken; 0: not known."""
    now, waits = self.now, self.run.program.row.waits
    if waits != NOBODY:
      return now.step if waits == THIS else now.step - 1
    return now.step - len(now.inflight) if self.streamed else 0

  def _prepared(self, end: int):
    """The chunk of the current step: its first step, its examples and its hyperparameters.

    They are placed on the devices once for all dispatches of a chunk.
    """
    run, now, first = self.run, self.now, self.run.schedule.chunk_of(self.now.step)
    if now.chunk is None or now.chunk[0] != first:
      steps, count, batch = run.schedule.chunk, end - first, run.config.batch_size
      chunk = example_indices(run.config.seed, run.data.size, first, count, steps, batch)
      # The last chunk is filled up: arrays of another length would be another program.
      rates = run.schedule.rates_at(slice(first, end))
      rates = jax.tree.map(lambda each: np.pad(each, (0, steps - count)), rates)
      hyper = Hyperparameters(run.weights, parallel.replicate(rates), run.key)
      now.chunk = first, chunk, hyper
    return now.chunk

  def _record(self, *chunks):
    """Writes the mean metrics of chunks (each its last step, its history); None is none."""
    if chunks := [chunk for chunk in chunks if chunk]:
      more = {"unreadable_images": self._unreadable()} if self.streamed else {}
      self.recorder.record(chunks, more)

  def _unreadable(self) -> int:
    """Images of the whole run that could not be read."""
    here = self.source.unreadable if self.streamed else 0
    # Without skips the count is 0 everywhere, and processes need not meet to add it up.
    skips = self.run.config.data.unreadable == "skip"
    return self.now.unreadable + (cluster.sum_of(here) if skips else here)

  def _scores_due(self) -> bool:
    """Whether the validation split is to be scored after the current step, and has not been."""
    step, schedule, every = self.now.step, self.run.schedule, self.run.config.eval.every_epochs
    # Scores fall on the end of a chunk; a run that was stopped within one is not there yet.
    at_end = step and step in (schedule.steps, schedule.chunk_of(step))
    if not (every and at_end and schedule.due(every, step)):
      return False
    return not self.recorder.writer.has(step, "validation_accuracy")

  def _score_if_due(self):
    if self._scores_due():
      try:
        self.recorder.writer.write(self.now.step, scores(self.run, self.now.state, "validation"))
      except Preempted as stop:
        self._stop(stop.signal)
      except UnreadableImage:
        # The image is to be replaced, and training need not be repeated; other processes may not
        # know of it, and a save takes all of them.
        if jax.process_count() == 1:
          self._save_within_chunk()
        raise

  def _save(self):
    run, now = self.run, self.now
    # A stop may fall within a chunk, whose record is not written yet: its metrics go along.
    steps = joined(now.history)
    history = [
      {k: v[i].tolist() for k, v in steps.items()} for i in range(len(steps.get("loss", ())))
    ]
    # What a checkpoint says was written has to be on the disk before it.
    self.recorder.writer.sync()
    self.checkpoints.save(
      now.step,
      now.state,
      {
        "examples": now.step * run.config.batch_size,
        "seconds": self.recorder.seconds(),
        "pixels": PIXELS,
        "unreadable": self._unreadable(),
        "history": history,
        **run.identity,
        "seed": run.config.seed,
        "devices": jax.device_count(),
        "config": configs.flat(run.config),
      },
    )

  def _save_within_chunk(self):
    """Saves if anything is new; not a state that a non-finite loss has spoiled."""
    if history := joined(self.now.history):
      check_finite(history, self.now.step)
    if self.now.step and self.checkpoints.latest() != self.now.step:
      self._save()

  def _stop(self, number: int):
    self._save_within_chunk()
    raise Preempted(
      f"stopped by {signal.Signals(number).name} and saved at step {self.now.step} of "
      f"{self.run.schedule.steps}: the same command continues from there.",
      number,
    )


def scores(run, state: State, split: str, final: bool = False) -> dict:
  """Scores a run's networks on a split.

  Returns:
    Accuracy and loss of the student, and of a teacher that trains; in the end of any teacher, and
    on how many images it and the student agree.
  """
  # Each network sees images as it was trained on them.
  s = run.settings
  own = {"student": (s.mean, s.std), "teacher": (s.view.mean or s.mean, s.view.std or s.std)}
  networks = {"student": (s.student, state.student)}
  if s.teacher_optimizer or final and state.teacher:
    networks["teacher"] = s.teacher, state.teacher
  # A teacher whose logits were computed ahead waits on the host for this.
  elif final and run.teacher and run.teacher.answers(run.splits[split]):
    networks["teacher"] = run.teacher.model, parallel.replicate(run.teacher.network)
  data = run.splits[split]
  check = functools.partial(check_stop, "scoring: the training is finished and saved")
  answers = {
    which: score(run.config, *network, data, check, own[which])
    for which, network in networks.items()
  }
  result = {
    f"{split}{'' if which == 'student' else '_teacher'}_{k}": scored[k]
    for which, scored in answers.items()
    for k in ("accuracy", "loss", "count")
  }
  if final and "teacher" in answers:
    result[f"{split}_agreement"] = agreement(answers["student"], answers["teacher"])
  if final:
    own_answers = answers["student"]["answers"]
    cluster.on_first(
      lambda: predictions.write(run.workdir, own_answers, data.class_names, data.name)
    )
  return result


def check_stop(doing: str):
  """Raises Preempted if the run is to stop."""
  if number := preemption.requested(together=False):
    raise Preempted(
      f"stopped by {signal.Signals(number).name} while {doing}: the same command continues.", number
    )
