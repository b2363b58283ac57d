"""The checks before anything is written or trained."""

import math
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp

from apprentice_jax.data import class_names, folder
from apprentice_jax.data.splits import TAKE_A_SHARE, Splits
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.distill.step import Network
from apprentice_jax.errors import ConfigError, nearest
from apprentice_jax.models.imported import BrokenContract, ImportedNetwork
from apprentice_jax.models.norm import BatchNorm
from apprentice_jax.models.precision import matches
from apprentice_jax.models.residual import ResNet, variable_shapes
from apprentice_jax.training import cluster, teachers
from apprentice_jax.training.networks import located, model, output_names, trained
from apprentice_jax.training.optimizer import shortened
from apprentice_jax.training.recipes import recipe, recipes_of


def check(config, splits: Splits, recipes=None, begun: bool = False):
  """Raises ConfigError, on every process, for whatever can be known to go wrong before anything is
  written or trained.

  Args:
    config: the run's.
    splits: its images.
    recipes: names of those that will be used, if not the run's own.
    begun: the run has begun before.
  """
  # What one machine alone may not have comes first: networks are read together.
  data = cluster.agreed(lambda: _checked_data(config, splits, recipes, begun))
  for which in ("teacher", "student"):
    if path := config[which].init:
      network = trained(config, which, path, data)
      if which == "teacher" and teachers.kind(path):
        _check_same_file(path, network)


def _check_same_file(path: str, network: Network):
  """Raises ConfigError unless every process has the same file of a teacher."""
  # A program of another file would wait for the others for ever.
  own = network.params["sha256"].tolist()
  first = cluster.share(own)
  cluster.agreed(lambda: _ensure_same(path, own == first))


def _ensure_same(path: str, same: bool):
  if not same:
    raise ConfigError(f"{path} is another file here than in process 0: copy one to every machine.")


def _checked_data(config, splits: Splits, recipes, begun: bool):
  """The training set, if this process finds all that the run needs, and it makes sense."""
  if config.batch_size % jax.device_count():
    raise ConfigError(
      f"config.batch_size is {config.batch_size}: it must be a multiple of the "
      f"{jax.device_count()} devices."
    )
  if config.data.mix and config.batch_size == jax.device_count():
    raise ConfigError(
      f"config.data.mix={config.data.mix} mixes the images of a device, and config.batch_size is "
      f"one for each: set config.batch_size={2 * config.batch_size}."
    )
  _check_images(config, splits)
  target, most = config.loss.teacher_entropy, math.log(len(splits["train"].class_names))
  if target >= most:
    raise ConfigError(
      f"config.loss.teacher_entropy is {target:g}: it must be below {most:.3f}, the entropy of "
      "classes that are equally likely."
    )
  # Recipes: each has to train for a step at least.
  data = splits["train"]
  recipes = recipes_of(config) if recipes is None else recipes
  for name in recipes:
    epochs = recipe(config, name).epochs
    if epochs and not round(epochs * data.size / config.batch_size):
      raise ConfigError(
        f"config.recipe.{name}.epochs: {epochs} epochs of {data.size} examples are less "
        "than a step."
      )
  # The networks to start from have to be there, and finished.
  shape, count = data.image_shape, len(data.class_names)
  for which in ("teacher", "student"):
    own = config[which]
    if own.head and not own.init:
      raise ConfigError(
        f"config.{which}.head is {own.head!r}, and config.{which}.init names no network to take."
      )
    if own.init:
      _check_kind(config, which)
      source = located(config, which, begun)
      if source.is_dir() and not (source / "result.json").exists():
        raise ConfigError(
          f"config.{which}.init={own.init} has not finished training: run it to its end."
        )
      if own.classes:
        output_names(config, which)
  # Networks that the run uses must have names, and batch norms of those that train enough values.
  kind = SCHEMES[config.scheme].teacher
  trains = {"student": model(config, "student", count)}
  teacher = model(config, "teacher", count) if kind or "teacher" in recipes else None
  if kind == "joint" or "teacher" in recipes:
    trains["teacher"] = teacher
  for which, network in {**trains, "teacher": teacher}.items():
    if isinstance(network, ImportedNetwork):
      _check_imported(config, which, network, tuple(map(int, shape)))
  check_norms(config, trains, shape)
  # Patterns of layers in full precision: one that matches nothing is a mistake in spelling.
  if isinstance(trains["student"], ImportedNetwork):
    return data
  params = variable_shapes(trains["student"], tuple(map(int, shape)))["params"]
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


def _check_kind(config, which: str):
  """Raises ConfigError for a file of a program or of logits where a network trains."""
  path = config[which].init
  kind = teachers.kind(path)
  fixed = which == "teacher" and SCHEMES[config.scheme].teacher == "fixed"
  if config.data.mix and fixed and kind in teachers.ON_HOST:
    raise ConfigError(
      f"config.data.mix={config.data.mix} mixes images on the devices, where the teacher {path} "
      "does not run: give it as a workdir, a checkpoint or a StableHLO file, or mix nothing."
    )
  if not kind or which == "teacher" and SCHEMES[config.scheme].teacher != "joint":
    return
  holds = "logits" if kind == "logits" else "a program"
  raise ConfigError(
    f"config.{which}.init={path} holds {holds} and no parameters to train: it can be the teacher "
    "of schemes B and C."
  )


