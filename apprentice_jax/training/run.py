"""One training run: set up, resumed from its newest checkpoint, and brought to its result."""

import contextlib
import functools
import json
import pathlib
import time
import warnings

import jax
import numpy as np

from apprentice_jax.data.batches import Streamed
from apprentice_jax.data.splits import Splits
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.distill.step import Rates, State
from apprentice_jax.errors import ConfigError
from apprentice_jax.files import write_whole
from apprentice_jax.models import health, magnitudes
from apprentice_jax.training import (
  certainty,
  cluster,
  compiled,
  evaluate,
  identity,
  networks,
  parallel,
  recipes,
  teacher_logits,
  teachers,
)
from apprentice_jax.training.checkpoint import Checkpoints
from apprentice_jax.training.dispatch import program
from apprentice_jax.training.loop import PIXELS, Current, Loop, check_stop, scores
from apprentice_jax.training.optimizer import Schedule, half_cosine, learning_rates, shortened
from apprentice_jax.training.program import Settings
from apprentice_jax.training.progress import Progress
from apprentice_jax.training.records import MetricsWriter, Recorder
from apprentice_jax.training.workdir import claim_images, classes, record_start, write_config


class Run:
  """One run: what of it does not change while it trains.

  Steps are counted in chunks of config.steps_per_dispatch, from step 0. A chunk's mean metrics are
  one record. Checkpoints and scores fall on the end of a chunk. Only a run that is told to stop
  saves within one; the metrics of the chunk so far are then in the checkpoint.

  Args:
    config: the run's.
    workdir: the run's.
    splits: of the dataset.
    teacher, student: paths of trained networks to start from, or "".
    role: "student" or "teacher", what the network is that trains.
  """

  def __init__(
    self, config, workdir: pathlib.Path, splits: Splits, teacher: str, student: str, role="student"
  ):
    self.config, self.workdir, self.role = config, workdir, role
    self.splits, self.data = splits, splits["train"]
    self.settings = networks.settings(config, len(self.data.class_names))
    self.program = program(self.settings)
    self.initial = networks.initial_state(config, self.settings, self.data, teacher, student)
    # A fixed teacher whose logits are computed ahead stays on the host: it is needed for them and
    # in the end, not in between.
    ahead = self.settings.view.known
    self.teacher = networks.fixed_teacher(config, self.data, teacher) if ahead else None
    self.schedule = _schedule(config, self.data.size, self.settings)
    weights = SCHEMES[config.scheme].weights(config.loss.alpha, config.loss.beta, config.loss.gamma)
    weights["temperature"] = self.temperature = config.loss.temperature
    # float32, as all other arguments: a Python number makes another program.
    self.weights = parallel.replicate({k: np.float32(v) for k, v in weights.items()})
    self.key = parallel.replicate(jax.random.fold_in(jax.random.key(config.seed), 3))
    self.names = health.names(self.settings.student, self.data.image_shape)
    # What a run must find again when it continues, beside its config.
    self.identity = {
      "train_size": self.data.size,
      "teacher": self._teachers_checksum(),
      **identity.starts(config, self.data, teacher, student),
    }

  def run(self) -> dict:
    """Trains to the last step, from the newest checkpoint; returns the contents of result.json."""
    config, steps = self.config, self.schedule.steps
    cluster.on_first(lambda: claim_images(self.workdir, self.data))
    with Checkpoints(self.workdir, config.checkpoint.keep) as checkpoints:
      # 1. Continue from the newest checkpoint, or begin.
      now, seconds = self._resumed(checkpoints)
      began = time.monotonic() - seconds
      cluster.on_first(lambda: write_config(self.workdir, config))
      cluster.on_first(lambda: record_start(self.workdir))
      # 2. Look at a fixed teacher, and compute its logits ahead.
      if not now.step:
        self._doubt_teacher(now.state)
      if config.loss.teacher_entropy and SCHEMES[config.scheme].teacher == "fixed":
        self._follow_certainty(now.state)
      ahead = self.teacher and not isinstance(self.data, Streamed)
      if self.teacher and not ahead and now.step < steps:
        self._announce_teacher()
      logits = self._teachers_logits() if ahead and now.step < steps else None
      # 3. Train.
      with MetricsWriter(self.workdir, now.step) as writer:
        recorder = Recorder(self, writer, self._progress(now.step), began)
        with self._source(now.step, logits) as source:
          recorder.restart()
          Loop(self, now, checkpoints, recorder, source).train()
        # 4. Score the final network.
        final = self._finish(now.state, recorder)
    cluster.on_first(
      lambda: write_whole(self.workdir / "result.json", json.dumps(final, indent=1), durable=True)
    )
    return final

  def _resumed(self, checkpoints: Checkpoints) -> tuple[Current, float]:
    """Where the run goes on from, and the seconds that were spent before.

    Raises:
      ConfigError: the run began with another teacher, other data, or an earlier TTQ.
    """
    # The state's buffers are given up to the first step: nobody may keep it.
    state, self.initial = self.initial, None
    if checkpoints.latest() is None:
      return Current(state), 0.0
    # An earlier TTQ had one magnitude of a layer, without an axis.
    if any(
      not shape and name.endswith(magnitudes.SIDES)
      for name, shape in checkpoints.student_shapes().items()
    ):
      raise ConfigError(
        f"{self.workdir} cannot continue: it began with an earlier TTQ, whose steps were too "
        "large; choose another --workdir."
      )
    state, meta = checkpoints.restore(state)
    self._check_same(meta)
    # A run that was stopped within a chunk goes on with the metrics of the chunk so far.
    history = []
    for metrics in meta.get("history", ()):
      metrics = {k: np.asarray(v, np.float32) for k, v in metrics.items()}
      # JSON does not tell (0, 2) from (0,).
      for kind, columns in zip(("weights", "activations"), self.names.columns):
        metrics[kind] = metrics[kind].reshape(len(getattr(self.names, kind)), len(columns))
      history.append((1, metrics))
    now = Current(state, meta["step"], history, unreadable=meta.get("unreadable", 0))
    return now, meta["seconds"]

  def _check_same(self, meta: dict):
    """Compares what a checkpoint says of its run with this start: warns, or raises ConfigError."""
    # What changes numbers a little is warned of; other images or networks are another run.
    unlike = "its numbers will not be those of an unbroken run."
    if isinstance(self.data, Streamed) and meta.get("pixels", 1) != PIXELS:
      warnings.warn(
        f"{self.workdir} began with images that were reduced without antialiasing: {unlike}"
      )
    if meta["devices"] != jax.device_count():
      warnings.warn(
        f"{self.workdir} continues on {jax.device_count()} devices and began on "
        f"{meta['devices']}: {unlike}"
      )
    size = "it began with {} training images, and there are {} now: bring them back"
    ways = {k: f"{v} (checksums {{}} and {{}}): bring that back" for k, v in identity.WORDS.items()}
    for what, sentence in {"train_size": size, **ways}.items():
      own = self.identity[what]
      # Checkpoints of earlier versions may not have the field.
      if meta.get(what, own) != own:
        raise ConfigError(
          f"{self.workdir} cannot continue: {sentence.format(meta[what], own)}, or choose another "
          "--workdir."
        )

  def _source(self, step: int, logits):
    """A context of the training images: on the devices, with a teacher's logits, or a stream."""
    config = self.config
    if isinstance(self.data, Streamed):
      teacher = self.teacher and self.teacher.host_logits
      return self.data.training(config.seed, config.batch_size, step, self.schedule.steps, teacher)
    return contextlib.nullcontext(self.data.on_devices._replace(logits=logits))

  def _progress(self, step: int) -> Progress:
    return Progress(
      self.workdir.name,
      self.schedule.steps,
      step,
      self.config.batch_size,
      role=self.role,
      spent=compiled.seconds,
      announced=cluster.first(),
    )

  def _teachers_checksum(self) -> int:
    """The checksum of a fixed teacher, which is in no checkpoint; 0 without one."""
    teacher = self.teacher.network if self.teacher else self.initial.teacher
    if teacher is None or self.settings.teacher_optimizer is not None:
      return 0
    return networks.checksum(teacher)

  def _doubt_teacher(self, state: State):
    """Warns of a fixed teacher that seems to know other classes.

    The classes of a workdir are known and have been compared. A teacher with a new head may have
    been trained too little.
    """
    source = self.config.teacher.init
    if not self.identity["teacher"] or not source:
      return
    if self.config.teacher.head != "new" and classes(source):
      return
    model, network = self._fixed_teacher(state)
    evaluate.doubt_teacher(self.config, model, network, self.data, *self._teachers_images())

  def _fixed_teacher(self, state: State) -> networks.Teacher:
    """The fixed teacher, on the devices."""
    # One whose logits are computed ahead is in no state, but on the host.
    if self.teacher:
      return self.teacher._replace(network=parallel.replicate(self.teacher.network))
    return networks.Teacher(self.settings.teacher, state.teacher)

  def _teachers_images(self) -> tuple:
    """Mean and std of the images that the teacher is made for."""
    s = self.settings
    return s.view.mean or s.mean, s.view.std or s.std

  def _follow_certainty(self, state: State):
    """Sets the temperature at which a fixed teacher is as uncertain as the config says."""
    config, target = self.config, self.config.loss.teacher_entropy
    logits = certainty.sampled_logits(
      *self._fixed_teacher(state), self.data, config.seed, *self._teachers_images()
    )
    try:
      self.temperature = cluster.share(certainty.temperature(logits, target))
    except ValueError as error:
      raise ConfigError(f"config.loss.teacher_entropy is {target:g}, and {error}.") from None
    self.weights["temperature"] = parallel.replicate(np.float32(self.temperature))
    if cluster.first():
      print(
        f"temperature {self.temperature:g}: the mean entropy of the teacher's outputs is then "
        f"{target:g} nats",
        flush=True,
      )

  def _announce_teacher(self):
    """Says what a teacher costs that runs in the threads that read images."""
    model = self.teacher.model
    if cluster.first() and model.sees_images:
      rate = model.speed(self.data.sample(np.arange(min(16, self.data.size))))
      print(
        f"the teacher {model.path} runs in ONNX Runtime beside the decoder: {rate:,.0f} images/s "
        "in each thread",
        flush=True,
      )

  def _teachers_logits(self) -> jax.Array:
    """The fixed teacher's logits, on every device."""
    # Those in a file are the same in every epoch.
    if teachers.kind(self.config.teacher.init) == "logits":
      logits = self.teacher.host_logits(None, np.arange(self.data.size))
      return parallel.replicate(parallel.same_on_all(logits[None]))
    passes = self.schedule.steps / self.schedule.per_epoch
    logits = teacher_logits.cached_logits(
      self.teacher,
      self.settings,
      self.data,
      networks.known_epochs(self.settings, passes),
      self.key,
      identity=self.identity["teacher"],
      batch=self.config.batch_size,
      check=functools.partial(
        check_stop, "computing the teacher's logits; finished epochs are kept"
      ),
    )
    return parallel.replicate(logits)

  def _finish(self, state: State, recorder: Recorder) -> dict:
    """Scores the final network; returns the contents of result.json."""
    final = scores(self, state, self.config.eval.final, final=True)
    if self.temperature != self.config.loss.temperature:
      final["temperature"] = self.temperature
    recorder.writer.write_once(self.schedule.steps, final)
    return {
      **final,
      "steps": self.schedule.steps,
      "examples": self.schedule.steps * self.config.batch_size,
      "seconds": recorder.seconds(),
    }


def _schedule(config, size: int, settings: Settings) -> Schedule:
  """The steps of a run over ``size`` training images.

  Raises:
    ConfigError: there is not even one.
  """
  recipe = recipes.student_recipe(config)
  per_epoch = size / config.batch_size
  steps = round(recipe.epochs * per_epoch)
  if recipe.epochs and not steps:
    raise ConfigError(f"{recipe.epochs} epochs of {size} examples are less than a step.")
  # A teacher that trains along takes as many steps as its student, by its own recipe.
  rates_of = lambda r: learning_rates(shortened(r, steps, per_epoch), steps, per_epoch)
  rates = Rates(rates_of(recipe), rates_of(recipes.recipe(config, "teacher")))
  if settings.freezes:
    # In the steps of rate 0, no weight may move to another level.
    threshold = half_cosine(recipe, steps, *config.oscillation.freeze, settled=np.inf)
    rates = rates._replace(threshold=threshold)
  if settings.damps:
    rates = rates._replace(
      damping=half_cosine(recipe, steps, 0.0, config.oscillation.damping, settled=0.0)
    )
  return Schedule(steps, per_epoch, config.steps_per_dispatch, rates)
