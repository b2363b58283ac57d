"""A user's own Flax Linen network in the place of a `ResNet`: found by name, checked, and called.

The name is ``package.module:function``. The function is called as ``function(num_classes)``, with
those of the keywords `OPTIONS` that it takes, and returns a Linen module. The module is called as
``module.apply(variables, images, train=...)`` and returns logits of shape (batch, num_classes).
"""

import dataclasses
import functools
import hashlib
import importlib
import inspect
import math
import os
import sys
from collections.abc import Callable
from typing import Any

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import meta

from apprentice_jax.errors import nearest
from apprentice_jax.models.levels import encode_weights
from apprentice_jax.models.precision import Precision, Quantization
from apprentice_jax.models.traced import Layer, traced
from apprentice_jax.models.wrap import KEY, QuantizedModule, plan_of, quantize

OPTIONS = ("width", "dtype", "norm_axis")  # keywords that a function may take
_WITHOUT = {  # what leaves each at the value that every function can do without
  "width": "--config.student.width=1.0 --config.teacher.width=1.0",
  "dtype": "--config.dtype=float32",
  "norm_axis": "--config.sync_batch_norm=False",
}
ENDS = Quantization().full_precision  # of our ResNets; here they mean the first and the last layer
_COLLECTIONS = ("params", "batch_stats")  # that a network may keep between steps
_NOTES = ("health", "accumulators", "intermediates")  # that last for one call


class BrokenContract(ValueError):
  """A user's network is none that can be trained; the message goes on from its name."""


def random_streams(key: jax.Array) -> dict[str, jax.Array]:
  """The random numbers of one training step, by the names under which modules draw them.

  Flax takes "params" where a module draws under another name than "dropout".
  """
  return {"dropout": key, "params": jax.random.fold_in(key, 1)}


def is_imported(name: str) -> bool:
  """Whether an architecture's name is that of a user's function."""
  return ":" in name


def function(name: str) -> Callable:
  """Imports the function of this name; the current folder counts as a place of modules.

  Raises:
    BrokenContract: there is none; the message goes on from the name.
  """
  place, _, attribute = name.partition(":")
  if not all(part.isidentifier() for part in (*place.split("."), attribute)):
    raise BrokenContract("is not of the form package.module:function.")
  if os.getcwd() not in sys.path:
    sys.path.insert(0, os.getcwd())
  try:
    module = importlib.import_module(place)
  except Exception as error:
    raise BrokenContract(
      f"cannot be imported ({type(error).__name__}: {error}): start the command in the folder of "
      f"{place.split('.')[0]}, or put the folder on PYTHONPATH."
    ) from error
  found = getattr(module, attribute, None)
  if found is None:
    raise BrokenContract(f"names no function of {place}: {nearest(attribute, _functions(module))}")
  if not callable(found):
    raise BrokenContract(f"is no function, but {found!r:.60}.")
  return found


def _functions(module) -> list[str]:
  """Names of the functions and classes that a module defines."""
  own = lambda value: callable(value) and getattr(value, "__module__", "") == module.__name__
  return [name for name, value in vars(module).items() if own(value)]


def imported_network(
  name: str,
  num_classes: int,
  quantization: Quantization,
  *,
  width: float = 1.0,
  dtype: Any = jnp.float32,
  norm_axis: str | None = None,
) -> "ImportedNetwork":
  """Makes the network of a user's function.

  Args:
    name: such as "my_package.my_module:my_network".
    num_classes: outputs.
    quantization: precision and quantizers. `ENDS` stands for the first and the last layer.
    width, dtype, norm_axis: see `residual.resnet`; the function takes the keyword if the value is
      not the default. A width of 1.0 leaves a default that is a number of channels.

  Raises:
    BrokenContract: no such function, or it is none as asked for; the message goes on from the name.
  """
  build = function(name)
  if quantization.residual:
    raise BrokenContract(
      "cannot take quantization.residual: put apprentice_jax.activation before the additions."
    )
  given = {"width": width, "dtype": dtype, "norm_axis": norm_axis}
  takes = inspect.signature(build).parameters
  named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
  names = {name for name, parameter in takes.items() if parameter.kind in named}
  if any(parameter.kind == inspect.Parameter.VAR_KEYWORD for parameter in takes.values()):
    names |= {*OPTIONS}
  for option, usual in zip(OPTIONS, (1.0, jnp.float32, None)):
    if given[option] != usual and option not in names:
      raise BrokenContract(
        f"takes no {option}, and the config's is {_shown(given[option])}: give the function this "
        f"keyword, or set {_WITHOUT[option]}."
      )
  if width == 1.0 and not _takes_a_factor(takes.get("width")):
    names.discard("width")
  options = tuple((option, given[option]) for option in OPTIONS if option in names)
  result = ImportedNetwork(name, build, num_classes, quantization, options)
  # Built now, so that a broken contract is known now.
  _ = result.module
  return result


