"""The classifier of a trained network on other classes: its outputs in their order, or a new
one."""

from typing import NamedTuple

import numpy as np

from apprentice_jax.data import class_names

NAME = "head"  # of the classifier among a network's parameters
_SHOWN = 10  # classes of an order


class Head(NamedTuple):
  """What becomes of a trained network's classifier.

  Attributes:
    mode: "" it stays; "new": it is left out, for an initialisation to fill in; "match": its outputs
      are those of the same classes.
    theirs: names of its outputs, in their order; (): not known.
    ours: names of the classes that the outputs are to be of.
    field: place in the config, such as "config.teacher".
    trains: whether the network is to be trained, so that a new head makes sense.
    parameters: whether it has parameters, as a file of a program or of logits has not.
  """

  mode: str = ""
  theirs: tuple[str, ...] = ()
  ours: tuple[str, ...] = ()
  field: str = "config.student"
  trains: bool = True
  parameters: bool = True


KEPT = Head()


def placed(params: dict, head: Head) -> dict:
  """The parameters with the classifier that a dataset's classes take.

  Args:
    params: a network's, arrays by our names; those of the classifier are under `NAME`, outputs on
      the last axis.
    head: what becomes of it.

  Returns:
    The parameters; the arrays that stay are the same ones.

  Raises:
    ValueError: the classes do not fit; the message goes on from what holds the network.
  """
  rest = {name: module for name, module in params.items() if name != NAME}
  if head.mode == "new":
    if not head.trains:
      raise ValueError(
        f"would have a head that is not trained: {head.field}.head=new is for `train`"
      )
    return rest
  # Wrong names would match wrong outputs, so their number is checked before they are used.
  own = params.get(NAME, {})
  outputs = np.shape(own["kernel"])[-1] if "kernel" in own else 0
  if head.theirs and outputs and len(head.theirs) != outputs:
    raise ValueError(
      f"has {outputs:,} outputs, and {len(head.theirs):,} names of classes are given for them: see "
      f"{head.field}.classes"
    )
  if head.mode == "match":
    return {**rest, NAME: _matched(own, outputs, head)} if outputs else rest
  if head.theirs and head.ours and head.theirs != head.ours:
    theirs, ours = _orders(head.theirs, head.ours)
    why = class_names.difference(head.theirs, head.ours)
    # As in the form of Unicode: both lists look the same.
    alike = f" ({why})" if "only in" in why else ""
    raise ValueError(f"has the classes {theirs}, and the data have {ours}{alike}: {_advice(head)}")
  return params


def outputs(count: int, head: Head) -> np.ndarray:
  """Which of ``count`` outputs of a program, or columns of logits, are of the data's classes.

  Returns:
    int32 (classes,), in the order of the data's classes.

  Raises:
    ValueError: the classes do not fit; the message goes on from what gives the outputs.
  """
  if head.mode == "new":
    raise ValueError(
      f"holds no parameters, so its head cannot be trained anew: set --{head.field}.head=match, or "
      f"--{head.field}.head= for outputs in the order of the data's classes"
    )
  kernel = placed({NAME: {"kernel": np.arange(count)[None]}}, head)[NAME]["kernel"]
  if kernel.shape[1] != len(head.ours):
    raise ValueError(
      f"has {count:,} outputs, and the data have {len(head.ours):,} classes: say what the outputs "
      f"are called with --{head.field}.classes=FILE, and take those of the same classes with "
      f"--{head.field}.head=match"
    )
  return kernel[0].astype(np.int32)


def shapes(have: dict, count: int) -> dict:
  """The shapes of a network's variables, as they are with a new classifier of ``count`` outputs."""
  # Those of the last block's batch norm, the widest of all.
  features = max((shape[0] for name, shape in have.items() if name.endswith("/scale")), default=0)
  rest = {name: shape for name, shape in have.items() if not name.startswith(f"{NAME}/")}
  return {**rest, f"{NAME}/kernel": (features, count), f"{NAME}/bias": (count,)}


def _matched(own: dict, outputs: int, head: Head) -> dict:
  if not head.theirs:
    raise ValueError(
      f"does not say which classes its outputs are, as {head.field}.head=match needs it: give "
      f"--{head.field}.classes=FILE with one name a line, or {class_names.IMAGENET}"
    )
  try:
    rows = list(class_names.places(head.ours, head.theirs))
  except ValueError as error:
    new = f", or use --{head.field}.head=new" if head.trains and head.parameters else ""
    raise ValueError(
      f"{error}; name its classes as the data do with --{head.field}.classes=FILE{new}"
    ) from None
  per_output = lambda array: np.ndim(array) and np.shape(array)[-1] == outputs
  return {name: array[..., rows] if per_output(array) else array for name, array in own.items()}


def _advice(head: Head) -> str:
  if not head.trains:
    return f"`eval --model` with --{head.field}.head=match takes the outputs of the same classes"
  new = f" --{head.field}.head=new starts with a new head," if head.parameters else ""
  return (
    f"--{head.field}.head=match takes the outputs of the same classes,{new} and "
    f"--{head.field}.classes=FILE says what its classes are called here"
  )


def _orders(*lists) -> list[str]:
  """Different lists of names as text; of long ones a part in which they differ."""
  first = next((i for i, names in enumerate(zip(*lists)) if len(set(names)) > 1), 0)
  first = first if max(map(len, lists)) > _SHOWN else 0
  part = lambda names: ", ".join(names[first : first + _SHOWN])
  return [
    f"{'..., ' if first else ''}{part(names)}{', ...' if len(names) > first + _SHOWN else ''}"
    for names in lists
  ]
