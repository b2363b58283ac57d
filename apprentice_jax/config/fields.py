"""Every field of the config, stated once: its default, its check, its help, and its tags.

A new field takes one row here, and the code that reads it. `base` is built from the rows. The
checks, resuming, studies, hints and docs/config.md ask the rows.
"""

from typing import Any, NamedTuple

import ml_collections

from apprentice_jax.distill.schemes import SCHEMES

CELLS = ("teacher", "student", *SCHEMES)  # of a study
MIXES = ("", "mixup", "cutmix")  # see `data.augment`
FORMATS = ("packed", "onnx", "c", "web", "stablehlo")  # of exported files: see `deploy.registry`
_STEPS = ("weight_step", "activation_step")
PARAMETERS = ("kernel", "bias", "scale", "clip", "positive", "negative", *_STEPS)
# Fields of recipe.finetune that bound those of a trained network with a new head.
HEAD_BOUNDS = ("epochs", "warmup_epochs", "learning_rate", "adam_rate")


class Tags(NamedTuple):
  """What a field may do, and whom it concerns.

  Attributes:
    part: the part of the config that it belongs to, which not every run reads: see `readers.parts`.
    shared: why all cells of a study share it; "": a study may vary it.
    free: whether it may change between two starts of a run, since the result stays.
    merges: whether it may differ between studies that become one report.
    is_path: whether it is the path of a file or a folder.
  """

  part: str = ""
  shared: str = ""
  free: bool = False
  merges: bool = False
  is_path: bool = False


class Field(NamedTuple):
  """A field of the config.

  Attributes:
    path: its name, such as "data.name"; in the table, without the prefix of its group.
    default: its value in `base`, which also has the field's type.
    help: one sentence for the reader of `describe` and docs/config.md.
    choices: the values that it, or each item of it, may have; (): any.
    least: the least value that it may have; None: any.
    items: the type of its items, where the default is an empty tuple.
    tags: those of its group.
  """

  path: str
  default: Any
  help: str
  choices: tuple = ()
  least: float | None = None
  items: type = str
  tags: Tags = Tags()

  @property
  def is_numbers(self) -> bool:
    """Whether it is a list of numbers."""
    if not isinstance(self.default, tuple):
      return False
    return (type(self.default[0]) if self.default else self.items) in (int, float)


# Why all cells of a study share a field.
_IMAGES = "cells would train on, or be scored on, different images: run a study for each"
_GIVEN = "a network that is given is given to all cells: run a study for each"
_HEAD = "what becomes of a given network is the same for all cells: run a study for each"
_HARMLESS = "it does not change a result"


def _network(which: str) -> dict:
  """The groups of the config's "student" or "teacher"."""
  init, heads = f"{which}.init", ("", "new", "match")
  # See `training.teachers`.
  files = ", or a fixed teacher's StableHLO, ONNX or logits file" if which == "teacher" else ""
  return {
    (f"{which}.", Tags(which)): [
      Field("name", "resnet20", f"The architecture, or package.module:function; empty: {init}'s."),
      Field("width", 1.0, "The factor that multiplies the architecture's channels."),
      Field("shortcut", "", "Shortcuts where shapes differ: pad or conv; empty: the usual ones."),
    ],
    (f"{which}.", Tags(which, _GIVEN, merges=True, is_path=True)): [
      Field("init", "", f"A workdir or a checkpoint to start from{files}; empty: made on the way."),
    ],
    (f"{which}.", Tags(which, _HEAD)): [
      Field("head", "", f"{init}'s head: as it is, new, or match, cut to these classes.", heads),
    ],
    (f"{which}.", Tags(which, _HEAD, is_path=True)): [
      Field("classes", "", f"A file with {init}'s classes, one a line, or imagenet."),
    ],
  }


def _recipe(name: str, rate: float = 0.1, adam: float = 1e-3) -> dict:
  """The group of a recipe, by which a network is trained; see `training.optimizer`."""
  return {
    (f"recipe.{name}.", Tags(name)): [
      Field("epochs", 30.0, "Epochs to train.", least=0),
      Field("learning_rate", rate, "The highest rate, stated for batch_size.", least=0),
      Field("schedule", "cosine", "The rate after its warm-up.", ("cosine", "step", "constant")),
      Field("warmup_epochs", 1.0, "Epochs in which the rate rises from 0.", least=0),
      Field("milestones", (0.5, 0.75), "Fractions of the run where schedule step lowers the rate."),
      Field("factor", 0.1, "The factor by which schedule step multiplies the rate."),
      Field("settle_steps", 50, "Last steps at rate 0, at most a tenth of all.", least=0),
      Field("momentum", 0.9, "The momentum of the gradients' running sum.", least=0),
      Field("nesterov", True, "Whether the momentum is Nesterov's."),
      Field("weight_decay", 1e-4, "The weight decay.", least=0),
      Field("decay", ("kernel", "clip"), "The kinds of parameters that decay.", PARAMETERS),
      Field("adam", (), "The kinds of parameters that Adam moves, without decay.", PARAMETERS),
      Field("adam_rate", adam, "Adam's highest rate, on the same schedule.", least=0),
    ]
  }


