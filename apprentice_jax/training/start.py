"""Where networks come from: built from the config, initialised, or read from a trained one."""

import math
import os
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp

from apprentice_jax import config as configs
from apprentice_jax.config import ConfigError
from apprentice_jax.data.augment import Augmentation, normalise
from apprentice_jax.data.order import permutation
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.distill.step import Network, State
from apprentice_jax.models import fit, magnitudes, pretrained, sound
from apprentice_jax.models.precision import matches, nearest
from apprentice_jax.models.residual import ResNet, resnet
from apprentice_jax.training import inputs, parallel, processes
from apprentice_jax.training.checkpoint import Checkpoints
from apprentice_jax.training.optimizer import SGD
from apprentice_jax.training.program import Settings, View, initialiser
from apprentice_jax.training.workdir import read_config, result

FULL_PRECISION = "32A,32W"


def scaled(config, workdir: pathlib.Path):
  """The config for all devices, see `config.scaled`; what has begun in workdir keeps its batch."""
  begun = os.path.exists(workdir / "config.json")  # False, too, where it may not be looked
  return configs.scaled(config, jax.device_count(),
                        read_config(workdir).get("batch_size", 0) if begun else 0)


def full_precision(config, which: str):
  """The config that trains config's teacher or student alone, at full precision."""
  alone = config.copy_and_resolve_references()
  alone.scheme, alone.precision = "baseline", FULL_PRECISION
  if which == "teacher":
    alone.student.update(config.teacher)
    alone.recipe.student.update(config.recipe.teacher)
    alone.data.mean, alone.data.std = normalisation(config, "teacher")
    alone.teacher_input.update(configs.base().teacher_input)
  alone.student.init = ""
  return alone


def model(config, which: str, num_classes: int) -> ResNet:
  """The config's "student" or "teacher" network."""
  network = config[which]
  q = configs.quantization(config, config.precision if which == "student" else FULL_PRECISION)
  fields = {f: getattr(q, f) for f in config.quantization}
  return resnet(network.name, num_classes, q.precision, width=network.width,
                shortcut=network.shortcut or None, dtype=jnp.dtype(config.dtype).type,
                norm_axis=parallel.AXIS if config.sync_batch_norm else None, im2col=config.im2col,
                remat=config.remat, **fields)


def settings(config, num_classes: int) -> Settings:
  """What the config's program depends on."""
  scheme = SCHEMES[config.scheme]
  view = _view(config)
  optimizer = lambda recipe: SGD(recipe.momentum, recipe.nesterov, recipe.weight_decay,
                                 tuple(recipe.decay))
  return Settings(
      student=model(config, "student", num_classes),
      student_optimizer=optimizer(student_recipe(config)),
      teacher=model(config, "teacher", num_classes) if scheme.teacher and not view.known else None,
      teacher_optimizer=optimizer(config.recipe.teacher) if scheme.teacher == "joint" else None,
      teacher_gradient=config.loss.teacher_gradient,
      augmentation=(Augmentation() if config.data.image_size  # streamed images come augmented
                    else Augmentation(config.data.pad, config.data.flip, config.data.augmentation_epochs)),
      mean=tuple(config.data.mean), std=tuple(config.data.std), view=view,
      steps_per_dispatch=config.steps_per_dispatch)


