"""How the layers of a plain Flax module compute on quantized weights and inputs.

An interceptor of `flax.linen.intercept_methods` meets every call of `nn.Conv`, `nn.Dense` and
`nn.DenseGeneral`. It gives the layer levels in place of its input, and its own product in place of
``conv_general_dilated`` or ``dot_general``. The parameters of quantizers lie beside the layer's
own, under names that begin with `PREFIX`. Every lifted transformation of flax then treats them as
it treats the kernel.
"""

import contextlib
import contextvars
import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import tracers
from jax.ad_checkpoint import checkpoint_name

from apprentice_jax.models import levels, magnitudes
from apprentice_jax.models.precision import FULL, Quantization
from apprentice_jax.models.product import Product, own_product
from apprentice_jax.quantizers import Quantized, decode, encode
from apprentice_jax.quantizers.quantized import split_sides

Array = jax.Array

PREFIX = "quantization."
LAYERS = (nn.Conv, nn.Dense, nn.DenseGeneral, nn.ConvTranspose)
_ACTIVE: contextvars.ContextVar["Interceptor | None"] = contextvars.ContextVar(
  "interceptor", default=None
)


def activation(x: Array, *, signed: bool | None = None, relu: bool = False) -> Array:
  """A quantization point of a plain module's own; what the layers behind it read is quantized once.

  Outside of `quantize` it returns x. Inside, it returns the values on the grid. A layer that reads
  the returned array itself multiplies its levels.

  Args:
    x: float array, (batch, ...).
    signed: whether the grid has levels below zero; None: unless the trace shows that x has no value
      below zero, as behind a ReLU.
    relu: take ``nn.relu(x)`` in the place of x. Inside of `quantize` the grid's clip at 0 is this
      ReLU, so that the backward pass has one mask and not two.

  Returns:
    An array of x's shape and dtype.
  """
  if signed and relu:
    raise ValueError("activation: no value behind a ReLU is below zero; leave out signed or relu.")
  interceptor = _ACTIVE.get()
  if interceptor is None:
    return nn.relu(x) if relu else x
  return interceptor.point(x, signed, relu)


def kind(module: nn.Module) -> type | None:
  """The class of `LAYERS` that a module is of, or None."""
  # The outer half of `nn.remat(nn.Dense)` and its like; the inner half is the layer.
  if type(module).__module__ == "flax.linen.transforms":
    return None
  return next((layer for layer in LAYERS if isinstance(module, layer)), None)


def named(path: str) -> str:
  return path or "the module itself"


def _keeps_programs(method) -> bool:
  """Whether a method is of `nn.jit`, by the names of the functions that flax wraps it in."""
  while method is not None:
    if "lift_transform_cached" in getattr(getattr(method, "__code__", None), "co_qualname", ""):
      return True
    method = getattr(method, "__wrapped__", None)
  return False


class Interceptor:
  """Follows the calls of a module and of those inside it.

  Attributes:
    depth: the length of the module's own path, which paths of layers leave out.
  """

  def __init__(self, depth: int = 0):
    self.depth = depth
    self._frames = []

  def __call__(self, next_fun, args, kwargs, context):
    module = context.module
    # A method that calls another of the same module goes on counting its points.
    enters = not self._frames or self._frames[-1][0] is not module
    if enters:
      if _keeps_programs(getattr(type(module), context.method_name, None)):
        raise ValueError(
          f"{named(self.path(module))} is of nn.jit, which keeps the program of the plain module: "
          "take nn.jit out of the module, and jax.jit the whole."
        )
      self._frames.append((module, context.method_name, itertools.count()))
    try:
      if enters and context.method_name == "__call__" and kind(module):
        return self.layer(next_fun, module, *args, **kwargs)
      return next_fun(*args, **kwargs)
    finally:
      if enters:
        self._frames.pop()

  @contextlib.contextmanager
  def active(self):
    """Within it, modules and `activation` are this interceptor's."""
    if _ACTIVE.get() is not None:
      raise ValueError(
        "a module of apprentice_jax.quantize lies inside another one: quantize the outer one alone."
      )
    token = _ACTIVE.set(self)
    try:
      with nn.intercept_methods(self):
        yield self
    finally:
      _ACTIVE.reset(token)

  def path(self, module: nn.Module) -> str:
    return "/".join(module.path[self.depth :])

  def here(self) -> tuple[nn.Module, str]:
    """The module that is at work, and the name of its next quantization point."""
    module, method, count = self._frames[-1]
    prefix = "" if method == "__call__" else f"{method.strip('_')}_"
    return module, f"{prefix}activation_{next(count)}"

  def layer(self, next_fun, module, inputs):
    raise NotImplementedError

  def point(self, x, signed, relu):
    raise NotImplementedError


class Plan(NamedTuple):
  """Whether a layer's input, or a point, has a signed grid, by its path.

  Attributes:
    layers: of the quantized layers; the others stay in full precision.
    points: of each `activation`.
  """

  layers: dict[str, bool]
  points: dict[str, bool]