_TABLE = {
  ("", Tags("", "list schemes in study.cells", merges=True)): [
    Field("scheme", "B", "The paper's scheme, or a control without a teacher.", tuple(SCHEMES)),
  ],
  ("", Tags("", "list precisions in study.precisions", merges=True)): [
    Field("precision", "8A,2W", "The student's bits of activations and weights; 32 is full."),
  ],
  ("", Tags("", "list seeds in study.seeds", merges=True)): [
    Field("seed", 0, "The seed of all that is random.", least=0),
  ],
  ("", Tags()): [
    Field("batch_size", 128, "Images a batch, on all devices, which the rates are for.", least=1),
    Field("dtype", "float32", "The type of activations and gradients.", ("float32", "bfloat16")),
    Field("sync_batch_norm", False, "Whether batch norms use the moments of all devices together."),
    Field("steps_per_dispatch", 20, "Steps that an accelerator takes at once.", least=1),
    Field("im2col", True, "Whether a CPU's convolutions take a faster way, equal up to rounding."),
    Field("remat", "none", "Parts that the backward pass recomputes: none, elementwise or blocks."),
  ],
  ("", Tags("", "the devices are the same for all cells: vary batch_size")): [
    Field("batch_per_device", 0, "Images for each device, or 0 for batch_size as it is.", least=0),
    Field("largest_batch", 8192, "The largest batch of batch_per_device; 0: no limit.", least=0),
  ],
  ("", Tags("", "devices are started once, before any cell", free=True)): [
    Field("cpu_devices", 2, "Host devices to run on where there is no accelerator.", least=1),
  ],
  ("", Tags("", _HARMLESS, free=True, merges=True)): [
    Field("export", (), "Formats in which train leaves the student in the workdir.", FORMATS),
    Field("note", "", "A sentence that train and study print before they start."),
    Field("checkpoint.every_epochs", 10.0, "Epochs between checkpoints; 0: at the end.", least=0),
    Field("checkpoint.keep", 2, "Checkpoints that are kept.", least=1),
    Field("eval.batch_size", 1000, "Images evaluated at once.", least=1),
  ],
  ("eval.", Tags("", _HARMLESS, free=True)): [
    Field("every_epochs", 0.0, "Epochs between scores of held-out images; 0: never.", least=0),
  ],
  ("eval.", Tags("", _IMAGES)): [
    Field("final", "test", "The images scored at the end.", ("test", "validation")),
  ],
  ("data.", Tags("", _IMAGES)): [
    Field("name", "", "The dataset: a name of tensorflow-datasets, or image_folder."),
    Field("train_split", "train", "The split to train on, or a slice such as train[:80%]."),
    Field(
      "test_split", "test", "The split to test on; empty: data.test_share of the training images."
    ),
    Field("test_share", 0.0, "The share of a folder's images to test on; 0: none.", least=0),
    Field("validation", 0.0, "Images held out for choices: a share below 1, or a number.", least=0),
  ],
  ("data.", Tags("", _IMAGES, free=True, merges=True, is_path=True)): [
    Field("dir", "", "The folder of the images, or of prepared datasets; empty: the usual one."),
  ],
  ("data.", Tags()): [
    Field("mean", (0.5,), "The mean of each channel, of images scaled to [0, 1]."),
    Field("std", (0.5,), "The standard deviation of each channel, of images scaled to [0, 1]."),
    Field("flip", True, "Whether half of the training images are mirrored."),
    Field("mix", "", "How pairs of training images are mixed: mixup, cutmix, or not.", MIXES),
    Field("image_size", 0, "The side of streamed images; 0: images live on the device.", least=0),
  ],
  ("data.", Tags("resident")): [
    Field("pad", 4, "Training images are shifted by up to so many pixels.", least=0),
    Field("augmentation_epochs", 0, "Epochs until augmentations repeat; 0: never.", least=0),
  ],
  ("data.", Tags("streamed")): [
    Field("resize", 256, "The short side to which an image is resized before its centre is cut."),
    Field("crop_area", (0.08, 1.0), "The least and largest share of an image in a training crop."),
    Field("crop_ratio", (3 / 4, 4 / 3), "The least and largest width by height of such a crop."),
  ],
  ("data.", Tags("streamed", _HARMLESS, free=True, merges=True)): [
    Field("unreadable", "stop", "At an unreadable image, stop, or skip it.", ("stop", "skip")),
    Field("threads", 0, "Threads in each process that decode images; 0: one a core.", least=0),
    Field("workers", 0, "Processes that decode images.", least=0),
  ],
  **_network("student"),
  **_network("teacher"),
  ("teacher_input.", Tags("teacher", "the two go together, and with the teacher")): [
    Field("mean", (), "The mean of the teacher's images; empty: its own or data's.", items=float),
    Field("std", (), "The deviation of the teacher's images; empty: as the mean.", items=float),
  ],
  ("teacher_input.", Tags("fixed teacher")): [
    Field("augmented", True, "Whether a fixed teacher sees images augmented, as the student does."),
    Field("cached", False, "Whether a fixed teacher's logits are computed once, not every step."),
  ],
  ("quantization.", Tags("quantized weights")): [
    Field("weights", "default", "The weights' quantizer, or default, or paper."),
    Field("per_channel", True, "Whether each output channel has a weight scale of its own."),
    Field("wrpn_scale", "max", "WRPN's largest weight: max, the largest magnitude, or unit, 1."),
  ],
  ("quantization.", Tags("quantized activations")): [
    Field("activations", "default", "The activations' quantizer, or default, or paper."),
  ],
  ("quantization.", Tags("quantized")): [
    Field("full_precision", ("stem", "head"), "Layers whose weights are not quantized."),
    Field("residual", False, "Whether residual branches are quantized before the addition."),
  ],
  ("oscillation.", Tags("quantized weights")): [
    Field(
      "freeze",
      (),
      "The frequencies of oscillation, in the first and the last step, above which weights freeze.",
      items=float,
    ),
    Field("damping", 0.0, "The last weight of the damping term, which rises from 0.", least=0),
  ],
  ("loss.", Tags("joint teacher")): [
    Field("alpha", 1.0, "The weight of a joint teacher's cross-entropy.", least=0),
  ],
  ("loss.", Tags("distillation")): [
    Field("beta", 0.5, "The weight of the student's cross-entropy.", least=0),
    Field("gamma", 0.5, "The weight of the distillation term.", least=0),
    Field("temperature", 1.0, "The temperature that softens outputs in the distillation term."),
    Field("teacher_gradient", False, "Whether the distillation term trains a joint teacher."),
    Field("standardised", False, "Whether the distillation term sees standardised logits."),
  ],
  ("loss.", Tags("fixed teacher")): [
    Field(
      "teacher_entropy",
      0.0,
      "The mean entropy, in nats, of a fixed teacher's softened outputs, which sets temperature.",
      least=0,
    ),
  ],
  **_recipe("student"),
  **_recipe("teacher"),
  **_recipe("finetune", rate=0.01, adam=1e-4),
  ("study.", Tags("", "that is what the study is made of", free=True, merges=True)): [
    Field("precisions", ("8A,2W", "8A,4W"), "The precisions of a study."),
    Field("seeds", (0, 1), "The seeds of a study."),
    Field("cells", CELLS, "The networks and schemes of a study.", CELLS),
    Field("jobs", 1, "Cells trained at once, each in a process, on a CPU or one GPU.", least=1),
    Field("variations", (), "Other settings to train at, each NAME: FIELD=VALUE, FIELD=VALUE."),
    Field("references", (), "Published accuracies: NETWORK|PRECISION|ACCURACY|SOURCE."),
  ],
}
# Each row under its full name, with the tags of its group.
FIELDS = {
  prefix + row.path: row._replace(path=prefix + row.path, tags=tags)
  for (prefix, tags), rows in _TABLE.items()
  for row in rows
}


