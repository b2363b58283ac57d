"""Your own photos: DIR/train/CLASS/*.jpg and DIR/val/CLASS/*.jpg, or DIR/CLASS/*.jpg alone.

    apprentice train --config=configs/image_folder.py --config.data.dir=DIR \\
        --config.teacher.init=FILE --workdir=runs/photos

One command goes the whole way. FILE is a trained network: a checkpoint of PyTorch's or a workdir.
It gets a head for these classes and is fine-tuned; then it teaches the student. The workdir ends
with report.html, student.packed and, where onnx is installed, student.onnx. Without teacher.init a
teacher of the student's own architecture is trained first.

Without a folder for the test, a fifth of the photos is kept for it (data.test_share).

Sizes fit the machine. On a CPU images are 32x32 pixels and the student is a ResNet-20: some hundred
photos take minutes. With a GPU or TPU images are 224x224 pixels and the student is a ResNet-18, as
for some thousand photos. `student=NAME` and any field of the config say otherwise; data.resize
follows data.image_size.

A teacher that knows these very classes keeps its head with --config.teacher.head= (empty). The
temperature of 4 is that of configs/cifar10.py, not tried on photos. Photos are streamed: random
crops to train, and to evaluate the centre after a resize of the short side to data.resize. The mean
and std are ImageNet's, so that its checkpoints can be teachers.
"""

import importlib.util

from apprentice_jax import environment
from apprentice_jax.config import apply_argument, base, parse

SMALL = ("resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110")


def get_config(argument=""):
  config = base()
  config.data.name, config.data.test_split, config.data.test_share = "image_folder", "val", 0.2
  config.data.mean, config.data.std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
  accelerator = environment.has_accelerator()
  student = parse(argument).get("student", "resnet18" if accelerator else "resnet20")
  config.student.name = student
  config.teacher.name, config.teacher.head = "", "new"
  if student in SMALL:  # CIFAR-10's networks divide the sides by 4, ImageNet's by 32
    config.data.image_size = 32
  else:
    config.data.image_size = 224 if accelerator else 64
  config.data.resize = config.data.get_ref("image_size") * 8 // 7  # follows image_size
  # On a CPU there may be twenty photos, a fifth of which is for the test.
  config.batch_size, rate = (64, 0.1) if accelerator else (16, 0.05)
  if not accelerator:
    config.data.crop_area = (0.35, 1.0)
  for recipe in (config.recipe.student, config.recipe.teacher):
    recipe.epochs, recipe.learning_rate, recipe.warmup_epochs = 90.0, rate, 5.0
  config.recipe.finetune.epochs, config.recipe.finetune.learning_rate = 30.0, 0.01
  config.loss.temperature = 4.0
  config.steps_per_dispatch = 10
  config.checkpoint.every_epochs = 5.0
  config.eval.batch_size = 256
  config.study.precisions, config.study.seeds = ("8A,2W",), (0,)
  config.export = ("packed", "onnx") if importlib.util.find_spec("onnx") else ("packed",)
  config.note = _note(config, accelerator)
  return apply_argument(
    config,
    argument,
    runlocal={
      "data.image_size": 32,
      "data.resize": 36,
      "student.name": "resnet8",
      "batch_size": 16,
      "steps_per_dispatch": 5,
      "recipe.student.epochs": 1.0,
      "recipe.teacher.epochs": 1.0,
      "recipe.finetune.epochs": 1.0,
      "recipe.student.warmup_epochs": 0.2,
      "recipe.teacher.warmup_epochs": 0.2,
    },
  )


def _note(config, accelerator: bool) -> str:
  """Why the sizes are as they are; the command says which they are."""
  if accelerator:
    note = "sizes for a GPU or TPU, which this machine has."
  else:
    note = (
      "sizes for a CPU, as jax has no GPU or TPU here. --config.data.image_size=224 takes larger "
      "images. --config=image_folder:student=resnet18 takes a larger student."
    )
    if environment.has_gpu():
      note += " There is a GPU that jax cannot use: pip install 'apprentice-jax[cuda]'."
  if "onnx" not in config.export:
    note += " An ONNX file takes onnx: pip install 'apprentice-jax[export]'."
  return note
