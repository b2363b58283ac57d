"""Trained networks on their way out: exported to files, and what the files say of images and datasets."""

import pathlib

import numpy as np

from apprentice_jax.config import ConfigError
from apprentice_jax.data import images as pictures
from apprentice_jax.data.crops import Crops, evaluation_image
from apprentice_jax.deploy import cost, fold, formats
from apprentice_jax.deploy.network import BadNetwork, Network
from apprentice_jax.deploy.predictor import BadFile, Predictor
from apprentice_jax.training import inputs, start
from apprentice_jax.training.workdir import check_classes

BATCH = 64  # images that are predicted at a time


def export(workdir, name: str, out, *, ends: str = "float", data_dir: str = "", **options) -> Network:
  """Writes the student of a workdir to a file.

  Args:
    workdir: of a run; its newest checkpoint is taken.
    name: of the format, see `formats.FORMATS`.
    out: the file.
    ends: of the layers in full precision; see `fold.lower`.
    data_dir: where the dataset is prepared, if not where the run had it; its images' shape is asked for.
    **options: of the format.

  Returns:
    The lowered network.

  Raises:
    ConfigError: the network cannot be lowered, or the file not be written.
  """
  network = lowered(start.workdir_config(workdir), str(workdir), ends=ends, data_dir=data_dir)
  try:
    formats.write(network, name, out, **options)
  except OSError as error:
    raise ConfigError(f"cannot write {out}: {error.strerror}.") from None
  return network


def lowered(config, path: str, *, ends: str = "float", split: str = "test", data_dir: str = "") -> Network:
  """The network in ``path``, a workdir or a checkpoint, as the config's student, lowered.

  Args:
    config: the config.
    path: of the network.
    ends: see `fold.lower`.
    split: of the dataset, to be asked for the shape of images and the names of classes.
    data_dir: where the dataset is prepared, if not where the config says.

  Raises:
    ConfigError: it cannot be read or lowered.
  """
  config = _of(config, data_dir)
  data = _split(config, split)
  check_classes(path, data.class_names)
  model = start.model(config, "student", len(data.class_names))
  network = start.load(path, model, data.image_shape, complete=True)
  try:
    return fold.lower(model, network.params, network.batch_stats, ends=ends, **about(config, data))
  except BadNetwork as error:
    raise ConfigError(f"{path} cannot be lowered: {error}.") from None


def about(config, data) -> dict:
  """What `fold.lower` is told of the config's student beside its variables."""
  width = "" if config.student.width == 1 else f" at width {config.student.width:g}"
  return {"image_shape": tuple(map(int, data.image_shape)), "class_names": data.class_names,
          "mean": tuple(config.data.mean), "std": tuple(config.data.std),
          "resize": config.data.resize if config.data.image_size else 0,
          "architecture": config.student.name + width}


def load(path) -> Predictor:
  """Reads an exported file.

  Raises:
    ConfigError: it is none, or damaged.
  """
  try:
    return formats.load(path)
  except (BadFile, OSError) as error:
    why = error.strerror if isinstance(error, OSError) else error
    if pathlib.Path(path).is_dir():
      why = "it is a folder; `apprentice export` writes a workdir's network to a file"
    raise ConfigError(f"cannot read {path}: {why}.") from None


def exported(path: str) -> bool:
  """Whether path is a file that `export` wrote, and no workdir or checkpoint."""
  return pathlib.Path(path).is_file() and bool(formats.recognised(path))


def predict(predictor: Predictor, paths, top: int = 5):
  """What is on image files.

  Args:
    predictor: from `load`.
    paths: of files in any common image format, prepared as evaluation prepares images.
    top: how many classes to name.

  Yields:
    (path, [(class name, probability), ...]), the most probable first.

  Raises:
    UnreadableImage: a file is no image; it names the file.
    ConfigError: a file cannot be read, or its image does not fit.
  """
  for begin in range(0, len(paths), BATCH):
    some = paths[begin:begin + BATCH]
    logits = predictor.logits(np.stack([prepared(path, predictor) for path in some])).astype(np.float64)
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    for path, row in zip(some, odds / odds.sum(-1, keepdims=True)):
      best = np.argsort(-row, kind="stable")[:top]
      yield path, [(predictor.class_names[i], float(row[i])) for i in best]


def prepared(path, predictor: Predictor) -> np.ndarray:
  """An image file as the uint8 (height, width, channels) that a network takes."""
  height, width, channels = predictor.image_shape
  try:
    encoded = pathlib.Path(path).read_bytes()
    picture = pictures.inspect(encoded)
    if not predictor.resize and (picture.height, picture.width) == (height, width):
      pixels = pictures.pixels(picture)
    elif height == width:
      pixels = np.empty((height, width, 3), np.uint8)
      evaluation_image(encoded, Crops(height, predictor.resize or height), pixels)
    else:
      raise ConfigError(f"{path} has {picture.width}x{picture.height} pixels: this network takes {width}x{height}.")
  except pictures.UnreadableImage as error:
    raise pictures.UnreadableImage(f"{path} is no image that can be read ({error}).") from None
  except OSError as error:
    raise ConfigError(f"cannot read {path}: {error.strerror}.") from None
  if channels == 1:  # Rec. 601 luma; of grey images their own values
    pixels = (pixels @ np.array([19595, 38470, 7471]) + 32768 >> 16).astype(np.uint8)[..., None]
  return pixels


def evaluate(predictor: Predictor, config, split: str = "test", data_dir: str = "") -> dict:
  """Scores an exported network on a split of the config's dataset.

  Returns:
    "accuracy" (0 to 1), "loss" (mean cross-entropy) and "count", the number of examples.

  Raises:
    ConfigError: the dataset has other classes, or images of another shape.
  """
  config = _of(config, data_dir)
  data = _split(config, split)
  if tuple(data.class_names) != predictor.class_names:
    differing = sorted(set(data.class_names) ^ set(predictor.class_names)) or ["their order"]
    raise ConfigError(f"the network knows other classes than the dataset: {', '.join(differing[:5])} differ.")
  if tuple(data.image_shape) != predictor.image_shape:
    raise ConfigError(f"the network takes images of {predictor.image_shape}, and those of "
                      f"{config.data.name} are {tuple(data.image_shape)}.")
  right, loss, count, size = 0, 0.0, 0, None
  for images, labels in data.batches(config):
    size = size or len(images)
    padded = np.pad(images, ((0, size - len(images)), (0, 0), (0, 0), (0, 0)))  # or it is compiled again
    logits = predictor.logits(padded)[:len(images)].astype(np.float64)
    right += int(np.sum(np.argmax(logits, -1) == labels))
    largest = logits.max(-1)
    loss += float(np.sum(np.log(np.sum(np.exp(logits - largest[:, None]), -1)) + largest
                         - logits[np.arange(len(labels)), labels]))
    count += len(labels)
  return {"accuracy": right / count, "loss": loss / count, "count": count}


def blank(config, data) -> Network:
  """The config's student, untrained, for its cost."""
  return cost.blank(start.model(config, "student", len(data.class_names)), **about(config, data))


def _split(config, split: str):
  if split == "validation" and not config.data.validation:
    raise ConfigError("there is no validation split: config.data.validation is 0.")
  return inputs.split(config, split)


def _of(config, data_dir: str):
  config = config.copy_and_resolve_references()
  if data_dir:
    config.data.dir = data_dir
  return config
