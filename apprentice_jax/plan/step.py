"""The very step that `train` would run on some devices, lowered without data or devices."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from apprentice_jax.data.batches import Chunk, DeviceBatch, DeviceData
from apprentice_jax.data.splits import held, open_splits
from apprentice_jax.distill.step import Network, State
from apprentice_jax.errors import ConfigError
from apprentice_jax.models.imported import ImportedNetwork
from apprentice_jax.models.residual import ResNet
from apprentice_jax.training import networks, recipes, teachers
from apprentice_jax.training.dispatch import Program
from apprentice_jax.training.program import Hyperparameters, begun, constant_rates

# Training examples, classes and (stored) image shape of sets that need not be there to plan for.
KNOWN = {
  "imagenet2012": (1_281_167, 1000, (0, 0, 3)),
  "cifar10": (50_000, 10, (32, 32, 3)),
  "cifar100": (50_000, 100, (32, 32, 3)),
  "fashion_mnist": (60_000, 10, (28, 28, 1)),
  "mnist": (60_000, 10, (28, 28, 1)),
}


class Data(NamedTuple):
  """The numbers of a dataset that a program depends on: size, classes, (height, width,
  channels)."""

  size: int
  classes: int
  shape: tuple[int, int, int]


class Step(NamedTuple):
  """A step to be compiled.

  Attributes:
    lowered: what jax lowered, to be compiled; ``as_text`` is the same for the same step.
    state: its State, abstract.
    trained: the networks in it that train: names of fields of State.
    batch: bytes of images and labels on each device.
  """

  lowered: Any
  state: State
  trained: tuple[str, ...]
  batch: int


def data_of(config, examples: int = 0, classes: int = 0) -> Data:
  """The config's dataset, as given, as known, or as found where it is prepared.

  Raises:
    ConfigError: nothing is known of it.
  """
  d = config.data
  streamed = (d.image_size, d.image_size, 3)
  if examples and classes and d.image_size:
    return Data(examples, classes, streamed)
  # A published set need not be there; any other one is looked at.
  if d.name in KNOWN and d.train_split == "train" and d.test_split:
    size, count, shape = KNOWN[d.name]
    size -= held(d.validation, size)
  else:
    try:
      found = open_splits(config.data)["train"]
    except ConfigError as error:
      raise ConfigError(
        f"{error} To plan without the data, give --examples=N --classes=N."
      ) from None
    size, count, shape = found.size, len(found.class_names), found.image_shape
  return Data(examples or size, classes or count, streamed if d.image_size else shape)


def lower(config, data: Data, devices) -> Step:
  """Lowers config's training step for devices.

  Args:
    config: whose ``batch_size`` is that of all devices.
    data: the dataset.
    devices: of one slice; they need not exist.

  Raises:
    ConfigError: the batch cannot be divided among them.
  """
  count = len(devices)
  if config.batch_size % count:
    raise ConfigError(
      f"config.batch_size is {config.batch_size}: it must be a multiple of the {count} devices."
    )
  built = networks.settings(config, data.classes)
  program = Program(built, devices=devices)
  teacher = built.teacher and _network(built, "teacher", data.shape)
  state = State(_network(built, "student", data.shape), teacher)
  trained = ("student", "teacher") if built.teacher_optimizer else ("student",)
  scalar = _array(())
  weights = dict.fromkeys(("alpha", "beta", "gamma", "temperature"), scalar)
  share = config.batch_size // count
  # Sets of an image_size are streamed, others lie on the devices: two different programs.
  if config.data.image_size:
    batch = DeviceBatch(
      _array((count, share, *data.shape), jnp.uint8),
      _array((count, share), jnp.int32),
      _array((count, share)),
      _array((count, share, data.classes)) if built.view.known else None,
    )
    hyper = Hyperparameters(weights, constant_rates(built, scalar))
    lowered = program.lower_feed(state, batch, hyper)
    size = share * (data.shape[0] * data.shape[1] * data.shape[2] + 8)
  else:
    logits = None
    if built.view.known:
      epochs = networks.known_epochs(built, recipes.student_recipe(config).epochs)
      logits = _array((epochs, data.size, data.classes))
    images, labels = _array((data.size, *data.shape), jnp.uint8), _array((data.size,), jnp.int32)
    stored = DeviceData(images, labels, logits)
    # Every device holds all images, and of each step its share of the batch as indices.
    steps = (built.steps_per_dispatch,)
    index = _array((count, *steps, share), jnp.int32)
    hyper = Hyperparameters(weights, constant_rates(built, _array(steps)))
    lowered = program.lower_train(state, stored, Chunk(index, index), hyper)
    size = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(stored))
  return Step(lowered, state, trained, size)


def _network(built, which: str, shape) -> Network:
  model = getattr(built, which)
  if not isinstance(model, ResNet | ImportedNetwork):
    return teachers.blank(model)
  init = lambda key, images: model.clone(norm_axis=None).init(key, images, True)
  found = jax.eval_shape(init, jax.random.key(0), _array((1, *shape)))
  network = Network(found["params"], found["batch_stats"])
  return jax.eval_shape(lambda network: begun(built, which, network), network)


def _array(shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)
