"""The configuration: fields with their defaults, the grammar of config arguments, the checks.

A config file has ``get_config(argument="")`` and builds on `base`; ``argument`` is what follows the
colon in ``--config=FILE:key=value,...``. Any field can be overridden by ``--config.a.b=value``.
"""

from apprentice_jax.config.arguments import ARGUMENTS, PRESETS, apply_argument, parse
from apprentice_jax.config.derived import checked, expanded, quantization, scaled, validate
from apprentice_jax.config.fields import CELLS, PATHS, base, flat, recipe

__all__ = (
  "ARGUMENTS",
  "CELLS",
  "PATHS",
  "PRESETS",
  "apply_argument",
  "base",
  "checked",
  "expanded",
  "flat",
  "parse",
  "quantization",
  "recipe",
  "scaled",
  "validate",
)
