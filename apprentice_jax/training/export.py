"""Trained networks on their way out: from a workdir to a file, and the scores of both."""

import pathlib
from typing import NamedTuple

import jax
import numpy as np
from scipy.special import logsumexp

from apprentice_jax.data.channels import grey
from apprentice_jax.data.class_names import difference, same_classes
from apprentice_jax.data.splits import open_splits
from apprentice_jax.deploy import cost, lower, preprocessing, program, registry
from apprentice_jax.deploy.network import BadNetwork, Lowered
from apprentice_jax.deploy.predictor import Predictor
from apprentice_jax.deploy.unlowered import Unlowered, unlowered
from apprentice_jax.errors import ConfigError
from apprentice_jax.models.imported import ImportedNetwork, is_imported
from apprentice_jax.training import identity, networks, parallel
from apprentice_jax.training.evaluate import score as score_trained
from apprentice_jax.training.workdir import classes, image_shape, workdir_config


def export(
  workdir, name: str, out, /, *, ends: str = "float", data_dir: str = "", **options
) -> Lowered | Unlowered:
  """Writes the student of a workdir to a file.

  Args:
    workdir: of a run; its newest checkpoint is taken.
    name: of the format, see `registry.FORMATS`.
    out: the file.
    ends: of the layers in full precision; see `lower.lower`.
    data_dir: see `lowered`.
    **options: of the format.

  Returns:
    The network that was written.

  Raises:
    ConfigError: the network cannot be lowered, or the file not be written.
  """
  config = workdir_config(workdir)
  if is_imported(config.student.name):
    check_format(config.student.name, name)
  network = lowered(config, str(workdir), ends=ends, data_dir=data_dir)
  registry.write(network, name, out, **options)
  return network


def check_format(network: str, name: str):
  """Raises ConfigError where a format cannot hold a network of the user's own."""
  if name != "stablehlo":
    raise ConfigError(
      f"{network} is a network of your own, and the format {name} needs the layers of one of "
      "ours, such as config.student.name=resnet20: choose stablehlo."
    )


class _Images(NamedTuple):
  """The part of a dataset that an export needs.

  Attributes:
    image_shape: (height, width, channels).
    class_names: in the order of the outputs.
  """

  image_shape: tuple[int, int, int]
  class_names: tuple[str, ...]


def lowered(
  config, path: str, *, ends: str = "float", split: str = "test", data_dir: str = ""
) -> Lowered | Unlowered:
  """The network in ``path``, a workdir or a checkpoint, as the config's student, lowered.

  A workdir knows its images' shape and classes. For a checkpoint, and for a workdir of an earlier
  version whose images live on the device, the dataset is asked.

  Args:
    config: the config.
    path: of the network.
    ends: see `lower.lower`.
    split: of the dataset, where it is asked.
    data_dir: where the dataset is prepared, if not where the config says.

  Raises:
    ConfigError: it cannot be read or lowered.
  """
  config = networks.named(_at(config, data_dir), student=path)
  side, names = config.data.image_size, classes(path)
  shape = (side, side, 3) if side else image_shape(path)
  data = _Images(shape, names) if names and shape else _split(config, split)
  try:
    return _Trained(config, path, data).lower(ends)
  except BadNetwork as error:
    raise ConfigError(f"{path} cannot be lowered: {error}.") from None


def predictor(config, path: str, *, split: str = "test", data_dir: str = "") -> Predictor:
  """The network in ``path`` as it would be exported, compiled; see `lowered`."""
  network = lowered(config, path, split=split, data_dir=data_dir)
  if isinstance(network, Unlowered):
    compiled = jax.jit(network.logits)
    call = lambda images: np.asarray(compiled(images))
    return Predictor(network.image_shape, network.class_names, network.resize, call, network)
  try:
    return program.predictor(network)
  except BadNetwork as error:
    raise ConfigError(f"{path} cannot be run: {error}.") from None


def score(
  config, path: str, split: str = "test", data_dir: str = "", *, compare: bool = False
) -> tuple[dict, Lowered | Unlowered | None, str]:
  """Scores the network in ``path``, a workdir or a checkpoint, as it was trained.

  Args:
    config, path, split, data_dir: see `evaluate`.
    compare: whether to warn where the test images are not those of the run in ``path``.

  Returns:
    See `evaluate`; the lowered network, for its cost, or None; and why there is none.

  Raises:
    ConfigError: it cannot be read, or does not fit the config.
  """
  config = networks.named(_at(config, data_dir), student=path)
  splits = open_splits(config.data)
  data = splits[splits.named(split)]
  if compare:
    identity.warn_of_other_images(pathlib.Path(path), splits)
  trained = _Trained(config, path, data)
  scores = score_trained(config, trained.model, parallel.replicate(trained.network), data)
  scores = {name: scores[name] for name in ("accuracy", "loss", "count")}
  try:
    return scores, trained.lower("float"), ""
  except BadNetwork as error:
    return scores, None, str(error)


