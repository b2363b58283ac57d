"""The fast form: its levels are off by one at most, and some networks have no such form."""

import dataclasses
import pathlib
import warnings

import jax
import networks as small
import numpy as np
import pytest
from networks import NAMES, made
from onnx_sessions import (
  by_onnx,
  by_runtime,
  evaluated,
  levels,
  lowered,
  metadata_of,
  optimized,
  predicted,
)

from apprentice_jax.deploy import interpret, lower, onnx
from apprentice_jax.deploy import network as networks
from apprentice_jax.errors import ConfigError

FAST = [
  dict(residual=True),
  dict(residual=True, weights="ttq", shortcut="conv"),
  dict(residual=True, weights="ttq", shortcut="conv", per_channel=False),
  dict(residual=True, precision="8A,4W"),
  dict(name="resnet50", width=0.0625, residual=True),
  dict(residual=True, weights="dorefa"),
  dict(residual=True, full_precision=()),
]


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
    assert metadata_of(data)["form"] == "fast"
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


def test_8_bit_weights_throughout_want_vnni_or_the_exact_form():
  with pytest.warns(UserWarning, match="stage1_block1/conv1.* what fits is --form=exact."):
    onnx.encode(lowered(residual=True, precision="8A,8W"), "fast")


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
    assert metadata_of(onnx.encode(lowered(**kind)))["form"] == "exact"
