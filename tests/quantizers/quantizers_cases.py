"""The quantizers with settings, as the tests of this folder go through them, and small helpers."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quantizers_reference as reference

from apprentice_jax import quantizers as Q

SHAPE = (3, 5, 8)  # of every array here where nothing speaks against it: few shapes, few compiles
DTYPES = (jnp.float32, jnp.bfloat16)


class Case(NamedTuple):
  """A quantizer with its static settings, and the float parameters to call it with."""

  name: str
  function: str
  static: dict[str, Any]
  params: dict[str, Any]

  @property
  def quantize(self) -> Callable:
    return functools.partial(getattr(Q, self.function), **self.static)

  @property
  def reference(self) -> Callable:
    return functools.partial(getattr(reference, self.function), **self.static)

  @property
  def pullback(self) -> Callable:
    return functools.partial(getattr(reference, self.function + "_pullback"), **self.static)


def _channels(low, high):
  """Eight magnitudes, none of them a nice number."""
  return np.linspace(low, high, 8, dtype=np.float32) * np.float32(1.01)


CASES = (
  Case("ste_sign", "ste_sign", {}, {}),
  Case("wrpn_weights_2", "wrpn_weights", dict(bits=2), {}),
  Case("wrpn_weights_4_scale", "wrpn_weights", dict(bits=4), dict(scale=np.float32(0.7))),
  Case("wrpn_weights_8_channels", "wrpn_weights", dict(bits=8), dict(scale=_channels(0.3, 1.9))),
  Case("wrpn_activations_8", "wrpn_activations", dict(bits=8), {}),
  Case("dorefa_activations_2", "dorefa_activations", dict(bits=2), {}),
  Case("twn", "twn", {}, {}),
  Case("twn_channels", "twn", dict(axis=-1), {}),
  Case("twn_two_axes", "twn", dict(axis=(0, -1), threshold=0.9), {}),
  Case("ttq", "ttq", {}, dict(positive=np.float32(0.6), negative=np.float32(1.3))),
  Case(
    "ttq_channels",
    "ttq",
    dict(threshold=0.2),
    dict(positive=_channels(0.4, 1.5), negative=_channels(0.2, 0.9).reshape(1, 1, 8)),
  ),
  Case("dorefa_weights_1", "dorefa_weights", dict(bits=1), {}),
  Case("dorefa_weights_2", "dorefa_weights", dict(bits=2), {}),
  Case("dorefa_weights_8", "dorefa_weights", dict(bits=8), {}),
  Case("pact_8", "pact", dict(bits=8), dict(clip=np.float32(1.2))),
  Case("pact_4_channels", "pact", dict(bits=4), dict(clip=_channels(0.3, 1.9))),
  Case("lsq_4", "lsq", dict(bits=4, grad_scale=0.25), dict(step=np.float32(0.13))),
  Case(
    "lsq_2_symmetric_channels",
    "lsq",
    dict(bits=2, symmetric=True),
    dict(step=_channels(0.2, 0.9).reshape(1, 1, 8)),
  ),
  Case("lsq_8_unsigned", "lsq", dict(bits=8, signed=False), dict(step=np.float32(0.0037))),
)
CASE = {case.name: case for case in CASES}


def each_case(*names):
  """Parametrises a test over the cases, or those of these names."""
  cases = [CASE[name] for name in names] if names else CASES
  return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: jnp.dtype(dtype).name)


def samples(dtype=jnp.float32, seed=0, shape=SHAPE):
  """Normal numbers with boundaries among them: zero, and what is a clip or a tie for someone."""
  x = np.random.default_rng(seed).normal(0, 0.8, shape).astype(np.float32)
  x.flat[:9] = [0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 0.25, -0.25]
  return jnp.asarray(x, dtype)


def float32(x):
  return np.asarray(x).astype(np.float32)


def ulps(a, b):
  """How many floats of their dtype lie between a and b, elementwise; 0 for two NaN."""
  a, b = np.asarray(a), np.asarray(b)
  assert a.dtype == b.dtype
  a, b = np.broadcast_arrays(a, b)
  bits = np.dtype(f"i{a.dtype.itemsize}")

  def ordered(x):
    i = np.ascontiguousarray(x).view(bits).astype(np.int64)
    return np.where(i < 0, -(i & np.iinfo(bits).max), i)

  both = np.isnan(float32(a)) & np.isnan(float32(b))
  return np.where(both, 0, np.abs(ordered(a) - ordered(b)))


def value_and_pullback(case, x, params, g):
  """The quantizer's value and, by argument name, its cotangents for g."""
  value, vjp = jax.vjp(lambda x, params: case.quantize(x, **params), x, params)
  g_x, g_params = vjp(g)
  return value, {"x": g_x, **g_params}
