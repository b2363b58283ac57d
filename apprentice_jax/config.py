"""The configuration: every field with its default, and the argument grammar; `config_checks` has
the checks.

A config file has ``get_config(argument="")`` and builds on `base`; ``argument`` is what follows the
colon in ``--config=FILE:key=value,...``. Any field can be overridden by ``--config.a.b=value``.
"""

import math
import os
import re

import ml_collections

from apprentice_jax.errors import ConfigError, nearest
from apprentice_jax.models.precision import Precision, Quantization

ARGUMENTS = ("student", "teacher", "precision", "scheme", "width", "preset", "runlocal")
# Apprentice to the letter, as far as that is known: its quantizers with one scale a tensor and
# WRPN's literal grids, [-1, 1] and [0, 1], and its loss. TTQ is the layer's: `models.magnitudes`
# says which gradients it scales. WRPN's grid to 1 leaves little of a wide network's trained
# weights: `config_checks` refuses it there. Learning rates and epochs stay the config's own.
PRESETS = {
  "paper": {
    "quantization.weights": "paper",
    "quantization.activations": "paper",
    "quantization.per_channel": False,
    "quantization.wrpn_scale": "unit",
    "quantization.full_precision": ("stem", "head"),
    "quantization.residual": False,
    "loss.alpha": 1.0,
    "loss.beta": 0.5,
    "loss.gamma": 0.5,
    "loss.temperature": 1.0,
    "loss.teacher_gradient": False,
    **{f"recipe.{name}.settle_steps": 0 for name in ("student", "teacher", "finetune")},
  }
}
PATHS = ("dir", "init", "classes")  # the names of fields that have the path of a file or a folder
CELLS = ("teacher", "student", "baseline", "A", "B", "C", "C-control")


def recipe(**changes) -> ml_collections.ConfigDict:
  """How one network is trained; `training.optimizer` says what each field does."""
  fields = ml_collections.ConfigDict(
    dict(
      epochs=30.0,
      learning_rate=0.1,
      schedule="cosine",
      warmup_epochs=1.0,
      milestones=(0.5, 0.75),
      factor=0.1,
      settle_steps=50,
      momentum=0.9,
      nesterov=True,
      weight_decay=1e-4,
      decay=("kernel", "clip"),
    )
  )
  fields.update(changes)
  return fields


