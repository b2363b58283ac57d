"""The training loop: what `apprentice train` and `eval` call."""

import json
import math
import os
import pathlib
import time
import warnings

import jax
import numpy as np

from apprentice_jax import config as configs
from apprentice_jax.config import ConfigError
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.distill.step import Rates, State
from apprentice_jax.training import inputs, parallel, start
from apprentice_jax.training.checkpoint import Checkpoints
from apprentice_jax.training.metrics import MetricsWriter, Progress, check_finite
from apprentice_jax.training.optimizer import learning_rates
from apprentice_jax.training.program import evaluator, example_indices, program


# Fields that may change between one start of a run and the next: they do not change its result.
FREE = ("study.", "checkpoint.", "eval.every_epochs", "eval.batch_size", "data.dir")


def train(config, workdir, *, teacher: str = "", student: str = "") -> dict:
  """Trains as the config says, or continues what was begun in workdir.

  A scheme that needs a trained teacher, or the student's trained full-precision weights, takes them
  from ``config.teacher.init`` and ``config.student.init``; where these are empty, they are trained
  first, in ``workdir/teacher`` and ``workdir/student``.

  It runs on all of ``jax.devices()``, and each normalises its own share of a batch, so their number
  matters; the command sets it to ``config.cpu_devices`` where there is no accelerator.

  Args:
    config: see `apprentice_jax.config.base`.
    workdir: directory for config.json, metrics.jsonl, TensorBoard events, checkpoints, result.json.
    teacher, student: where ``init`` is empty: trained networks to start from after all, which are no
      part of the run's identity (a study names its own cells so, and can be moved).

  Returns:
    The contents of result.json: accuracies (0 to 1), losses, steps, examples, seconds.

  Raises:
    ConfigError: the config cannot run, or workdir belongs to another one.
    NonFiniteLoss: the loss became NaN or infinite.
  """
  config = configs.checked(config)
  workdir = pathlib.Path(workdir)
  finished = result(workdir)
  if finished is None:
    start.preflight(config)
  claim(workdir, config)
  if finished is not None:
    return finished
  scheme = SCHEMES[config.scheme]
  teacher = (teacher or trained(config, "teacher", workdir)) if scheme.teacher == "fixed" else ""
  if scheme.pretrained_student:
    student = student or trained(config, "student", workdir)
  else:
    student = config.student.init
  return _Run(config, workdir, teacher, student).run()


def evaluate(workdir, split: str = "test", data_dir: str = "") -> dict:
  """Scores the student of a workdir's newest checkpoint.

  Args:
    workdir: of a run.
    split: "test", "validation" (if one was held out) or "train".
    data_dir: where the dataset is prepared, if not where the run had it.

  Returns:
    "accuracy" (0 to 1), "loss" (mean cross-entropy) and "count", the number of examples.
  """
  config = start.workdir_config(workdir)
  return evaluate_network(config, str(workdir), split, data_dir)


def evaluate_network(config, path: str, split: str = "test", data_dir: str = "") -> dict:
  """Scores the network in ``path``, a workdir or a checkpoint, as the config's student."""
  config = config.copy_and_resolve_references()
  if data_dir:
    config.data.dir = data_dir
  if split == "validation" and not config.data.validation:
    raise ConfigError("there is no validation split: config.data.validation is 0.")
  data = inputs.dataset(config, split)
  model = start.model(config, "student", len(data.class_names))
  network = start.load(path, model, data.images.shape[1:], complete=True)
  return evaluator(model, tuple(config.data.mean), tuple(config.data.std))(
      parallel.replicate(network), inputs.device_data(config, split), config.eval.batch_size)


def trained(config, which: str, workdir: pathlib.Path) -> str:
  """The path of the trained full-precision teacher or student; trains it if there is none."""
  if config[which].init:
    return config[which].init
  train(start.full_precision(config, which), workdir / which)
  return str(workdir / which)


def claim(workdir: pathlib.Path, config):
  """Writes the config into workdir, or checks that it is the one already there.

  Raises:
    ConfigError: workdir belongs to another config (the message names the fields), or is not writable.
  """
  path = workdir / "config.json"
  text = json.dumps(configs.flat(config), indent=1)
  if not path.exists():
    try:
      workdir.mkdir(parents=True, exist_ok=True)
      write_atomically(path, text)
    except OSError as error:
      raise ConfigError(f"cannot write to the workdir {workdir}: {error.strerror}.") from None
    return
  new = json.loads(text)
  old = {**json.loads(json.dumps(configs.flat(configs.base()))), **json.loads(path.read_text())}
  differing = [f"config.{k} ({old.get(k)!r} there, {new.get(k)!r} now)" for k in sorted({*old, *new})
               if old.get(k) != new.get(k) and not k.startswith(FREE)]
  if differing:
    raise ConfigError(f"{workdir} belongs to a run with another config: {', '.join(differing)}; "
                      "choose another --workdir.")
  if old != new:
    write_atomically(path, text)


def result(workdir: pathlib.Path):
  """The result of a finished run, or None."""
  path = pathlib.Path(workdir) / "result.json"
  return json.loads(path.read_text()) if path.exists() else None


def write_atomically(path: pathlib.Path, text: str):
  temporary = path.with_name(path.name + ".tmp")
  temporary.write_text(text)
  os.replace(temporary, path)


