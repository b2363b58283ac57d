"""ONNX files, run by ONNX Runtime, against the NumPy reference."""

import dataclasses
import functools
import itertools
import json
import pathlib
import warnings

import jax
import networks as small
import numpy as np
import onnx as library
import onnxruntime
import pytest
from networks import NAMES, made
from onnx.reference import ReferenceEvaluator

from apprentice_jax.deploy import interpret, lower, onnx, packed, registry
from apprentice_jax.deploy import (
  network as networks,
)
from apprentice_jax.deploy.network import Conv, Weights
from apprentice_jax.deploy.onnx import exact, fast
from apprentice_jax.deploy.onnx.graph import Graph
from apprentice_jax.deploy.predictor import BadFile
from apprentice_jax.errors import ConfigError

KINDS = [
  dict(),
  dict(precision="8A,4W"),
  dict(weights="ttq"),
  dict(residual=True, weights="ttq", shortcut="conv"),
  dict(precision="1A,1W"),
  dict(precision="3A,5W"),
  dict(precision="8A,3W", weights="wrpn"),
  dict(precision="4A,8W", weights="dorefa"),
  dict(precision="8A,32W"),
  dict(full_precision=(), weights="ttq"),
  dict(name="resnet18", width=0.0625),
  dict(name="resnet50", width=0.0625, residual=True),
]
FAST = [
  dict(residual=True),
  dict(residual=True, weights="ttq", shortcut="conv"),
  dict(residual=True, weights="ttq", shortcut="conv", per_channel=False),
  dict(residual=True, precision="8A,4W"),
  dict(name="resnet50", width=0.0625, residual=True),
  dict(residual=True, weights="dorefa"),
  dict(residual=True, full_precision=()),
]
lowered = functools.lru_cache(maxsize=None)(small.lowered)


def levels(data: bytes, network, images) -> dict:
  """The levels that ONNX Runtime computes at every activation, (batch, height, width, channels), by
  node."""
  known = networks.check(network)
  names = [name for name, value in known.items() if value.kind == "levels"]
  model = library.load_from_string(data)
  model.graph.output.extend(library.ValueInfoProto(name=name) for name in names)
  session = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]
  )
  found = session.run(names, {"images": images})
  return {
    name: (x.transpose(0, 2, 3, 1).astype(np.int16) - (128 if known[name].low < 0 else 0))
    for name, x in zip(names, found)
  }


def reference(network, images, given):
  """(logits, levels) of the NumPy reference, from the levels of the first activation on."""
  found = {}
  given = {k: v.astype(np.uint8) for k, v in given.items() if k == "stem_act"}
  return interpret.logits(
    network, images, given, lambda name, _, value: found.update({name: value})
  ), found


def predicted(data, folder, images):
  (folder / "x").write_bytes(data)
  return registry.load(folder / "x").logits(images)


def optimized(data: bytes, folder):
  """A session, and the kinds of nodes that ONNX Runtime made of the file's."""
  options = onnxruntime.SessionOptions()
  options.optimized_model_filepath = str(folder / "optimized")
  options.log_severity_level = 3
  session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
  return session, [node.op_type for node in library.load(folder / "optimized").graph.node]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_exact_form_is_equal_in_every_bit_after_the_stem(kind, tmp_path):
  images = made(**kind)[3]
  for ends in ("float", "8bit") if "32W" not in kind.get("precision", "") else ("float",):
    network = lowered(ends, **kind)
    data = onnx.encode(network, "exact", "base3" if ends == "8bit" else "bits")
    found = levels(data, network, images)
    wanted, own = reference(network, images, found)
    assert len(found) > 6
    for name, x in found.items():
      if name != "stem_act" or ends == "8bit" and "full_precision" not in kind:
        np.testing.assert_array_equal(x, own[name], err_msg=name)
    # Whole, with nothing to look at between the layers; but for the order of float sums.
    np.testing.assert_allclose(predicted(data, tmp_path, images), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
  "kind", [dict(weights="ttq", residual=True), dict(precision="8A,8W", weights="dorefa")], ids=str
)
def test_integer_and_float_convolutions_give_the_same_bits(kind, monkeypatch):
  images, network, found = made(**kind)[3], lowered("8bit", **kind), []
  for bound, op in ((2**24, "Conv"), (0, "ConvInteger")):
    monkeypatch.setattr(exact, "EXACT", bound)
    data = onnx.encode(network, "exact")
    assert {
      n.op_type for n in library.load_from_string(data).graph.node if "Conv" in n.op_type
    } == {op}
    found.append(levels(data, network, images))
  for name, x in found[0].items():
    np.testing.assert_array_equal(x, found[1][name], err_msg=name)


