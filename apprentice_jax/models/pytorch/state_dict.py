"""Reads state dicts: safetensors files, and PyTorch's own, of which nothing pickled is run."""

import json
import pathlib
import struct
import warnings

import numpy as np

from apprentice_jax.models.pytorch import container, pickles
from apprentice_jax.models.pytorch.tensors import Tensor, Unread

# Under which a training script keeps the network's state dict beside others; the first that there
# is counts. Averaged weights come first, as timm's `load_state_dict` and torchvision's and YOLO's
# scripts have it. Not so `ema_state_dict`: MMEngine exchanges the two, so that `state_dict` is
# averaged.
AVERAGED = ("state_dict_ema", "model_ema", "ema")
WRAPPERS = (*AVERAGED, "state_dict", "model_state_dict", "model", "net", "ema_state_dict")
_SAFETENSORS = {
  "F64": "<f8",
  "F32": "<f4",
  "F16": "<f2",
  "BF16": "<u2",
  "I64": "<i8",
  "I32": "<i4",
  "I16": "<i2",
  "I8": "i1",
  "U64": "<u8",
  "U32": "<u4",
  "U16": "<u2",
  "U8": "u1",
  "BOOL": "?",
}


def read(path) -> dict[str, np.ndarray]:
  """The tensors in a file.

  Args:
    path: a safetensors file; or a file that `torch.save` wrote, a state dict alone or under one of
      WRAPPERS.

  Returns:
    Arrays by name, those of floats (of any size, bfloat16 too) as float32.

  Raises:
    ValueError: the file is no such one, or holds anything else than tensors and plain data.
  """
  path = pathlib.Path(path)
  try:
    with path.open("rb") as file:
      start = file.read(9)
      if path.suffix == ".safetensors" or start[8:] == b"{":
        return _safetensors(path)
      file.seek(0)
      return _torch(path, file)
  except OSError as error:
    raise ValueError(f"cannot read {path}: {error.strerror}.") from None


def _safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  from safetensors import SafetensorError, deserialize

  data = path.read_bytes()
  try:
    # Not safetensors.numpy, which knows no bfloat16.
    tensors = deserialize(data)
  except SafetensorError as error:
    raise ValueError(
      f"{path} is not a safetensors file, or one that was cut off "
      f"({' '.join(str(error).split())[:100]})."
    ) from None
  header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
  if (header.get("__metadata__") or {}).get("format", "").startswith("apprentice-jax packed"):
    raise ValueError(
      f"{path} is a packed network, which `apprentice export` wrote: give the workdir that it was "
      "exported from."
    )
  found = {}
  for name, tensor in tensors:
    if tensor["dtype"] not in _SAFETENSORS:
      raise ValueError(
        f"{path}: {name!r} is of type {tensor['dtype']}, which is not read: convert it to F32."
      )
    array = np.frombuffer(tensor["data"], _SAFETENSORS[tensor["dtype"]]).reshape(tensor["shape"])
    if tensor["dtype"] == "BF16":  # the upper half of a float32
      array = (array.astype(np.uint32) << 16).view(np.float32)
    found[name] = _as_float32(array)
  return found


def _torch(path: pathlib.Path, file) -> dict[str, np.ndarray]:
  try:
    content, array = container.load(file)
    tensors = _state_dict(path, content)
    return {name: _as_float32(array(tensor)) for name, tensor in tensors.items()}
  except pickles.Refused as error:
    raise ValueError(
      f"{path} has {error.name} pickled in it, and nothing pickled is run here: if you trust it, "
      "open it with PyTorch and save its tensors alone, torch.save(model.state_dict(), FILE)."
    ) from None
  except pickles.Malformed as error:
    raise ValueError(f"{path} {error}.") from None


def _as_float32(array: np.ndarray) -> np.ndarray:
  """A copy; what is too large for float32 becomes infinite."""
  with np.errstate(over="ignore"):
    return array.astype(np.float32 if array.dtype.kind == "f" else array.dtype)


def _state_dict(path: pathlib.Path, content) -> dict[str, Tensor]:
  """The tensors by name in what a file holds."""
  # Beside the network may lie anything, such as an optimizer's state: it is not looked into.
  of_wrappers = {
    key: content[key] for key in WRAPPERS if isinstance(content, dict) and key in content
  }
  for tensors in of_wrappers.values() if of_wrappers else [content]:
    _check_plain(path, tensors)
  if _by_name(content):
    return content
  found = {key: value for key, value in of_wrappers.items() if _by_name(value)}
  if found:
    taken, *others = found
    if others:
      averaged = "averaged weights " if taken in AVERAGED else "weights "
      warnings.warn(
        f"{path} holds several networks: the {averaged}under {taken!r} are taken, and not those "
        f"under {listed(others)}."
      )
    return found[taken]
  held = f"a {type(content).__name__}"
  if isinstance(content, dict) and content:
    held = listed(map(str, content))
  # People save the optimizer alone by mistake.
  optimizer = isinstance(content, dict) and "param_groups" in content
  raise ValueError(
    f"{path} is not a PyTorch checkpoint with a state dict: it holds {held}, and no tensors by "
    f"name, alone or under {', '.join(WRAPPERS[:-1])} or {WRAPPERS[-1]}"
    + (": it is an optimizer's state; save model.state_dict()" if optimizer else "")
    + "."
  )


def _check_plain(path: pathlib.Path, tensors):
  """Raises ValueError for tensors that are not read, also in the tuples of quantized layers."""
  for name, value in tensors.items() if isinstance(tensors, dict) else ():
    for tensor in value[:2] if type(value) is tuple else (value,):
      if isinstance(tensor, Unread):
        raise ValueError(
          f"{path}: {state_name(name)} {tensor.why}, which is not read here: save the network's "
          "tensors as plain float32 ones."
        )


def _by_name(value) -> bool:
  return (
    isinstance(value, dict) and bool(value) and all(isinstance(v, Tensor) for v in value.values())
  )


def state_name(name: str) -> str:
  """A name from a file, as a message has it."""
  return repr(name if len(name) <= 100 else name[:100] + "...")


def listed(names, most: int = 4) -> str:
  """The first few of some names, and how many more there are."""
  names = [state_name(name) for name in names]
  shown, more = names[:most], len(names) - most
  return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