def _takes_a_factor(parameter: inspect.Parameter | None) -> bool:
  """Whether a function's ``width`` is the config's factor. A whole number, such as 24, is one of
  channels, and ``**kwargs`` may hand a factor on to such a one."""
  if parameter is None:
    return False
  default = parameter.default
  return default is inspect.Parameter.empty or not isinstance(default, int) or default == 1


def _shown(value) -> str:
  return getattr(value, "__name__", str(value))


@dataclasses.dataclass(frozen=True)
class ImportedNetwork:
  """A user's network, called as a `ResNet` is.

  Attributes:
    name: of the function.
    function: that makes the module.
    num_classes: outputs.
    quantization: precision and quantizers.
    options: keywords of the function, as pairs.
  """

  name: str
  function: Callable = dataclasses.field(repr=False)  # its address differs between processes
  num_classes: int
  quantization: Quantization
  options: tuple[tuple[str, Any], ...] = ()

  @property
  def dtype(self):
    """Of the images that the network is given."""
    return dict(self.options).get("dtype", jnp.float32)

  @functools.cached_property
  def module(self) -> nn.Module:
    """The module, at the precision; not bound.

    Raises:
      BrokenContract: the function returns another thing; the message goes on from its name.
    """
    try:
      plain = self.function(self.num_classes, **dict(self.options))
    except Exception as error:
      raise BrokenContract(
        f"fails when it is called with {self.num_classes} ({type(error).__name__}: {error})."
      ) from error
    if not isinstance(plain, nn.Module):
      raise BrokenContract(f"returns {plain!r:.60}, and has to return a module of flax.linen.")
    if isinstance(plain, QuantizedModule):
      raise BrokenContract(
        "returns a quantized module: return the plain one, config.precision counts."
      )
    if "train" not in inspect.signature(type(plain).__call__).parameters:
      raise BrokenContract(
        f"returns a {type(plain).__name__} whose __call__ takes no `train`: it is called as "
        "module.apply(variables, images, train=True)."
      )
    q = self.quantization
    if q.precision == Precision():
      return plain
    left = None if q.full_precision == ENDS else q.full_precision
    return quantize(
      plain,
      q.precision,
      full_precision=left,
      weights=q.weights,
      activations=q.activations,
      per_channel=q.per_channel,
      wrpn_scale=q.wrpn_scale,
    )

  def apply(self, variables, images, train: bool, *, mutable=False, rngs=None):
    """Normalised images (batch, height, width, channels) -> float32 logits (batch, num_classes).

    Returns:
      As `nn.Module.apply`: the logits, and the changed collections if any are mutable.

    Raises:
      BrokenContract: its logits have another shape, or it needs random numbers; the message goes on
        from the function's name.
    """
    try:
      result = self.module.apply(variables, images, train=train, mutable=mutable, rngs=rngs)
    except flax.errors.InvalidRngError as error:
      raise BrokenContract(
        "draws random numbers where it does not train: let its dropout depend on `train`, as in "
        "nn.Dropout(0.1, deterministic=not train)."
      ) from error
    logits, *changed = result if mutable is not False else (result,)
    shape = getattr(logits, "shape", None)
    # The batch of an export is a symbol.
    if shape != (images.shape[0], self.num_classes):
      what = f"an array of shape {shape}" if shape is not None else repr(type(logits).__name__)
      wanted = (images.shape[0], self.num_classes)
      raise BrokenContract(
        f"gives {what} for {self.num_classes} classes: it has to give logits of shape {wanted}."
      )
    logits = logits.astype(jnp.float32)
    return (logits, *changed) if changed else logits

  def init(self, key, images, train: bool) -> dict:
    """The network's variables, of every collection that a training step may read.

    Raises:
      BrokenContract: see `apply`; or it keeps variables of another collection.
    """
    rngs = {"params": key}
    _, variables = self.apply({}, images, train, mutable=nn.DenyList("intermediates"), rngs=rngs)
    if others := [name for name in variables if name not in (*_COLLECTIONS, *_NOTES)]:
      raise BrokenContract(
        f"keeps variables in {', '.join(others)}: a network may keep params and batch_stats."
      )
    return {"batch_stats": {}, **variables}

  def check(self, image_shape):
    """Traces a training step's call, whose sentences come before long work.

    Raises:
      BrokenContract: see `init`.
      ValueError: a layer cannot be quantized, or a pattern of full_precision matches none.
    """
    images = jax.ShapeDtypeStruct((2, *image_shape), self.dtype)
    variables = jax.eval_shape(lambda key, x: self.init(key, x, True), jax.random.key(0), images)
    kept = {name: variables[name] for name in _COLLECTIONS}
    rngs = random_streams(jax.random.key(0))
    train = lambda v, x: self.apply(v, x, True, mutable=["batch_stats"], rngs=rngs)
    jax.eval_shape(train, kept, images)
    # Without training there are no random numbers.
    jax.eval_shape(lambda v, x: self.apply(v, x, False), kept, images)
    self.quantized(image_shape)

  def initial_statistics(self, key, images) -> Any:
    """Batch statistics before any batch."""
    variables = self.module.init({"params": key}, images, train=True)
    return variables.get("batch_stats", {})

  def clone(self, *, norm_axis: Any = ..., paired_sums: bool = False) -> "ImportedNetwork":
    """The network with another axis for the moments of batch norms, where it takes one.

    ``paired_sums`` is our own batch norm's affair.
    """
    options = dict(self.options)
    if norm_axis is ... or options.get("norm_axis", norm_axis) == norm_axis:
      return self
    return dataclasses.replace(self, options=tuple({**options, "norm_axis": norm_axis}.items()))

  def layers(self, image_shape) -> dict[str, Layer]:
    """The convolutions and dense layers, by path, in the order of their first calls."""
    images = jax.ShapeDtypeStruct((1, *image_shape), self.dtype)
    plain = self.module.module if isinstance(self.module, QuantizedModule) else self.module
    return traced(plain.clone(parent=None, _deep_clone=True), (images,), {"train": True}).layers

  def quantized(self, image_shape) -> tuple[str, ...]:
    """The paths of the layers that are quantized.

    Raises:
      ValueError: a layer cannot be quantized, or a pattern of full_precision matches none.
    """
    if not isinstance(self.module, QuantizedModule):
      return ()
    images = jax.ShapeDtypeStruct((1, *image_shape), self.dtype)
    return tuple(plan_of(self.module, (images,), {"train": True}).layers)

  def weight_levels(self, params, image_shape) -> dict[str, tuple[Any, Any]]:
    """Each layer of quantized weights: its quantizer's parameters, and its levels as
    `levels.encode_weights` has them."""
    if self.quantization.precision.weights == Precision().weights:
      return {}
    layers, params, result = self.layers(image_shape), meta.unbox(params), {}
    for path in self.quantized(image_shape):
      kernel = _at(params, path)["kernel"]
      trained = _at(params.get(KEY, {}), path)
      encode = lambda kernel, trained: encode_weights(self.quantization, kernel, trained).levels
      # A loop's kernels lie in one array, the turns first.
      turns = math.prod(kernel.shape[: layers[path].stacked])
      kernel = kernel.reshape(turns, -1, layers[path].channels // turns)
      each = jax.tree.map(lambda a: a.reshape(turns, *a.shape[layers[path].stacked :]), trained)
      result[path] = trained, jax.vmap(encode)(kernel, each)
    return result

  def fingerprint(self, image_shape) -> str:
    """A hash of the evaluation program, which changes with the user's code."""
    variables = jax.eval_shape(
      lambda key: self.init(key, jnp.zeros((1, *image_shape), self.dtype), False),
      jax.random.key(0),
    )
    kept = {name: variables.get(name, {}) for name in _COLLECTIONS}
    images = jax.ShapeDtypeStruct((1, *image_shape), self.dtype)
    lowered = jax.jit(lambda kept, images: self.apply(kept, images, False)).lower(kept, images)
    return hashlib.sha256(lowered.as_text().encode()).hexdigest()


def _at(tree, path: str):
  for name in filter(None, path.split("/")):
    tree = tree.get(name, {})
  return tree
