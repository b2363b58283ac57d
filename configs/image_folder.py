"""Your own photos: DIR/train/CLASS/*.jpg and DIR/val/CLASS/*.jpg, or DIR/CLASS/*.jpg, in any common image format.

    apprentice train --config=configs/image_folder.py:student=resnet18,precision=8A2W \\
        --config.data.dir=DIR --config.teacher.init=TEACHER --workdir=runs/photos

Classes are the folders' names (the workdir's classes.json keeps them in the order of the outputs). Images
are streamed: random crops of data.image_size to train; to evaluate, the centre after a resize of the short
side to data.resize. Without teacher.init a full-precision teacher is trained first.

Made for some thousands of photos, from scratch: 90 epochs by cosine from 0.1, at a batch of 64. The mean and
std are ImageNet's, for its checkpoints as teachers.
"""

from apprentice_jax import config as base


def get_config(argument=""):
  config = base.base()
  config.data.name, config.data.test_split, config.data.test_share = "image_folder", "val", 0.2
  config.data.image_size, config.data.resize = 224, 256
  config.data.mean, config.data.std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
  config.student.name, config.teacher.name = "resnet18", "resnet34"
  for recipe in (config.recipe.student, config.recipe.teacher):
    recipe.epochs, recipe.learning_rate, recipe.warmup_epochs = 90.0, 0.1, 5.0
  config.recipe.finetune.epochs, config.recipe.finetune.learning_rate = 30.0, 0.01
  config.batch_size = 64
  config.steps_per_dispatch = 10
  config.checkpoint.every_epochs = 1.0
  config.eval.batch_size = 256
  config.study.precisions = ("8A,2W",)
  config.study.seeds = (0,)
  return base.apply_argument(config, argument, runlocal={
      "data.image_size": 32, "data.resize": 36, "student.width": 0.125, "teacher.width": 0.125,
      "teacher.name": "resnet18", "batch_size": 16, "steps_per_dispatch": 5,
      "recipe.student.epochs": 1.0, "recipe.teacher.epochs": 1.0, "recipe.finetune.epochs": 1.0,
      "recipe.student.warmup_epochs": 0.2, "recipe.teacher.warmup_epochs": 0.2})
