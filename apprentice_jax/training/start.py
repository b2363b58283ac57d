"""Where networks come from: built from the config, initialised, or read from a trained one."""

import math
import os
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp

from apprentice_jax import config as configs
from apprentice_jax.config.fields import HEAD_BOUNDS
from apprentice_jax.data import class_names, folder
from apprentice_jax.data.augment import Augmentation
from apprentice_jax.data.order import permutation
from apprentice_jax.data.splits import TAKE_A_SHARE, Splits
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.distill.step import Network, State
from apprentice_jax.errors import ConfigError, nearest
from apprentice_jax.models import fit, heads, magnitudes, sound
from apprentice_jax.models.precision import matches
from apprentice_jax.models.residual import ResNet, resnet, variable_shapes
from apprentice_jax.training import moments, parallel, processes, saved
from apprentice_jax.training.optimizer import SGD
from apprentice_jax.training.program import Settings, View, initialiser, normalise
from apprentice_jax.training.workdir import classes, read_config

FULL_PRECISION = "32A,32W"
FROM_SCRATCH = {"init": "", "head": "", "classes": ""}  # of a network


def scaled(config, workdir: pathlib.Path):
  """The config for all devices, see `config.scaled`; what has begun in workdir keeps its batch."""
  begun = os.path.exists(workdir / "config.json")  # False, too, where it may not be looked
  return configs.scaled(
    config, jax.device_count(), read_config(workdir).get("batch_size", 0) if begun else 0
  )


def full_precision(config, which: str):
  """The config that trains config's teacher or student alone, at full precision."""
  alone = config.copy_and_resolve_references()
  alone.scheme, alone.precision = "baseline", FULL_PRECISION
  if which == "teacher":
    alone.student.update(config.teacher)
    alone.data.mean, alone.data.std = normalisation(config, "teacher")
    alone.teacher_input.update(configs.base().teacher_input)
  alone.teacher.update(FROM_SCRATCH)
  alone.recipe.student.update(recipe(config, which))
  if not config[which].head:
    alone.student.init = ""
  return alone


def recipe(config, name: str):
  """The config's "student", "teacher" or "finetune" recipe.

  A trained network with a new head is fine-tuned: its epochs, warm-up and learning rate are those
  of its own recipe or of "finetune", whichever are smaller.
  """
  own = config.recipe[name]
  if name == "finetune" or config[name].head != "new":
    return own
  result = own.copy_and_resolve_references()
  result.update({field: min(own[field], config.recipe.finetune[field]) for field in HEAD_BOUNDS})
  return result


def named(config, workdir: pathlib.Path | None = None, student: str = ""):
  """The config with the names of its networks.

  An empty name is that of the network in ``init``; a teacher from scratch is then of the student's
  architecture. A network from scratch has a new head, as ``head=new`` asks of a trained one.

  Args:
    config: the run's.
    workdir: the run's; what has begun there keeps its networks.
    student: path of a student that is to be scored, where no other network matters.

  Raises:
    ConfigError: a network is none of ours, or cannot be read.
  """
  result = config.copy_and_resolve_references()
  begun = read_config(workdir) if workdir and os.path.exists(workdir / "config.json") else {}
  for which in ("student", "teacher"):
    path = student or config[which].init
    if not path and config[which].head == "new":
      result[which].head = ""
    if which == "teacher" and not (path or config.teacher.name):
      result.teacher.update(
        {field: result.student[field] for field in ("name", "width", "shortcut")}
      )
    if result[which].name or student and which == "teacher":
      continue
    if begun.get(f"{which}.name"):
      result[which].update(
        {field: begun[f"{which}.{field}"] for field in ("name", "width", "shortcut")}
      )
    elif path:
      processes.agreed(
        lambda: saved.source(path) if student else _located(config, which, bool(begun))
      )
      network, _ = saved.read(path)
      have = fit.shapes(network.params, network.batch_stats)
      try:
        result[which].update(fit.fields(have if "head/kernel" in have else heads.shapes(have, 1)))
      except ValueError as error:
        raise ConfigError(
          f"{path} {error}: give one of our networks, and its name as config.{which}.name."
        ) from None
  return result


