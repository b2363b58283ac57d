"""Low-precision quantizers as pure functions with straight-through gradients.

Each takes a float array of any shape and returns one of the same shape and dtype whose values lie
on the quantizer's grid. They are computed in float32 whatever the dtype, and work under jit, vmap,
grad, pmap and shard_map. This package needs jax and numpy only.
"""

from apprentice_jax.quantizers.codes import encode, encode_ste
from apprentice_jax.quantizers.learned import lsq, lsq_init, lsq_range, pact
from apprentice_jax.quantizers.quantized import Quantized, decode
from apprentice_jax.quantizers.ste import ste_clip, ste_round, ste_sign
from apprentice_jax.quantizers.ternary import ttq, twn
from apprentice_jax.quantizers.uniform import (
  dorefa_activations,
  dorefa_weights,
  wrpn_activations,
  wrpn_weights,
)

__all__ = (
  "Quantized",
  "decode",
  "dorefa_activations",
  "dorefa_weights",
  "encode",
  "encode_ste",
  "lsq",
  "lsq_init",
  "lsq_range",
  "pact",
  "ste_clip",
  "ste_round",
  "ste_sign",
  "ttq",
  "twn",
  "wrpn_activations",
  "wrpn_weights",
)