class Quantizing(Interceptor):
  """Quantizes a module's layers.

  Attributes:
    quantization: the quantizers, and their bits.
    plan: whether the inputs of layers, and points, have a signed grid, by path. A layer that is not
      in it stays in full precision.
    initialised: whether all parameters of quantizers exist.
    noting: whether layers note the levels and scale of their kernels, for `wrap.with_levels`.
    met: the layers that were called, in order.
  """

  def __init__(
    self, quantization: Quantization, plan: Plan, initialised: bool, noting: bool, depth: int
  ):
    super().__init__(depth)
    self.quantization = quantization
    self.plan = plan
    self.initialised = initialised
    self.noting = noting
    self.met = []
    self._encoded = []
    self._started = {}

  def layer(self, next_fun, module, inputs):
    path = self.path(module)
    quantized = path in self.plan.layers
    # Beside quantized layers a convolution in full precision is ours, too, the faster one on CPU.
    ours = self.plan.layers and kind(module) is nn.Conv and not own_product(module)
    if not quantized and not ours:
      return next_fun(inputs)
    x = inputs
    if quantized:
      self.met.append(path)
      x = self._input(module, path, inputs)
    product = Product(
      module,
      named(path),
      self.quantization if quantized else Quantization(),
      x,
      functools.partial(self._weight, module, path) if quantized else lambda kernel, _: kernel,
      functools.partial(self.param, module, path),
      # What `init` returns is what an optimizer and a checkpoint hold.
      (lambda *_: False) if module.is_initializing() else module.sow,
    )
    with product.in_place():
      y = next_fun(x.levels if isinstance(x, Quantized) else x)
    if product.dtype is None and quantized:
      raise ValueError(
        f"{named(path)} is a {kind(module).__name__} that computes in another way: name it in "
        "full_precision."
      )
    return checkpoint_name(y.astype(product.dtype or y.dtype), levels.CONVOLVED)

  def point(self, x, signed, relu):
    module, name = self.here()
    path = "/".join(filter(None, (self.path(module), name)))
    if self.quantization.precision.activations == FULL:
      return nn.relu(x) if relu else x
    scope = module.scope.push(name, reuse=True)
    quantized = self._encode(scope, path, x, self.plan.points[path])
    x = decode(quantized, x.dtype)
    self._encoded.append((x, tracers.current_trace(), quantized))
    return x

  def _input(self, module, path, x):
    if self.quantization.precision.activations == FULL:
      return x
    # By identity: what two layers read is one array to Python. A loop's body has values of its own.
    now = tracers.current_trace()
    for array, trace, quantized in self._encoded:
      if array is x and trace == now:
        return quantized
    quantized = self._encode(module, path, x, self.plan.layers[path])
    self._encoded.append((x, now, quantized))
    return quantized

  def _encode(self, scope, path, x, signed):
    bits = self.quantization.precision.activations
    if signed and bits == 1:
      raise ValueError(
        f"{path} reads values below zero, and 1 bit has no sign: put a ReLU before it, name it in "
        "full_precision, or use 2 bits."
      )
    param = functools.partial(self.param, scope, path)
    quantized = levels.encode_activation(self.quantization, x, signed, param)
    if not self._frames[-1][0].is_initializing():
      levels.note_health(scope, quantized.levels, bits, signed)
    return quantized

  def _weight(self, module, path, kernel, read):
    """A layer's kernel; or its levels and scale, where the parameters have them in its place."""
    q, ttq = self.quantization, self.quantization.weights == "ttq"
    names = [PREFIX + name for name in (magnitudes.SIDES if ttq else ["weight_step"])]
    if not jnp.issubdtype(kernel.dtype, jnp.floating):
      scales = tuple(module.get_variable("params", name) for name in names)
      return Quantized(split_sides(kernel), scales) if ttq else Quantized(kernel, *scales)
    # By identity: a mask of ones makes an array of the same values, and would multiply levels, too.
    own = self.noting and module.get_variable("params", "kernel") is read
    # Inside a lifted function that keeps its parameters, such as nn.WeightNorm, nothing is noted.
    mutable = module.is_mutable_collection("params")
    if own and mutable and read.dtype == jnp.float32 and q.precision.weights != FULL:
      params = levels.quantizer_params(q, kernel, functools.partial(self.param, module, path))
      found = levels.encode_weights(q, kernel, params, encode)
      module.put_variable("params", PREFIX + "levels", found.levels.reshape(read.shape))
      for name, scale in zip(names, jax.tree.leaves(found.scale)):
        # A second call of the layer finds a trained scale as it was.
        like = module.get_variable("params", name, scale.reshape(-1))
        module.put_variable("params", name, scale.reshape(like.shape))
    return kernel

  def param(self, scope, path: str, name: str, start: Callable[[], Array]) -> Array:
    """A quantizer's parameter; made of the values at hand where a plain tree of parameters has
    none."""
    where = f"quantization/{path}/{name}".replace("//", "/")
    if scope.has_variable("params", PREFIX + name):
      value = scope.get_variable("params", PREFIX + name)
      shape = jax.eval_shape(start).shape
      if jnp.shape(value) != shape:
        raise ValueError(
          f"params hold {where} of shape {jnp.shape(value)}, and this precision has {shape}: drop "
          "the key 'quantization' to start from a batch."
        )
      return value
    if self.initialised:
      raise ValueError(
        f"params have a key 'quantization' without {where}: they are of another precision, of "
        "other full_precision layers, or of other arguments. Drop the key to start from a batch."
      )
    # Where the caller keeps no parameters, a second call of the layer has those of the first.
    value, trace = self._started.get(where, (None, None))
    if trace != tracers.current_trace():
      value = jax.lax.stop_gradient(start())
      self._started[where] = value, tracers.current_trace()
    if scope.is_mutable_collection("params"):
      scope.put_variable("params", PREFIX + name, value)
    return value
