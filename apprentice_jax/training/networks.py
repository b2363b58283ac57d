"""Where networks come from: built from the config, initialised, or read from a trained one."""

import functools
import math
import os
import pathlib
import zlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from apprentice_jax import config as configs
from apprentice_jax.data import class_names
from apprentice_jax.data.augment import Augmentation
from apprentice_jax.data.batches import Streamed
from apprentice_jax.data.order import permutation
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.distill.step import Network, State
from apprentice_jax.errors import ConfigError
from apprentice_jax.models import fit, heads, magnitudes, sound
from apprentice_jax.models.imported import (
  BrokenContract,
  ImportedNetwork,
  imported_network,
  is_imported,
)
from apprentice_jax.models.precision import FULL
from apprentice_jax.models.pytorch import pretrained
from apprentice_jax.models.residual import ResNet, resnet
from apprentice_jax.training import cluster, parallel, teachers
from apprentice_jax.training.checkpoint import Checkpoints
from apprentice_jax.training.optimizer import optimizer
from apprentice_jax.training.program import Settings, View, begun, initialiser, normalise
from apprentice_jax.training.recipes import FULL_PRECISION, normalisation, student_recipe
from apprentice_jax.training.workdir import classes, read_config, result

ARCHITECTURE = ("name", "width", "shortcut")  # the fields that say which network it is


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
    # A file of a program or of logits is the network, whatever it is called.
    if which == "teacher" and not student and teachers.kind(path):
      result.teacher.name = ""
      continue
    if not path and config[which].head == "new":
      result[which].head = ""
    # The student comes before, so it has its name by now.
    if which == "teacher" and not (path or config.teacher.name):
      result.teacher.update({field: result.student[field] for field in ARCHITECTURE})
    if result[which].name or student and which == "teacher":
      continue
    # What began with a name keeps it: the network in ``init`` may be gone by now.
    if begun.get(f"{which}.name"):
      result[which].update({field: begun[f"{which}.{field}"] for field in ARCHITECTURE})
    elif path:
      # Networks are read together, so every process has to have this one.
      cluster.agreed(lambda: source(path) if student else located(config, which, bool(begun)))
      # A workdir says of which function its network is.
      saved = read_config(pathlib.Path(path)) if os.path.isdir(path) else {}
      if is_imported(saved.get("student.name", "")):
        result[which].update({field: saved[f"student.{field}"] for field in ARCHITECTURE})
        continue
      network, _ = read(path)
      have = fit.shapes(network.params, network.batch_stats)
      try:
        result[which].update(fit.fields(have if "head/kernel" in have else heads.shapes(have, 1)))
      except ValueError as error:
        raise ConfigError(
          f"{path} {error}: give one of our networks, and its name as config.{which}.name."
        ) from None
  return result


def model(config, which: str, num_classes: int) -> ResNet | ImportedNetwork:
  """The config's "student" or "teacher" network; a fixed teacher may be one of `teachers`."""
  network = config[which]
  if which == "teacher" and teachers.kind(network.init):
    # The threads that read images share the cores among them.
    threads = 1 if config.data.image_size else 0
    return teachers.model(network.init, num_classes, normalisation(config, which), threads)
  if not network.name:
    raise ConfigError(
      f"config.{which}.name is empty: name a network, such as resnet20, or give a trained one with "
      f"config.{which}.init."
    )
  # A teacher is in full precision, whatever the student's is.
  q = configs.quantization(config, config.precision if which == "student" else FULL_PRECISION)
  norm_axis, dtype = parallel.AXIS if config.sync_batch_norm else None, jnp.dtype(config.dtype).type
  if is_imported(network.name):
    try:
      return imported_network(
        network.name, num_classes, q, width=network.width, dtype=dtype, norm_axis=norm_axis
      )
    except BrokenContract as error:
      raise ConfigError(f"config.{which}.name={network.name} {error}") from None
  fields = {f: getattr(q, f) for f in config.quantization}
  return resnet(
    network.name,
    num_classes,
    q.precision,
    width=network.width,
    shortcut=network.shortcut or None,
    dtype=dtype,
    norm_axis=norm_axis,
    im2col=config.im2col,
    remat=config.remat,
    **fields,
  )


