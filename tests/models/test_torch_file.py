"""Files of PyTorch's, read without it: written by hand, and against `torch.load` where there is
one."""

import argparse
import collections

import numpy as np
import pytest
import tools
import torch_writer
from torch_writer import Call, Global, Tensor, new, old, plain

from apprentice_jax.models.pytorch import state_dict

CONTAINERS = {"new": new, "old": old}
TENSORS = "torch._utils._rebuild_tensor_v2"


def _assert_equal(found, wanted):
  assert list(found) == list(wanted)
  for name, array in wanted.items():
    assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
    np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("write", CONTAINERS.values(), ids=CONTAINERS)
def test_tensors_and_plain_data(write, protocol, read):
  arrays = {
    "float": np.float32([[1, 2, 3], [4, 5, 6]]),
    "whole": np.arange(-3, 3),
    "number": np.array(2.5, np.float32),
    **{f"{d}s": np.array([[0, 1, 127]], d) for d in ("int8", "int16", "int32", "int64", "uint8")},
    "empty": np.zeros((3, 0, 2), np.float32),
    "flags": np.array([True, False, True]),
  }
  if write is new:
    arrays |= {d: np.array([1, 2**15], d) for d in torch_writer.UNTYPED}
  beside = {
    "epoch": 3,
    "best": 93.5,
    "none": None,
    "yes": True,
    "large": 10**30,
    "bytes": b"\xff",
    "size": (2, 3),
    "sets": [{1, 2}, frozenset([3])],
    "list": [1, [2, (3, "four", -5)]],
    "args": torch_writer.namespace(lr=0.1),
    "counts": Call("collections.Counter", ({5: 1},)),
    "numbers": {0: {"momentum": np.zeros(2)}, (1, 2): "x"},
    "shape": Call("torch.Size", ((1, 2),)),
    "type": Global("torch.float32"),
    "sparse": Call(
      "torch._utils._rebuild_sparse_tensor", (Call("torch.serialization._get_layout", ("",)), ())
    ),
  }
  ordered = collections.OrderedDict(arrays)
  ordered._metadata = collections.OrderedDict([("", {"version": 1})])  # as Module.state_dict has it
  wanted = {k: np.asarray(v) for k, v in arrays.items()}
  _assert_equal(read(write(ordered, protocol)), wanted)
  _assert_equal(read(write({"state_dict": arrays, **beside}, protocol)), wanted)


@pytest.mark.parametrize("write", CONTAINERS.values(), ids=CONTAINERS)
def test_views(write, read):
  numbers = np.arange(24, dtype=np.float32)
  found = read(
    write(
      {
        "all": Tensor(numbers, 0, (2, 3, 4), (12, 4, 1)),
        "transposed": Tensor(numbers, 0, (4, 3, 2), (1, 4, 12)),
        "part": Tensor(numbers, 13, (3, 2), (4, 2)),
        "last": Tensor(numbers, 23, (), ()),
        "expanded": Tensor(numbers, 5, (2, 3), (0, 0)),
        "one": Tensor(numbers, 3, (1, 2, 1), (10**9, 1, 10**18)),
      }
    )
  )
  whole = numbers.reshape(2, 3, 4)
  _assert_equal(
    found,
    {
      "all": whole,
      "transposed": whole.transpose(2, 1, 0),
      "part": whole[1, :, 1::2],
      "last": whole[1, 2, 3],
      "expanded": np.full((2, 3), 5, np.float32),
      "one": np.float32([[[3], [4]]]),
    },
  )
  found["all"][:] = 0  # nobody else's
  assert found["last"] == 23


def test_a_part_of_a_storage_in_the_old_container(read):
  numbers = np.arange(10, dtype=np.float32)
  assert list(read(old({"x": Tensor(numbers, 1, (2,), (1,), part=("v", 4, 3))}))["x"]) == [5, 6]


@pytest.mark.parametrize("write", CONTAINERS.values(), ids=CONTAINERS)
def test_halves(write, read):
  """Numbers whose 16 bits are known."""
  bits = np.uint16([0x3F80, 0xC020, 0x0001, 0x7F7F]).view(np.int16)
  found = read(
    write(
      {
        "brain": Tensor(bits, 0, (2, 2), (1, 2), "BFloat16"),
        "one": Tensor(bits, 1, (), (), "BFloat16"),
        "half": plain(np.uint16([0x3C00, 0xFBFF]).view(np.float16)),
      }
    )
  )
  _assert_equal(
    found,
    {
      "brain": np.float32([[1, 2.0**-133], [-2.5, (2 - 2.0**-7) * 2.0**127]]),
      "one": np.float32(-2.5),
      "half": np.float32([1, -65504]),
    },
  )


