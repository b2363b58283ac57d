"""The functions behind `apprentice train` and `eval`: they train, continue and score networks by a
config."""

import pathlib

from apprentice_jax import config as configs
from apprentice_jax.data.splits import Splits, open_splits
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.errors import ConfigError
from apprentice_jax.training import (
  cluster,
  forecast,
  identity,
  inventory,
  networks,
  parallel,
  preemption,
  preflight,
  recipes,
  teachers,
)
from apprentice_jax.training.evaluate import score
from apprentice_jax.training.run import Run
from apprentice_jax.training.workdir import (
  claim,
  disk_errors,
  local,
  result,
  scaled,
  workdir_config,
  writing,
)


def train(
  config,
  workdir,
  *,
  teacher: str = "",
  student: str = "",
  part: str = "",
  splits: Splits | None = None,
) -> dict:
  """Trains as the config says, or continues what was begun in workdir.

  A scheme may need a trained teacher, or the student's trained full-precision weights. It takes
  them from ``config.teacher.init`` and ``config.student.init``. Where these are empty, they are
  trained first, in ``workdir/teacher`` and ``workdir/student``. So is a teacher with a new head. A
  teacher that trains along starts from ``config.teacher.init``, too, and a student of any scheme
  from ``config.student.init``.

  It runs on all of ``jax.devices()``. Their number matters, since each normalises its own share of
  a batch. The command sets it to ``config.cpu_devices`` where there is no accelerator. The command
  also keeps compiled programs for the next start, which is the caller's choice here:
  ``jax_compilation_cache_dir``, and `training.compiled.keep_in`.

  Args:
    config: see `apprentice_jax.config.base`.
    workdir: directory for config.json, metrics.jsonl, TensorBoard events, checkpoints, result.json.
    teacher, student: where ``init`` is empty: trained networks to start from after all, which are
      no part of the run's identity (a study names its own cells so, and can be moved).
    part: what the run is to a larger one: "teacher" or "student" of another run, or a study's kind
      of cell. A teacher is called so in the progress; the larger one has said what is trained, and
      warned of settings.
    splits: images that are open already, see `open_splits`.

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
  config = networks.named(cluster.agreed(lambda: scaled(config, workdir)), workdir)
  splits = open_splits(config.data, splits)
  # 1. A finished run is answered from its result, if the config is its own.
  if (finished := cluster.share(result(workdir))) is not None:
    cluster.on_first(lambda: claim(workdir, config))
    identity.check(workdir, config, splits)
    return finished
  if (workdir / "cells").exists():
    raise ConfigError(f"{workdir} holds a study: choose another --workdir.")
  # 2. Everything that can be known to go wrong, before anything is written.
  preflight.check(config, splits, begun=(workdir / "config.json").exists())
  inventory.announce(config, splits)
  # A part's run was announced by the larger one, and a run that continues by its first start.
  if not part and cluster.first() and not (workdir / "config.json").exists():
    for line in (*forecast.lines(config, splits["train"]), *_starts(config, workdir, teacher)):
      print(line, flush=True)
  # 3. Train. The workdir is held first: what follows writes to it.
  with (
    writing(workdir),
    preemption.listening(),
    disk_errors(workdir),
    identity.replaceable(workdir),
  ):
    cluster.on_first(lambda: claim(workdir, config))
    cluster.on_first(lambda: identity.claim_data(workdir, splits))
    identity.check(workdir, config, splits)
    # After the claim, so that a run that is refused warns of nothing.
    if not part and cluster.first():
      preflight.warn_of_warmups(config, splits["train"].size, [config.scheme])
    return _train(config, workdir, splits, teacher, student, part)


def _train(
  config, workdir: pathlib.Path, splits: Splits, teacher: str, student: str, part: str
) -> dict:
  # The networks to start from: named by the caller, else by the config, else trained now.
  scheme = SCHEMES[config.scheme]
  if scheme.teacher == "fixed":
    teacher = teacher or trained(config, "teacher", workdir, splits)
  else:
    teacher = config.teacher.init if scheme.teacher else ""
  if scheme.pretrained_student:
    student = student or trained(config, "student", workdir, splits)
  else:
    student = config.student.init
  role = "teacher" if part == "teacher" else "student"
  return Run(config, workdir, splits, teacher, student, role).run()


def _starts(config, workdir: pathlib.Path, teacher: str) -> list[str]:
  """What becomes of the trained networks that the config names, in sentences."""
  scheme, said = SCHEMES[config.scheme].teacher, []
  heads = {
    "": "",
    "match": ", its outputs in the order of the data's classes",
    "new": " with a new head",
  }
  # The teacher. A workdir's network as it was trained needs no words.
  name, head = config.teacher.init, heads[config.teacher.head]
  if name and not scheme:
    said.append(f"{name} is not used: scheme {config.scheme} has no teacher.")
  elif name and scheme == "joint":
    said.append(
      f"the teacher starts from {name}{head}, and trains beside the student by recipe.teacher."
    )
  elif config.teacher.head == "new" and not teacher and result(workdir / "teacher") is None:
    recipe = recipes.recipe(config, "teacher")
    said.append(
      f"the teacher starts from {name}{head} and is trained first, in {workdir / 'teacher'}: "
      f"{recipe.epochs:g} epochs at a learning rate of {recipe.learning_rate:g}, the smaller "
      f"values of recipe.teacher and recipe.finetune{_seen(config)}."
    )
  elif name and not teacher and (head or not pathlib.Path(name).is_dir()):
    said.append(f"the teacher is {name}{head}{_seen(config)}.")
  # The student: a new head on full-precision weights needs a training before the low-bit one.
  if config.student.head:
    first = config.student.head == "new" and SCHEMES[config.scheme].pretrained_student
    said.append(
      f"the student starts from {config.student.init}{heads[config.student.head]}"
      + (f" and is trained first, in {workdir / 'student'}." if first else ".")
    )
  return said


def _seen(config) -> str:
  """How a teacher from a file, which does not say so itself, sees the images."""
  if pathlib.Path(config.teacher.init).is_dir():
    return ""
  kind = teachers.kind(config.teacher.init)
  if kind == "logits":
    return ""
  mean, std = recipes.normalisation(config, "teacher")
  said = f"normalised by mean {mean} and std {std} (config.teacher_input)"
  if kind:
    takes = networks.model(config, "teacher", 1).pictures
    said = f"{takes}, {said if takes.is_float else 'as they are stored'}"
  return f"; it sees images {said}"


def evaluate(workdir, split: str = "test", data_dir: str = "") -> dict:
  """Scores the student of a workdir's newest checkpoint.

  Args:
    workdir: of a run.
    split: "test", "validation" (if one was held out), "train", or another split that the dataset
      has.
    data_dir: where the dataset is prepared, if not where the run had it.

  Returns:
    "accuracy" (0 to 1), "loss" (mean cross-entropy) and "count", the number of examples.
  """
  config = workdir_config(workdir)
  return evaluate_network(config, str(workdir), split, data_dir)


def evaluate_network(
  config, path: str, split: str = "test", data_dir: str = "", splits: Splits | None = None
) -> dict:
  """Scores the network in ``path``, a workdir or a checkpoint, as the config's student; see
  `evaluate` and, for ``splits``, `train`."""
  # A copy: the caller's config keeps its own folder.
  config = config.copy_and_resolve_references()
  config.data.dir = data_dir or config.data.dir
  config = networks.named(config, student=path)
  splits = open_splits(config.data, splits)
  data = splits[splits.named(split)]
  model = networks.model(config, "student", len(data.class_names))
  network = networks.trained(config, "student", path, data, scored=True)
  found = score(config, model, parallel.replicate(network), data)
  return {name: found[name] for name in ("accuracy", "loss", "count")}


def trained(config, which: str, workdir: pathlib.Path, splits: Splits) -> str:
  """The path of the trained full-precision teacher or student; trains it if there is none, and a
  teacher that gets a new head."""
  if config[which].init and config[which].head != "new":
    return config[which].init
  train(recipes.full_precision(config, which), workdir / which, part=which, splits=splits)
  return str(workdir / which)
