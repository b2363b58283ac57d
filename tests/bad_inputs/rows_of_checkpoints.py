"""Rows: what is wrong is in the checkpoint that a network is to be read from."""

import re
import shutil

import numpy as np
import torch_writer
from rows import SMALL, TAUGHT, TUNED, Row, file, half, torch_file, torchvisions
from safetensors.numpy import save_file
from torch_writer import Call

from apprentice_jax.distill.step import Network, State
from apprentice_jax.training import parallel
from apprentice_jax.training.checkpoint import Checkpoints

PTH = TAUGHT + "{place}/teacher.pth"
BROKEN = "{place}/teacher.pth holds a broken network: "
UNREAD = ", which is not read here: save the network's tensors as plain float32 ones."
EVAL = f"eval --model={{place}}/teacher.pth --config={{digits}}:{SMALL},precision=32A32W"


def changed(names, value, where=slice(None), write=torch_writer.new):
  """The trained network in a file of PyTorch's, with a value at some places of some tensors."""

  def make(place, made):
    tensors = torchvisions(made["trained"])
    for key in [key for key in tensors if re.fullmatch(names, key)]:
      tensors[key].flat[where] = value
    (place / "teacher.pth").write_bytes(write({"state_dict": tensors}))

  return make


def with_one(name, value, cut=lambda content: content):
  """The trained network in a file of PyTorch's, with another value under a name."""

  def make(place, made):
    tensors = {**torchvisions(made["trained"]), name: value}
    (place / "teacher.pth").write_bytes(cut(torch_writer.new({"state_dict": tensors})))

  return make


def broken_workdir(place, made):
  """The trained network's workdir, with a weight that is not a number."""
  workdir = shutil.copytree(made["trained"], place / "teacher")
  with Checkpoints(workdir) as checkpoints:
    state, meta = checkpoints.contents()
  kernel = np.array(state["student"]["params"]["stem"]["kernel"])
  kernel.flat[0] = np.nan
  state["student"]["params"]["stem"]["kernel"] = kernel
  for folder in ("checkpoints", "checksums"):
    shutil.rmtree(workdir / folder)
  with Checkpoints(workdir, keep=1) as checkpoints:
    checkpoints.save(
      meta["step"], State(parallel.replicate(Network(**state["student"])), None), meta
    )


def broken_safetensors(place, made):
  tensors = torchvisions(made["trained"])
  tensors["layer3.0.bn2.running_mean"][1] = -np.inf
  save_file(tensors, place / "teacher.safetensors", {"format": "pt"})


def script(entries):
  entries["constants.pkl"] = b""


