"""The records of a run: mean metrics, metrics.jsonl, TensorBoard events, warnings of bad health."""

import contextlib
import functools
import json
import math
import os
import pathlib
import sys
import time
import warnings

import jax
import numpy as np

from apprentice_jax.errors import NonFiniteLoss
from apprentice_jax.files import write_whole
from apprentice_jax.models import health
from apprentice_jax.training import cluster, compiled
from apprentice_jax.training.progress import Progress


def check_finite(history: dict[str, np.ndarray], last: int):
  """Raises NonFiniteLoss, naming the step, unless the loss and gradient of all steps to ``last``
  are finite."""
  # The loss of a step comes before its update; the gradient's norm tells whether that is sound.
  losses = history["loss"] + history["gradient_norm"]
  for step, loss in enumerate(losses, last - len(losses) + 1):
    if not math.isfinite(loss):
      raise NonFiniteLoss(
        f"the loss or its gradient is {loss} at step {step}: lower the learning rate "
        "or lengthen the warm-up; the last checkpoint before it is kept."
      )


def host_memory() -> dict[str, float]:
  """{"host_memory": this process's resident memory in bytes}; {} where the system does not say."""
  try:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  except OSError:
    return {}
  return {"host_memory": float(pages * os.sysconf("SC_PAGE_SIZE"))}


class MetricsWriter:
  """Appends records to metrics.jsonl and to TensorBoard events, on process 0; a context manager.

  Args:
    workdir: where to.
    step: the step the run continues from: records after it, from before an interruption, are
      dropped.
  """

  def __init__(self, workdir: pathlib.Path, step: int):
    self._path = workdir / "metrics.jsonl"
    kept = [r for r in read_records(workdir) if r["step"] <= step] if cluster.first() else []
    # The records of one step; the same for every process, though one alone writes.
    self._latest = cluster.share([r for r in kept if r["step"] == step])
    self._file, self._events = None, functools.cache(lambda: _events(workdir / "tensorboard", step))
    if cluster.first():
      write_whole(self._path, "".join(json.dumps(r) + "\n" for r in kept), durable=True)

  def __enter__(self):
    if cluster.first():
      self._file = self._path.open("a")
    return self

  def __exit__(self, *_):
    if self._file:
      self._file.close()
    if self._events.cache_info().currsize:
      self._events().close()

  def has(self, step: int, name: str) -> bool:
    """Whether a value of this name has been written for the newest step."""
    return any(r["step"] == step and name in r for r in self._latest)

  def sync(self):
    """Returns when all that was written is on the disk."""
    if self._file:
      self._file.flush()
      os.fsync(self._file.fileno())

  def write_once(self, step: int, record: dict):
    """`write`, unless the same has been written for this step, before an interruption perhaps."""
    if not any(r["step"] == step and record.keys() <= r.keys() for r in self._latest):
      self.write(step, record)

  def write(self, step: int, record: dict):
    whole = {"step": step, **record}
    self._latest = [r for r in self._latest if r["step"] == step] + [whole]
    if not self._file:
      return
    # Flushed, so that whoever follows the file sees a record at once.
    self._file.write(json.dumps(whole) + "\n")
    self._file.flush()
    events = self._events()
    # After `_events`, which says how the package is imported.
    from tensorboardX.proto.summary_pb2 import Summary

    # One event of all values: add_scalar queues each.
    values = [Summary.Value(tag=name, simple_value=value) for name, value in record.items()]
    events.file_writer.add_summary(Summary(value=values), step)


def _events(folder: pathlib.Path, step: int):
  """TensorBoard's writer of a run that continues from a step."""
  # It would load PyTorch where that is installed, which takes seconds, for tensors that it is never
  # given.
  # A package that is None in here cannot be imported, as if it were not installed.
  hidden = sys.modules.setdefault("torch", None) is None
  try:
    from tensorboardX import SummaryWriter
  finally:
    if hidden:
      del sys.modules["torch"]
  return SummaryWriter(str(folder), purge_step=step + 1)