def normalisation(config, which: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Mean and standard deviation of the images that the config's "student" or "teacher" is made for."""
  own = config.data
  if which == "teacher":
    if config.teacher_input.mean:
      own = config.teacher_input
    elif config.teacher.init and os.path.exists(pathlib.Path(config.teacher.init, "config.json")):
      own = workdir_config(config.teacher.init).data
  return tuple(own.mean), tuple(own.std)


def _view(config) -> View:
  """How the config's teacher sees the images; the default where there is none."""
  scheme, given = SCHEMES[config.scheme], config.teacher_input
  if not scheme.teacher:
    return View()
  mean, std = normalisation(config, "teacher")
  if (mean, std) == (tuple(config.data.mean), tuple(config.data.std)):
    mean, std = (), ()
  if scheme.teacher != "fixed":
    return View(mean, std)
  changes = bool(config.data.pad or config.data.flip)
  return View(mean, std, given.augmented or not changes, given.cached)


def known_epochs(built: Settings, passes: float) -> int:
  """Of how many epochs a fixed teacher's logits are to be known, for a run of so many passes over the images: of all
  in which it sees them differently."""
  pad, flip, repeat = built.augmentation
  if not built.view.augmented or not (pad or flip):
    return 1
  every = math.ceil(passes)
  return min(every, repeat) if repeat else every


def student_recipe(config):
  """The recipe by which the student trains under the config's scheme."""
  return config.recipe[SCHEMES[config.scheme].recipe]


def initial_state(config, built: Settings, teacher_path: str, student_path: str) -> State:
  """The state to start training from, on every device.

  Args:
    config: the run's.
    built: its settings.
    teacher_path, student_path: trained networks to start from, or "": a random initialisation.
  """
  key = jax.random.key(config.seed)
  data = inputs.split(config, "train")
  first = permutation(config.seed, 0, data.size)[:config.batch_size]
  images = normalise(jnp.asarray(data.sample(first)), built.mean, built.std, built.student.dtype)

  def start(which, network, path, optimizer):
    # Synchronised batch norm needs the replicas' axis, which initialisation does not have.
    init = initialiser(network.clone(norm_axis=None))
    salt = {"student": 1, "teacher": 2}[which]
    given = load(path, network, images.shape[1:]) if path else None
    state = init(jax.random.fold_in(key, salt), images, given.params if given else {})
    if given:
      state = state._replace(batch_stats=given.batch_stats)
    return state._replace(opt_state=jax.jit(optimizer.build().init)(state.params)) if optimizer else state

  teacher = None
  if built.teacher:
    teacher = start("teacher", built.teacher, teacher_path, built.teacher_optimizer)
  student = start("student", built.student, student_path, built.student_optimizer)
  return parallel.replicate(parallel.same_on_all(State(student, teacher)))


class Teacher(NamedTuple):
  """A fixed teacher, on the host."""
  model: ResNet
  network: Network


def fixed_teacher(config, path: str) -> Teacher:
  """The config's teacher, as it is in ``path``."""
  data = inputs.split(config, "train")
  network = model(config, "teacher", len(data.class_names))
  return Teacher(network, parallel.same_on_all(load(path, network, data.image_shape, which="teacher")))


def load(path: str, network: ResNet, image_shape, complete: bool = False, which: str = "student") -> Network:
  """Reads trained parameters and batch statistics for ``network``.

  Args:
    path: a workdir of ours (its student is taken), or a checkpoint of the same network by PyTorch's names; see
      `models.pretrained`.
    network: what they are for; where it has quantizer parameters that the file does not, these are
      left out, for `initialiser` to fill in.
    image_shape: (height, width, channels).
    complete: nothing may be left out.
    which: "student" or "teacher", the network's place in the config.

  Raises:
    ConfigError: nothing there, or it does not fit, or is broken; the message lists what differs.
  """
  source, spelled = _source(path), None
  if source.is_dir():
    with Checkpoints(source) as checkpoints:
      if checkpoints.latest() is None:
        raise ConfigError(f"{path} has no checkpoint yet: train it to the end first.")
      finished = result(source)
      found, step = checkpoints.student()
    if finished is not None and finished["steps"] != step:
      raise ConfigError(f"the last checkpoint of {path}, of step {finished['steps']}, is damaged: bring "
                        "it back from a copy, or train anew.")
  else:
    try:
      given = pretrained.load(source)
    except ValueError as error:
      prefix = "" if str(source) in str(error) else f"{path}: "
      raise ConfigError(f"{prefix}{error}") from None
    found, spelled = Network(given.params, given.batch_stats), given.spelled
  if network.quantization.weights == "ttq":
    try:
      found = found._replace(params=magnitudes.with_axes(found.params, network.quantization.per_channel))
    except ValueError as error:
      raise ConfigError(f"{path} {error}") from None
  have = fit.shapes(found.params, found.batch_stats)
  if trouble := fit.trouble(have, network, image_shape, which, complete, spelled):
    raise ConfigError(f"{path} {trouble}")
  try:
    sound.check(path, found.params, found.batch_stats, spelled)
  except ValueError as error:
    raise ConfigError(str(error)) from None
  return found


def _source(path: str) -> pathlib.Path:
  """The workdir, or the checkpoint file, at path."""
  source = pathlib.Path(path)
  if (source / "cells").is_dir():
    raise ConfigError(f"{path} holds a study: give the workdir of one of its runs, {path}/cells/...")
  if not (source.is_dir() and (source / "config.json").exists()) and not source.is_file():
    raise ConfigError(f"{path} is neither a workdir nor a checkpoint file.")
  return source


def preflight(config, recipes=None):
  """Raises ConfigError, on every process, for whatever can be known to go wrong before anything is written
  or trained.

  Args:
    config: the run's.
    recipes: names of those that will be used, if not the run's own.
  """
  # What one machine alone may not have comes first: networks are read together.
  data = processes.agreed(lambda: _checked_data(config, recipes))
  for which in ("teacher", "student"):
    if path := config[which].init:
      load(path, model(config, which, len(data.class_names)), data.image_shape, which=which)


def _checked_data(config, recipes):
  """The training set, if this process finds all that the run needs, and it makes sense."""
  if config.batch_size % jax.device_count():
    raise ConfigError(f"config.batch_size is {config.batch_size}: it must be a multiple of the "
                      f"{jax.device_count()} devices.")
  inputs.check(config)
  data = inputs.split(config, "train")
  for name in _recipes(config) if recipes is None else recipes:
    epochs = config.recipe[name].epochs
    if epochs and not round(epochs * data.size / config.batch_size):
      raise ConfigError(f"config.recipe.{name}.epochs: {epochs} epochs of {data.size} examples are less "
                        "than a step.")
  shape, classes = data.image_shape, len(data.class_names)
  for which in ("teacher", "student"):
    path = config[which].init
    if path and _source(path).is_dir() and not (_source(path) / "result.json").exists():
      raise ConfigError(f"config.{which}.init={path} has not finished training: run it to its end.")
  student = model(config, "student", classes)
  images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
  params = jax.eval_shape(lambda k, x: student.clone(norm_axis=None).init(k, x, True),
                          jax.random.key(0), images)["params"]
  layers = ["/".join(k.key for k in path[:-1])
            for path, _ in jax.tree_util.tree_leaves_with_path(params) if path[-1].key == "kernel"]
  for pattern in config.quantization.full_precision:
    if not any(matches(layer, pattern) for layer in layers):
      raise ConfigError(f"config.quantization.full_precision has {pattern!r}, which no layer of "
                        f"{config.student.name} matches: {nearest(pattern, layers)}")
  return data


def _recipes(config) -> list[str]:
  """The recipes by which a run trains its student, and first what its scheme starts from."""
  scheme = SCHEMES[config.scheme]
  first = [("teacher", scheme.teacher == "fixed"), ("student", scheme.pretrained_student)]
  return [name for name, needed in first if needed and not config[name].init] + [scheme.recipe]


def workdir_config(workdir):
  """The config a workdir was trained with."""
  config = configs.base()
  config.update_from_flattened_dict({
      k: tuple(v) if isinstance(v, list) else v for k, v in read_config(pathlib.Path(workdir)).items()})
  return config