def base() -> ml_collections.ConfigDict:
  """Returns a config with every field at its default."""
  network = dict(
    name="resnet20",
    width=1.0,  # name "": that of the network in init
    shortcut="",  # "pad" or "conv"; "": the family's own
    init="",  # a workdir or a checkpoint to start from; "": from scratch, or made on the way
    # Of ``init``, the classifier: as it is (""), "new" of this data's size, or "match": the outputs
    # of the same classes.
    head="",
    classes="",
  )  # names of init's outputs: a file with one a line, or "imagenet"; "": those of a workdir
  return ml_collections.ConfigDict(
    dict(
      data=dict(
        name="",
        dir="",  # a tfds dataset, and where it is prepared ("": the tfds default); or
        # "image_folder", and the folder that holds train/CLASS/*.jpg
        train_split="train",
        test_split="test",  # of a tfds dataset also slices: "train[:80%]"
        # Held out from the training split, for making choices: a share below 1, or a number of
        # examples.
        validation=0.0,
        # Where a folder has no test_split, or test_split is "": this share of the training images;
        # 0: none.
        test_share=0.0,
        pad=4,
        flip=True,  # shift by up to pad pixels, and mirror, on the device
        # after so many epochs the same shifts and mirrorings again, in another order; 0: never
        augmentation_epochs=0,
        mean=(0.5,),
        std=(0.5,),  # per channel, of images scaled to [0, 1]
        # Images of any size, streamed: random crops of this side to train and, after a resize of
        # the short side, the centre to evaluate. 0: images are as stored and live on the device.
        image_size=0,
        resize=256,
        crop_area=(0.08, 1.0),
        crop_ratio=(3 / 4, 4 / 3),  # fraction of the area; width / height
        unreadable="stop",  # at an image that cannot be read: "stop", or "skip" it and count
        threads=0,
        workers=0,
      ),  # that decode: threads per process (0: one a core), processes
      student=dict(network),
      teacher=dict(network),
      # How the teacher sees the images.
      teacher_input=dict(
        mean=(),
        std=(),  # that it was trained with; (): as data.mean and data.std, or those of its workdir
        augmented=True,  # as the student does; False: a fixed teacher sees them as they are stored
        # Compute a fixed teacher's logits once, of every epoch (of data.augmentation_epochs, if
        # that is not 0; of one where it sees no augmentation), instead of in every step; see
        # `training.teacher_logits`.
        cached=False,
      ),
      precision="8A,2W",
      quantization=dict(
        weights="default",
        activations="default",
        per_channel=True,
        wrpn_scale="max",
        full_precision=("stem", "head"),
        residual=False,
        # Forward products of convolutions: "int8", "float", or "auto", on int8 where that is
        # faster.
        compute="auto",
      ),
      scheme="B",
      loss=dict(alpha=1.0, beta=0.5, gamma=0.5, temperature=1.0, teacher_gradient=False),
      recipe=dict(student=recipe(), teacher=recipe(), finetune=recipe(learning_rate=0.01)),
      batch_size=128,
      seed=0,
      dtype="float32",
      # Not 0: batch_size is for one chip or a pod alike, and what the learning rates are stated
      # for; the batch is this times the devices, at most largest_batch (0: no limit). See `scaled`.
      batch_per_device=0,
      largest_batch=8192,
      sync_batch_norm=False,  # normalise by the moments of all replicas instead of each one's own
      steps_per_dispatch=20,
      cpu_devices=2,  # host devices to run on where there is no accelerator
      im2col=True,  # on CPU, convolutions of models/convolution.py: faster, equal up to rounding
      # What the backward pass computes again instead of keeping it, in the networks that train:
      # "none"; of each residual block, "elementwise" all but the convolutions, "blocks" all but its
      # input.
      remat="none",
      checkpoint=dict(every_epochs=10.0, keep=2),  # 0: at the end only
      eval=dict(
        every_epochs=0.0,  # of the validation split while training; 0: never
        batch_size=1000,
        final="test",
      ),  # the split scored at the end: "test" or "validation"
      export=(),  # formats in which `train` leaves the student in the workdir: see `deploy.formats`
      note="",  # a sentence that `train` and `study` print before they start
      study=dict(
        precisions=("8A,2W", "8A,4W"),
        seeds=(0, 1),
        cells=CELLS,
        # cells trained at once, each in a process: on CPU, or on one GPU; see study/jobs.py
        jobs=1,
        grid="",  # further fields, and the values to train at: see `study.grid`
        references=(),
      ),
    )
  )  # published accuracies to compare with: see `study.references`


def parse(argument: str) -> dict[str, str]:
  """Reads ``key=value,key=value``; a key alone means ``key=True``.

  Raises:
    ConfigError: a key that is not one of ARGUMENTS.
  """
  result = {}
  for item in filter(None, (argument or "").split(",")):
    key, equals, value = item.partition("=")
    if re.fullmatch(r"\d+W", key, re.IGNORECASE) and "precision" in result:
      raise ConfigError(
        f"in a config argument a precision has no comma: write precision={result['precision']}{key}"
      )
    if key not in ARGUMENTS:
      raise ConfigError(f"config argument {key!r} does not exist: {nearest(key, ARGUMENTS)}")
    if key != "runlocal" and not value:
      raise ConfigError(f"config argument {key} needs a value: write {key}=...")
    result[key] = value if equals else "True"
  return result