def settings(config, num_classes: int) -> Settings:
  """What the config's program depends on."""
  scheme = SCHEMES[config.scheme]
  view = _view(config)
  quantized = configs.quantization(config).precision.weights != FULL
  # Streamed images come augmented.
  augmentation = Augmentation()
  if not config.data.image_size:
    augmentation = Augmentation(config.data.pad, config.data.flip, config.data.augmentation_epochs)
  return Settings(
    student=model(config, "student", num_classes),
    student_optimizer=optimizer(student_recipe(config)),
    teacher=model(config, "teacher", num_classes) if scheme.teacher and not view.known else None,
    teacher_optimizer=optimizer(config.recipe.teacher) if scheme.teacher == "joint" else None,
    teacher_gradient=config.loss.teacher_gradient,
    # Without a teacher, whatever the config says: so that all of these share a program.
    standardised=bool(scheme.teacher) and config.loss.standardised,
    freezes=bool(config.oscillation.freeze) and quantized,
    damps=bool(config.oscillation.damping) and quantized,
    augmentation=augmentation,
    mean=tuple(config.data.mean),
    std=tuple(config.data.std),
    mix=config.data.mix,
    view=view,
    steps_per_dispatch=config.steps_per_dispatch,
  )


def _view(config) -> View:
  """How the config's teacher sees the images; the default where there is none."""
  scheme, given = SCHEMES[config.scheme], config.teacher_input
  if not scheme.teacher:
    return View()
  # Equal values become the default, so that runs with and without them share a program.
  mean, std = normalisation(config, "teacher")
  if (mean, std) == (tuple(config.data.mean), tuple(config.data.std)):
    mean, std = (), ()
  if scheme.teacher != "fixed":
    return View(mean, std)
  # Without changes, augmented and stored images are the same: one program for both.
  changes = bool(config.data.pad or config.data.flip)
  augmented = given.augmented or not changes
  # A teacher on the host is never run by a step. Logits that are in a file are of one epoch.
  kind = teachers.kind(config.teacher.init)
  known = given.cached or kind in teachers.ON_HOST
  return View(mean, std, augmented and kind != "logits", known)


def known_epochs(built: Settings, passes: float) -> int:
  """The number of epochs whose logits of a fixed teacher are needed, for a run of so many passes
  over the images: all epochs in which it sees them differently."""
  pad, flip, repeat = built.augmentation
  if not built.view.augmented or not (pad or flip):
    return 1
  every = math.ceil(passes)
  return min(every, repeat) if repeat else every


def initial_state(config, built: Settings, data, teacher_path: str, student_path: str) -> State:
  """The state to start training from, on every device.

  Args:
    config: the run's.
    built: its settings.
    data: the training split.
    teacher_path, student_path: trained networks to start from, or "": a random initialisation.
  """
  # The first batch of the run itself: quantizers with learned scales start from its statistics.
  key = jax.random.key(config.seed)
  first = permutation(config.seed, 0, data.size)[: config.batch_size]
  images = normalise(jnp.asarray(data.sample(first)), built.mean, built.std, built.student.dtype)

  def start(which, network, path):
    # The file of a program is all of its network.
    if not isinstance(network, ResNet | ImportedNetwork):
      return trained(config, which, path, data)
    # Synchronised batch norm needs the replicas' axis, which initialisation does not have.
    init = initialiser(network.clone(norm_axis=None))
    # A new head must not be the very numbers that the network in ``path`` may have begun with: its
    # features would fit them still, in its own order of classes.
    salt = {"student": 1, "teacher": 2}[which] + 16 * (config[which].head == "new")
    given = trained(config, which, path, data) if path else None
    state = init(jax.random.fold_in(key, salt), images, given.params if given else {})
    # Initialisation leaves batch statistics at 0 and 1.
    if given:
      state = state._replace(batch_stats=given.batch_stats)
    # The optimizer's state alone is computed.
    opt_state = jax.jit(lambda state: begun(built, which, state).opt_state)(state)
    return state._replace(opt_state=opt_state)

  teacher = None
  if built.teacher:
    teacher = start("teacher", built.teacher, teacher_path)
  student = start("student", built.student, student_path)
  return parallel.replicate(parallel.same_on_all(State(student, teacher)))


class Teacher(NamedTuple):
  """A fixed teacher; its network is on the host, or on every device."""

  model: ResNet | ImportedNetwork
  network: Network

  @property
  def host_logits(self) -> Callable | None:
    """(uint8 images, their places in the data set) -> logits, of a teacher that no device runs; it
    can be pickled. None of any other."""
    if not teachers.on_host(self.model):
      return None
    return functools.partial(self.model.logits, outputs=self.network.params["outputs"])

  def answers(self, data) -> bool:
    """Whether it can be scored on a split of other images than those that it teaches."""
    # A file of logits knows no other images, and each process reads a part of a stream.
    one = jax.process_count() == 1 or not isinstance(data, Streamed)
    return not teachers.on_host(self.model) or one and self.model.sees_images


def fixed_teacher(config, data, path: str) -> Teacher:
  """The config's teacher, as it is in ``path``, for a training split."""
  network = model(config, "teacher", len(data.class_names))
  return Teacher(network, parallel.same_on_all(trained(config, "teacher", path, data)))


