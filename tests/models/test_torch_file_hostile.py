"""Files of PyTorch's that are damaged, or made to take much memory or time, each with its
sentence."""

import io
import pickle
import random
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch_writer
from torch_writer import Call, Global, Tensor, new, old

from apprentice_jax.models.pytorch import pickles, state_dict

CONTAINERS = {"new": new, "old": old}
TENSORS = "torch._utils._rebuild_tensor_v2"


# Damaged and hostile files.


def _tensor(*view, **more):
  return {"x": Tensor(np.zeros(8, np.float32), *view, **more)}


LARGE = 2**62
HOSTILE = {
  "a view beyond its storage": (
    _tensor(0, (3, 3), (3, 1)),
    "is damaged: a tensor is larger than its storage",
  ),
  "an offset beyond it": (
    _tensor(8, (1,), (1,)),
    "is damaged: a tensor is larger than its storage",
  ),
  "a stride that overflows": (
    _tensor(0, (2,), (LARGE,)),
    "is damaged: a tensor is larger than its storage",
  ),
  "a negative size": (
    _tensor(0, (-1,), (1,)),
    "is damaged: a tensor's size, stride or offset is negative or too large",
  ),
  "a negative stride": (
    _tensor(4, (2,), (-1,)),
    "is damaged: a tensor's size, stride or offset is negative or too large",
  ),
  "a negative offset": (
    _tensor(-4, (2,), (1,)),
    "is damaged: a tensor's size, stride or offset is negative or too large",
  ),
  "a size of 100 digits": (
    _tensor(0, (10**100,), (1,)),
    "is damaged: a tensor's size, stride or offset is negative or too large",
  ),
  "a size that is none": (
    _tensor(0, (1.5,), (1,)),
    "is damaged: a tensor's size, stride or offset is negative or too large",
  ),
  "expanded to exabytes": (
    _tensor(0, (LARGE,), (0,)),
    "is damaged: its tensors are larger than the file",
  ),
  "exabytes of nothing": (
    _tensor(0, (LARGE, 0), (0, 0)),
    "is damaged: its tensors are larger than the file",
  ),
  "many tensors larger than the file": (
    {str(i): t for i in range(100) for t in _tensor(0, (2**15,), (0,)).values()},
    "is damaged: its tensors are larger than the file",
  ),
  "100 axes": (_tensor(0, 100 * (1,), 100 * (1,)), "was cut off, or is damaged"),
  "strides for another number of axes": (_tensor(0, (2, 2), (1,)), "was cut off, or is damaged"),
  "a count of numbers that is negative": (
    _tensor(0, (2,), (1,), count=-1),
    "was cut off, or is damaged",
  ),
  "a count of numbers of 22 digits": (
    _tensor(0, (2,), (1,), count=2**70),
    "was cut off, or is damaged",
  ),
  "arguments of other types": (Call(TENSORS, (1, 2, 3, 4)), "was cut off, or is damaged"),
  "too few arguments": (Call(TENSORS, ()), "was cut off, or is damaged"),
  "1,000 arguments": (Call("torch.device", 1000 * (1,)), "was cut off, or is damaged"),
  "a storage that is none": (
    torch_writer._Stored(("module", 1, 2, 3)),
    "was cut off, or is damaged",
  ),
  "a call of itself": (
    Call(
      "torch._tensor._rebuild_from_type_v2",
      (Global("torch._tensor._rebuild_from_type_v2"), Global("torch.Tensor"), (), {}),
    ),
    "was cut off, or is damaged",
  ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tensors(name, refusal):
  content, sentence = HOSTILE[name]
  for write in CONTAINERS.values():
    assert refusal(write(content)) == f"FILE {sentence}."


def test_storages_of_other_sizes(refusal):
  x = _tensor(0, (8,), (1,))
  resized = lambda change: new(x, change=change)
  shorter = lambda entries: entries.update({"data/0": entries["data/0"][:-1]})
  assert (
    refusal(resized(shorter))
    == "FILE is damaged: the storage '0' is not of the size that it should have."
  )
  assert (
    refusal(resized(lambda entries: entries.pop("data/0")))
    == "FILE is damaged: 'data/0' is missing from it."
  )
  assert refusal(new(_tensor(0, (8,), (1,), count=2**50))).startswith(
    "FILE is damaged: the storage '0' is not"
  )
  assert (
    refusal(old(_tensor(0, (8,), (1,), count=2**50), count=2**50))
    == "FILE was cut off, or is damaged."
  )
  assert (
    refusal(new(x, byteorder=b"both"))
    == "FILE is damaged: its byteorder is neither little nor big."
  )
  for broken in (
    old(x)[:-1],
    old(_tensor(0, (1,), (1,), part=("v", -1, 2))),
    old(_tensor(0, (1,), (1,), part=("v", 7, 2))),
    old(_tensor(0, (1,), (1,), part=("v", 0.5, 2))),
    old(x, count=7),
    old(x, keys=[]),
    old(x, keys=["94000", "94000"]),
    old(x, keys=["1"]),
    old(x, keys={}),
    old(x, keys=[["94000"]]),
  ):
    assert refusal(broken) == "FILE was cut off, or is damaged."


def test_entries_of_archives(refusal, recwarn):
  whole = new(_tensor(0, (8,), (1,)))
  assert (
    refusal(whole[:-1])
    == refusal(whole[:100])
    == "FILE is a zip archive that was cut off, or is damaged."
  )
  flipped = bytearray(whole)
  flipped[whole.index(b"archive/data/0") + 20] ^= 1
  assert refusal(bytes(flipped)) == "FILE is damaged: 'data/0' is not what was written."

  def archive(*entries, **how):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **how) as written:
      for name, data in entries:
        written.writestr(name, data)
    return file.getvalue()

  data, _ = torch_writer.pickled(_tensor(0, (8,), (1,)))
  assert refusal(archive(("a/data.pkl", data), ("a/data/0", b""), ("a/data/0", b"x"))) == (
    "FILE is damaged: two of its entries have the same name."
  )
  assert refusal(archive(("a/data.pkl", data), ("b/data.pkl", data))).startswith(
    "FILE is a zip archive that torch.save"
  )
  bomb = archive(("a/data.pkl", data), ("a/data/0", bytes(10**7)), compression=zipfile.ZIP_DEFLATED)
  assert (
    refusal(bomb)
    == "FILE has a compressed 'data.pkl', and torch.save compresses nothing: save it anew."
  )
  # Zeros that are a thousand times as many, in an entry that says that they are as few.
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as written:
    written.writestr("a/data.pkl", data)
    written.writestr("a/data/0", bytes(10**7), zipfile.ZIP_DEFLATED)
  small = bytearray(file.getvalue())
  place = small.rindex(b"a/data/0") - 46 + 20  # of the compressed size, in the central directory
  small[place + 4 : place + 8] = small[place : place + 4]
  assert refusal(bytes(small)).startswith("FILE has a compressed 'data/0', and ")
  # An entry that says that it is larger than the file.
  large = bytearray(archive(("a/data.pkl", data), ("a/data/0", bytes(32))))
  place = large.rindex(b"a/data/0") - 46 + 20
  large[place : place + 8] = struct.pack("<2I", 2**31, 2**31)
  assert refusal(bytes(large)) == "FILE is damaged: its entries are larger than the file."


PROTO, END = b"\x80\x04", b"."
STEPS = {
  "a memo of four thousand million entries": (
    PROTO + b"Nr\xff\xff\xff\xff" + END,
    "it holds a NoneType",
  ),
  "numbers of one hash in the memo": (
    PROTO + b"".join(b"Np%d\n" % (i * (2**61 - 1)) for i in range(1, 50_000)) + END,
    "was cut off, or is damaged",
  ),
  "100,000 tuples in each other": (PROTO + b")" + 100_000 * b"\x85" + END, "it holds a tuple"),
  "a dict whose key is a deep tuple": (
    PROTO + b"})" + 100_000 * b"\x85" + b"Ns" + END,
    "it holds a dict",
  ),
  "a dict whose key is a list": (PROTO + b"}]Ns" + END, "it holds a dict"),
  "a list in itself": (PROTO + b"]\x94h\x00a" + END, "it holds a list"),
  "too many steps": (
    PROTO + (pickles.MOST_STEPS + 1) * b"N" + END,
    "holds too much beside tensors",
  ),
  "a text of exabytes": (
    PROTO + b"\x8d" + struct.pack("<Q", 2**62) + b"x" + END,
    "was cut off, or is damaged",
  ),
  "bytes of four gigabytes": (PROTO + b"B\xff\xff\xff\xff" + END, "was cut off, or is damaged"),
  "a number of a million digits": (
    PROTO + b"I" + 10**6 * b"9" + b"\n" + END,
    "was cut off, or is damaged",
  ),
  "a text that is no UTF-8": (PROTO + b"X\x02\0\0\0\xff\xff" + END, "was cut off, or is damaged"),
  "a stack that is empty": (PROTO + END, "was cut off, or is damaged"),
  "a mark that is missing": (PROTO + b"Nt" + END, "was cut off, or is damaged"),
  "a memo that is empty": (PROTO + b"h\x00" + END, "was cut off, or is damaged"),
  "half an entry": (PROTO + b"}(NNNu" + END, "was cut off, or is damaged"),
  "an entry in None": (PROTO + b"NNNs" + END, "was cut off, or is damaged"),
  "no end": (PROTO + b"N", "was cut off, or is damaged"),
  "an instance": (PROTO + b"(ios\nsystem\n" + END, "has a pickle with the step INST"),
  "an object": (PROTO + b"(cos\nsystem\no" + END, "has os.system pickled in it"),
  "an extension": (PROTO + b"\x82\x01" + END, "has a pickle with the step EXT1"),
  "a call of a number": (PROTO + b"I1\n)R" + END, "was cut off, or is damaged"),
  # Work that grows with the square of the file.
  "a list of pairs that is copied often": (
    PROTO
    + b"ccollections\nOrderedDict\n\x94X\x01\0\0\0xN\x86\x940("
    + 100_000 * b"h\x01"
    + b"l\x94"
    + 100_000 * b"h\x00h\x02\x85R0"
    + END,
    "it holds a list",
  ),
  "a hundred thousand arguments, often": (
    PROTO + b"ctorch\ndevice\n\x94(" + 100_000 * b"N" + b"t\x94" + 100_000 * b"h\x00h\x01R0" + END,
    "was cut off, or is damaged",
  ),
}


@pytest.mark.parametrize("name", STEPS)
def test_hostile_pickles(name, refusal):
  steps, sentence = STEPS[name]
  for content in (
    new(None, change=lambda entries: entries.update({"data.pkl": steps})),
    old(None)[: -len(pickle.dumps(None, 2)) - len(pickle.dumps([], 2))]
    + steps
    + pickle.dumps([], 2),
  ):
    assert sentence in refusal(content)


def test_many_views_of_one_storage_are_not_many_copies(read):
  """The storage is converted element by element of the views, not whole for each."""
  bits = np.zeros(2**18, np.int16)
  found = read(new({str(i): Tensor(bits, i, (1,), (1,), "BFloat16") for i in range(3000)}))
  assert len(found) == 3000


@pytest.mark.parametrize("write", CONTAINERS.values(), ids=CONTAINERS)
def test_damaged_anywhere(write, tmp_path):
  """A file that is cut off or changed is read, or refused in a sentence, in little memory."""
  chance = random.Random(0)
  whole = write(
    {
      "state_dict": {
        "conv1.weight": np.ones((4, 3, 3, 3), np.float32),
        "bn1.bias": Tensor(np.zeros(8, np.int16), 1, (3,), (2,), "BFloat16"),
      },
      "epoch": 3,
      "list": [1, (2, 3.5)],
      "args": torch_writer.namespace(lr=0.1),
    }
  )
  path, refused = tmp_path / "x.pth", 0
  tracemalloc.start()
  for _ in range(300):
    content = bytearray(whole)
    if chance.random() < 0.3:
      content = content[: chance.randrange(len(content))]
    else:
      begin, some = chance.choice([(0, len(whole)), (0, 400), (len(whole) - 400, 400)])
      for _ in range(chance.choice([1, 1, 3])):
        content[begin + chance.randrange(some)] = chance.randrange(256)
    path.write_bytes(content)
    try:
      state_dict.read(path)
    except ValueError as error:
      assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) < 700
      refused += 1
  assert refused > 150 and tracemalloc.get_traced_memory()[1] < 2**23
  tracemalloc.stop()
