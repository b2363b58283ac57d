"""``apprentice bench``: how fast a config trains, and where the time goes that is not the step's.

The step is dispatched again and again on images that are on the devices.

Dispatch is the same calls of a program that hands its state back. They cost what Python, the
arguments' transfer and the start of a program take. The share of the step is the most that dispatch
can cost: where steps are dispatched ahead, it hides behind the step before.

The first step is timed from nothing compiled, and from the programs in a cache, as at the second
start of a config.

With the config's data, the loop of `train` itself is timed too, its metrics and its waiting for
data included. So are the input alone, and scoring a split.
"""

import contextlib
import functools
import io
import pathlib
import statistics
import tempfile
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from apprentice_jax.bench.machine import machine, sentence
from apprentice_jax.bench.step import in_turns, loss_weights, settings, stepper, synthetic
from apprentice_jax.data.batches import AHEAD, Streamed, example_indices
from apprentice_jax.data.splits import Splits, open_splits
from apprentice_jax.errors import ConfigError
from apprentice_jax.training import compiled, networks, parallel, teachers
from apprentice_jax.training.dispatch import HOST_STEPS, THIS, Program, program
from apprentice_jax.training.evaluate import score
from apprentice_jax.training.program import Step, initialiser
from apprentice_jax.training.records import read_records
from apprentice_jax.training.run import Run

CHUNKS = 6  # of the loop, of which the first compiles
ENOUGH = 10.0  # seconds of reading, or of scoring


def measure(config) -> dict:
  """Measures a config's training.

  Args:
    config: any. Images are synthetic where its data is not there.

  Returns:
    "step_seconds" (median), "images_per_second", "dispatch_share" (of the step, at most),
    "dispatch_hidden", "steps_per_dispatch", "first_step_seconds" ("cold", "warm") and
    "compile_seconds" (of the cold one's, in the compiler); "data"; and, with it, "loop", "input"
    and "evaluation", see `_loop`, `_input` and `_evaluation`; and the machine.
  """
  splits = open_splits(config.data)
  data, why = _data(splits)
  shape, classes = (data.image_shape, len(data.class_names)) if data else synthetic(config)
  built, streamed = settings(config, classes), bool(config.data.image_size)
  make = functools.partial(stepper, built, loss_weights(config), config.batch_size, shape, streamed)
  # First of all, while nothing is compiled.
  first = _first_step(functools.partial(make, count=1))
  idle = functools.partial(Program, step=_IdleStep)
  seconds = in_turns({"step": make(), "idle": make(program=idle)})
  step, row = statistics.median(seconds["step"]), program(built).row
  report = {
    "student": config.student.name,
    "teacher": (_teachers_file(config) or config.teacher.name) if built.teacher else None,
    "scheme": config.scheme,
    "precision": config.precision,
    "dtype": config.dtype,
    "batch_size": config.batch_size,
    "image_shape": list(shape),
    "data": config.data.name if data else why,
    "step_seconds": step,
    "images_per_second": config.batch_size / step,
    "dispatch_share": statistics.median(i / s for i, s in zip(seconds["idle"], seconds["step"])),
    "dispatch_hidden": row.waits != THIS,
    "steps_per_dispatch": 1 if streamed else row.steps,
    **first,
    "machine": machine(),
  }
  # The loop, the input and the scores of synthetic images would say nothing of a user's.
  if data:
    report.update(
      loop=_loop(config, splits, step),
      input=_input(config, data),
      evaluation=_evaluation(config, built, splits["test"]),
    )
  return report


def table(report: dict) -> str:
  """The report for reading."""
  pair = " + ".join(n for n in (report["student"], report["teacher"]) if n)
  first, each = report["first_step_seconds"], report["steps_per_dispatch"]
  lines = [
    sentence(report["machine"]),
    f"{pair}, scheme {report['scheme']}, {report['precision']}, {report['dtype']}, batch "
    f"{report['batch_size']}, images {'x'.join(map(str, report['image_shape']))}: {report['data']}",
    f"  step           {1000 * report['step_seconds']:.1f} ms, "
    f"{report['images_per_second']:,.0f} images/s",
    f"  dispatch       {report['dispatch_share']:.2%} of the step, {each} "
    f"step{'s' * (each > 1)} in each" + ", while the step before runs" * report["dispatch_hidden"],
    f"  first step     {first['cold']:.1f} s without a cache "
    f"({report['compile_seconds']:.1f} s in the compiler), {first['warm']:.2f} s with it",
  ]
  if "loop" in report:
    loop, scored = report["loop"], report["evaluation"]
    lines += [
      f"  training loop  {loop['images_per_second']:,.0f} images/s; {loop['data_wait']:.2%} of the "
      f"time waiting for data, {loop['step_share']:.1%} in the step",
      f"  input alone    {report['input']['images_per_second']:,.0f} images/s",
      f"  evaluation     {scored['images_per_second']:,.0f} images/s, {scored['seconds']:.1f} s "
      f"for the {scored['count']:,} images of the test split",
    ]
  return "\n".join(lines)


class _IdleStep(Step):
  """Takes and returns what the step does, and does nothing."""

  def resident(self, state, *rest):
    return state, self._zeros(super().resident, state, *rest)

  def fed(self, state, *rest):
    return state, self._zeros(super().fed, state, *rest)

  def _zeros(self, step, *args):
    return jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), jax.eval_shape(step, *args)[1])


def _data(splits: Splits):
  """The training split and "", or None and why there is none."""
  try:
    return splits["train"], ""
  except ConfigError as error:
    return None, f"synthetic ({str(error).splitlines()[0][:100]})"


