"""The training loop: what `apprentice train` and `eval` call."""

import pathlib

from apprentice_jax import config as configs
from apprentice_jax.config import ConfigError
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.training import inputs, inventory, parallel, preemption, processes, start
from apprentice_jax.training.run import Run, score
from apprentice_jax.training.workdir import check_classes, claim, local, result, trouble, writing


def train(config, workdir, *, teacher: str = "", student: str = "") -> dict:
  """Trains as the config says, or continues what was begun in workdir.

  A scheme that needs a trained teacher, or the student's trained full-precision weights, takes them
  from ``config.teacher.init`` and ``config.student.init``; where these are empty, they are trained
  first, in ``workdir/teacher`` and ``workdir/student``.

  It runs on all of ``jax.devices()``, and each normalises its own share of a batch, so their number
  matters; the command sets it to ``config.cpu_devices`` where there is no accelerator. The command also keeps
  compiled programs for the next start, which is the caller's choice here: ``jax_compilation_cache_dir``, and
  `training.aot.keep_in`.

  Args:
    config: see `apprentice_jax.config.base`.
    workdir: directory for config.json, metrics.jsonl, TensorBoard events, checkpoints, result.json.
    teacher, student: where ``init`` is empty: trained networks to start from after all, which are no
      part of the run's identity (a study names its own cells so, and can be moved).

  Returns:
    The contents of result.json: accuracies (0 to 1), losses, steps, examples, seconds.

  Raises:
    ConfigError: the config cannot run, or workdir belongs to another one or is in use.
    NonFiniteLoss: the loss became NaN or infinite.
    UnreadableImage: at an image that cannot be read, unless these are to be skipped.
    Preempted: SIGTERM or SIGINT came; all is saved.
  """
  config = configs.checked(config)
  workdir = local(workdir)
  config = processes.agreed(lambda: start.scaled(config, workdir))
  if (finished := processes.share(result(workdir))) is not None:
    processes.on_first(lambda: claim(workdir, config))
    return finished
  if (workdir / "cells").exists():
    raise ConfigError(f"{workdir} holds a study: choose another --workdir.")
  start.preflight(config)
  inventory.announce(config)
  with writing(workdir), preemption.listening(), trouble(workdir), inventory.replaceable(workdir):
    processes.on_first(lambda: claim(workdir, config))
    processes.on_first(lambda: inventory.claim_data(workdir, config))
    return _train(config, workdir, teacher, student)


def _train(config, workdir: pathlib.Path, teacher: str, student: str) -> dict:
  scheme = SCHEMES[config.scheme]
  teacher = (teacher or trained(config, "teacher", workdir)) if scheme.teacher == "fixed" else ""
  if scheme.pretrained_student:
    student = student or trained(config, "student", workdir)
  else:
    student = config.student.init
  return Run(config, workdir, teacher, student).run()


def evaluate(workdir, split: str = "test", data_dir: str = "") -> dict:
  """Scores the student of a workdir's newest checkpoint.

  Args:
    workdir: of a run.
    split: "test", "validation" (if one was held out), "train", or another split that the dataset has.
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
  data = inputs.split(config, split)
  check_classes(path, data.class_names)
  model = start.model(config, "student", len(data.class_names))
  network = start.load(path, model, data.image_shape, complete=True)
  found = score(config, model, parallel.replicate(network), split)
  return {name: found[name] for name in ("accuracy", "loss", "count")}


def trained(config, which: str, workdir: pathlib.Path) -> str:
  """The path of the trained full-precision teacher or student; trains it if there is none."""
  if config[which].init:
    return config[which].init
  train(start.full_precision(config, which), workdir / which)
  return str(workdir / which)
