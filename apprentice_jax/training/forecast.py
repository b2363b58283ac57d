"""A forecast of a run: what it is going to train, and about how long it will take."""

import re
import time
from typing import NamedTuple

import jax
import numpy as np

from apprentice_jax.deploy import cost
from apprentice_jax.deploy.network import BadNetwork
from apprentice_jax.distill.schemes import LOSS_WITH_A_TEACHER, SCHEMES
from apprentice_jax.models.imported import is_imported
from apprentice_jax.models.residual import ResNet
from apprentice_jax.training import networks, recipes, teachers

# Measured on two cores of a server's CPU (AMD EPYC), ResNet-8 to ResNet-56 at 32 pixels; see
# `seconds`.
EFFICIENCY = 0.35  # of a training step, beside a large product of matrices
COMPILATION = 1.2  # seconds a convolution whose gradient is compiled


class Stage(NamedTuple):
  """One training.

  Attributes:
    name: "teacher", or the "student".
    network: what trains, in words.
    epochs, steps: of it.
    batch: images a step.
    macs: multiply-adds of an image in a step, gradients included.
    layers: convolutions and dense layers that train.
  """

  name: str
  network: str
  epochs: float
  steps: int
  batch: int
  macs: int
  layers: int


def stages(config, data) -> list[Stage]:
  """The trainings of a run on a training split, in order.

  Raises:
    BadNetwork: multiply-adds are not known of a network that cannot be lowered.
  """
  scheme = SCHEMES[config.scheme]

  def stage(name, network, recipe, macs, layers):
    steps = round(recipe.epochs * data.size / config.batch_size)
    return Stage(name, network, recipe.epochs, steps, config.batch_size, macs, layers)

  # A step takes three times a forward pass: that, and as much for each of its two gradients.
  found = []
  for which in recipes.recipes_of(config)[:-1]:
    macs, layers = _size(config, which, data)
    network = f"{config[which].name} in full precision"
    found.append(stage(which, network, recipes.recipe(config, which), 3 * macs, layers))
  macs, layers = _size(config, "student", data)
  macs *= 3
  # A fixed teacher takes a forward pass alone, whose compilation is short.
  if scheme.teacher and not teachers.kind(config.teacher.init):
    joint = scheme.teacher == "joint"
    teachers_macs, teachers_layers = _size(config, "teacher", data)
    macs += teachers_macs * (3 if joint else 1)
    layers += teachers_layers * joint
  network = f"{config.student.name} at {config.precision}"
  return [*found, stage("student", network, recipes.student_recipe(config), macs, layers)]


def _size(config, which: str, data) -> tuple[int, int]:
  """Multiply-adds of a forward pass of one image, and layers, of a network of the config."""
  model = networks.model(config, which, len(data.class_names))
  layers = cost.layers(cost.blank(model, tuple(map(int, data.image_shape))))
  return sum(layer.macs for layer in layers), len(layers)


def seconds(found: list[Stage], speed: float) -> float:
  """An estimate of the seconds that trainings take, compilation included.

  Args:
    found: the trainings.
    speed: multiply-adds a second of a large product of matrices, with all cores.
  """
  return sum(
    stage.steps * stage.batch * stage.macs / (EFFICIENCY * speed) + COMPILATION * stage.layers
    for stage in found
  )


def speed() -> float:
  """Multiply-adds a second of a product of float32 matrices on this CPU, with all cores."""
  side = 1024
  a = np.ones((side, side), np.float32)
  best = np.inf
  # The best of some: other work on the machine slows the rest.
  for _ in range(10):
    began = time.perf_counter()
    a @ a
    best = min(best, time.perf_counter() - began)
  return side**3 / best


def lines(config, data) -> list[str]:
  """Sentences on what a new run trains and about how long it takes on a CPU, the config's note
  first.

  Args:
    config: the run's.
    data: its training split.
  """
  said = [*note(config), *_too_small(config, data)]
  # What is printed while it trains is this loss.
  if SCHEMES[config.scheme].distills:
    said.append(LOSS_WITH_A_TEACHER)
  try:
    line = _line(stages(config, data), data.image_shape)
    return [*said, f"{line}{teachers_time(config)}."]
  except BadNetwork:
    return said


def teachers_time(config) -> str:
  """Words after a time that lacks what a file's teacher takes; "" where nothing is lacking."""
  # A file's network is in none of our tables.
  from_file = SCHEMES[config.scheme].teacher and teachers.kind(config.teacher.init)
  return ", and the teacher's own time" if from_file else ""


def note(config) -> list[str]:
  """The config's note; [] without one.

  A sentence with ``student=`` advises another network of ours. It is left out where the student is
  the user's own.
  """
  sentences = re.split(r"(?<=[.]) ", config.note)
  if is_imported(config.student.name):
    sentences = [sentence for sentence in sentences if "student=" not in sentence]
  return list(filter(None, [" ".join(sentences)]))


def _too_small(config, data) -> list[str]:
  """A sentence for each network of which nothing but one pixel is left of an image."""
  said = []
  for which in ("student", "teacher"):
    if which == "teacher" and not SCHEMES[config.scheme].teacher:
      continue
    network = networks.model(config, which, len(data.class_names))
    if not isinstance(network, ResNet):
      continue
    # An ImageNet stem reduces an image to a quarter, and each stage after the first one to half.
    reduction = 4 * 2 ** (len(network.stages) - 1)
    height, width = data.image_shape[:2]
    if max(height, width) <= reduction and network.imagenet_stem:
      said.append(
        f"an image of {width}x{height} pixels is a single one in the last layers of the {which} "
        f"({config[which].name}): --config.data.image_size={4 * reduction} or more suits it better."
      )
  return said


def _line(found: list[Stage], image_shape) -> str:
  parts = [
    f"the {s.name} ({s.network}: {s.epochs:g} epoch{'s' * (s.epochs != 1)}, {s.steps:,} steps of "
    f"{s.batch} images)"
    for s in found
  ]
  height, width = image_shape[:2]
  line = f"training {', then '.join(parts)} on images of {width}x{height} pixels"
  # The constants above are of a CPU; an accelerator's first steps tell soon enough.
  if jax.default_backend() != "cpu":
    return line + ": the progress line says how long"
  return f"{line}: about {duration(seconds(found, speed()))} on this CPU, with compilation"


def duration(count: float) -> str:
  """Seconds in words, as exact as an estimate is."""
  if count < 90:
    return "a minute"
  return f"{count / 60:.0f} minutes" if count < 7200 else f"{count / 3600:.0f} hours"
