"""The configuration: fields with their defaults, the grammar of config arguments, the checks.

A config file has ``get_config(argument="")`` and builds on `base`; ``argument`` is what follows the
colon in ``--config=FILE:key=value,...``. Any field can be overridden by ``--config.a.b=value``.
"""

from apprentice_jax.config.arguments import ARGUMENTS, PRESETS, apply_argument, parse
from apprentice_jax.config.checks import checked, validate
from apprentice_jax.config.derived import expanded, quantization, scaled
from apprentice_jax.config.fields import CELLS, FIELDS, base, describe, flat, paths, recipe
from apprentice_jax.config.readers import reads, unread
from apprentice_jax.config.saved import current, restored
