"""The trainings that a config stands for: by which recipe each, and on images normalised how."""

import os
import pathlib

from apprentice_jax import config as configs
from apprentice_jax.config.fields import HEAD_BOUNDS
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.training.workdir import workdir_config

FULL_PRECISION = "32A,32W"
FROM_SCRATCH = {"init": "", "head": "", "classes": ""}  # of a network


def full_precision(config, which: str):
  """The config that trains config's teacher or student alone, at full precision."""
  # The network becomes a student without a teacher, whichever it was.
  alone = config.copy_and_resolve_references()
  alone.scheme, alone.precision = "baseline", FULL_PRECISION
  if which == "teacher":
    alone.student.update(config.teacher)
    alone.data.mean, alone.data.std = normalisation(config, "teacher")
    alone.teacher_input.update(configs.base().teacher_input)
  alone.teacher.update(FROM_SCRATCH)
  alone.recipe.student.update(recipe(config, which))
  # With a new head, the training starts from the network in ``init``.
  if not config[which].head:
    alone.student.init = ""
  return alone


def recipe(config, name: str):
  """The config's "student", "teacher" or "finetune" recipe.

  A trained network with a new head is fine-tuned. Its epochs, warm-up and learning rate are the
  smaller ones of its own recipe and of "finetune".
  """
  own = config.recipe[name]
  if name == "finetune" or config[name].head != "new":
    return own
  result = own.copy_and_resolve_references()
  result.update({field: min(own[field], config.recipe.finetune[field]) for field in HEAD_BOUNDS})
  return result


def student_recipe(config):
  """The recipe by which the student trains under the config's scheme."""
  return recipe(config, SCHEMES[config.scheme].recipe)


def recipes_of(config) -> list[str]:
  """The recipes by which a run trains its student, and first what its scheme starts from."""
  scheme = SCHEMES[config.scheme]
  first = [("teacher", scheme.teacher == "fixed"), ("student", scheme.pretrained_student)]
  trains = lambda which: not config[which].init or config[which].head == "new"
  return [which for which, needed in first if needed and trains(which)] + [scheme.recipe]


def normalisation(config, which: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Mean and standard deviation of the images that the config's "student" or "teacher" is made
  for."""
  own = config.data
  if which == "teacher":
    if config.teacher_input.mean:
      own = config.teacher_input
    elif config.teacher.init and os.path.exists(pathlib.Path(config.teacher.init, "config.json")):
      own = workdir_config(config.teacher.init).data
  return tuple(own.mean), tuple(own.std)
