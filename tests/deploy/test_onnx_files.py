"""ONNX files: their attributes, weights and metadata; damaged and foreign files are refused."""

import json

import numpy as np
import onnx as library
import pytest
from networks import NAMES, made
from onnx_sessions import lowered, metadata_of

from apprentice_jax.deploy import onnx, packed, registry
from apprentice_jax.deploy.network import Conv
from apprentice_jax.deploy.predictor import BadFile
from apprentice_jax.errors import ConfigError


@pytest.mark.parametrize("form", ["exact", "fast"])
def test_nothing_is_left_to_a_readers_defaults(form):
  """Each attribute that ONNX has a default for is written out; so is what convolutions would
  infer."""
  network = (
    lowered(residual=True, shortcut="conv")
    if form == "fast"
    else lowered(name="resnet18", width=0.0625)
  )
  model = library.load_from_string(onnx.encode(network, form))
  opset = model.opset_import[0].version
  for node in model.graph.node:
    said = {a.name for a in node.attribute}
    schema = library.defs.get_schema(node.op_type, opset)
    assert {a.name for a in schema.attributes.values() if a.default_value.name} <= said, node.name
    if node.op_type in ("Conv", "MaxPool"):
      assert {"kernel_shape", "pads", "strides", "dilations"} <= said, node.name
  assert (opset, model.ir_version) == {"exact": (17, 8), "fast": (19, 9)}[form]
  library.checker.check_model(model, full_check=True)
  shapes = library.shape_inference.infer_shapes(
    model, check_type=True, strict_mode=True, data_prop=True
  )
  inferred = {
    value.name for value in shapes.graph.value_info if value.type.tensor_type.HasField("shape")
  }
  assert {node.output[0] for node in model.graph.node} - {"logits"} <= inferred


def test_weights_are_packed():
  network = lowered()
  sizes = [
    n.weights.levels.size for n in network.nodes if isinstance(n, Conv) and n.weights.bits == 2
  ]
  for packing, each, table in (("bits", 4, 256), ("base3", 5, 243)):
    constants = library.load_from_string(onnx.encode(network, "exact", packing)).graph.initializer
    held = [tuple(c.dims) for c in constants if c.data_type == library.TensorProto.UINT8 and c.dims]
    assert held == [(-(-size // each),) for size in sizes]
    assert [tuple(c.dims) for c in constants if c.data_type == library.TensorProto.INT8] == [
      (table, each)
    ]


def test_a_file_says_what_it_takes(tmp_path):
  network = lowered()
  registry.write(network, "onnx", tmp_path / "student")
  assert registry.recognised(tmp_path / "student") == "onnx"
  said = metadata_of((tmp_path / "student").read_bytes())
  assert (
    said["architecture"] == "resnet"
    and said["precision"] == "8A,2W"
    and "not normalised" in said["pixels"]
  )
  assert json.loads(said["class_names"]) == list(NAMES) and json.loads(said["std"]) == list(
    network.std
  )
  predictor = registry.load(tmp_path / "student")
  assert predictor[:3] == (network.image_shape, network.class_names, network.resize)
  images = made()[3]
  np.testing.assert_array_equal(predictor.logits(images[:2]), predictor.logits(images)[:2])


def test_damage_is_noticed(tmp_path):
  data, random = onnx.encode(lowered()), np.random.default_rng(0)
  hurt = [data[:size] for size in (20, len(data) // 2, len(data) - 1)] + [data + b"\0"]
  for _ in range(100):
    changed = bytearray(data)
    changed[random.integers(16, len(data))] ^= 1 << random.integers(8)
    hurt.append(bytes(changed))
  for changed in hurt:
    (tmp_path / "x").write_bytes(changed)
    with pytest.raises(ConfigError, match="damaged"):
      registry.load(tmp_path / "x")
  packed.write(lowered(), tmp_path / "packed")
  assert not onnx.recognises(tmp_path / "packed")


@pytest.mark.parametrize(
  "key, value",
  [
    ("image_shape", None),
    ("image_shape", "3"),
    ("image_shape", "[13, 17, 3]"),
    ("class_names", "{"),
    ("class_names", '["a"]'),
    ("resize", "[]"),
    ("", None),
  ],
)
def test_files_that_nobody_exported_are_refused(tmp_path, key, value):
  """With a checksum that is right."""
  model = library.load_from_string(onnx.encode(lowered()))
  del model.metadata_props[-1]  # the checksum
  if key:
    entry = next(e for e in model.metadata_props if e.key == key)
    model.metadata_props.remove(entry)
    if value is not None:
      model.metadata_props.add(key=key, value=value)
  else:
    model.graph.node[0].op_type = "NoSuchOperator"
  data = model.SerializeToString()
  (tmp_path / "x").write_bytes(data + onnx._seal(data))
  with pytest.raises(BadFile, match="no network that export wrote"):
    onnx.load(tmp_path / "x")
