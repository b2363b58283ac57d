"""Trained networks on their way out: exported to files, and what the files say of images and
datasets."""

import json
import pathlib
from typing import NamedTuple

import numpy as np

from apprentice_jax.data.channels import grey
from apprentice_jax.data.class_names import difference
from apprentice_jax.data.splits import open_splits
from apprentice_jax.deploy import cost, lower, preprocessing, program, registry
from apprentice_jax.deploy.network import BadNetwork, Network
from apprentice_jax.deploy.predictor import Predictor
from apprentice_jax.distill import step
from apprentice_jax.errors import ConfigError
from apprentice_jax.models.residual import ResNet
from apprentice_jax.training import evaluation, parallel, start


def export(
  workdir, name: str, out, *, ends: str = "float", data_dir: str = "", **options
) -> Network:
  """Writes the student of a workdir to a file.

  Args:
    workdir: of a run; its newest checkpoint is taken.
    name: of the format, see `registry.FORMATS`.
    out: the file.
    ends: of the layers in full precision; see `lower.lower`.
    data_dir: where the dataset is prepared, if not where the run had it; its images' shape is asked
      for.
    **options: of the format.

  Returns:
    The lowered network.

  Raises:
    ConfigError: the network cannot be lowered, or the file not be written.
  """
  network = lowered(start.workdir_config(workdir), str(workdir), ends=ends, data_dir=data_dir)
  registry.write(network, name, out, **options)
  return network


def lowered(
  config, path: str, *, ends: str = "float", split: str = "test", data_dir: str = ""
) -> Network:
  """The network in ``path``, a workdir or a checkpoint, as the config's student, lowered.

  Args:
    config: the config.
    path: of the network.
    ends: see `lower.lower`.
    split: of the dataset, which is asked for the shape of images and the names of classes where the
      workdir does not know them.
    data_dir: where the dataset is prepared, if not where the config says.

  Raises:
    ConfigError: it cannot be read or lowered.
  """
  config = _of(config, data_dir)
  config = start.named(config, student=path)
  data = _known_images(config, path) or _split(config, split)
  try:
    return _trained(config, path, data).lower(ends)
  except BadNetwork as error:
    raise ConfigError(f"{path} cannot be lowered: {error}.") from None


def predictor(config, path: str, *, split: str = "test", data_dir: str = "") -> Predictor:
  """The network in ``path`` as it would be exported, compiled; see `lowered`."""
  network = lowered(config, path, split=split, data_dir=data_dir)
  try:
    return program.predictor(network)
  except BadNetwork as error:
    raise ConfigError(f"{path} cannot be run: {error}.") from None


def score(
  config, path: str, split: str = "test", data_dir: str = ""
) -> tuple[dict, Network | None, str]:
  """Scores the network in ``path``, a workdir or a checkpoint, as it was trained.

  Returns:
    What `evaluate` does; the lowered network, for its cost, or None; and why there is none.

  Raises:
    ConfigError: it cannot be read, or does not fit the config.
  """
  config = start.named(_of(config, data_dir), student=path)
  data = _split(config, split)
  trained = _trained(config, path, data)
  found = evaluation.score(config, trained.model, parallel.replicate(trained.network), data)
  found = {name: found[name] for name in ("accuracy", "loss", "count")}
  try:
    return found, trained.lower("float"), ""
  except BadNetwork as error:
    return found, None, str(error)


def _split(config, name: str):
  """The images that a user's name stands for."""
  splits = open_splits(config.data)
  return splits[splits.named(name)]


class _Trained(NamedTuple):
  """A trained network, on the host."""

  config: object
  data: object
  model: ResNet
  network: step.Network

  def lower(self, ends: str) -> Network:
    return lower.lower(
      self.model,
      self.network.params,
      self.network.batch_stats,
      ends=ends,
      **about(self.config, self.data),
    )


def _trained(config, path: str, data) -> _Trained:
  model = start.model(config, "student", len(data.class_names))
  return _Trained(config, data, model, start.trained(config, "student", path, data, scored=True))


class _Images(NamedTuple):
  """What a workdir knows of its images."""

  image_shape: tuple[int, int, int]
  class_names: tuple[str, ...]


def _known_images(config, path: str) -> _Images | None:
  """What a workdir knows of its images without their dataset; None where it takes that."""
  names = pathlib.Path(path) / "classes.json"
  if not config.data.image_size or not names.is_file():
    return None
  side = config.data.image_size
  try:
    return _Images((side, side, 3), tuple(map(str, json.loads(names.read_text()))))
  except (OSError, ValueError, TypeError):  # `workdir.classes` says what is wrong with it
    return None


def about(config, data) -> dict:
  """What `lower.lower` is told of the config's student beside its variables."""
  width = "" if config.student.width == 1 else f" at width {config.student.width:g}"
  return {
    "image_shape": tuple(map(int, data.image_shape)),
    "class_names": data.class_names,
    "mean": tuple(config.data.mean),
    "std": tuple(config.data.std),
    "resize": config.data.resize if config.data.image_size else 0,
    "architecture": config.student.name + width,
  }


def evaluate(predictor: Predictor, config, split: str = "test", data_dir: str = "") -> dict:
  """Scores an exported network on a split of the config's dataset.

  The network's own size, resize and normalisation count, whatever the config's. Images that live on
  the device (config.data.image_size=0) are taken as they are, and must have the network's shape.

  Returns:
    "accuracy" (0 to 1), "loss" (mean cross-entropy) and "count", the number of examples.

  Raises:
    ConfigError: the dataset has other classes, or images that cannot be prepared for the network.
  """
  config = _prepared_for(predictor, _of(config, data_dir))
  data = _split(config, split)
  if tuple(data.class_names) != predictor.class_names:
    raise ConfigError(
      "the network knows other classes than the dataset: "
      f"{difference(predictor.class_names, data.class_names)}."
    )
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
    padded = np.pad(
      images, ((0, size - len(images)), (0, 0), (0, 0), (0, 0))
    )  # or it is compiled again
    logits = predictor.logits(padded)[: len(images)].astype(np.float64)
    right += int(np.sum(np.argmax(logits, -1) == labels))
    largest = logits.max(-1)
    loss += float(
      np.sum(
        np.log(np.sum(np.exp(logits - largest[:, None]), -1))
        + largest
        - logits[np.arange(len(labels)), labels]
      )
    )
    count += len(labels)
  return {"accuracy": right / count, "loss": loss / count, "count": count}


def _prepared_for(predictor: Predictor, config):
  """The config, with the sizes of a network's images."""
  height, width, _ = predictor.image_shape
  if config.data.image_size or predictor.resize:
    if height != width:
      raise ConfigError(
        f"the network takes images of {predictor.image_shape}, and photos are cut to squares: "
        "score it with a config of images of this shape (config.data.image_size=0)."
      )
    config.data.image_size = height
    config.data.resize = preprocessing.short_side(predictor.image_shape, predictor.resize)
  return config


def blank(config, data) -> Network:
  """The config's student, untrained, for its cost."""
  return cost.blank(start.model(config, "student", len(data.class_names)), **about(config, data))


def _of(config, data_dir: str):
  config = config.copy_and_resolve_references()
  if data_dir:
    config.data.dir = data_dir
  return config
