"""Programs as graphs: their operations, in an order that follows from the results alone.

Names and numbers are left out, and so are four orders: of main's arguments, of what a loop carries,
of what a manual computation takes, and of operations, as far as it is free. A call stands for the
operations of its function. Listings of programs that differ in anything else differ.
"""

from jax.extend.mlir import ir
from jax.extend.mlir.dialects import sdy
from jax.interpreters import mlir

RETURNS = {"func.return", "stablehlo.return", "sdy.return"}
# Their operands go one by one with arguments and results, in any order.
LOOP, MANUAL = "stablehlo.while", "sdy.manual_computation"
# Attributes of single values, and of functions.
APART = {"arg_attrs", "res_attrs", "in_shardings", "out_shardings", "sym_visibility"}


def listing(text: str) -> list[str]:
  """A program's operations, each with its attributes, types and the places of its operands.

  Places count breadth first from the results of main. What no result needs comes last, sorted.
  """
  graph = Graph(ir.Module.parse(text, mlir.make_ir_context()))
  places, order = {0: 0}, [0]
  for node in order:
    for other in graph.operands[node]:
      if other not in places:
        places[other] = len(order)
        order.append(other)
  rest = [graph.line(node, places) for node in range(len(graph.labels)) if node not in places]
  lines = [graph.line(node, places) for node in order]
  return lines + sorted(f"needed by no result: {line}" for line in rest)


class Graph:
  """A node for each operation, region and argument; node 0 is main, and ends with its results.

  A node's operands are nodes. The first of an operation is the region that it is in.
  """

  def __init__(self, module):
    self.labels, self.operands = [], []
    operations = [view.operation for view in module.body.operations]
    functions = [op for op in operations if op.name == "func.func"]
    self.functions = {op.attributes["sym_name"].value: op.regions[0].blocks[0] for op in functions}
    main = next(op for op in functions if op.attributes["sym_visibility"].value == "public")
    types = main.attributes["function_type"].value
    self.add(" ".join([_label(module.operation), *_each(main, "res_attrs", types.results)]), [])
    kinds = _each(main, "arg_attrs", types.inputs)
    arguments = [self.add(f"argument {kind}", []) for kind in kinds]
    self.operands[0] += self.block(main.regions[0].blocks[0], arguments, {}, 0)
    self.operands[0] += [self.add(_label(op), []) for op in operations if op not in functions]

  def add(self, label: str, operands: list) -> int:
    self.labels.append(label)
    self.operands.append(operands)
    return len(self.labels) - 1

  def line(self, node: int, places: dict) -> str:
    operands = (str(places.get(other, self.labels[other])) for other in self.operands[node])
    return f"{self.labels[node]} ({', '.join(operands)})"

  def block(self, block, arguments: list, values: dict, region: int) -> list[int]:
    """Adds a block's operations; returns the nodes of what it returns."""
    values.update(zip(block.arguments, arguments, strict=True))
    for op in (view.operation for view in block.operations):
      operands = [values[operand] for operand in op.operands]
      if op.name in RETURNS:
        return operands
      if op.name == "func.call":
        called = self.functions[op.attributes["callee"].value]
        results = self.block(called, operands, {}, region)
      else:
        results = self.operation(op, operands, values, region)
      values.update(zip(op.results, results, strict=True))
    raise ValueError("a block without a return")

  def operation(self, op, operands: list, values: dict, region: int) -> list[int]:
    """Adds an operation with its regions; returns the nodes of its results."""
    matched, types = op.name in (LOOP, MANUAL), [value.type for value in op.results]
    if matched:
      node = self.add(_label(op), [region])
      kinds = _each(op, "in_shardings", [value.type for value in op.operands])
      arguments = [
        self.add(f"argument {kind}", [node, operand]) for kind, operand in zip(kinds, operands)
      ]
    else:
      node = self.add(f"{_label(op)} {' '.join(map(str, types))}", [region, *operands])
    for i, block in enumerate(inside.blocks[0] for inside in op.regions):
      inner = self.add("region", [node])
      self.operands[node].append(inner)
      if not matched:
        kinds = [f"{j} {value.type}" for j, value in enumerate(block.arguments)]
        arguments = [self.add(f"argument {kind}", [inner]) for kind in kinds]
      returned = self.block(block, arguments, values, inner)
      if not matched or (op.name == LOOP and i == 0):  # whether the loop goes on
        self.operands[inner] += returned
    if not matched:
      alone = len(types) == 1
      return [node] if alone else [self.add(f"result {i}", [node]) for i in range(len(types))]
    if op.name == LOOP:
      for argument, value in zip(arguments, returned):
        self.operands[argument].append(value)
      returned = arguments
    kinds = _each(op, "out_shardings", types)
    return [self.add(f"result {kind}", [node, value]) for kind, value in zip(kinds, returned)]


def _label(op) -> str:
  """An operation's name and attributes, but for those of single values."""
  attributes = (f"{name}={op.attributes[name]}" for name in op.attributes if name not in APART)
  return " ".join([op.name, *attributes])


def _each(op, name: str, types) -> list[str]:
  """Types of values, each with its part of an attribute."""
  parts = [""] * len(types)
  if name in op.attributes:
    parts = op.attributes[name]
    parts = sdy.TensorShardingPerValueAttr(parts).shardings if "shardings" in name else parts
  return [f"{kind} {part}" for kind, part in zip(types, parts, strict=True)]
