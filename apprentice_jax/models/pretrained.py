"""Reads ResNets trained in PyTorch: torchvision's names and those of the 6n+2 CIFAR repositories."""

import pathlib
import re

import numpy as np

_LEAVES = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
_TOP = {"conv1": "stem", "bn1": "stem_norm", "fc": "head", "linear": "head"}
_PROJECTION = {"0": "shortcut", "1": "shortcut_norm"}


def load(path) -> tuple[dict, dict]:
  """Reads a checkpoint's parameters and batch statistics under our names.

  Args:
    path: a .pth, .pt or .th file with a state dict, alone or under "state_dict"; needs PyTorch, whose
      restricted loader runs no code from the file.

  Returns:
    (params, batch_stats) of NumPy arrays: kernels as (height, width, in, out), the classifier as
    (in, out).

  Raises:
    ValueError: the file is not such a checkpoint, or PyTorch is missing.
  """
  return convert(_state_dict(pathlib.Path(path)))


def convert(state_dict: dict) -> tuple[dict, dict]:
  """Renames and transposes a PyTorch state dict of NumPy arrays; see `load`."""
  params, stats = {}, {}
  for name, array in state_dict.items():
    name = name.removeprefix("module.")
    if name.endswith("num_batches_tracked"):
      continue
    *path, leaf = _rename(name)
    tree = stats if leaf in ("mean", "var") else params
    for part in path:
      tree = tree.setdefault(part, {})
    tree[leaf] = np.ascontiguousarray(array.transpose({4: (2, 3, 1, 0), 2: (1, 0)}.get(
        array.ndim, tuple(range(array.ndim)))))
  return params, stats


def _rename(name: str) -> tuple[str, ...]:
  """("layer1.0.bn2.weight") -> ("stage1_block1", "norm2", "scale")."""
  match = re.fullmatch(r"(?:layer(\d+)\.(\d+)\.)?(.+)\.(\w+)", name)
  stage, block, module, leaf = match.groups() if match else (None, None, "", "")
  place = () if stage is None else (f"stage{stage}_block{int(block) + 1}",)
  projection = re.fullmatch(r"(?:downsample|shortcut)\.([01])", module)
  if stage is None and module in _TOP:
    module = _TOP[module]
  elif stage and projection:
    module = _PROJECTION[projection.group(1)]
  elif stage and re.fullmatch(r"(conv|bn)\d", module):
    module = module.replace("bn", "norm")
  else:
    raise ValueError(f"{name!r} is not a name of a ResNet of torchvision or the 6n+2 repositories.")
  if "norm" in module and leaf in _LEAVES:
    return (*place, module, _LEAVES[leaf])
  if leaf in ("weight", "bias"):
    return (*place, module, "kernel" if leaf == "weight" else "bias")
  raise ValueError(f"{name!r} is not a name of a ResNet of torchvision or the 6n+2 repositories.")


def _state_dict(path: pathlib.Path) -> dict:
  try:
    import torch
  except ImportError:
    raise ValueError(
        f"reading {path.name} needs PyTorch: pip install 'apprentice-jax[torch]'.") from None
  try:
    found = torch.load(path, map_location="cpu", weights_only=True)
    found = found.get("state_dict", found)
    return {name: tensor.float().numpy() for name, tensor in found.items()}
  except Exception as error:  # torch raises many kinds for a file that is not a checkpoint
    raise ValueError(f"{path} is not a PyTorch checkpoint with a state dict "
                     f"({type(error).__name__}).") from None