def _split(config, name: str):
  """The images that a user's name stands for."""
  splits = open_splits(config.data)
  return splits[splits.named(name)]


class _Trained:
  """The config's student, read from a workdir or a checkpoint.

  Attributes:
    model: the Flax module.
    network: its variables, on the host.
  """

  def __init__(self, config, path: str, data):
    self._about = _about(config, data)
    self.model = networks.model(config, "student", len(data.class_names))
    self.network = networks.trained(config, "student", path, data, scored=True)

  def lower(self, ends: str) -> Lowered | Unlowered:
    params, batch_stats = self.network.params, self.network.batch_stats
    if isinstance(self.model, ImportedNetwork):
      if ends != "float":
        raise BadNetwork("layers of a network of your own stay in float: leave --ends out")
      return unlowered(self.model, params, batch_stats, **self._about)
    return lower.lower(self.model, params, batch_stats, ends=ends, **self._about)


def _about(config, data) -> dict:
  """The arguments of `lower.lower` that concern the images and the names."""
  width = "" if config.student.width == 1 else f" at width {config.student.width:g}"
  return {
    "image_shape": tuple(map(int, data.image_shape)),
    "class_names": data.class_names,
    "mean": tuple(config.data.mean),
    "std": tuple(config.data.std),
    "resize": config.data.resize if config.data.image_size else 0,
    "architecture": config.student.name + width,
  }


def blank(config, data) -> Lowered | Unlowered:
  """The config's student, untrained, for its cost."""
  model = networks.model(config, "student", len(data.class_names))
  return cost.blank(model, **_about(config, data))


def evaluate(
  predictor: Predictor, config, split: str = "test", data_dir: str = "", same_data: bool = False
) -> dict:
  """Scores an exported network on a split of the config's dataset.

  The network's own size, resize and normalisation count, whatever the config's. Images that live on
  the device (config.data.image_size=0) are taken as they are, and must have the network's shape.

  Args:
    predictor: the network.
    config: of the dataset.
    split: see `api.evaluate`.
    data_dir: where the dataset is prepared, if not where the config says.
    same_data: see `class_names.same_classes`.

  Returns:
    "accuracy" (0 to 1), "loss" (mean cross-entropy) and "count", the number of examples.

  Raises:
    ConfigError: the dataset has other classes, or images that cannot be prepared for the network.
  """
  config = _prepared_for(predictor, _at(config, data_dir))
  data = _split(config, split)
  if not same_classes(predictor.class_names, data.class_names, same_data):
    raise ConfigError(
      "the network knows other classes than the dataset: "
      f"{difference(predictor.class_names, data.class_names)}."
    )
  # A network of one channel takes photos as their grey.
  to_grey = predictor.image_shape[-1] == 1 and data.image_shape[-1] == 3
  shape = (*data.image_shape[:2], 1) if to_grey else tuple(data.image_shape)
  if shape != predictor.image_shape:
    raise ConfigError(
      f"the network takes images of {predictor.image_shape}, and those of "
      f"{config.data.name} are {tuple(data.image_shape)}."
    )
  right, loss, count, size = 0, 0.0, 0, None
  for images, labels in data.batches(config.eval.batch_size):
    size = size or len(images)
    images = grey(images) if to_grey else images
    # A last batch of another size would be another program to compile.
    padded = np.pad(images, ((0, size - len(images)), (0, 0), (0, 0), (0, 0)))
    logits = predictor.logits(padded)[: len(images)].astype(np.float64)
    right += int(np.sum(np.argmax(logits, -1) == labels))
    loss += float(np.sum(logsumexp(logits, -1) - logits[np.arange(len(labels)), labels]))
    count += len(labels)
  return {"accuracy": right / count, "loss": loss / count, "count": count}


def _prepared_for(predictor: Predictor, config):
  """The config, with the sizes of a network's images."""
  height, width, _ = predictor.image_shape
  # Images that are cut for the network may have any size before; others have to fit as they are.
  if config.data.image_size or predictor.resize:
    if height != width:
      raise ConfigError(
        f"the network takes images of {predictor.image_shape}, and photos are cut to squares: "
        "score it with a config of images of this shape (config.data.image_size=0)."
      )
    config.data.image_size = height
    config.data.resize = preprocessing.short_side(predictor.image_shape, predictor.resize)
  return config


def _at(config, data_dir: str):
  """A copy of the config, its dataset in a folder if one is named."""
  config = config.copy_and_resolve_references()
  config.data.dir = data_dir or config.data.dir
  return config