def base() -> ml_collections.ConfigDict:
  """Returns a config with every field at its default."""
  # Nested first: a ConfigDict takes no dotted name for a field that it lacks.
  nested = {}
  for field in FIELDS.values():
    *groups, name = field.path.split(".")
    place = nested
    for group in groups:
      place = place.setdefault(group, {})
    place[name] = field.default
  return ml_collections.ConfigDict(nested)


def recipe(**changes) -> ml_collections.ConfigDict:
  """How one network is trained: the fields of a recipe, some of them changed."""
  result = base().recipe.student
  result.update(changes)
  return result


def flat(config) -> dict:
  """The config as ``{"a.b": value}``."""
  result = {}
  for key, value in config.items():
    if hasattr(value, "items"):
      result.update({f"{key}.{k}": v for k, v in flat(value).items()})
    else:
      result[key] = value
  return result


def paths(tag: str) -> frozenset[str]:
  """The fields that have a tag: "free", "merges" or "is_path"."""
  return frozenset(field.path for field in FIELDS.values() if getattr(field.tags, tag))


def describe(config, all: bool = False) -> list[tuple[str, Any, str]]:
  """Name, value and help of the config's fields, in the order of the table.

  Args:
    config: from `base`.
    all: every field; otherwise the fields that differ from their defaults.
  """
  values = flat(config)
  return [
    (field.path, values[field.path], field.help)
    for field in FIELDS.values()
    if all or values[field.path] != field.default
  ]