class _Run:
  """One run: its program, data and schedule; `run` is the loop."""

  def __init__(self, config, workdir: pathlib.Path, teacher: str, student: str):
    self.config, self.workdir = config, workdir
    self.train_data = inputs.device_data(config, "train")
    self.size = len(self.train_data.labels)
    num_classes = len(inputs.dataset(config, "train").class_names)
    self.settings = start.settings(config, num_classes)
    self.program = program(self.settings)
    self.initial = start.initial_state(config, self.settings, teacher, student)

    recipe = start.student_recipe(config)
    per_epoch = self.size / config.batch_size
    self.per_epoch = per_epoch
    self.steps = round(recipe.epochs * per_epoch)
    if recipe.epochs and not self.steps:
      raise ConfigError(f"{recipe.epochs} epochs of {self.size} examples are less than a step.")
    self.rates = learning_rates(recipe, self.steps, per_epoch)
    self.teacher_rates = learning_rates(config.recipe.teacher, self.steps, per_epoch)
    self.weights = dict(SCHEMES[config.scheme].weights(
        config.loss.alpha, config.loss.beta, config.loss.gamma),
                        temperature=config.loss.temperature)
    self.key = jax.random.fold_in(jax.random.key(config.seed), 3)

  def run(self) -> dict:
    config = self.config
    with Checkpoints(self.workdir, config.checkpoint.keep) as checkpoints:
      state, step, seconds = self.initial, 0, 0.0
      if checkpoints.latest() is not None:
        state, meta = checkpoints.restore(state)
        step, seconds = meta["step"], meta["seconds"]
        if meta["devices"] != jax.device_count():
          warnings.warn(f"{self.workdir} continues on {jax.device_count()} devices and began on "
                        f"{meta['devices']}: its numbers will not be those of an unbroken run.")
      del self.initial  # its buffers are given up to the first step
      self.began = time.monotonic() - seconds
      with MetricsWriter(self.workdir, step) as metrics:
        self.metrics = metrics
        self.progress = Progress(self.workdir.name, self.steps, step)
        state = self._loop(state, step, checkpoints)
        if not self.steps:
          checkpoints.save(0, state, self._meta(0))
        final = self._finish(state)
    write_atomically(self.workdir / "result.json", json.dumps(final, indent=1))
    return final

  def _loop(self, state: State, step: int, checkpoints: Checkpoints) -> State:
    config, chunk = self.config, self.settings.steps_per_dispatch
    self.read_at = time.monotonic()
    pending = None  # the metrics of the dispatch before, read while the devices do the next
    while step < self.steps:
      count = min(chunk, self.steps - step)
      state, history = self._dispatch(state, step, count)
      if pending:
        self._record(*pending)
      pending = (step, count, history)
      before, step = step, step + count
      if not self.program.asynchronous:
        self._record(*pending)
        pending = None
      last = step == self.steps
      save = last or self._due(config.checkpoint.every_epochs, before, step)
      score = config.eval.every_epochs and (
          last or self._due(config.eval.every_epochs, before, step))
      if pending and (save or score):
        self._record(*pending)  # before saving: a non-finite loss must not be saved
        pending = None
      if score:
        self.metrics.write(step, self._scores(state, "validation"))
      if save:
        checkpoints.save(step, state, self._meta(step))
    return state

  def _dispatch(self, state, step, count):
    s, config = self.settings, self.config
    index, epoch = example_indices(config.seed, self.size, step, count, s, config.batch_size)
    fill = lambda rates: _padded(rates[step:step + count], s.steps_per_dispatch)
    return self.program.train(state, self.train_data, index, epoch, count, self.weights,
                              Rates(fill(self.rates), fill(self.teacher_rates)), self.key)

  def _record(self, first: int, count: int, history):
    """Writes the mean metrics of one dispatch."""
    history = {k: np.asarray(v)[:count] for k, v in jax.device_get(history).items()}
    # The loss of a step comes before its update; the gradient's norm tells whether that is sound.
    check_finite(history["loss"] + history["gradient_norm"], first + 1)
    now = time.monotonic()
    last = first + count
    record = {k: float(v.mean()) for k, v in history.items()}
    record.update(
        epoch=last * self.config.batch_size / self.size,
        learning_rate=float(self.rates[last - 1]),
        images_per_second=count * self.config.batch_size / (now - self.read_at),
        seconds=now - self.began)
    self.read_at = now
    self.metrics.write(last, record)
    self.progress.show(last, record)

  def _due(self, every_epochs: float, before: int, step: int) -> bool:
    if not every_epochs:
      return False
    every = every_epochs * self.per_epoch
    return math.floor(step / every) > math.floor(before / every)

  def _scores(self, state: State, split: str) -> dict:
    """Accuracy and loss of the student, and of a teacher that trains, on a split."""
    networks = [("student", self.settings.student, state.student)]
    if self.settings.teacher_optimizer:
      networks.append(("teacher", self.settings.teacher, state.teacher))
    scores = {}
    for name, model, network in networks:
      found = evaluator(model, self.settings.mean, self.settings.std)(
          network, inputs.device_data(self.config, split), self.config.eval.batch_size)
      prefix = split if name == "student" else f"{split}_teacher"
      scores.update({f"{prefix}_accuracy": found["accuracy"], f"{prefix}_loss": found["loss"],
                     f"{prefix}_count": found["count"]})
    return scores

  def _meta(self, step: int) -> dict:
    return {"examples": step * self.config.batch_size, "seconds": time.monotonic() - self.began,
            "seed": self.config.seed, "devices": jax.device_count(), "config": configs.flat(self.config)}

  def _finish(self, state: State) -> dict:
    scores = self._scores(state, self.config.eval.final)
    self.metrics.write_once(self.steps, scores)
    return {**scores, "steps": self.steps, "examples": self.steps * self.config.batch_size,
            "seconds": time.monotonic() - self.began}


def _padded(rates, length):
  result = np.zeros(length, np.float32)
  result[:len(rates)] = rates
  return result
