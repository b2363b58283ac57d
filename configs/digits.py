"""Handwritten digits: 1,437 training and 360 test images of 8x8 pixels, of scikit-learn.

    apprentice study --config=configs/digits.py --workdir=runs/digits
    apprentice study --config=configs/digits.py:all_schemes --workdir=runs/all_schemes

The first study asks what a teacher adds to a ternary student of 4.9 kB, with twelve seeds. The
second compares every scheme at two precisions, with two seeds. Each takes a minute or two on two
CPU cores. results/digits says how the settings were chosen.
"""

from apprentice_jax.config import CELLS, apply_argument, base


def get_config(argument=""):
  config = base()
  config.data.name = "digits"
  config.data.pad, config.data.flip = 1, False
  config.data.mean, config.data.std = (0.3053,), (0.3763,)
  config.student.name, config.student.width = "resnet8", 0.25
  config.teacher.name, config.teacher.width = "resnet14", 1.0
  config.batch_size = 64
  config.loss.temperature, config.loss.beta, config.loss.gamma = 4.0, 0.1, 0.9
  config.recipe.student.epochs = config.recipe.teacher.epochs = 24.0
  config.recipe.finetune.epochs = 12.0
  for recipe in config.recipe.values():
    recipe.settle_steps = 20  # more would be a tenth of so short a run
  config.study.cells = ("teacher", "student", "baseline", "B")
  config.study.precisions = ("8A,2W",)
  config.study.seeds = tuple(range(12))
  # Networks this small do not use two cores together.
  config.cpu_devices, config.study.jobs = 1, 2
  return apply_argument(
    config,
    argument,
    all_schemes={
      "student.width": 0.5,
      "teacher.width": 0.5,
      "loss.temperature": 1.0,
      "loss.beta": 0.5,
      "loss.gamma": 0.5,
      "recipe.student.epochs": 12.0,
      "recipe.teacher.epochs": 12.0,
      "recipe.finetune.epochs": 6.0,
      **{f"recipe.{name}.settle_steps": 0 for name in ("student", "teacher", "finetune")},
      "study.cells": CELLS,
      "study.precisions": ("8A,2W", "8A,4W"),
      "study.seeds": (0, 1),
    },
    runlocal={
      "recipe.student.epochs": 1.0,
      "recipe.teacher.epochs": 1.0,
      "recipe.finetune.epochs": 1.0,
      **{f"recipe.{name}.settle_steps": 0 for name in ("student", "teacher", "finetune")},
      "study.precisions": ("8A,2W",),
      "study.seeds": (0,),
      "study.jobs": 1,
    },
  )
