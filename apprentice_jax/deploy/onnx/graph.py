"""An ONNX graph under way: nodes, constants, and weights in their packed form.

Levels of 1 to 4 bits are held in bytes, several to each, as `bits` packs them. Cast, Gather and
Reshape look every byte up in a table of its levels. ONNX Runtime does this once, when it loads the
file. The table may hold other numbers than the levels, such as the positive ones alone.
"""

import collections
import functools
from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from apprentice_jax.deploy import bits
from apprentice_jax.deploy.network import Weights

# By form, an operator set and the IR version of its ONNX release. ONNX Runtime 1.12 and later read
# set 17. The fast form is of set 19, which ONNX Runtime 1.15 and later read: ONNX's own evaluator
# has no older DequantizeLinear.
OPSETS = {"exact": (17, 8), "fast": (19, 9)}
ZERO = 128  # what stands for 0 where signed levels are held as uint8, which every kernel takes
PACKINGS = ("bits", "base3")
_TYPES = {
  np.dtype(t): helper.np_dtype_to_tensor_dtype(np.dtype(t))
  for t in (np.float32, np.int32, np.int8, np.uint8)
}


@functools.cache
def _defaults(op: str, opset: int) -> dict:
  """The attributes that an operator has where a node names none: not every reader knows them."""
  attributes = onnx.defs.get_schema(op, opset).attributes.values()
  values = {a.name: a.default_value for a in attributes if a.default_value.name}
  return {name: helper.get_attribute_value(value) for name, value in values.items()}


def _info(values) -> list[onnx.ValueInfoProto]:
  info = helper.make_tensor_value_info
  return [info(name, _TYPES[np.dtype(dtype)], shape) for name, dtype, shape in values]


class Graph:
  """Collects nodes and constants.

  Args:
    packing: of ternary weights, "bits" or "base3".
    form: one of OPSETS, by which the operators are chosen.
  """

  def __init__(self, packing: str = "bits", form: str = "exact"):
    if packing not in PACKINGS:
      raise ValueError(f"packing {packing!r} does not exist: choose one of {', '.join(PACKINGS)}.")
    self.packing, self._opset, self._ir_version = packing, *OPSETS[form]
    self._nodes, self._constants, self._taken, self._named = [], {}, set(), collections.Counter()

  def add(self, op: str, *inputs, name: str = "", **attributes) -> str:
    """Adds a node of one result and gives its name; inputs are names, or arrays, which become
    constants."""
    if name and name in self._taken:
      raise ValueError(f"two results of the name {name}")
    self._taken.add(name)
    output = name or self._free(op.lower())
    names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
    attributes = _defaults(op, self._opset) | attributes
    self._nodes.append(helper.make_node(op, names, [output], name=output, **attributes))
    return output

  def cast(self, x: str, dtype, **name) -> str:
    return self.add("Cast", x, to=_TYPES[np.dtype(dtype)], **name)

  def constant(self, array) -> str:
    """The name of a constant; equal ones are held once."""
    array = np.asarray(array, order="C")
    key = (array.dtype.str, array.shape, array.tobytes())
    if key not in self._constants:
      self._constants[key] = numpy_helper.from_array(array, self._free("constant"))
    return self._constants[key].name

  def levels(self, weights: Weights, levels: np.ndarray, numbers: Callable | None = None) -> str:
    """Levels of any shape as a constant int8 tensor.

    Args:
      weights: whose levels they are, in whatever order.
      levels: within int8.
      numbers: int8 levels to the int8 numbers that the tensor is to hold in their place.
    """
    numbers = numbers or (lambda x: x)
    if weights.bits > 4:
      return self.constant(numbers(levels.astype(np.int8)))
    stored = Weights(levels, 4) if weights.bits == 3 else Weights(levels, weights.bits, weights.odd)
    packing = bits.packings(stored)[-1 if self.packing == bits.BASE3 else 0]
    each = 5 if packing == bits.BASE3 else 8 // stored.bits
    # Whatever a byte may hold, with the numbers that it stands for.
    codes = np.arange(3**5 if packing == bits.BASE3 else 256, dtype=np.uint8)
    table = numbers(bits.levels(codes, packing, (len(codes), each)).astype(np.int8))
    places = self.cast(self.constant(bits.pack(levels, packing)), np.int32)
    looked_up = self.add("Gather", table, places)
    # The last byte may stand for more numbers than there are.
    if levels.size % each:
      flat = self.add("Reshape", looked_up, np.array([-1]))
      looked_up = self.add("Slice", flat, np.array([0]), np.array([levels.size]))
    return self.add("Reshape", looked_up, np.array(levels.shape))

  def model(self, inputs, outputs, metadata: dict, **about) -> onnx.ModelProto:
    """The model, checked: its operators, and with ONNX's strict inference its shapes.

    Args:
      inputs, outputs: (name, dtype, shape) of each.
      metadata: strings.
      **about: what else the model says of itself: producer_name, domain, doc_string and the like.
    """
    constants = list(self._constants.values())
    graph = helper.make_graph(self._nodes, "student", _info(inputs), _info(outputs), constants)
    opset = helper.make_opsetid("", self._opset)
    about |= {"opset_imports": [opset], "ir_version": self._ir_version}
    model = helper.make_model(graph, **about)
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model

  def _free(self, kind: str) -> str:
    """A name that no node of a network can have: theirs begin with a letter, a digit or _."""
    self._named[kind] += 1
    return f".{kind}_{self._named[kind]}"
