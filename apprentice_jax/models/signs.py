"""Which values of a traced function cannot be negative, by the operations that they come out of.

`checkpoint_name` marks a value, and `marks` reads the marks from a function's jaxpr: also inside of
loops, rematerialised blocks and functions compiled apart.
"""

import dataclasses
import math
from typing import Any

import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

# Not negative, whatever they take.
_NEVER = {"abs", "exp", "exp2", "iota", "logistic", "rsqrt", "sqrt", "square"}
# Not negative where no argument is; of those that take one, it is the first that counts.
_OF_ALL = {
  *("add", "add_any", "concatenate", "div", "min", "mul", "pad"),
  *("all_gather", "broadcast_in_dim", "cbrt", "ceil", "convert_element_type", "copy", "cummax"),
  *("cumsum", "expand_dims", "expm1", "floor", "log1p", "name", "optimization_barrier", "pmax"),
  *("pmean", "psum", "psum_invariant", "pvary", "reduce_max", "reduce_min", "reduce_precision"),
  *("reduce_sum", "reduce_window_max", "reduce_window_sum", "reshape", "rev", "round", "sign"),
  *("sharding_constraint", "slice", "split", "squeeze", "stop_gradient", "tanh", "transpose"),
}
_OF_FIRST = {"dynamic_slice", "gather", "pow"}
_INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # where an operation keeps what it calls


@dataclasses.dataclass
class Mark:
  """What the program says of a marked value.

  Attributes:
    nonnegative: whether no computation of it can be below zero.
    elements: numbers under this mark in one run of the program: of a loop's body, of all turns.
  """

  nonnegative: bool = True
  elements: int = 0


def marks(jaxpr: Any) -> dict[str, Mark]:
  """The values of a closed jaxpr that `checkpoint_name` has marked, by name; arguments may be
  negative."""
  found: dict[str, Mark] = {}
  _walk(jaxpr, [False] * len(jaxpr.jaxpr.invars), 1, found)
  return found


def _walk(closed, arguments, times, found) -> list[bool]:
  """Goes through a jaxpr; returns which results cannot be negative."""
  jaxpr, consts = getattr(closed, "jaxpr", closed), getattr(closed, "consts", ())
  known = {v: _constant(c) for v, c in zip(jaxpr.constvars, consts)}
  known |= dict(zip(jaxpr.invars, arguments))

  def read(v):
    return _constant(v.val) if isinstance(v, jex.Literal) else known.get(v, False)

  for eqn in jaxpr.eqns:
    taken = [read(v) for v in eqn.invars]
    if eqn.primitive.name == "name":
      mark = found.setdefault(eqn.params["name"], Mark())
      mark.nonnegative &= taken[0]
      mark.elements += times * math.prod(eqn.invars[0].aval.shape)
    for v, answer in zip(eqn.outvars, _results(eqn, taken, times, found)):
      known[v] = answer or _unsigned(v.aval)
  return [read(v) for v in jaxpr.outvars]


def _results(eqn, taken, times, found) -> list[bool]:
  name, params, count = eqn.primitive.name, eqn.params, len(eqn.outvars)
  if name == "scan":
    consts, carried = _scanned(params)
    carries = slice(consts, consts + carried)
    return _loop(params["jaxpr"], taken, carries, times * params["length"], found)
  if name == "while":
    first = params["cond_nconsts"]
    carries = slice(params["body_nconsts"], None)
    return _loop(params["body_jaxpr"], taken[first:], carries, times, found)
  if name == "cond":
    each = [_walk(branch, taken[1:], times, found) for branch in params["branches"]]
    return list(map(all, zip(*each)))
  inner = next((params[key] for key in _INNER if key in params), None)
  if inner is not None:
    arguments = len(getattr(inner, "jaxpr", inner).invars)
    return _walk(inner, taken[-arguments:] if arguments else [], times, found)
  return [_result(name, params, eqn.invars, taken)] * count


def _scanned(params) -> tuple[int, int]:
  """How many operands of a scan are the same in all turns, and how many each turn hands on."""
  if "ft_in" not in params:  # before jax 0.12
    return params["num_consts"], params["num_carry"]
  consts, carried, _ = params["ft_in"].unpack()
  return len(consts), len(carried)


def _loop(body, taken, carries, times, found) -> list[bool]:
  """A loop's results: what a turn may make negative is negative in the next one."""
  while True:
    results = _walk(body, taken, times, {})
    before = taken[carries]
    after = [a and b for a, b in zip(before, results)]
    if before == after:
      return _walk(body, taken, times, found)
    taken = [*taken[: carries.start], *after, *taken[carries.start + len(after) :]]


def _result(name, params, operands, taken) -> bool:
  if name in _NEVER or (name in _OF_ALL and all(taken)) or (name in _OF_FIRST and taken[0]):
    return True
  if name == "max":
    return any(taken)
  if name == "clamp":
    return taken[0] or (taken[1] and taken[2])
  if name == "select_n":
    return all(taken[1:])
  if name == "integer_pow":
    return params["y"] % 2 == 0 or taken[0]
  return name == "mul" and operands[0] is operands[1]


def _unsigned(aval) -> bool:
  kinds = (jnp.bool_, jnp.unsignedinteger)
  return hasattr(aval, "dtype") and any(jnp.issubdtype(aval.dtype, kind) for kind in kinds)


def _constant(value) -> bool:
  """Whether a constant has no number below zero; of arrays only those of NumPy are looked at."""
  return isinstance(value, (bool, int, float, np.ndarray, np.generic)) and bool(np.all(value >= 0))