def _first_step(make) -> dict:
  """Seconds from the network's settings to the first step: of ``make`` and a call of what it
  returns.

  Returns:
    "first_step_seconds": "cold", with nothing in the cache, and "warm", from it.
    "compile_seconds": the part of the cold one's in the compiler.
  """
  compiling = []

  def listen(event, seconds, **_):
    if event.endswith("backend_compile_duration"):
      compiling.append(seconds)

  jax.monitoring.register_event_duration_secs_listener(listen)

  def timed():
    # Its program would be at hand the second time, as it is not in a new process.
    initialiser.cache_clear()
    began = time.perf_counter()
    make()()
    return time.perf_counter() - began

  with tempfile.TemporaryDirectory() as folder, _cache_in(folder):
    cold, compile_seconds = timed(), sum(compiling)
    seconds = {"cold": cold, "warm": timed()}
    return {"first_step_seconds": seconds, "compile_seconds": compile_seconds}


@contextlib.contextmanager
def _cache_in(folder: str):
  """Compiled programs are kept in a folder."""
  names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
  usual, kept = [getattr(jax.config, n) for n in names], compiled.folder()

  def use(values, programs):
    for name, value in zip(names, values):
      jax.config.update(name, value)
    compilation_cache.reset_cache()
    compiled.keep_in(programs)

  # Programs that took no time to compile are kept as well: the warm start finds all of them.
  use((f"{folder}/xla", 0.0), pathlib.Path(folder, "programs"))
  try:
    yield
  finally:
    use(usual, kept)


def _loop(config, splits: Splits, step_seconds: float) -> dict:
  """Some dispatches of a run of the config, as `train` makes it, from networks of random weights.

  Returns:
    Medians: "images_per_second"; "data_wait", the share of the time spent waiting for data; and
    "step_share", of the time that steps take alone.
  """
  config = config.copy_and_resolve_references()
  # On CPU steps_per_dispatch says how often metrics are written, beyond a dispatch's steps.
  if jax.devices()[0].platform == "cpu":
    few = HOST_STEPS * max(1, round(1 / step_seconds / HOST_STEPS))
    config.steps_per_dispatch = min(config.steps_per_dispatch, few)
  size = splits["train"].size
  epochs = CHUNKS * config.steps_per_dispatch * config.batch_size / size
  for recipe in config.recipe.values():
    recipe.epochs, recipe.warmup_epochs = epochs, 0.0
  # Neither checkpoints nor scores, which a run spreads over a longer time.
  config.checkpoint.every_epochs = config.eval.every_epochs = 0.0
  with (
    tempfile.TemporaryDirectory() as folder,
    warnings.catch_warnings(),
    contextlib.redirect_stdout(io.StringIO()),
  ):
    # Of a network that has learnt nothing, say.
    warnings.simplefilter("ignore")
    _Unscored(config, pathlib.Path(folder), splits, _teachers_file(config), "").run()
    records = [r for r in read_records(folder) if "loss" in r][1:]
  found = {k: statistics.median(r[k] for r in records) for k in ("images_per_second", "data_wait")}
  return {**found, "step_share": step_seconds * found["images_per_second"] / config.batch_size}


def _teachers_file(config) -> str:
  """The file of a teacher that has no weights of ours to make at random; "" of any other."""
  return config.teacher.init if teachers.kind(config.teacher.init) else ""


def _input(config, data) -> dict:
  """ "images_per_second" that are read and placed on the devices; of data that lives there, indices
  are."""
  began, done = time.perf_counter(), 0
  if isinstance(data, Streamed):
    with data.training(config.seed, config.batch_size, 0, 10**6) as feed:
      for number, batch in enumerate(feed):
        jax.block_until_ready(batch)
        # What was read while the stream started does not count.
        if number == AHEAD:
          began, done = time.perf_counter(), -config.batch_size
        done += config.batch_size
        if number > AHEAD + 1 and time.perf_counter() - began > ENOUGH:
          break
  else:
    built = networks.settings(config, len(data.class_names))
    steps = built.steps_per_dispatch
    while time.perf_counter() - began < ENOUGH / 10:
      first = done // config.batch_size
      jax.block_until_ready(
        example_indices(config.seed, data.size, first, steps, steps, config.batch_size)
      )
      done += steps * config.batch_size
  return {"images_per_second": done / (time.perf_counter() - began)}


class _Unscored(Run):
  """A run that ends with its last step."""

  def _finish(self, state, recorder):
    return {}


class _Enough(Exception):
  """There is no need to score more."""


def _evaluation(config, built, data) -> dict:
  """Scoring the student on the test split.

  Returns:
    "images_per_second"; "seconds" for the split, at that; "count", its examples.
  """
  images = jnp.asarray(data.sample(np.arange(min(8, data.size))), built.student.dtype) / 128 - 1
  network = parallel.replicate(
    initialiser(built.student.clone(norm_axis=None))(jax.random.key(0), images, {})
  )

  def timed():
    calls, began = 0, time.perf_counter()

    def check():
      nonlocal calls
      calls += 1
      if time.perf_counter() - began > ENOUGH and calls > 2:
        raise _Enough

    try:
      score(config, built.student, network, data, check)
      done = data.size
    except _Enough:
      # Two batches are still on their way.
      done = min((calls - 2) * min(config.eval.batch_size, data.size), data.size)
    return done / (time.perf_counter() - began)

  # The first time compiles.
  timed()
  rate = timed()
  return {"images_per_second": rate, "seconds": data.size / rate, "count": data.size}
