"""The packed file: what it holds, how large it is, and that nothing else is read as one."""

import dataclasses
import json
import struct

import compare
import fuzz
import numpy as np
import pytest
from networks import lowered

from apprentice_jax.deploy import bits, packed
from apprentice_jax.deploy.network import BadNetwork, Weights, check
from apprentice_jax.deploy.predictor import BadFile

PACKINGS = [f"{k}bit" for k in range(2, 9)] + [f"{k}bit-odd" for k in range(1, 9)] + ["base3"]


def random_levels(packing, count, seed=0):
  top = bits._top(packing)
  levels = np.random.default_rng(seed).integers(-top, top + 1, count).astype(np.int16)
  return levels | 1 if packing.endswith("odd") else levels


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("count", [1, 8, 37])
def test_levels_come_back(packing, count):
  levels = random_levels(packing, count)
  data = bits.pack(levels, packing)
  assert data.dtype == np.uint8 and data.shape == (bits.packed_size(count, packing),)
  assert bits.whole(data, packing, count)
  found = bits.levels(data, packing, (count,))
  assert found.dtype == (np.int16 if packing == "8bit-odd" else np.int8)
  np.testing.assert_array_equal(found, levels)


@pytest.mark.parametrize("packing", PACKINGS)
def test_the_bytes_are_those_of_one_large_number(packing):
  """In k bits the file is the number sum(code_i * 2**(k * i)); in base 3 each byte is one of five
  digits."""
  levels = random_levels(packing, 30, seed=1)
  top, stride = bits._top(packing), 2 if packing.endswith("odd") else 1
  codes = [(int(level) + top) // stride for level in levels]
  if packing == "base3":
    wanted = bytes(sum(3**j * c for j, c in enumerate(codes[i : i + 5])) for i in range(0, 30, 5))
  else:
    k = int(packing[0])
    wanted = sum(c << k * i for i, c in enumerate(codes)).to_bytes(-(-30 * k // 8), "little")
  assert bits.pack(levels, packing).tobytes() == wanted


@pytest.mark.parametrize(
  "packing, data, count",
  [
    ("2bit", [0b00000011], 1),
    ("2bit", [0b00010000], 2),
    ("base3", [243], 5),
    ("base3", [9], 2),
    ("3bit", [0b111], 1),
    ("1bit-odd", [0b10], 1),
  ],
)
def test_bytes_that_are_no_levels_are_noticed(packing, data, count):
  assert not bits.whole(np.array(data, np.uint8), packing, count)


KINDS = [
  dict(),
  dict(weights="ttq"),
  dict(weights="ttq", per_channel=False),
  dict(precision="4A,5W"),
  dict(precision="1A,1W"),
  dict(precision="8A,8W", weights="dorefa"),
  dict(precision="32A,2W"),
  dict(precision="32A,32W"),
  dict(residual=True, shortcut="conv"),
  dict(name="resnet18", width=0.0625),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("ends, packing", [("float", "bits"), ("8bit", "base3")])
def test_a_network_comes_back_in_every_bit(kind, ends, packing):
  if kind.get("precision") == "32A,32W" and ends == "8bit":
    return
  network = lowered(ends, **kind)
  data = packed.encode(network, packing)
  found = packed.decode(data)
  assert compare.same(network, found)
  for field in ("image_shape", "class_names", "mean", "std", "resize", "architecture", "precision"):
    assert getattr(found, field) == getattr(network, field)
  assert packed.encode(found, packing) == data


def test_any_reader_of_safetensors_finds_the_weights(tmp_path):
  from safetensors import safe_open

  packed.write(lowered(), tmp_path / "student")
  with safe_open(tmp_path / "student", "np") as file:
    assert file.metadata()["format"] == packed.FORMAT
    assert file.metadata()["nodes"].startswith(
      "Image image 0 1x3\nConv stem image 1 1 3x3x3x4:float 1x4\nQuantize"
    )
    assert file.get_tensor("stage1_block1/conv1").shape == (
      36,
    )  # 3 * 3 * 4 * 4 weights, four to a byte
    assert file.get_tensor("head").dtype == np.float32
  assert [p.name for p in tmp_path.iterdir()] == ["student"]


# What follows is about files that nobody wrote.


def test_a_bit_that_flips_is_noticed_wherever_it_is():
  data = packed.encode(lowered(), "base3")
  random = np.random.default_rng(0)
  for place in [*range(80), *random.integers(0, len(data), 620)]:
    damaged = bytearray(data)
    damaged[place] ^= 1 << random.integers(8)
    with pytest.raises(BadFile):
      packed.decode(bytes(damaged))


def test_a_file_that_was_cut_off_or_grew_is_noticed():
  data = packed.encode(lowered())
  for length in [*range(0, 200), *np.random.default_rng(1).integers(0, len(data), 200)]:
    with pytest.raises(BadFile):
      packed.decode(data[:length])
  for more in (b"\0", b"\0" * 8, data):
    with pytest.raises(BadFile):
      packed.decode(data + more)


def test_hostile_metadata_with_a_right_checksum_is_refused_or_consistent():
  """Words, lines, numbers and tensors replaced: what is still read has to be a network that
  runs."""
  outcomes = [
    fuzz.outcome(fuzz.hostile(np.random.default_rng(seed), packed.encode(lowered())))
    for seed in range(700)
  ]
  assert outcomes.count("refused") > 450 and outcomes.count("read") > 5


@pytest.mark.parametrize(
  "packing, place, value", [("base3", 0, 250), ("base3", -1, 81 * 2), ("bits", 0, 255)]
)
def test_bytes_that_pack_would_not_write_are_refused(packing, place, value):
  """With a right checksum: no digits of base 3, something after the last level (of 144), a code of
  no level."""
  header, body = fuzz.parts(packed.encode(lowered(), packing))
  begin, end = header["stage1_block1/conv1"]["data_offsets"]
  body = bytearray(body)
  body[(end if place < 0 else begin) + place] = value
  with pytest.raises(BadFile, match="node stage1_block1/conv1 has weights that are no levels"):
    packed.decode(fuzz.rebuilt(header, bytes(body)))


@pytest.mark.parametrize(
  "change, sentence",
  [
    (dict(class_names=[]), "wrong class_names"),
    (dict(class_names=["a", 1]), "wrong class_names"),
    (dict(class_names=["a"]), "for 1 classes"),
    (dict(image_shape=[10**9, 10**9, 3]), "a result of shape"),
    (dict(image_shape=[0, 16, 3]), "a result of shape"),
    (dict(image_shape=[-8, 16, 3]), "a result of shape"),
    (dict(image_shape=[16, 3]), "no height, width and channels"),
    (dict(image_shape=[True, 1, 3]), "wrong image_shape"),
    (dict(image_shape=[16, 16, 1]), "for 1 channels"),
    (dict(mean=[float("nan")] * 3), "its mean or its deviation"),
    (dict(std=[0.0] * 3), "its mean or its deviation"),
    (dict(mean=[0.5]), "1 means and 3 deviations"),
    (dict(resize=-1), "resizes to -1"),
    (dict(resize="big"), "wrong resize"),
    (dict(more=1), "has other fields"),
  ],
)
def test_wrong_words_about_the_network(change, sentence):
  header, body = fuzz.parts(packed.encode(lowered()))
  about = json.loads(header["__metadata__"]["about"])
  header["__metadata__"]["about"] = json.dumps({**about, **change})
  with pytest.raises(BadFile, match=sentence):
    packed.decode(fuzz.rebuilt(header, body))


@pytest.mark.parametrize("about", ["[" * 100_000, "[]", "null", "{}", '"text"', "{", ""])
def test_about_of_another_kind(about):
  header, body = fuzz.parts(packed.encode(lowered()))
  header["__metadata__"]["about"] = about
  with pytest.raises(BadFile):
    packed.decode(fuzz.rebuilt(header, body))


def test_headers_of_another_kind():
  header, body = fuzz.parts(packed.encode(lowered()))
  for key in header["__metadata__"]:
    if key != "sha256":
      metadata = {k: v for k, v in header["__metadata__"].items() if k != key}
      with pytest.raises(BadFile):
        packed.decode(fuzz.rebuilt({**header, "__metadata__": metadata}, body))
      with pytest.raises(BadFile):
        packed.decode(fuzz.rebuilt({**header, "__metadata__": {**metadata, key: 7}}, body))
  digest = '{"sha256":"' + "0" * 64 + '"'
  for text in (
    digest + ":" + "[" * 50_000,
    digest + "}",
    digest + ',"__metadata__":[]}',
    digest + ',"a":{"b":[]}}',
  ):
    with pytest.raises(BadFile):
      packed.decode(packed.sign(struct.pack("<Q", len(text)) + text.encode()))
  for size in (0, 1, 2**63, 2**64 - 1):
    with pytest.raises(BadFile):
      packed.decode(struct.pack("<Q", size) + packed.encode(lowered())[8:])


def test_weights_of_a_kind_that_cannot_be_are_not_written():
  network = lowered()
  wrong = [
    dataclasses.replace(n, weights=Weights(n.weights.levels * 2, 2))
    if n.name == "stage1_block1/conv1"
    else n
    for n in network.nodes
  ]
  with pytest.raises(BadNetwork, match="levels that are not within 1"):
    check(dataclasses.replace(network, nodes=tuple(wrong)))
