"""Handwritten digits: 1,437 training and 360 test images of 8x8 pixels, of scikit-learn.

    apprentice study --config=configs/digits.py --workdir=runs/digits

The study has 24 runs, two at once, and takes a minute or two on two CPU cores. The README has its
table.
"""

from apprentice_jax.config import apply_argument, base


def get_config(argument=""):
  config = base()
  config.data.name = "digits"
  config.data.pad, config.data.flip = 1, False
  config.data.mean, config.data.std = (0.3053,), (0.3763,)
  config.student.name = "resnet8"
  config.teacher.name = "resnet14"
  config.student.width = config.teacher.width = 0.5
  config.batch_size = 64
  config.recipe.student.epochs = config.recipe.teacher.epochs = 12.0
  config.recipe.finetune.epochs = 6.0
  for recipe in config.recipe.values():
    recipe.settle_steps = 0  # they would be a tenth of so short a run
  # Networks this small do not use two cores together.
  config.cpu_devices, config.study.jobs = 1, 2
  return apply_argument(
    config,
    argument,
    runlocal={
      "recipe.student.epochs": 1.0,
      "recipe.teacher.epochs": 1.0,
      "recipe.finetune.epochs": 1.0,
      "study.precisions": ("8A,2W",),
      "study.seeds": (0,),
      "study.jobs": 1,
    },
  )
