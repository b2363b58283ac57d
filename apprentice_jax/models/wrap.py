"""Any Flax Linen module at a chosen precision: `quantize`."""

import warnings
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
from flax import core
from flax.core import lift, meta
from flax.traverse_util import flatten_dict, unflatten_dict

from apprentice_jax.errors import nearest
from apprentice_jax.models.intercept import PREFIX, Plan, Quantizing, named
from apprentice_jax.models.magnitudes import SIDES
from apprentice_jax.models.precision import Precision, Quantization, matches
from apprentice_jax.models.traced import Traced, traced

KEY = "quantization"  # of the params, the tree of what quantizers have trained


def quantize(
  module: nn.Module,
  precision,
  *,
  full_precision: Sequence[str] | None = None,
  weights: str = "default",
  activations: str = "default",
  per_channel: bool = True,
  wrpn_scale: str = "max",
) -> "QuantizedModule":
  """Makes a Linen module whose convolutions and dense layers compute at a precision.

  The layers are `nn.Conv`, `nn.Dense` and `nn.DenseGeneral`, wherever they are inside the module;
  attention's projections are among them. Each quantizes its weights, and its input where no other
  layer has done so. `nn.Embed` and normalisation stay as they are.

  Parameters are the module's own plus one key, "quantization", a tree by path of layer. A tree
  without the key is taken as well: quantizers then start from the batch at hand, as in `init`.
  ``apply(variables, x, mutable=["params"])`` returns the tree with the key. Dropping the key gives
  the module's own parameters.

  An input's grid is unsigned where a trace shows that none of its values can be below zero, as
  behind a ReLU or a sigmoid. Every other input gets a signed `lsq` grid.

  Args:
    module: of Flax Linen, not bound; its call's signature is the result's.
    precision: such as "8A,2W"; or a `Precision`.
    full_precision: patterns of layer paths (as shell wildcards, matched against the path's end)
      that stay as they are; None: the first and the last layer called.
    weights, activations, per_channel, wrpn_scale: see `Quantization`.

  Returns:
    A Linen module of the same call.

  Raises:
    TypeError: it is no Linen module.
    ValueError: no such precision or quantizer.
  """
  if not isinstance(module, nn.Module):
    raise TypeError(f"quantize takes a module of flax.linen, not {module!r:.80}.")
  if isinstance(module, QuantizedModule):
    raise TypeError("quantize takes a plain module: this one is quantized.")
  if isinstance(full_precision, str):
    full_precision = (full_precision,)
  if not isinstance(precision, Precision):
    precision = Precision.parse(precision)
  quantization = Quantization(
    precision, weights, activations, per_channel=per_channel, wrpn_scale=wrpn_scale
  )
  chosen = None if full_precision is None else tuple(full_precision)
  return QuantizedModule(module.clone(parent=None), quantization, chosen)


# What flax and jax say where each turn of a loop makes its own value of a shared parameter.
_SHARED_BY_A_LOOP = ("data dependency on the scan body", "but output was batched on axis")


class QuantizedModule(nn.Module):
  """A module at a chosen precision; `quantize` makes one.

  Attributes:
    module: the plain module.
    quantization: the quantizers, and their bits.
    full_precision: patterns of the layers that stay as they are, or None: the first and the last.
    noting: whether a call notes levels beside kernels, for `with_levels`.
  """

  module: nn.Module
  quantization: Quantization
  full_precision: tuple[str, ...] | None = None
  noting: bool = False

  @nn.compact
  def __call__(self, *args, **kwargs):
    """Calls the module with its layers quantized."""
    plan = plan_of(self, args, kwargs)
    initialised = self.scope.has_variable("params", KEY)
    quantizing = Quantizing(self.quantization, plan, initialised, self.noting, len(self.path))

    def run(scope, *args, **kwargs):
      inner = self.module.clone(parent=scope, _deep_clone=True)
      with quantizing.active():
        return inner(*args, **kwargs)

    # Inside, a layer's quantizer parameters lie beside its kernel.
    lifted = lift.map_variables(run, "params", _joined, _apart, mutable=True)
    try:
      y = lifted(self.scope, *args, **kwargs)
    except ValueError as error:
      if not any(sign in str(error) for sign in _SHARED_BY_A_LOOP):
        raise
      raise ValueError(
        f"{_listed(quantizing.met[-1:])}: nn.scan or nn.vmap shares the parameters of this layer "
        "or of one before it among its turns. Such a layer's input cannot have a grid whose step "
        "starts from a batch: name the layers in full_precision, or use activations of 32 bits."
      ) from error
    if missed := [path for path in plan.layers if path not in quantizing.met]:
      raise ValueError(
        f"{_listed(missed)}: nn.jit keeps a program of this layer from another call. Take nn.jit "
        "out of the module, and jax.jit the whole."
      )
    return y


