"""ResNets trained in PyTorch, under our names: torchvision's, timm's and those of the 6n+2 CIFAR
repositories."""

import re
from typing import NamedTuple

import numpy as np

from apprentice_jax.models.pytorch import state_dict as state_dicts

# What holds the network in a script's own module: DataParallel, Lightning, torch.compile, and
# people's names.
_PREFIXES = re.compile(
  r"(?:(?:module|model|_orig_mod|backbone|encoder|net|network|resnet\d*|base|base_model|"
  r"feature_extractor|cnn)\.)*"
)
_HEAD = re.compile(r"(fc|linear|classifier|head)\.\d+")  # in a Sequential, after dropout
_LEAVES = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
_TOP = {
  "conv1": "stem",
  "bn1": "stem_norm",
  "fc": "head",
  "linear": "head",
  "classifier": "head",
  "head": "head",
}
_PROJECTION = {"0": "shortcut", "1": "shortcut_norm"}


class Pretrained(NamedTuple):
  """A network read from a checkpoint of PyTorch's.

  Attributes:
    params, batch_stats: NumPy arrays under our names, kernels as (height, width, in, out), the
      classifier as (in, out).
    names: by our names, such as "stage1_block1/conv1/kernel", those of the file.
  """

  params: dict
  batch_stats: dict
  names: dict[str, str]

  def spelled(self, name: str, shape: tuple) -> tuple[str, tuple]:
    """The file's name of what is ours, or what it would be, and the shape in PyTorch's order of
    axes."""
    shape = tuple(shape[i] for i in _order(len(shape), to_torch=True))
    return self.names.get(name) or _theirs(name, self.names.values()), shape


def load(path) -> Pretrained:
  """Reads a checkpoint's parameters and batch statistics under our names.

  Args:
    path: of a file that `state_dict.read` reads.

  Raises:
    ValueError: the file is not such a checkpoint, or of another kind of network.
  """
  return convert(state_dicts.read(path))


def convert(state_dict: dict[str, np.ndarray]) -> Pretrained:
  """Renames and transposes a state dict of PyTorch's; see `load`."""
  params, stats, names, unknown = {}, {}, {}, []
  for name, array in state_dict.items():
    path = _ours(_PREFIXES.sub("", name, count=1))
    # Collected, so that one sentence tells of all of them.
    if path is None:
      unknown.append(name)
    if not path:
      continue
    if array.dtype.kind != "f":
      raise ValueError(
        f"{name!r} holds numbers of type {array.dtype}, not floats: it is of a quantized network."
      )
    if names.setdefault("/".join(path), name) != name:
      if _HEAD.search(name):
        raise ValueError(
          f"{names['/'.join(path)]!r} and {name!r} are of a classifier of several layers: a "
          "network here has a single one."
        )
      raise ValueError(
        f"{names['/'.join(path)]!r} and {name!r} have the same place in a ResNet: save one network "
        "alone."
      )
    *modules, leaf = path
    tree = stats if leaf in ("mean", "var") else params
    for module in modules:
      tree = tree.setdefault(module, {})
    tree[leaf] = np.ascontiguousarray(array.transpose(_order(array.ndim)))
  if unknown:
    raise ValueError(_refusal(unknown))
  return Pretrained(params, stats, names)


def _order(ndim: int, to_torch: bool = False) -> tuple[int, ...]:
  """The axes of PyTorch's that make ours, or ours that make PyTorch's, by their number."""
  return {4: (3, 2, 0, 1) if to_torch else (2, 3, 1, 0), 2: (1, 0)}.get(ndim, tuple(range(ndim)))


def _ours(name: str):
  """Our path of a name of PyTorch's; () for an array of no use, None for a name of no ResNet.

  "layer1.0.bn2.weight" has ("stage1_block1", "norm2", "scale").
  """
  # Counters: of batch norms, and of torch.optim.swa_utils' averaged weights.
  if name.endswith("num_batches_tracked") or name == "n_averaged":
    return ()
  match = re.fullmatch(r"(?:layer(\d+)\.(\d+)\.)?([\w.]+)\.(\w+)", name)
  if not match:
    return None
  stage, block, module, leaf = match.groups()
  place = () if stage is None else (f"stage{stage}_block{int(block) + 1}",)
  projection = re.fullmatch(r"(?:downsample|shortcut)\.([01])", module)
  if stage is None and _HEAD.fullmatch(module):
    module = "head"
  elif stage is None and module in _TOP:
    module = _TOP[module]
  elif stage and projection:
    module = _PROJECTION[projection.group(1)]
  elif stage and re.fullmatch(r"(conv|bn)\d", module):
    module = module.replace("bn", "norm")
  else:
    return None
  if "norm" in module and leaf in _LEAVES:
    return (*place, module, _LEAVES[leaf])
  if leaf in ("weight", "bias"):
    return (*place, module, "kernel" if leaf == "weight" else "bias")
  return None


def _theirs(name: str, others) -> str:
  """The name that ours would have in a file of these others."""
  *place, module, leaf = name.split("/")
  # As the file itself spells what repositories spell differently.
  others = list(others)
  uses = lambda word: any(word in other for other in others)
  module = {
    "stem": "conv1",
    "stem_norm": "bn1",
    "head": "linear" if uses("linear.") else "fc",
    "shortcut": "shortcut.0" if uses(".shortcut.") else "downsample.0",
    "shortcut_norm": "shortcut.1" if uses(".shortcut.") else "downsample.1",
  }.get(module, module.replace("norm", "bn"))
  leaf = {"kernel": "weight", **{ours: theirs for theirs, ours in _LEAVES.items()}}.get(leaf, leaf)
  if place:
    stage, block = re.fullmatch(r"stage(\d+)_block(\d+)", place[0]).groups()
    module = f"layer{stage}.{int(block) - 1}.{module}"
  prefix = _PREFIXES.match(others[0]).group() if others else ""
  return f"{prefix}{module}.{leaf}"


def _refusal(names: list[str]) -> str:
  is_stem = lambda name: re.fullmatch(r"conv1\.\d+\.\w+", _PREFIXES.sub("", name, count=1))
  deep = list(filter(is_stem, names))
  if any(".3." in name for name in deep):
    return (
      f"{state_dicts.listed(deep, 2)} are of a stem of three convolutions, as timm's resnet50d and "
      "its like have it, which is another network: take one with a single first convolution, such "
      "as resnet50."
    )
  are = "is not a name" if len(names) == 1 else "are not names"
  return (
    f"{state_dicts.listed(names)} {are} of a ResNet of torchvision, timm or the 6n+2 repositories."
  )
