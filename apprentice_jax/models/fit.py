"""Whether trained variables fit a network, and which network they are of if not."""

import collections
import re
from collections.abc import Callable

import jax
import numpy as np

from apprentice_jax.models.imported import ImportedNetwork
from apprentice_jax.models.residual import NAMES, ResNet, resnet, variable_shapes
from apprentice_jax.models.wrap import KEY

# What every network has; the rest are parameters of quantizers.
ESSENTIAL = ("kernel", "scale", "bias", "mean", "var")
_SHOWN = 4  # differences
_WORDS = {
  "name": "a {}, not a {}",
  "width": "of width {}, not {}",
  "shortcut": "with {} shortcuts, not {}",
  "classes": "for {} classes, not {}",
  "channels": "for {}-channel images, not {}",
}
Shapes = dict[str, tuple[int, ...]]


def shapes(params, batch_stats) -> Shapes:
  """The shape of each variable, by names such as "stage1_block1/conv1/kernel"."""
  return {
    "/".join(k.key for k in path): np.shape(array)
    for tree in (params, batch_stats)
    for path, array in jax.tree_util.tree_leaves_with_path(tree)
  }


def expected(network: ResNet | ImportedNetwork, image_shape: tuple[int, int, int]) -> Shapes:
  """The shapes that a network's variables have."""
  variables = variable_shapes(network, image_shape)
  return shapes(variables["params"], variables["batch_stats"])


def mismatch(
  have: Shapes,
  network: ResNet | ImportedNetwork,
  image_shape,
  which: str,
  complete: bool = False,
  spelled: Callable | None = None,
) -> str:
  """Why variables do not fit; "" if they do.

  Args:
    have: the shapes of the variables.
    network: what they are for; where it has quantizer parameters that they do not, these may be
      left out.
    image_shape: (height, width, channels).
    which: "teacher" or "student", the network's place in the config.
    complete: nothing may be left out.
    spelled: gives, of a name and a shape of ours, those by which the source of the variables knows
      them.

  Returns:
    What goes on from the name of the file in a sentence: it lists what differs, and says which
      network it is
    and how the config asks for that, where this can be told.
  """
  spelled = spelled or (lambda name, shape: (name, shape))
  want, wrong = expected(network, tuple(image_shape)), []
  for name, shape in want.items():
    if have.get(name) != shape and (name in have or _is_needed(name, network)):
      theirs, shape = spelled(name, shape)
      is_now = spelled(name, have[name])[1] if name in have else "missing"
      wrong.append(f"{theirs} is {is_now}, not {shape}")
  # What is left over tells another network just as well, such as a deeper one.
  wrong += [
    f"{spelled(name, shape)[0]} is not in the network"
    for name, shape in have.items()
    if name not in want
  ]
  if wrong:
    shown = "; ".join(wrong[:_SHOWN]) + (
      f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    )
    # A list of shapes helps few: where the network has a name, the sentence says the name.
    found, what, flags = recognise(have), "", ""
    if found:
      channels = have["stem/kernel"][2], want["stem/kernel"][2]
      what, flags = _difference(found, network, channels, which)
    listed = f"{what} ({shown})" if what else shown
    return f"holds another network: {listed}" + (f": use {flags}." if flags else ".")
  if complete and set(want) - set(have):
    return (
      f"has no {min(set(want) - set(have))}: it holds a network of another precision; a "
      "full-precision one is precision=32A32W."
    )
  return ""


def _is_needed(name: str, network: ResNet | ImportedNetwork) -> bool:
  """Whether a variable is no parameter of a quantizer, which would start from a batch."""
  if isinstance(network, ImportedNetwork):
    return not name.startswith(f"{KEY}/")
  return name.endswith(ESSENTIAL)


def recognise(have: Shapes) -> ResNet | None:
  """The network that has variables of these shapes, quantizers' aside; None if there is none."""
  matches = (re.fullmatch(r"stage(\d+)_block\d+/conv1/kernel", name) for name in have)
  blocks = collections.Counter(int(match.group(1)) for match in matches if match)
  stem, head = have.get("stem/kernel", ()), have.get("head/kernel", ())
  if not blocks or len(stem) != 4 or len(head) != 2:
    return None
  # Guessed from a few shapes, and taken only if all the others are as it has them.
  network = ResNet(
    stages=tuple(blocks[stage] for stage in sorted(blocks)),
    width=stem[3],
    num_classes=head[1],
    bottleneck="stage1_block1/conv3/kernel" in have,
    imagenet_stem=stem[0] == 7,
    shortcut="conv" if any("/shortcut/" in name for name in have) else "pad",
  )
  essential = lambda have: {n: shape for n, shape in have.items() if n.endswith(ESSENTIAL)}
  return network if essential(expected(network, (32, 32, stem[2]))) == essential(have) else None


def fields(have: Shapes) -> dict:
  """The fields of the config ("name", "width", "shortcut") of the network that has variables of
  these shapes.

  Raises:
    ValueError: it is none of ours; the message goes on from what holds it.
  """
  network = recognise(have)
  name, ours = _named(network) if network else ("", False)
  if not ours:
    what = (
      f"a {name} that is not among the networks here" if network else "no ResNet of known sizes"
    )
    raise ValueError(f"holds {what}")
  features = _features(network, 0)
  return {"name": name, "width": float(features["width"]), "shortcut": features["shortcut"]}


def _difference(
  found: ResNet, network: ResNet, channels: tuple[int, int], which: str
) -> tuple[str, str]:
  """What another network is ("" if it is the same).

  Args:
    found, network: the one that is there, and the one that it should be.
    channels: of their images.
    which: place in the config.

  Returns:
    The network in words, and the flags that ask for it.
  """
  name, known = _named(found)
  if not known:
    side = 7 if found.imagenet_stem else 3
    return (
      f"a {name} that begins with a {side}x{side} convolution, which is not among the networks "
      "here",
      "",
    )
  is_now, should_be = (_features(n, c) for n, c in zip((found, network), channels))
  differing = [feature for feature in is_now if is_now[feature] != should_be[feature]]
  parts = [_WORDS[feature].format(is_now[feature], should_be[feature]) for feature in differing]
  what = ", ".join(parts) if "name" in differing else f"a {name} " + ", ".join(parts)
  flags = " ".join(
    f"--config.{which}.{f}={is_now[f]}" for f in differing if f in ("name", "width", "shortcut")
  )
  if "classes" in differing:
    flags += f"{', and ' if flags else ''}--config.{which}.head=match or --config.{which}.head=new"
  return what if differing else "", flags


def _features(network: ResNet, channels: int) -> dict[str, str]:
  """What tells one of our ResNets from another."""
  return {
    "name": _named(network)[0],
    "width": f"{network.width / (64 if network.imagenet_stem else 16):g}",
    "shortcut": network.shortcut,
    "classes": str(network.num_classes),
    "channels": str(channels),
  }


def _named(network: ResNet) -> tuple[str, bool]:
  """A network's name, and whether `resnet` makes such a one."""
  name = f"resnet{sum(network.stages) * (3 if network.bottleneck else 2) + 2}"
  if name in NAMES:
    usual = resnet(name, network.num_classes)
    if (tuple(usual.stages), usual.bottleneck) == (tuple(network.stages), network.bottleneck):
      return name, usual.imagenet_stem == network.imagenet_stem
  return f"ResNet of {'+'.join(map(str, network.stages))} blocks", False