def with_levels(module: QuantizedModule, variables: Mapping, *args, **kwargs) -> dict:
  """A quantized module's variables for inference: integer levels in the place of kernels.

  The module takes them as its own, and its layers compute the same without a weight quantizer.
  Levels are int8; those of dorefa with 8 bits are int16. Their float32 scale, one number or one for
  each channel, is "weight_step" in the tree "quantization"; ttq has "positive" and "negative".

  A kernel stays as it is unless it is float32 and its layer multiplies the parameter's own array.
  A mask makes another array, and so does a subclass that standardises its weights.

  Other code of the module that reads a kernel, as with tied weights, then reads levels, and so does
  a `nn.map_variables` that is mutable. Nothing here sees this code: compare the module's results.

  Args:
    module: from `quantize`.
    variables: of the module, with everything that its quantizers train.
    *args, **kwargs: of its call; any values will do.

  Returns:
    The variables, their params unboxed, with levels of the kernels' shapes.

  Raises:
    ValueError: see `plan_of`; or the tree "quantization" lacks a value that a quantizer trains.
  """
  params = core.unfreeze(meta.unbox(variables["params"]))
  variables = {**variables, "params": params}
  noting = module.clone(noting=True)
  call = lambda v: noting.apply(v, *args, **kwargs, mutable=["params"])[1]["params"]
  # Compiled with the kernels as arguments, as the network itself is: eager sums can differ.
  noted = flatten_dict(jax.jit(lambda v: core.unfreeze(call(v)).get(KEY, {}))(variables))
  result = flatten_dict(params)
  for *path, name in noted:
    if name != "levels":
      continue
    result[*path, "kernel"] = noted[*path, "levels"]
    for scale in ("weight_step", *SIDES):
      if (*path, scale) in noted:
        result[KEY, *path, scale] = noted[*path, scale]
  return {**variables, "params": unflatten_dict(result)}


def plan_of(module: QuantizedModule, args: tuple, kwargs: dict) -> Plan:
  """Which layers of a call are quantized, and how.

  Args:
    module: the quantized module.
    args, kwargs: of its call.

  Raises:
    ValueError: a pattern of full_precision matches no layer, or a layer cannot be quantized.
  """
  # Not bound, so that traces of equal modules are one.
  found = traced(module.module.clone(parent=None, _deep_clone=True), args, kwargs)
  if KEY in found.params:
    raise ValueError(f"the module has parameters named {KEY!r}, which quantize needs: rename them.")
  left = _full_precision(module.full_precision, found)
  quantized = {path: layer for path, layer in found.layers.items() if path not in left}
  transposed = [path for path, layer in quantized.items() if layer.kind == "ConvTranspose"]
  if transposed:
    raise ValueError(
      f"{_listed(transposed)}: a ConvTranspose cannot be quantized; leave it as it is by naming it "
      "in full_precision."
    )
  if others := [path for path in found.others if path not in left]:
    warnings.warn(
      f"{_listed(others)}: full precision, since a kernel of these layers is not one of nn.Conv, "
      "nn.Dense or nn.DenseGeneral. Name them in full_precision to say so yourself."
    )
  if module.quantization.precision == Precision():
    return Plan({}, {})
  if not quantized:
    warnings.warn(
      "no layer is quantized: by default the first and the last one are left as they are."
    )
  return Plan({path: not layer.nonnegative for path, layer in quantized.items()}, found.points)


def _listed(paths) -> str:
  return ", ".join(map(named, paths))


def _full_precision(patterns, found: Traced) -> set[str]:
  """The paths that patterns match; by default the first and the last layer that are called."""
  paths = [*found.layers, *found.others]
  if patterns is None:
    return {*list(found.layers)[:1], *list(found.layers)[-1:]}
  for pattern in patterns:
    if not any(matches(path, pattern) for path in paths):
      raise ValueError(
        f"full_precision names {pattern!r}, and no layer has such a path: {nearest(pattern, paths)}"
      )
  return {path for path in paths if any(matches(path, pattern) for pattern in patterns)}


def _joined(variables: dict) -> dict:
  """Parameters with those of quantizers beside their layers' own."""
  if KEY not in variables.get("params", {}):
    return variables
  params = core.unfreeze(variables["params"])
  trained = params.pop(KEY)
  return {**variables, "params": _beside(params, trained)}


def _beside(params, trained):
  params = dict(params)
  for name, value in trained.items():
    if isinstance(value, Mapping):
      params[name] = _beside(params.get(name, {}), value)
    else:
      params[PREFIX + name] = value
  return params


def _apart(variables: dict) -> dict:
  """Undoes `_joined`."""
  if "params" not in variables:
    return variables
  params, trained = _split(core.unfreeze(variables["params"]))
  return {**variables, "params": {**params, **({KEY: trained} if trained else {})}}


def _split(tree):
  """A tree without the quantizers' parameters, and these alone."""
  params, trained = {}, {}
  for name, value in tree.items():
    if isinstance(value, Mapping):
      inner, of_inner = _split(value)
      # A point has no parameters but its quantizer's.
      if inner or not of_inner:
        params[name] = inner
      if of_inner:
        trained[name] = of_inner
    elif name.startswith(PREFIX):
      trained[name.removeprefix(PREFIX)] = value
    else:
      params[name] = value
  return params, trained
