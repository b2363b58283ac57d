"""Warm-ups that would take the whole run."""

import warnings

from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.training import start
from apprentice_jax.training.optimizer import shortened


def warn(config, size: int, schemes, recipes=None):
  """Warns of every recipe whose warm-up is shortened, since it would take the whole run; see
  `optimizer.shortened`.

  Args:
    config: the run's.
    size: number of training images.
    schemes: that train; a teacher that trains along takes as many steps as its student.
    recipes: as for `preflight`.
  """
  runs = [(name, name) for name in (start.recipes_of(config) if recipes is None else recipes)]
  runs += [("teacher", SCHEMES[s].recipe) for s in schemes if SCHEMES[s].teacher == "joint"]
  per_epoch = size / config.batch_size
  for name, of in dict.fromkeys(runs):
    own, epochs = start.recipe(config, name), start.recipe(config, of).epochs
    found = shortened(own, round(epochs * per_epoch), per_epoch)
    if found is not own:
      warnings.warn(
        f"config.recipe.{name}.warmup_epochs is {own.warmup_epochs:g}, and the run has {epochs:g} "
        "epochs: "
        f"it is shortened to {found.warmup_epochs:.2g}, or the learning rate would only rise."
      )