def apply_argument(config, argument: str, runlocal: dict):
  """Applies a config file's argument.

  Args:
    config: from `base`, with the file's own values.
    argument: what `parse` reads. ``student`` and ``teacher`` name networks, ``width`` is for both,
      ``precision`` is for a study too; ``preset`` is one of PRESETS.
    runlocal: dotted field names and values that make a seconds-long version of the config.

  Returns:
    config, changed.
  """
  given = parse(argument)
  local = given.pop("runlocal", "False").lower()
  if local not in ("true", "1", "false", "0"):
    raise ConfigError(f"config argument runlocal is {local!r}: write runlocal or runlocal=False.")
  if local in ("true", "1"):
    config.update_from_flattened_dict(runlocal)
    for recipe in config.recipe.values():  # a warm-up of so short a run
      recipe.warmup_epochs = min(recipe.warmup_epochs, recipe.epochs / 5)
  if (preset := given.pop("preset", None)) is not None:
    if preset not in PRESETS:
      raise ConfigError(f"config argument preset is {preset!r}: {nearest(preset, PRESETS)}")
    config.update_from_flattened_dict(PRESETS[preset])
  if "width" in given:
    try:
      config.student.width = config.teacher.width = float(given.pop("width"))
    except ValueError:
      raise ConfigError(f"config argument width takes a number: {argument!r}") from None
  for name in ("student", "teacher"):
    if name in given:
      config[name].name = given.pop(name)
  if "precision" in given:
    config.study.precisions = (given["precision"],)
  config.update(given)
  return config


def scaled(config, devices: int, batch: int = 0):
  """The config with its batch and learning rates following the number of devices.

  Where ``batch_per_device`` is set, the batch is that times the devices, at most ``largest_batch``,
  and every recipe's learning rate is multiplied by what the batch is of ``batch_size``: the linear
  scaling rule, which with a warm-up keeps ImageNet's accuracy up to batches of about 8,192 (Goyal
  et al., "Accurate, Large Minibatch SGD", 2017, https://arxiv.org/abs/1706.02677). Epochs stay as
  they are.

  Args:
    config: the config.
    devices: of all processes.
    batch: that of a run which has begun, to be kept; 0: there is none.

  Returns:
    A copy, in which ``batch_size`` and the learning rates are the run's own.
  """
  result = config.copy_and_resolve_references()
  if not config.batch_per_device:
    return result
  limit = max(config.largest_batch // devices, 1) * devices if config.largest_batch else math.inf
  result.batch_size = batch or min(config.batch_per_device * devices, limit)
  for recipe in result.recipe.values():
    recipe.learning_rate = recipe.learning_rate * result.batch_size / config.batch_size
  result.batch_per_device = 0
  return result


def quantization(config, precision=None) -> Quantization:
  """The config's quantization, at its own or another precision."""
  return Quantization(
    Precision.parse(precision or config.precision),
    **{k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in config.quantization.items()},
  )


def checked(config, precisions=()):
  """Returns a copy of a config that can run; see `validate`.

  Its precisions are spelled one way, `~` in its paths is expanded, and ``data.dir`` is absolute, so
  that its workdir can be used from any folder.
  """
  validate(config, precisions)
  result = config.copy_and_resolve_references()
  result.precision = str(Precision.parse(config.precision))
  if precisions:
    result.study.precisions = tuple(str(Precision.parse(p)) for p in precisions)
  result.update_from_flattened_dict(
    {
      field: expanded(value)
      for field, value in flat(result).items()
      if field.rpartition(".")[2] in PATHS
    }
  )
  if result.data.dir and "://" not in result.data.dir:
    result.data.dir = os.path.abspath(result.data.dir)
  return result


def expanded(path: str) -> str:
  """A path with a leading ``~`` or ``~user`` replaced by the home folder, which shells leave inside
  ``--flag=~/x``.

  Raises:
    ConfigError: there is no such user.
  """
  result = os.path.expanduser(path)
  if result.startswith("~"):
    user = result.partition("/")[0]
    raise ConfigError(
      f"{path} begins with {user}, and there is no such user: for a folder of this name write "
      f"./{path}."
    )
  return result


def validate(config, precisions=()):
  """Raises ConfigError, with one sentence that names the field, for a config that cannot run.

  Args:
    config: the config.
    precisions: what it has to be able to do beside ``config.precision``: those of a study.
  """
  from apprentice_jax import config_checks  # here, not above: it reads this module

  config_checks.check(config, precisions)


def flat(config) -> dict:
  """The config as ``{"a.b": value}``."""
  result = {}
  for key, value in config.items():
    if hasattr(value, "items"):
      result.update({f"{key}.{k}": v for k, v in flat(value).items()})
    else:
      result[key] = value
  return result