class Recorder:
  """Writes the mean metrics of a run's chunks, shows them, and watches the health of its layers.

  Args:
    run: the run, a `run.Run`.
    writer: where records go.
    progress: what shows them.
    began: the time at which the run would have begun without a stop, by `time.monotonic`.
  """

  def __init__(self, run, writer: "MetricsWriter", progress: Progress, began: float):
    self.writer, self.progress, self._run = writer, progress, run
    self._health = HealthWatch(str(run.workdir), run.schedule.per_epoch)
    self._began = began
    self.restart()

  def restart(self):
    """Begins to measure rates, which the last record measured until now."""
    self._read_at, self._waited, self._compiled = time.monotonic(), 0.0, compiled.seconds()

  def seconds(self) -> float:
    """Seconds of the whole run."""
    return time.monotonic() - self._began

  @contextlib.contextmanager
  def waiting(self):
    """Counts the time that this takes as waiting for data."""
    began = time.monotonic()
    yield
    self._waited += time.monotonic() - began

  def record(self, chunks: list, more: dict):
    """Writes the mean metrics of chunks.

    The devices do not say when they were done with which: rates are those of all of them together.

    Args:
      chunks: (last step, history) of each; see `joined`.
      more: for every record.

    Raises:
      NonFiniteLoss: see `check_finite`.
    """
    batch = self._run.config.batch_size
    chunks = [(last, joined(history)) for last, history in chunks]
    now = time.monotonic()
    trained = now - self._read_at - (compiled.seconds() - self._compiled)  # see `compiled.seconds`
    images = batch * sum(len(history["loss"]) for _, history in chunks)
    times = {
      "images_per_second": images / trained,
      "data_wait": self._waited / trained,
      "seconds": now - self._began,
    }
    self.restart()
    for last, history in chunks:
      self._write(last, history, times, more)

  def _write(self, last: int, history: dict, times: dict, more: dict):
    """Writes the means of steps' metrics, of which the last is ``last``."""
    # Before anything is written: means over a non-finite loss say nothing.
    check_finite(history, last)
    run, rates = self._run, self._run.schedule.rates.student
    examples = last * run.config.batch_size
    record = {k: float(v.mean()) for k, v in history.items() if v.ndim == 1}
    record.update(
      epoch=examples / run.data.size,
      examples=examples,
      learning_rate=float(rates[last - 1]),
      **times,
      **host_memory(),
      **more,
      **of_layers(run.names, history),
    )
    self.writer.write(last, record)
    if cluster.first():
      self.progress.record(last, record)
      self._health.look(last, record, rates[last - 1] >= 0.1 * rates.max())


class HealthWatch:
  """Warns, once each, of layers that have died and activations that say nothing.

  Args:
    name: of the run, for the warnings.
    steps_per_epoch: weights that keep their levels for so many steps, and for STILL, do not learn
      any more.
  """

  SATURATED = 0.99
  # Late in a run about 2 of 10,000 ternary weights change their level in a step (ResNet-8 on
  # digits). A layer of 144, the smallest of our networks, then keeps all of them for 100 steps in
  # one case of 20, and for 200 in one of 300.
  STILL = 200

  def __init__(self, name: str, steps_per_epoch: float):
    self._name, self._patience = name, max(steps_per_epoch, self.STILL)
    self._flipped, self._warned = {}, set()  # the step of each layer's last flip

  def look(self, step: int, record: dict, learning: bool):
    """Looks at a step's record; ``learning``: its rate is high enough for weights to flip."""
    for key, value in record.items():
      kind, _, name = key.partition("/")
      sentence = ""
      if kind == "zeros" and value == 1:
        sentence = (
          f"all of {name} is zero at step {step}: nothing gets through it; lower the "
          "learning rate or the quantizer's threshold, or keep it in full precision."
        )
      elif kind == "saturation" and value >= self.SATURATED:
        sentence = (
          f"{value:.0%} of {name} is at the end of its range at step {step}: it says "
          "next to nothing; lower the learning rate, or use more activation bits."
        )
      elif kind == "floor" and value:
        sentence = (
          f"a magnitude of {name} is at its floor at step {step}: its weights of that sign count "
          "for nothing; lower the learning rate, or set config.quantization.per_channel=False."
        )
      elif kind == "flips":
        # Without a learning rate weights stay as they are, and nothing is wrong.
        if value or not learning:
          self._flipped[name] = step
        elif step - self._flipped.setdefault(name, step) >= self._patience:
          sentence = (
            f"no weight of {name} has changed its level from step {self._flipped[name]} to {step}: "
            "it does not learn; raise the learning rate or lower the weight decay."
          )
      # Once for each layer and kind: the same would be true of every record that follows.
      if sentence and key not in self._warned:
        self._warned.add(key)
        warnings.warn(f"{self._name}: {sentence}")


def read_records(workdir) -> list[dict]:
  """The records of a workdir's metrics.jsonl; torn and damaged lines are left out."""
  path = pathlib.Path(workdir) / "metrics.jsonl"
  # A process that was killed may have left half a line.
  records = []
  for line in path.read_bytes().splitlines() if path.exists() else ():
    with contextlib.suppress(ValueError):
      if isinstance(record := json.loads(line), dict) and "step" in record:
        records.append(record)
  return records


def joined(history) -> dict[str, np.ndarray]:
  """The metrics of all steps of a chunk: arrays of (steps, ...); {} of none.

  Args:
    history: (count, metrics) of each dispatch: arrays of (count or more, ...), or one step's.
  """
  parts = []
  for count, metrics in history:
    # A step on a batch that was fed has no axis of steps; a loop's may be longer than its count.
    metrics = jax.device_get(metrics)
    one = np.ndim(metrics["loss"]) == 0
    parts.append({k: v[None] if one else v[:count] for k, v in metrics.items()})
  return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]} if parts else {}


def of_layers(names: health.Names, history: dict[str, np.ndarray]) -> dict[str, float]:
  """The health of every layer: "zeros/LAYER", "flips/LAYER", ...; of weights the mean over the
  steps, of activations that of the last one."""
  record = {}
  rows_of = history["weights"].mean(0), history["activations"][-1]
  for layers, columns, rows in zip(names, names.columns, rows_of):
    for name, row in zip(layers, rows):
      record.update({f"{column}/{name}": float(v) for column, v in zip(columns, row)})
  return record
