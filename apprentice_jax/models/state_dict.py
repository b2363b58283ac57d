"""Reads state dicts: safetensors files, and PyTorch's own without running anything that is pickled in them."""

import argparse
import json
import pathlib
import re
import struct
import warnings

import numpy as np

# Under which a training script keeps the network's state dict beside others; the first that there is counts.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "model_ema", "ema")
_SAFETENSORS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
                "I8": "i1", "U8": "u1", "BOOL": "?"}


def read(path) -> dict[str, np.ndarray]:
  """The tensors in a file.

  Args:
    path: a safetensors file; or what `torch.save` wrote, a state dict alone or under one of WRAPPERS, which needs
      PyTorch, whose restricted loader runs no code from the file.

  Returns:
    Arrays by name, those of floats (of any size, bfloat16 too) as float32.

  Raises:
    ValueError: the file is no such one, or PyTorch is missing.
  """
  path = pathlib.Path(path)
  try:
    with path.open("rb") as file:
      start = file.read(9)
    if path.suffix == ".safetensors" or start[8:] == b"{":
      return _safetensors(path)
    return _torch(path)
  except OSError as error:
    raise ValueError(f"cannot read {path}: {error.strerror}.") from None


def _safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  from safetensors import SafetensorError, deserialize
  data = path.read_bytes()
  try:
    tensors = deserialize(data)  # safetensors.numpy knows no bfloat16
  except SafetensorError as error:
    raise ValueError(f"{path} is not a safetensors file, or one that was cut off "
                     f"({' '.join(str(error).split())[:100]}).") from None
  header = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])
  if (header.get("__metadata__") or {}).get("format", "").startswith("apprentice-jax packed"):
    raise ValueError(f"{path} is a packed network, which `apprentice export` wrote: give the workdir that it was "
                     "exported from.")
  found = {}
  for name, tensor in tensors:
    if tensor["dtype"] not in _SAFETENSORS:
      raise ValueError(f"{path}: {name!r} is of type {tensor['dtype']}, which is not read: convert it to F32.")
    array = np.frombuffer(tensor["data"], _SAFETENSORS[tensor["dtype"]]).reshape(tensor["shape"])
    if tensor["dtype"] == "BF16":  # the upper half of a float32
      array = (array.astype(np.uint32) << 16).view(np.float32)
    found[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
  return found


def _torch(path: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    import torch
  except ImportError:
    raise ValueError(f"reading {path.name} needs PyTorch: pip install 'apprentice-jax[torch]'.") from None
  try:
    # Training scripts keep their arguments beside the weights, in a Namespace: attributes and no code.
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
      warnings.simplefilter("ignore")  # of old formats
      found = torch.load(path, map_location="cpu", weights_only=True)
  except OSError:
    raise
  except Exception as error:  # torch raises many kinds for a file that is not a checkpoint
    raise ValueError(f"{path} {_refusal(error)}.") from None
  tensors = lambda d: isinstance(d, dict) and d and all(
      isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in d.items())
  for state_dict in (found, *(found[key] for key in WRAPPERS if isinstance(found, dict) and key in found)):
    if tensors(state_dict):
      return {name: (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
              for name, tensor in state_dict.items()}
  held = listed(map(str, found)) if isinstance(found, dict) and found else f"a {type(found).__name__}"
  raise ValueError(f"{path} is not a PyTorch checkpoint with a state dict: it holds {held}, and no tensors by name, "
                   f"alone or under {', '.join(WRAPPERS[:-1])} or {WRAPPERS[-1]}.")


def _refusal(error: Exception) -> str:
  """What PyTorch's error says of a file, in a few words."""
  pickled = re.search(r"GLOBAL ([\w.]+)", str(error))
  if pickled:
    return (f"has {pickled.group(1)} pickled in it, and nothing pickled is run here: if you trust it, open it with "
            "PyTorch and save its tensors alone, torch.save(model.state_dict(), FILE)")
  if "TorchScript" in str(error):
    return ("is a TorchScript program: save its tensors, torch.save(torch.jit.load(FILE).state_dict(), "
            "OTHER_FILE)")
  return f"is not a PyTorch checkpoint with a state dict ({type(error).__name__})"


def listed(names, most: int = 4) -> str:
  """The first few of some names, and how many more there are."""
  names = [repr(name) for name in names]
  shown, more = names[:most], len(names) - most
  return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
