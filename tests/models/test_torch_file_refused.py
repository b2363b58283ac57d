"""Files of PyTorch's that hold anything else than one network's plain tensors, each with its
sentence."""

import io
import os
import pickle

import numpy as np
import pytest
import torch_writer
from torch_writer import Call, Global, Tensor, new, old

CONTAINERS = {"new": new, "old": old}
TENSORS = "torch._utils._rebuild_tensor_v2"


# What else is pickled is refused by its name, and not run.


class _Malice:
  def __reduce__(self):
    return os.mkdir, (os.environ["MALICE"],)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("write", CONTAINERS.values(), ids=CONTAINERS)
def test_nothing_pickled_is_run(write, protocol, refusal, tmp_path, monkeypatch):
  monkeypatch.setenv("MALICE", str(tmp_path / "ran"))
  assert refusal(write({"x": np.zeros(3), "more": _Malice()}, protocol)) == (
    f"FILE has {os.name}.mkdir pickled in it, and nothing pickled is run here: if you trust it, "
    "open it with PyTorch "
    "and save its tensors alone, torch.save(model.state_dict(), FILE)."
  )
  assert not (tmp_path / "ran").exists()
  pickle.loads(pickle.dumps(_Malice()))
  assert (tmp_path / "ran").exists()  # that is what it would have done


@pytest.mark.parametrize(
  "name",
  [
    "os.system",
    "builtins.eval",
    "builtins.getattr",
    "torch.load",
    "torch.hub.load",
    "torch.storage._load_from_bytes",
    "torch.nn.modules.linear.Linear",
    "torchvision.models.resnet.ResNet",
    "numpy._core.multiarray.scalar",
    "collections.defaultdict",
    "pathlib.PosixPath",
    "apprentice_jax.cli.main",
  ],
)
def test_names_are_refused(name, refusal):
  for content in (Global(name), Call(name, ()), {"x": np.zeros(3), "y": [Call(name, (1,))]}):
    assert refusal(new(content)).startswith(f"FILE has {name} pickled in it, and ")


def test_names_that_may_be_mentioned_are_not_called(refusal):
  assert refusal(new(Call("torch.float32", ()))).startswith(
    "FILE has torch.float32 pickled in it, and "
  )
  strange = refusal(new(Global("os.\x1b[2J" + 300 * "x")))
  assert strange.startswith("FILE has 'os.\\x1b[2Jxx") and len(strange) < 450


@pytest.mark.parametrize(
  "kind, what",
  [
    ("qtensor", "is a quantized tensor"),
    ("sparse_tensor", "is a sparse tensor"),
    ("nested_tensor", "is a nested tensor"),
    ("meta_tensor_no_storage", "is on the device meta, without its numbers"),
  ],
)
def test_tensors_of_other_kinds(kind, what, refusal):
  tensor, rest = (
    Call(f"torch._utils._rebuild_{kind}", ()),
    ", which is not read here: save the network's tensors as plain float32 ones.",
  )
  assert (
    refusal(new({"state_dict": {"conv1.weight": tensor}})) == f"FILE: 'conv1.weight' {what}{rest}"
  )
  assert (
    refusal(new({"x": np.zeros(2), "fc._packed_params": (tensor, None)}))
    == f"FILE: 'fc._packed_params' {what}{rest}"
  )


def test_elements_of_other_kinds(refusal):
  tensor = lambda kind: Tensor(np.zeros(2), 0, (1,), (1,), kind)
  assert refusal(new({"x": tensor("ComplexDouble")})).startswith(
    "FILE: 'x' holds complex numbers, which is not read"
  )
  eight = Call(
    "torch._utils._rebuild_tensor_v3",
    (
      torch_writer._Stored(("storage", Global("torch.storage.UntypedStorage"), "0", "cpu", 8)),
      0,
      (2,),
      (1,),
      False,
      {},
      Global("torch.float8_e4m3fn"),
    ),
  )
  assert refusal(new({"x": eight})).startswith(
    "FILE: 'x' is of type float8_e4m3fn, which is not read here"
  )


# Averaged weights, and files without a network.


def test_averaged_weights_are_taken_and_said(read, tmp_path):
  dicts = {
    name: {"x": np.float32([i])}
    for i, name in enumerate(
      ["net", "model", "state_dict", "ema_state_dict", "ema", "model_ema", "state_dict_ema"]
    )
  }
  for taken in ("state_dict_ema", "model_ema", "ema"):
    with pytest.warns(UserWarning) as warned:
      assert read(new(dicts))["x"] == dicts[taken]["x"]
    assert str(warned[0].message).startswith(
      f"{tmp_path / 'x.pth'} holds several networks: the averaged weights under {taken!r} are "
      "taken, and not those "
      "under "
    )
    del dicts[taken]
  with pytest.warns(
    UserWarning, match="the weights under 'state_dict' are taken, and not those under 'model'"
  ):
    assert read(new(dicts))["x"] == 2  # MMEngine has the averaged ones there
  assert (
    read(new({"ema_state_dict": dicts["ema_state_dict"], "model_ema": None, "model": "resnet20"}))[
      "x"
    ]
    == 3
  )


def test_files_without_a_network(refusal):
  for content, held in (
    (np.zeros(3), "a Tensor"),
    ([np.zeros(3)], "a list"),
    ({}, "a dict"),
    (None, "a NoneType"),
    ({"epoch": 3, "weights": {"x": np.zeros(3)}}, "'epoch', 'weights'"),
    ({"x": np.zeros(3), "epoch": 3}, "'x', 'epoch'"),
  ):
    assert refusal(new(content)).startswith(
      f"FILE is not a PyTorch checkpoint with a state dict: it holds {held}, and no tensors by "
      "name, alone or under "
    )
  optimizer = {
    "state": {0: {"momentum_buffer": np.zeros(2)}},
    "param_groups": [{"lr": 0.1, "params": [0]}],
  }
  assert refusal(new(optimizer)).endswith(": it is an optimizer's state; save model.state_dict().")


def test_files_of_other_kinds(refusal):
  archive = io.BytesIO()
  np.savez(archive, x=np.zeros(3))
  assert {
    name: refusal(content)
    for name, content in {
      "text": b"no",
      "nothing": b"",
      "page": b"\n<!DOCTYPE html><html>",
      "lfs": b"version https://git-lfs.github.com/spec/v1\n",
      "numpy": archive.getvalue(),
      "pickle": pickle.dumps({"x": 3}),
    }.items()
  } == {
    "text": "FILE is neither a file that torch.save wrote nor a safetensors file.",
    "nothing": "FILE is empty.",
    "page": "FILE is a web page, not a checkpoint: download the file itself.",
    "lfs": "FILE is a pointer of Git LFS: fetch the file that it points to, git lfs pull.",
    "numpy": "FILE is a zip archive that torch.save did not write: if a checkpoint is in it, "
    "unpack it.",
    "pickle": "FILE is a pickle that torch.save did not write: write the tensors with torch.save.",
  }
  program = new({"x": np.zeros(3)}, change=lambda entries: entries.update({"constants.pkl": b""}))
  assert "FILE is a TorchScript program: save its tensors, " in refusal(program)