def _check_imported(config, which: str, network: ImportedNetwork, image_shape):
  """Raises ConfigError for a user's network that cannot be called, or not be quantized."""
  name = f"config.{which}.name={network.name}"
  try:
    network.check(image_shape)
  except BrokenContract as error:
    raise ConfigError(f"{name} {error}") from None
  except ValueError as error:
    raise ConfigError(f"{name}: {error}") from error
  # Whatever the user's code, or flax in it, has to say.
  except Exception as error:
    sentence = f"{name} fails on images of {image_shape}: {type(error).__name__}: {error}"
    raise ConfigError(sentence) from error


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
      f"config.batch_size is {config.batch_size}, but {config.data.name} has only {data.size} "
      f"training examples: set --config.batch_size={_smaller(data.size)}, or add examples."
    )
  if len(data.class_names) < 2:
    raise ConfigError(
      f"{config.data.name} has one class, {data.class_names[0]!r}: there is nothing to tell apart."
    )
  test = splits["test"]
  if test.class_names != data.class_names:
    _refuse_classes(config, splits, data.class_names, test.class_names)
  # Images in both sets would make the test's accuracy too high.
  if config.eval.final == "test":
    splits.check_overlap()
  if config.data.image_size:
    data.check()
    test.check()


def _smaller(size: int) -> int:
  """The largest power of two within a number of images that the devices can share."""
  devices = jax.device_count()
  return (1 << (size // devices).bit_length() - 1) * devices if size >= devices else size


def _refuse_classes(config, splits: Splits, names, test_names):
  images = f"the {splits.name('train')} and {splits.name('test')} images of {config.data.name}"
  difference = class_names.difference(names, test_names)
  if config.data.name == folder.FOLDER and not {*names} & {*test_names}:
    raise ConfigError(
      f"{images} have no class in common: {difference}; sort the test images into folders of the "
      f"same names, or {TAKE_A_SHARE}."
    )
  raise ConfigError(f"{images} are not of the same classes: {difference}.")


def check_norms(config, networks: dict[str, ResNet], image_shape: tuple[int, int, int]):
  """Raises ConfigError where a batch norm of a network that trains would see one value per channel.

  Every device normalises by its own share of the batch, or all of them by the whole batch with
  ``sync_batch_norm``.

  Args:
    config: the run's, with its ``batch_size``.
    networks: those that train, by their places in the config.
    image_shape: (height, width, channels).
  """
  # One image to normalise by: then a layer of one pixel sees one value.
  devices, batch = jax.device_count(), config.batch_size
  if (batch if config.sync_batch_norm else batch // devices) != 1:
    return
  for which, network in networks.items():
    pixels = norm_pixels(network, image_shape)
    layer = next((name for name, count in pixels.items() if count == 1), None)
    if layer is None:
      continue
    on = "" if devices == 1 else f" on {devices} devices"
    ways = [f"config.batch_size={2 * batch}"]
    if batch > 1 and jax.devices()[0].platform == "cpu":
      ways.append("config.cpu_devices=1")
    if batch > 1:
      ways.append("config.sync_batch_norm=True")
    raise ConfigError(
      f"config.batch_size is {batch}{on}: {layer} of the {which} would normalise each channel by a "
      f"single value; set {', or '.join(ways)}."
    )


def norm_pixels(network: ResNet, image_shape: tuple[int, int, int]) -> dict[str, int]:
  """How many values of one image each batch norm of a network sees per channel, by layer."""
  result = {}

  def look(function, args, kwargs, context):
    norms = (BatchNorm, nn.BatchNorm)
    if isinstance(context.module, norms) and context.method_name == "__call__":
      result["/".join(context.module.path)] = math.prod(args[0].shape[1:-1])
    return function(*args, **kwargs)

  # Without synchronised batch norm, which needs the replicas' axis.
  init = network.clone(norm_axis=None).init
  # Shapes alone are traced: no parameter is made.
  with nn.intercept_methods(look):
    jax.eval_shape(lambda key: init(key, jnp.zeros((1, *image_shape)), True), jax.random.key(0))
  return result


def warn_of_warmups(config, size: int, schemes, recipes=None):
  """Warns of every recipe whose warm-up is shortened, since it would take the whole run; see
  `optimizer.shortened`.

  Args:
    config: the run's.
    size: number of training images.
    schemes: that train; a teacher that trains along takes as many steps as its student.
    recipes: as for `check`.
  """
  # A teacher that trains along has its own recipe, and the epochs of its student's.
  runs = [(name, name) for name in (recipes_of(config) if recipes is None else recipes)]
  runs += [("teacher", SCHEMES[s].recipe) for s in schemes if SCHEMES[s].teacher == "joint"]
  per_epoch = size / config.batch_size
  for name, of in dict.fromkeys(runs):
    own, epochs = recipe(config, name), recipe(config, of).epochs
    found = shortened(own, round(epochs * per_epoch), per_epoch)
    if found is not own:
      warnings.warn(
        f"config.recipe.{name}.warmup_epochs is {own.warmup_epochs:g}, and the run has {epochs:g} "
        f"epochs: it is shortened to {found.warmup_epochs:.2g}, or the learning rate would only "
        "rise."
      )