ROWS = [
  # Networks that are broken.
  Row(
    "a teacher with NaN",
    PTH,
    BROKEN + "layer2.0.conv1.weight is NaN in 1 of 288 places.",
    changed("layer2.0.conv1.weight", np.nan, 5),
  ),
  Row(
    "a teacher with infinite variances",
    PTH,
    BROKEN + "layer2.0.bn1.running_var is infinite in 8 of 8 places.",
    changed("layer2.0.bn1.running_var", np.inf, write=torch_writer.old),
  ),
  Row(
    "a teacher with an infinite mean",
    TAUGHT + "{place}/teacher.safetensors",
    "{place}/teacher.safetensors holds a broken network: layer3.0.bn2.running_mean is infinite in "
    "1 "
    "of 16 places.",
    broken_safetensors,
  ),
  Row(
    "a teacher with negative variances",
    PTH,
    BROKEN + "bn1.running_var is a variance, and below 0 in 2 of 4 places.",
    changed("bn1.running_var", -1e-3, slice(2)),
  ),
  Row(
    "a teacher with a classifier of zeros",
    PTH,
    BROKEN + "fc.weight is 0 everywhere: the network tells no images apart.",
    changed("fc.weight", 0),
  ),
  Row(
    "a teacher without variances",
    PTH,
    BROKEN + "layer1.0.bn1.running_var and all other variances of its batch norms are 0.",
    changed(".*running_var", 0),
  ),
  Row(
    "a teacher whose variances were lost",
    PTH,
    BROKEN + "layer1.0.bn1.running_var and all other variances of its batch norms are 1.",
    changed(".*running_var", 1),
  ),
  Row(
    "a student with NaN",
    TUNED + "{place}/teacher.pth",
    BROKEN + "fc.bias is NaN in 10 of 10 places.",
    changed("fc.bias", np.nan),
  ),
  Row(
    "a network with NaN to score",
    EVAL,
    BROKEN + "conv1.weight is NaN in 36 of 36 places.",
    changed("conv1.weight", np.nan),
  ),
  Row(
    "a teacher's workdir with NaN",
    TAUGHT + "{place}/teacher",
    "{place}/teacher holds a broken network: stem/kernel is NaN in 1 of 36 places.",
    broken_workdir,
  ),
  Row(
    "a workdir with NaN to score",
    "eval --workdir={place}/teacher",
    "{place}/teacher holds a broken network: stem/kernel is NaN in 1 of 36 places.",
    broken_workdir,
  ),
  Row(
    "a workdir with NaN to export",
    "export --workdir={place}/teacher --format=packed --out={place}/net",
    "{place}/teacher holds a broken network: stem/kernel is NaN in 1 of 36 places.",
    broken_workdir,
  ),
  # Files of other things.
  Row(
    "a pickled module as the teacher",
    PTH,
    "{place}/teacher.pth has torchvision.models.resnet.ResNet pickled in it, and nothing pickled "
    "is run "
    "here: if you trust it, open it with PyTorch and save its tensors alone, "
    "torch.save(model.state_dict(), FILE).",
    torch_file(Call("torchvision.models.resnet.ResNet", ())),
  ),
  Row(
    "an optimizer as the teacher",
    PTH,
    "{place}/teacher.pth is not a PyTorch checkpoint with a state dict: it holds 'state', "
    "'param_groups', and no tensors by name, alone or under state_dict_ema, model_ema, ema, "
    "state_dict, "
    "model_state_dict, model, net or ema_state_dict: it is an optimizer's state; save "
    "model.state_dict().",
    torch_file({"state": {0: {"momentum_buffer": np.zeros(2)}}, "param_groups": []}),
  ),
  Row(
    "a quantized teacher",
    PTH,
    "{place}/teacher.pth: 'conv1.weight' is a quantized tensor" + UNREAD,
    with_one("conv1.weight", Call("torch._utils._rebuild_qtensor", ())),
  ),
  Row(
    "a teacher of whole numbers",
    PTH,
    "{place}/teacher.pth: 'conv1.weight' holds numbers of type int8, not floats: it is of a "
    "quantized "
    "network.",
    with_one("conv1.weight", np.zeros((4, 1, 3, 3), np.int8)),
  ),
  Row(
    "a sparse teacher",
    PTH,
    "{place}/teacher.pth: 'fc.weight' is a sparse tensor" + UNREAD,
    with_one("fc.weight", Call("torch._utils._rebuild_sparse_tensor", ())),
  ),
  Row(
    "a teacher of complex numbers",
    PTH,
    "{place}/teacher.pth: 'fc.weight' holds complex numbers" + UNREAD,
    with_one("fc.weight", torch_writer.Tensor(np.zeros(1), 0, (1,), (1,), "ComplexFloat")),
  ),
  Row(
    "an empty tensor",
    PTH,
    "{place}/teacher.pth holds another network: conv1.weight is (0,), not (4, 1, 3, 3).",
    with_one("conv1.weight", np.zeros(0, np.float32)),
  ),
  Row(
    "a teacher whose classifier has two layers",
    PTH,
    "{place}/teacher.pth: 'fc.weight' and 'fc.3.weight' are of a classifier of several layers: a "
    "network "
    "here has a single one.",
    with_one("fc.3.weight", np.zeros((10, 10), np.float32)),
  ),
  Row(
    "half of a new file",
    PTH,
    "{place}/teacher.pth is a zip archive that was cut off, or is damaged.",
    with_one("fc.bias", np.zeros(10), half),
  ),
  Row(
    "half of an old file",
    PTH,
    "{place}/teacher.pth was cut off, or is damaged.",
    changed("none", 0, write=lambda content: half(torch_writer.old(content))),
  ),
  Row(
    "a file that says that it is larger",
    PTH,
    "{place}/teacher.pth is damaged: its tensors are larger than the file.",
    with_one("fc.bias", torch_writer.Tensor(np.zeros(1), 0, (2**62,), (0,))),
  ),
  Row(
    "a TorchScript program",
    PTH,
    "{place}/teacher.pth is a TorchScript program: save its tensors, "
    "torch.save(torch.jit.load(FILE).state_dict(), OTHER_FILE).",
    file("teacher.pth", torch_writer.new({}, change=script)),
  ),
  Row(
    "a web page",
    PTH,
    "{place}/teacher.pth is a web page, not a checkpoint: download the file itself.",
    file("teacher.pth", b"<!DOCTYPE html>"),
  ),
  Row(
    "a pointer to a file",
    PTH,
    "{place}/teacher.pth is a pointer of Git LFS: fetch the file that it points to, git lfs pull.",
    file("teacher.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3\n"),
  ),
  Row("an empty file", PTH, "{place}/teacher.pth is empty.", file("teacher.pth", b"")),
]