def test_double_precision_that_float32_does_not_hold(read):
  found = read(new({"x": np.array([1e300, 1 / 3])}))["x"]
  assert found.dtype == np.float32 and np.isinf(found[0]) and found[1] == np.float32(1 / 3)


def test_numbers_of_a_big_endian_machine(read):
  arrays = {"a": np.float32([1, -2.5]), "b": np.int64([1, 2**40]), "c": np.float16([3])}
  _assert_equal(read(new(arrays, byteorder=b"big")), {**arrays, "c": np.float32([3])})


def test_an_archive_without_checksums(read):
  arrays = {"a": np.float32([1, 2]), "b": np.float32([3])}
  _assert_equal(read(new(arrays, crc=False)), arrays)


def test_other_ways_to_make_a_tensor(read):
  x = np.float32([1, 2])
  tensor = Tensor(x, 0, (2,), (1,))
  numbers, *_ = [torch_writer._Stored(("storage", Global("torch.FloatStorage"), "0", "cpu", 2))]
  arguments = (numbers, 0, (2,), (1,), False, collections.OrderedDict())
  found = read(
    new(
      {
        "stored": tensor,
        "parameter": Call(
          "torch._utils._rebuild_parameter", (tensor, True, collections.OrderedDict())
        ),
        "stateful": Call(
          "torch._utils._rebuild_parameter_with_state",
          (tensor, True, collections.OrderedDict(), {}),
        ),
        "early": Call("torch._utils._rebuild_tensor", arguments[:4]),
        "named": Call(
          "torch._tensor._rebuild_from_type_v2",
          (Global(TENSORS), Global("torch.Tensor"), arguments, {}),
        ),
      }
    )
  )
  assert {name: list(array) for name, array in found.items()} == dict.fromkeys(
    found, [1, 2]
  ) and len(found) == 5


def test_an_ordered_dict_of_python_2(read):
  assert list(read(new(Call("collections.OrderedDict", ([["x", np.float32([1, 2])]],))))["x"]) == [
    1,
    2,
  ]


# Against PyTorch.


def _everything(torch):
  torch.manual_seed(0)
  base = torch.randn(2, 3, 4)
  weight = torch.nn.Parameter(torch.randn(2))
  weight.kept = "an attribute"
  tied = torch.randn(3)
  return {
    "base": base,
    "row": base[1],
    "transposed": base.permute(2, 0, 1),
    "strided": base[:, ::2, 1:3],
    "number": torch.tensor(3.5),
    "empty": torch.zeros(3, 0, 2),
    "half": base.half()[0].t(),
    "brain": base.bfloat16()[1].t(),
    "one": torch.tensor(1.5).bfloat16(),
    "flags": torch.tensor([True, False]),
    "expanded": torch.ones(1).expand(5, 6),
    "parameter": torch.nn.Parameter(base[0]),
    "weight": weight,
    "tied": tied,
    "tied_again": tied,
    "double": base.double(),
    **{
      str(d): torch.arange(6).to(d)
      for d in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    },
  }


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("new_container", [True, False])
def test_equals_torch_load(new_container, protocol, tmp_path):
  torch = tools.module("torch")
  tensors = _everything(torch)
  if new_container:
    tensors |= {str(d): torch.arange(6).to(d) for d in (torch.uint16, torch.uint32, torch.uint64)}
  model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
  optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
  model(torch.zeros(2, 3, 5, 5)).sum().backward()
  optimizer.step()
  schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])
  content = {
    "model": {**tensors, **model.state_dict()},
    "optimizer": optimizer.state_dict(),
    "epoch": 3,
    "schedule": schedule.state_dict(),
    "args": argparse.Namespace(lr=0.1, size=torch.Size([1, 2])),
    "random": torch.get_rng_state(),
    "device": torch.device("cpu"),
    "type": torch.float32,
  }
  path = tmp_path / "x.pth"
  torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=new_container)
  with torch.serialization.safe_globals([argparse.Namespace]):
    loaded = torch.load(path, weights_only=protocol == 2)[
      "model"
    ]  # its restricted loader knows no protocol 4
  _assert_equal(
    state_dict.read(path),
    {
      name: (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
      for name, tensor in loaded.items()
    },
  )


@pytest.mark.slow
@pytest.mark.parametrize("write", CONTAINERS.values(), ids=CONTAINERS)
def test_torch_load_reads_what_the_tests_write(write, tmp_path):
  torch = tools.module("torch")
  arrays = {"x": np.float32([[1, 2], [3, 4]]), "y": np.arange(3), "z": np.array([True, False])}
  (tmp_path / "x.pth").write_bytes(write(arrays))
  found = torch.load(tmp_path / "x.pth", weights_only=True)
  _assert_equal({name: tensor.numpy() for name, tensor in found.items()}, arrays)