def model(config, which: str, num_classes: int) -> ResNet:
  """The config's "student" or "teacher" network."""
  network = config[which]
  if not network.name:
    raise ConfigError(
      f"config.{which}.name is empty: name a network, such as resnet20, or give a trained one with "
      f"config.{which}.init."
    )
  q = configs.quantization(config, config.precision if which == "student" else FULL_PRECISION)
  fields = {f: getattr(q, f) for f in config.quantization}
  return resnet(
    network.name,
    num_classes,
    q.precision,
    width=network.width,
    shortcut=network.shortcut or None,
    dtype=jnp.dtype(config.dtype).type,
    norm_axis=parallel.AXIS if config.sync_batch_norm else None,
    im2col=config.im2col,
    remat=config.remat,
    **fields,
  )


def settings(config, num_classes: int) -> Settings:
  """What the config's program depends on."""
  scheme = SCHEMES[config.scheme]
  view = _view(config)
  optimizer = lambda recipe: SGD(
    recipe.momentum, recipe.nesterov, recipe.weight_decay, tuple(recipe.decay)
  )
  return Settings(
    student=model(config, "student", num_classes),
    student_optimizer=optimizer(student_recipe(config)),
    teacher=model(config, "teacher", num_classes) if scheme.teacher and not view.known else None,
    teacher_optimizer=optimizer(config.recipe.teacher) if scheme.teacher == "joint" else None,
    teacher_gradient=config.loss.teacher_gradient,
    augmentation=(
      Augmentation()
      if config.data.image_size  # streamed images come augmented
      else Augmentation(config.data.pad, config.data.flip, config.data.augmentation_epochs)
    ),
    mean=tuple(config.data.mean),
    std=tuple(config.data.std),
    view=view,
    steps_per_dispatch=config.steps_per_dispatch,
  )


