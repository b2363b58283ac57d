"""Flax Linen networks whose convolutions and dense layers run at a chosen precision."""

import importlib

# Lazy, so that configuration code can read names and ranges without loading flax.
_HOME = {
  "Precision": "apprentice_jax.models.precision",
  "Quantization": "apprentice_jax.models.precision",
  "QuantActivation": "apprentice_jax.models.layers",
  "QuantConv": "apprentice_jax.models.layers",
  "QuantDense": "apprentice_jax.models.layers",
  "ResNet": "apprentice_jax.models.residual",
  "resnet": "apprentice_jax.models.residual",
}

__all__ = tuple(_HOME)


def __getattr__(name):
  if name in _HOME:
    return getattr(importlib.import_module(_HOME[name]), name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
  return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