@pytest.mark.parametrize(
  "kind",
  [
    dict(precision="32A,2W"),
    dict(precision="32A,2W", weights="ttq", shortcut="conv"),
    dict(precision="32A,8W", weights="dorefa"),
    dict(precision="32A,32W", name="resnet18", width=0.0625),
  ],
  ids=str,
)
def test_float_activations(kind, tmp_path):
  images, network = made(**kind)[3], lowered(**kind)
  wanted = interpret.logits(network, images)
  np.testing.assert_allclose(
    predicted(onnx.encode(network), tmp_path, images), wanted, atol=1e-5 * np.abs(wanted).max()
  )


def _processor() -> str:
  path = pathlib.Path("/proc/cpuinfo")
  return path.read_text() if path.exists() else "vnni"


def misses(data, network, images):
  """The reference's logits, each layer given the levels that ONNX Runtime has before it, and how
  much those differ."""
  found, own = levels(data, network, images), {}
  known = networks.check(network)
  given = {k: v.astype(np.int8 if known[k].low < 0 else np.uint8) for k, v in found.items()}
  logits = interpret.logits(
    network, images, given, lambda name, _, value: own.update({name: value})
  )
  return logits, np.concatenate([np.abs(x - own[name]).ravel() for name, x in found.items()])


@pytest.mark.parametrize("kind", FAST, ids=str)
def test_the_fast_form_misses_few_levels_by_one(kind, tmp_path):
  images = made(**kind)[3]
  for ends in ("float", "7bit", "8bit"):
    network = lowered(ends, **kind)
    with warnings.catch_warnings(record=True) as warned:
      warnings.simplefilter("always")
      data = onnx.encode(network)
    assert _said(data)["form"] == "fast"
    assert [network.nodes[-1].weights.bits == 8] == [bool(warned)]
    if warned:
      assert all("sums of stem come out wrong" in str(w.message) for w in warned)
      if "vnni" not in _processor():
        continue
    wanted, difference = misses(data, network, images)
    # TTQ's two magnitudes are whole numbers up to 64, in nearly their ratio.
    assert difference.max() <= 1 and np.mean(difference) < (
      0.03 if kind.get("weights") == "ttq" else 0.002
    )
    head = network.nodes[
      -1
    ]  # whose bias is a whole number of its sums' units, where it has integers
    half = head.multiplier.max() / 2 if networks.check(network)[head.input].kind == "levels" else 0
    np.testing.assert_allclose(
      predicted(data, tmp_path, images), wanted, rtol=1e-5, atol=1e-5 + half
    )
    free = interpret.logits(network, images)
    np.testing.assert_allclose(wanted, free, atol=0.02 * np.abs(free).max())


@pytest.mark.parametrize("weights", ["twn", "ttq", "dorefa"])
def test_channels_that_batch_norm_has_all_but_switched_off(weights):
  model, params, stats, images = made(residual=True, weights=weights)

  def quiet(path, leaf):
    if "norm" in path[-2].key and path[-1].key == "scale":
      leaf = leaf.copy()
      leaf[:3] = 0, 1e-7, -1e-10
    return leaf

  params = jax.tree_util.tree_map_with_path(quiet, params)
  network = lower.lower(
    model, params, stats, image_shape=small.SHAPE, class_names=NAMES, mean=small.MEAN, std=small.STD
  )
  difference = misses(onnx.encode(network, "fast"), network, images)[1]
  assert difference.max() <= 1 and np.mean(difference) < 0.03


def evaluated(data: bytes, network, images, run):
  """(logits, levels by node) by a function of a model and its inputs."""
  names = [name for name, value in networks.check(network).items() if value.kind == "levels"]
  model = library.load_from_string(data)
  model.graph.output.extend(library.ValueInfoProto(name=name) for name in names)
  logits, *found = run(model, {"images": images})
  return logits, {name: x.astype(int) for name, x in zip(names, found)}


def by_onnx(model, feed):
  return ReferenceEvaluator(model).run(None, feed)


def by_runtime(model, feed):
  return onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]
  ).run(None, feed)