def trained(config, which: str, path: str, data, scored: bool = False) -> Network:
  """The network in ``path`` as the config's "student" or "teacher". Its outputs are those of the
  data's classes; a new head is left out.

  Args:
    config: the config; its ``head`` concerns the network in ``init``, and one that is scored.
    which: "student" or "teacher".
    path: see `load`.
    data: a split, for its classes and the shape of its images.
    scored: it is to be scored, not trained: nothing may be left out.
  """
  # The config's head and classes speak of the network in ``init``, or of the one that is scored.
  own = config[which]
  concerned = path == own.init or scored and not own.init
  head = heads.Head(
    own.head if concerned else "",
    output_names(config, which) if concerned and own.classes else classes(path),
    tuple(data.class_names),
    f"config.{which}",
    not scored,
  )
  if which == "teacher" and teachers.kind(path):
    return teachers.network(model(config, which, len(data.class_names)), head, data)
  return load(
    path, model(config, which, len(data.class_names)), data.image_shape, scored, which, head
  )


def load(
  path: str,
  network: ResNet | ImportedNetwork,
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
  found, spelled = read(path)
  # 1. Bring the outputs into the order of the data's classes, or leave them out.
  try:
    found = found._replace(params=heads.placed(found.params, head))
  except ValueError as error:
    raise ConfigError(f"{path} {error}.") from None
  # 2. TTQ's magnitudes are one of a layer or of each channel, and the file may have the other.
  q = network.quantization
  if q.weights == "ttq":
    try:
      found = found._replace(params=magnitudes.with_axes(found.params, q.per_channel))
    except ValueError as error:
      raise ConfigError(f"{path} {error}") from None
  # 3. Compare the shapes; a head that is new fits by definition.
  have = fit.shapes(found.params, found.batch_stats)
  if head.mode == "new":
    have = heads.shapes(have, network.num_classes)
  if mismatch := fit.mismatch(have, network, image_shape, which, complete, spelled):
    raise ConfigError(f"{path} {mismatch}")
  # 4. Numbers that fit can still be none.
  try:
    sound.check(path, found.params, found.batch_stats, spelled)
  except ValueError as error:
    raise ConfigError(str(error)) from None
  return found


def output_names(config, which: str) -> tuple[str, ...]:
  """The names of a trained network's outputs, as the config has them."""
  try:
    return class_names.read(config[which].classes)
  except ValueError as error:
    raise ConfigError(f"config.{which}.classes: {error}") from None


def located(config, which: str, begun: bool) -> pathlib.Path:
  """Where the network is that the config's "student" or "teacher" starts from; begun: a run has
  begun with it."""
  path = config[which].init
  if begun and not os.path.exists(path):
    raise ConfigError(
      f"config.{which}.init={path} is not there any more: bring the network back, or say where it "
      "is now; the run goes on with the same one from any place."
    )
  try:
    return source(path)
  except ConfigError as error:
    raise ConfigError(f"config.{which}.init={error}") from None


def read(path: str) -> tuple[Network, Callable | None]:
  """The network in ``path`` as it is there, see `load`, and how its file spells our names (None: as
  we do)."""
  place, spelled = source(path), None
  if place.is_dir():
    with Checkpoints(place) as checkpoints:
      if checkpoints.latest() is None:
        raise ConfigError(f"{path} has no checkpoint yet: train it to the end first.")
      finished = result(place)
      found, step = checkpoints.student()
    # `Checkpoints` passes over a damaged one; an earlier step of a finished run is another network.
    if finished is not None and finished["steps"] != step:
      raise ConfigError(
        f"the last checkpoint of {path}, of step {finished['steps']}, is damaged: bring "
        "it back from a copy, or train anew."
      )
  else:
    try:
      given = pretrained.load(place)
    except ValueError as error:
      # Some readers of files name the file themselves.
      prefix = "" if str(place) in str(error) else f"{path}: "
      raise ConfigError(f"{prefix}{error}") from None
    found, spelled = Network(given.params, given.batch_stats), given.spelled
  return found, spelled


def checksum(network: Network) -> int:
  """The sum of the CRC-32 of a network's arrays."""
  arrays = jax.tree.leaves(jax.device_get((network.params, network.batch_stats)))
  return sum(zlib.crc32(np.ascontiguousarray(a).tobytes()) for a in arrays)


def source(path: str) -> pathlib.Path:
  """The workdir, or the checkpoint file, at path."""
  source = pathlib.Path(path)
  if (source / "cells").is_dir():
    raise ConfigError(
      f"{path} holds a study: give the workdir of one of its runs, {path}/cells/..."
    )
  if not (source.is_dir() and (source / "config.json").exists()) and not source.is_file():
    raise ConfigError(f"{path} is neither a workdir nor a checkpoint file.")
  return source
