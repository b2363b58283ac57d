"""The exact form computes the NumPy reference's levels and sums to the bit, in both evaluators."""

import itertools

import numpy as np
import onnx as library
import pytest
from networks import made
from onnx_sessions import by_onnx, by_runtime, evaluated, levels, lowered, optimized, predicted

from apprentice_jax.deploy import interpret, onnx
from apprentice_jax.deploy import network as networks
from apprentice_jax.deploy.network import Conv, Weights
from apprentice_jax.deploy.onnx import exact, fast
from apprentice_jax.deploy.onnx.graph import Graph

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


def reference(network, images, given):
  """(logits, levels) of the NumPy reference, from the levels of the first activation on."""
  found = {}
  given = {k: v.astype(np.uint8) for k, v in given.items() if k == "stem_act"}
  return interpret.logits(
    network, images, given, lambda name, _, value: found.update({name: value})
  ), found


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


@pytest.mark.parametrize(
  "op, bits, odd",
  [("QGemm", 8, 0), *itertools.product(("MatMulInteger", "ConvInteger"), (7, 8), (0, 1))],
)
def test_the_largest_sums_are_exact_on_this_processor(op, bits, odd, monkeypatch, tmp_path):
  """Levels are 255 and weights the largest: 16 bits cannot hold pairs of their products."""
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
