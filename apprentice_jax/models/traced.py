"""The layers of a plain Flax module, in the order of their calls, from a trace without numbers."""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import core
from flax.core import meta
from jax.ad_checkpoint import checkpoint_name

from apprentice_jax.models.intercept import Interceptor, kind
from apprentice_jax.models.signs import marks

_MARK = "apprentice_jax input "


class Layer(NamedTuple):
  """A convolution or dense layer.

  Attributes:
    path: such as "block1/conv".
    kind: its class's name: "Conv", "Dense", "DenseGeneral" or "ConvTranspose".
    kernel: the kernel's shape in the tree of parameters.
    stacked: its first axes that a loop has added, one kernel for each turn.
    channels: output channels with weights of their own.
    output: the shape of its result, batch included.
    nonnegative: whether the trace shows that it reads no value below zero.
    macs: multiplications of all its calls.
  """

  path: str
  kind: str
  kernel: tuple[int, ...]
  stacked: int
  channels: int
  output: tuple[int, ...]
  nonnegative: bool
  macs: int


class Traced(NamedTuple):
  """What a trace shows of a module.

  Attributes:
    layers: by their path, in the order of their first calls.
    points: of each `activation`, by its path, whether its grid has to be signed.
    params: the tree of shapes of the parameters.
    others: paths of kernels that belong to no such layer.
  """

  layers: dict[str, Layer]
  points: dict[str, bool]
  params: Any
  others: tuple[str, ...]


def traced(module: nn.Module, args: tuple, kwargs: dict) -> Traced:
  """Traces a call of a module that has no variables yet.

  Args:
    module: of Flax Linen.
    args, kwargs: of its call; arrays count by shape and dtype alone.
  """
  leaves, tree = jax.tree.flatten((args, kwargs))
  is_array = [hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves]
  leaves = tuple(
    jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if array else leaf
    for leaf, array in zip(leaves, is_array)
  )
  try:
    return _cached(module, tree, leaves, tuple(is_array))
  # A field of the module, or an argument, that Python cannot hash.
  except TypeError as error:
    if "unhashable" not in str(error):
      raise
    return _traced(module, tree, leaves, tuple(is_array))


def _traced(module, tree, leaves, is_array) -> Traced:
  arrays = [leaf for leaf, array in zip(leaves, is_array) if array]

  def call(variables, *arrays, recording):
    rest = iter(arrays)
    filled = [next(rest) if array else leaf for leaf, array in zip(leaves, is_array)]
    args, kwargs = jax.tree.unflatten(tree, filled)
    run = lambda scope: module.clone(parent=scope, _deep_clone=True)(*args, **kwargs)
    # As in `init`: nothing waits for other replicas.
    flags = {"initializing": True}
    apply = core.apply(run, mutable=core.DenyList("intermediates"), flags=flags)
    with recording.active():
      return apply(variables, rngs={"params": jax.random.key(0)})[1]

  # Of the second trace variables are arguments: training changes what `init` made them.
  shapes = jax.eval_shape(functools.partial(call, {}, recording=_Recording()), *arrays)
  recording = _Recording()
  jaxpr = jax.make_jaxpr(functools.partial(call, recording=recording))(shapes, *arrays)
  found = marks(jaxpr)
  params = meta.unbox(core.unfreeze(shapes)).get("params", {})
  return recording.result(found, params)


_cached = functools.lru_cache(maxsize=64)(_traced)


class _Call(NamedTuple):
  path: str
  kind: str
  kernel: tuple[int, ...]
  features: int
  read: tuple[int, ...]
  output: tuple[int, ...]


class _Recording(Interceptor):
  """Notes every call of a layer, and marks what the layer reads."""

  def __init__(self):
    super().__init__()
    self._calls: list[_Call] = []
    self._points: dict[str, bool | None] = {}

  def layer(self, next_fun, module, inputs):
    at = len(self._calls)
    self._calls.append(None)
    y = next_fun(checkpoint_name(jnp.asarray(inputs), f"{_MARK}{at}"))
    kernel = jnp.shape(meta.unbox(module.get_variable("params", "kernel")))
    features = module.features if isinstance(module, nn.DenseGeneral) else kernel[-1]
    self._calls[at] = _Call(
      self.path(module),
      kind(module).__name__,
      kernel,
      int(np.prod(features)),
      jnp.shape(inputs),
      y.shape,
    )
    return y

  def point(self, x, signed, relu):
    module, name = self.here()
    path = "/".join(filter(None, (self.path(module), name)))
    self._points[path] = signed
    return checkpoint_name(nn.relu(x) if relu else x, f"{_MARK}{path}")

  def result(self, found, params) -> Traced:
    layers, sizes = {}, _kernels(params)
    for at, call in enumerate(self._calls):
      # Flax traces a loop's body more than once, and the program has one of them.
      if (mark := found.get(f"{_MARK}{at}")) is None:
        continue
      times = mark.elements / max(math.prod(call.read), 1)
      sums = math.prod(call.kernel) // max(call.features, 1)
      macs = round(times * math.prod(call.output) * sums)
      if call.kind == "ConvTranspose":
        macs = round(times * math.prod(call.read) * math.prod(call.kernel) / call.kernel[-2])
      kernel = sizes[call.path]
      layer = Layer(
        call.path,
        call.kind,
        kernel,
        len(kernel) - len(call.kernel),
        math.prod(kernel) // max(sums, 1),
        call.output,
        mark.nonnegative,
        macs,
      )
      if (before := layers.get(call.path)) is not None:
        layer = before._replace(
          nonnegative=before.nonnegative and layer.nonnegative, macs=before.macs + macs
        )
      layers[call.path] = layer
    points = {
      path: not found[_MARK + path].nonnegative if signed is None else signed
      for path, signed in self._points.items()
      if _MARK + path in found
    }
    others = tuple(path for path in sizes if path not in layers)
    return Traced(layers, points, params, others)


def _kernels(params) -> dict[str, tuple[int, ...]]:
  """The shapes of all kernels, by the path of their layer."""
  found = jax.tree_util.tree_leaves_with_path(params)
  names = [(tuple(str(getattr(k, "key", k)) for k in path), leaf.shape) for path, leaf in found]
  return {"/".join(path[:-1]): shape for path, shape in names if path[-1] == "kernel"}