@pytest.mark.parametrize("kind", KINDS + [dict(precision="32A,2W")], ids=str)
def test_onnxs_own_evaluator_runs_the_exact_form_to_the_bit(kind):
  images = made(**kind)[3]
  for ends in ("float", "8bit") if "32W" not in kind.get("precision", "") else ("float",):
    network = lowered(ends, **kind)
    data = onnx.encode(network, "exact")
    (logits, found), (wanted, levels_there) = (
      evaluated(data, network, images, run) for run in (by_onnx, by_runtime)
    )
    for name, x in found.items():
      np.testing.assert_array_equal(x, levels_there[name], err_msg=name)
    # The order of float sums is each library's own.
    np.testing.assert_allclose(logits, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore:on x86 processors without VNNI")
@pytest.mark.parametrize("kind", FAST, ids=str)
def test_onnxs_own_evaluator_runs_the_fast_form(kind):
  """ONNX Runtime makes one rounding of two where it fuses: a level close to the middle may be the
  other one."""
  images = made(**kind)[3]
  for ends in ("float", "7bit"):
    network = lowered(ends, **kind)
    data = onnx.encode(network, "fast")
    (logits, found), (wanted, there) = (
      evaluated(data, network, images, run) for run in (by_onnx, by_runtime)
    )
    difference = np.concatenate([np.abs(x - there[name]).ravel() for name, x in found.items()])
    assert difference.max() <= 1 and np.mean(difference) < 0.002
    np.testing.assert_allclose(logits, wanted, atol=0.02 * np.abs(wanted).max())


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


def test_8_bit_weights_throughout_want_vnni_or_the_exact_form():
  with pytest.warns(UserWarning, match="stage1_block1/conv1.* what fits is --form=exact."):
    onnx.encode(lowered(residual=True, precision="8A,8W"), "fast")


@pytest.mark.parametrize(
  "op, bits, odd",
  [("QGemm", 8, 0), *itertools.product(("MatMulInteger", "ConvInteger"), (7, 8), (0, 1))],
)
def test_the_largest_sums_are_exact_on_this_processor(op, bits, odd, monkeypatch, tmp_path):
  """Of levels of 255 and of the largest weights, which pairs of products in 16 bits cannot hold."""
  monkeypatch.setattr(exact, "EXACT", 0)
  top = 2**bits - 1 if odd else 2 ** (bits - 1) - 1
  weights = Weights(np.full((1, 1, 64, 24), top, np.int16 if top > 127 else np.int8), bits, odd)
  weights.levels[..., ::2] = -top
  node = Conv(
    "conv", "x", 1, False, weights, np.ones((1, 24), np.float32), np.zeros(24, np.float32)
  )
  value, g = (
    networks.Value((1, 1, 64), "levels", 0, 255, 8),
    Graph(form="fast" if op == "QGemm" else "exact"),
  )
  logits = {
    "MatMulInteger": lambda: exact.dense(g, node, value, "x"),
    "QGemm": lambda: fast.dense(g, node, value, 1),
    "ConvInteger": lambda: exact.rule(g, node, [value], ["x"]),
  }[op]()
  g.add("Identity", logits, name="y")
  shape = [3, 24, 1, 1] if op == "ConvInteger" else [3, 24]
  model = g.model([("x", np.uint8, [3, 64, 1, 1])], [("y", np.float32, shape)], {})
  session, kinds = optimized(model.SerializeToString(), tmp_path)
  assert op in kinds
  found = session.run(["y"], {"x": np.full((3, 64, 1, 1), 255, np.uint8)})[0].reshape(3, 24)
  np.testing.assert_array_equal(found, np.tile([-64 * 255 * top, 64 * 255 * top], (3, 12)))


def test_fast_additions_and_convolutions_are_of_8_bits(tmp_path):
  kinds = optimized(onnx.encode(lowered(residual=True, weights="ttq")), tmp_path)[1]
  # Six convolutions, and two that copy shortcuts among more channels.
  assert (
    kinds.count("QLinearConv") == 6 + 2
    and kinds.count("QLinearAdd") == 3
    and kinds.count("DequantizeLinear") == 1
  )
  assert "Gather" not in kinds  # of packed weights: done when it is loaded
  assert kinds.count("Transpose") <= 4  # channels last, but for the float ends
  kinds = optimized(onnx.encode(lowered("7bit", residual=True)), tmp_path)[1]
  assert (
    kinds.count("QLinearConv") == 1 + 6 + 2
    and kinds.count("QLinearAdd") == 3
    and "DequantizeLinear" not in kinds
  )
  assert "QLinearGlobalAveragePool" in kinds and "QGemm" in kinds and kinds.count("Transpose") <= 1


def test_networks_without_a_fast_form():
  network = lowered(residual=True, weights="ttq")
  for i, node in enumerate(network.nodes):
    if node.name == "stage1_block1/conv1":
      same = dataclasses.replace(node, multiplier=np.abs(node.multiplier))
      changed = dataclasses.replace(
        network, nodes=(*network.nodes[:i], same, *network.nodes[i + 1 :])
      )
      with pytest.raises(ConfigError, match="not of two signs"):
        onnx.encode(changed, "fast")
  for kind, words in (
    (dict(), "quantization.residual"),
    (dict(precision="4A,2W", residual=True), "4 bits"),
    (dict(precision="32A,2W"), "quantization.residual"),
    (dict(precision="8A,32W", residual=True), "float weights"),
    (dict(precision="8A,8W", residual=True, weights="dorefa"), "int8 cannot hold"),
  ):
    with pytest.raises(ConfigError, match=words):
      onnx.encode(lowered(**kind), "fast")
    assert _said(onnx.encode(lowered(**kind)))["form"] == "exact"


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
  said = _said((tmp_path / "student").read_bytes())
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


def _said(data: bytes) -> dict:
  return {entry.key: entry.value for entry in library.load_from_string(data).metadata_props}
