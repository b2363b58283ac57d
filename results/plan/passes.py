"""How often each quantizer goes through memory, compiled by itself, against how often it has to."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from apprentice_jax import quantizers as Q
from apprentice_jax.plan import hlo
from apprentice_jax.quantizers import encode_ste

WEIGHTS = (3, 3, 512, 512)
ACTIVATIONS = (128, 28, 28, 256)
FETCHED = ("copy-start", "copy-done")  # instructions that move an operand to the core


class Case(NamedTuple):
  """A quantizer and the fewest passes it can be computed in.

  Attributes:
    quantize: (x, *parameters) -> Quantized.
    shape: of x.
    parameters: shapes of the quantizer's trained parameters.
    reads: how often the forward pass must read x: once, and once more for every reduction over x
      that a later reduction or a level depends on.
    writes: arrays of levels.
    keeps: bytes an element that the backward pass must read beside the levels' cotangents: none for
      the identity, one where three cases can be told apart, those of x where it needs x.
    reads_backward: how often the backward pass must read the cotangents.
  """

  quantize: Callable
  shape: tuple
  parameters: tuple = ()
  reads: int = 1
  writes: int = 1
  keeps: int = 0
  reads_backward: int = 1


_CHANNELS = (WEIGHTS[-1],)
_max = lambda w: jax.lax.stop_gradient(jnp.max(jnp.abs(w), (0, 1, 2)))
# The second read of twn is for the magnitude above the threshold, which is a multiple of the mean.
# dorefa's gradient goes through its maximum: a sum over the cotangents comes first.
CASES = {
  "twn, 2 bits": Case(lambda w: encode_ste(Q.twn, w, axis=-1), WEIGHTS, reads=2),
  "ttq, 2 bits": Case(
    lambda w, p, n: encode_ste(Q.ttq, w, p, n), WEIGHTS, ((), ()), reads=2, writes=2, keeps=1
  ),
  "lsq weights, 4 bits": Case(
    lambda w, s: encode_ste(Q.lsq, w, s, 4, symmetric=True), WEIGHTS, (_CHANNELS,), keeps=4
  ),
  "wrpn weights, 4 bits": Case(
    lambda w: encode_ste(Q.wrpn_weights, w, 4, _max(w)), WEIGHTS, reads=2, keeps=4
  ),
  "dorefa weights, 4 bits": Case(
    lambda w: encode_ste(Q.dorefa_weights, w, 4), WEIGHTS, reads=2, keeps=4, reads_backward=2
  ),
  "dorefa weights, 1 bit": Case(lambda w: encode_ste(Q.dorefa_weights, w, 1), WEIGHTS),
  # One byte would do; in bfloat16 whole networks are faster where pact keeps x, of two.
  "pact, 8 bits": Case(lambda x, c: encode_ste(Q.pact, x, c, 8), ACTIVATIONS, ((),), keeps=2),
  "lsq activations, 4 bits": Case(
    lambda x, s: encode_ste(Q.lsq, x, s, 4, signed=False), ACTIVATIONS, ((),), keeps=2
  ),
  "wrpn activations, 8 bits": Case(
    lambda x: encode_ste(Q.wrpn_activations, x, 8), ACTIVATIONS, keeps=2
  ),
  "dorefa activations, 8 bits": Case(
    lambda x: encode_ste(Q.dorefa_activations, x, 8), ACTIVATIONS, keeps=2
  ),
}


def measured(case: Case, device=None) -> dict[str, dict[str, int]]:
  """Bytes of a case's forward and backward pass, by the compiled program and at the least.

  Weights are float32, activations and all levels bfloat16.

  Args:
    case: of CASES, or of smaller shapes.
    device: to compile for; it need not exist.

  Returns:
    {"forward", "backward"}: {"bytes", "fewest"}.
  """
  x = jax.ShapeDtypeStruct(case.shape, jnp.float32 if case.shape == WEIGHTS else jnp.bfloat16)
  parameters = [jax.ShapeDtypeStruct(s, jnp.float32) for s in case.parameters]

  def levels(x, *parameters):
    found = case.quantize(x, *parameters)
    return found._replace(levels=jax.tree.map(lambda a: a.astype(jnp.bfloat16), found.levels))

  forward = lambda *primals: levels(*primals)
  out, pullback = jax.eval_shape(lambda *p: jax.vjp(levels, *p), x, *parameters)
  backward = lambda pullback, g: pullback(g)
  in_bytes, level_bytes = (x.size * x.dtype.itemsize), x.size * 2
  fewest = {
    "forward": case.reads * in_bytes + case.writes * level_bytes,
    "backward": case.reads_backward * (case.writes * level_bytes + x.size * case.keeps) + in_bytes,
  }
  programs = {"forward": (forward, (x, *parameters)), "backward": (backward, (pullback, out))}
  return {
    name: {"bytes": traffic(_compiled(f, arguments, device)), "fewest": fewest[name]}
    for name, (f, arguments) in programs.items()
  }


def traffic(text: str) -> int:
  """Bytes that the instructions of the entry computation read and write, in HBM or on the core.

  Every operand counts once for each instruction that reads it, without what layouts pad. Copies
  that fetch an operand to the core ahead of its use move nothing that its use does not.
  """
  size, total = {}, 0
  for name, shape, operation, operands, _ in hlo._instructions(text):
    arrays = hlo._ARRAY.findall(shape)
    if operation in FETCHED:
      arrays = arrays[:1]
    size[name] = sum(hlo._size(*array, padded=False) for array in arrays)
    if operation in (*hlo._SAME, *FETCHED, "parameter", "constant", "iota"):
      continue
    total += size[name] + sum(size[o] for o in operands if o in size)
  return total


def _compiled(function, arguments, device) -> str:
  if device is not None:
    place = functools.partial(jax.ShapeDtypeStruct, sharding=SingleDeviceSharding(device))
    arguments = jax.tree.map(lambda a: place(a.shape, a.dtype), arguments)
  return jax.jit(function).lower(*arguments).compile().as_text()


def table(report: dict[str, dict]) -> str:
  """`measured` of several cases, as Markdown."""
  lines = ["| quantizer | pass | bytes | fewest | ratio |", "|---|---|---|---|---|"]
  for name, found in report.items():
    for which, row in found.items():
      lines.append(
        f"| {name} | {which} | {row['bytes'] / 2**20:.1f} MiB | {row['fewest'] / 2**20:.1f} MiB | "
        f"{row['bytes'] / row['fewest']:.2f} |"
      )
  return "\n".join(lines)