def normalisation(config, which: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Mean and standard deviation of the images that the config's "student" or "teacher" is made
  for."""
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
  """Of how many epochs a fixed teacher's logits are to be known, for a run of so many passes over
  the images: of all in which it sees them differently."""
  pad, flip, repeat = built.augmentation
  if not built.view.augmented or not (pad or flip):
    return 1
  every = math.ceil(passes)
  return min(every, repeat) if repeat else every


def student_recipe(config):
  """The recipe by which the student trains under the config's scheme."""
  return recipe(config, SCHEMES[config.scheme].recipe)


def initial_state(config, built: Settings, data, teacher_path: str, student_path: str) -> State:
  """The state to start training from, on every device.

  Args:
    config: the run's.
    built: its settings.
    data: the training split.
    teacher_path, student_path: trained networks to start from, or "": a random initialisation.
  """
  key = jax.random.key(config.seed)
  first = permutation(config.seed, 0, data.size)[: config.batch_size]
  images = normalise(jnp.asarray(data.sample(first)), built.mean, built.std, built.student.dtype)

  def start(which, network, path, optimizer):
    # Synchronised batch norm needs the replicas' axis, which initialisation does not have.
    init = initialiser(network.clone(norm_axis=None))
    # A new head must not be the very numbers that the network in ``path`` may have begun with: its
    # features would fit them still, in its own order of classes.
    salt = {"student": 1, "teacher": 2}[which] + 16 * (config[which].head == "new")
    given = trained(config, which, path, data) if path else None
    state = init(jax.random.fold_in(key, salt), images, given.params if given else {})
    if given:
      state = state._replace(batch_stats=given.batch_stats)
    return (
      state._replace(opt_state=jax.jit(optimizer.build().init)(state.params))
      if optimizer
      else state
    )

  teacher = None
  if built.teacher:
    teacher = start("teacher", built.teacher, teacher_path, built.teacher_optimizer)
  student = start("student", built.student, student_path, built.student_optimizer)
  return parallel.replicate(parallel.same_on_all(State(student, teacher)))


class Teacher(NamedTuple):
  """A fixed teacher, on the host."""

  model: ResNet
  network: Network


def fixed_teacher(config, data, path: str) -> Teacher:
  """The config's teacher, as it is in ``path``, for a training split."""
  network = model(config, "teacher", len(data.class_names))
  return Teacher(network, parallel.same_on_all(trained(config, "teacher", path, data)))


def trained(config, which: str, path: str, data, scored: bool = False) -> Network:
  """The network in ``path`` as the config's "student" or "teacher": its outputs are those of the
  data's classes, or a new head is left out.

  Args:
    config: the config; its ``head`` concerns the network in ``init``, and one that is scored.
    which: "student" or "teacher".
    path: see `load`.
    data: a split, for its classes and the shape of its images.
    scored: it is to be scored, not trained: nothing may be left out.
  """
  own = config[which]
  concerned = path == own.init or scored and not own.init
  head = heads.Head(
    own.head if concerned else "",
    _names(config, which) if concerned and own.classes else classes(path),
    tuple(data.class_names),
    f"config.{which}",
    not scored,
  )
  return load(
    path, model(config, which, len(data.class_names)), data.image_shape, scored, which, head
  )


def _names(config, which: str) -> tuple[str, ...]:
  """The names of a trained network's outputs, as the config has them."""
  try:
    return class_names.read(config[which].classes)
  except ValueError as error:
    raise ConfigError(f"config.{which}.classes: {error}") from None


def load(
  path: str,
  network: ResNet,
  image_shape,
  complete: bool = False,
  which: str = "student",
  head: heads.Head = heads.KEPT,
) -> Network:
  """Reads trained parameters and batch statistics for ``network``.

  Args:
    path: a workdir of ours (its student is taken), or a checkpoint of the same network by PyTorch's
      names; see `models.pytorch`.
    network: what they are for; where it has quantizer parameters that the file does not, these are
      left out, for `initialiser` to fill in.
    image_shape: (height, width, channels).
    complete: nothing may be left out.
    which: "student" or "teacher", the network's place in the config.
    head: what becomes of its classifier; a new one is left out.

  Raises:
    ConfigError: nothing there, or it does not fit, or is broken; the message lists what differs.
  """
  found, spelled = saved.read(path)
  try:
    found = found._replace(params=heads.placed(found.params, head))
  except ValueError as error:
    raise ConfigError(f"{path} {error}.") from None
  if network.quantization.weights == "ttq":
    try:
      found = found._replace(
        params=magnitudes.with_axes(found.params, network.quantization.per_channel)
      )
    except ValueError as error:
      raise ConfigError(f"{path} {error}") from None
  have = fit.shapes(found.params, found.batch_stats)
  if head.mode == "new":
    have = heads.shapes(have, network.num_classes)
  if mismatch := fit.mismatch(have, network, image_shape, which, complete, spelled):
    raise ConfigError(f"{path} {mismatch}")
  try:
    sound.check(path, found.params, found.batch_stats, spelled)
  except ValueError as error:
    raise ConfigError(str(error)) from None
  return found


def _located(config, which: str, begun: bool) -> pathlib.Path:
  """Where the network is that the config's "student" or "teacher" starts from; begun: a run has
  begun with it."""
  path = config[which].init
  if begun and not os.path.exists(path):
    raise ConfigError(
      f"config.{which}.init={path} is not there any more: bring the network back, or say where it "
      "is "
      "now; the run goes on with the same one from any place."
    )
  try:
    return saved.source(path)
  except ConfigError as error:
    raise ConfigError(f"config.{which}.init={error}") from None


def preflight(config, splits: Splits, recipes=None, begun: bool = False):
  """Raises ConfigError, on every process, for whatever can be known to go wrong before anything is
  written or trained.

  Args:
    config: the run's.
    splits: its images.
    recipes: names of those that will be used, if not the run's own.
    begun: the run has begun before.
  """
  # What one machine alone may not have comes first: networks are read together.
  data = processes.agreed(lambda: _checked_data(config, splits, recipes, begun))
  for which in ("teacher", "student"):
    if path := config[which].init:
      trained(config, which, path, data)


def _checked_data(config, splits: Splits, recipes, begun: bool):
  """The training set, if this process finds all that the run needs, and it makes sense."""
  if config.batch_size % jax.device_count():
    raise ConfigError(
      f"config.batch_size is {config.batch_size}: it must be a multiple of the "
      f"{jax.device_count()} devices."
    )
  _check_images(config, splits)
  data = splits["train"]
  recipes = recipes_of(config) if recipes is None else recipes
  for name in recipes:
    epochs = recipe(config, name).epochs
    if epochs and not round(epochs * data.size / config.batch_size):
      raise ConfigError(
        f"config.recipe.{name}.epochs: {epochs} epochs of {data.size} examples are less "
        "than a step."
      )
  shape, count = data.image_shape, len(data.class_names)
  for which in ("teacher", "student"):
    own = config[which]
    if own.head and not own.init:
      raise ConfigError(
        f"config.{which}.head is {own.head!r}, and config.{which}.init names no network to take."
      )
    if (
      own.init
      and (source := _located(config, which, begun)).is_dir()
      and not (source / "result.json").exists()
    ):
      raise ConfigError(
        f"config.{which}.init={own.init} has not finished training: run it to its end."
      )
    if own.init and own.classes:
      _names(config, which)
  networks = {
    which: model(config, which, count)
    for which, needed in (
      ("student", True),
      ("teacher", SCHEMES[config.scheme].teacher or "teacher" in recipes),
    )
    if needed
  }  # have names
  trains = {
    "student",
    *recipes,
    *(["teacher"] if SCHEMES[config.scheme].teacher == "joint" else []),
  }
  moments.check(
    config, {which: network for which, network in networks.items() if which in trains}, shape
  )
  student = networks["student"]
  params = variable_shapes(student, tuple(map(int, shape)))["params"]
  layers = [
    "/".join(k.key for k in path[:-1])
    for path, _ in jax.tree_util.tree_leaves_with_path(params)
    if path[-1].key == "kernel"
  ]
  for pattern in config.quantization.full_precision:
    if not any(matches(layer, pattern) for layer in layers):
      raise ConfigError(
        f"config.quantization.full_precision has {pattern!r}, which no layer of "
        f"{config.student.name} matches: {nearest(pattern, layers)}"
      )
  return data


def _check_images(config, splits: Splits):
  """Raises ConfigError if the images do not fit the config."""
  data = splits["train"]
  channels = data.image_shape[-1]
  for field, counts in (("data", (1, channels)), ("teacher_input", (0, 1, channels))):
    if (count := len(config[field].mean)) not in counts:
      raise ConfigError(
        f"config.{field}.mean has {count} values, but the images of {config.data.name} have "
        f"{channels} channels."
      )
  if config.batch_size > data.size:
    raise ConfigError(
      f"config.batch_size is {config.batch_size}, but {config.data.name} has only "
      f"{data.size} training examples."
    )
  if len(data.class_names) < 2:
    raise ConfigError(
      f"{config.data.name} has one class, {data.class_names[0]!r}: there is nothing to tell apart."
    )
  test = splits["test"]
  if test.class_names != data.class_names:
    _refuse_classes(config, splits, data.class_names, test.class_names)
  if config.eval.final == "test":
    splits.check_overlap()
  if config.data.image_size:
    data.check()
    test.check()


def _refuse_classes(config, splits: Splits, names, test_names):
  images = f"the {splits.name('train')} and {splits.name('test')} images of {config.data.name}"
  difference = class_names.difference(names, test_names)
  if config.data.name == folder.FOLDER and not {*names} & {*test_names}:
    raise ConfigError(
      f"{images} have no class in common: {difference}; sort the test images into folders of the "
      f"same names, or {TAKE_A_SHARE}."
    )
  raise ConfigError(f"{images} are not of the same classes: {difference}.")


def recipes_of(config) -> list[str]:
  """The recipes by which a run trains its student, and first what its scheme starts from."""
  scheme = SCHEMES[config.scheme]
  first = [("teacher", scheme.teacher == "fixed"), ("student", scheme.pretrained_student)]
  trains = lambda which: not config[which].init or config[which].head == "new"
  return [which for which, needed in first if needed and trains(which)] + [scheme.recipe]


def workdir_config(workdir):
  """The config a workdir was trained with."""
  return configs.restored(read_config(pathlib.Path(workdir)))
