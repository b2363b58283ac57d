"""Apprentice: distillation-trained low-precision networks in JAX and Flax.

The names below load on first use, so that ``import apprentice_jax.quantizers`` brings in nothing
but jax.
"""

import importlib

__version__ = "0.1.0"

_SUBMODULES = (
  "bench",
  "config",
  "data",
  "deploy",
  "distill",
  "models",
  "plan",
  "quantizers",
  "study",
  "training",
  "zoo",
)
_HOME = {
  "activation": "apprentice_jax.models.intercept",
  "apprentice_loss": "apprentice_jax.distill.loss",
  "evaluate": "apprentice_jax.training.api",
  "export": "apprentice_jax.training.export",
  "load": "apprentice_jax.deploy.registry",
  "quantize": "apprentice_jax.models.wrap",
  "save_logits": "apprentice_jax.training.teachers.table",
  "summary": "apprentice_jax.models.table",
  "train": "apprentice_jax.training.api",
}

__all__ = tuple(_HOME)


def __getattr__(name):
  if name in _HOME:
    return getattr(importlib.import_module(_HOME[name]), name)
  if name in _SUBMODULES:
    return importlib.import_module(f"{__name__}.{name}")
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
  return sorted({*__all__, *_SUBMODULES, *(name for name in globals() if name.startswith("__"))})
