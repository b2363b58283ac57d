"""The lowering against the training network, layer by layer, and by hand."""

import compare
import jax
import numpy as np
import pytest
from networks import MEAN, STD, lowered, made

from apprentice_jax import config as configs
from apprentice_jax.deploy import interpret, lower
from apprentice_jax.deploy.network import FRACTION, BadNetwork, Conv, Quantize
from apprentice_jax.distill.step import Network as Variables

KINDS = [
  dict(),
  dict(weights="ttq", full_precision=()),
  dict(precision="1A,1W"),
  dict(precision="2A,3W"),
  dict(precision="4A,8W", weights="dorefa"),
  dict(precision="8A,5W", weights="wrpn", per_channel=False),
  dict(activations="lsq", residual=True, shortcut="conv"),
  dict(precision="8A,32W"),
  dict(name="resnet18", width=0.0625, weights="ttq"),
  dict(name="resnet50", width=0.0625, precision="8A,4W"),
  dict(precision="32A,2W", weights="ttq", shortcut="conv"),
  dict(weights="ttq", per_channel=False),
  dict(precision="32A,32W"),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_each_layer_computes_what_it_was_trained_to(kind):
  model, params, stats, images = made(**kind)
  network, config = lowered(**kind), configs.base()
  config.data.mean, config.data.std = MEAN, STD
  wanted, sums, levels = jax.device_get(
    compare.trained(config, model, Variables(params, stats))(images)
  )
  grids = {n.name: n for n in network.nodes if isinstance(n, Quantize)}
  # Training pools before it quantizes: what it calls stem_act is our pool.
  ours = {("pool" if name == "stem_act" and kind.get("name") else name): name for name in levels}
  given = {
    name: levels[theirs].astype(np.int8 if name in grids and grids[name].signed else np.uint8)
    for name, theirs in ours.items()
  }
  found, results = {}, {}
  logits = interpret.logits(
    network,
    images,
    given,
    lambda name, acc, value: (found.update({name: acc}), results.update({name: value})),
  )
  for name, value in sums.items() if grids else ():
    rows = np.concatenate(list(found[name]), -1)
    if rows.dtype == np.int32:
      np.testing.assert_array_equal(rows, value, err_msg=name)
    else:  # of float values: the image, the mean before the classifier
      np.testing.assert_allclose(rows.reshape(value.shape), value, atol=1e-3)
  for name, theirs in ours.items():
    difference = np.abs(results[name].astype(int) - levels[theirs])
    assert difference.max() <= 1 and np.mean(difference > 0) < 1e-3, name
    assert np.unique(results[name]).size > 1
  np.testing.assert_allclose(logits, wanted, rtol=2e-5, atol=2e-5 * np.abs(wanted).max())


def test_a_layer_by_hand():
  """Multiplier: weight scale * input step * scale / sqrt(var + 1e-5), over the step of the grid
  that follows."""
  _, params, stats, _ = made()
  nodes = {n.name: n for n in lowered().nodes}
  block, s = params["stage1_block1"], stats["stage1_block1"]
  kernel = block["conv1"]["kernel"].astype(np.float64)
  magnitude = np.abs(kernel)
  kept = magnitude > 0.7 * magnitude.mean((0, 1, 2))
  alpha = (magnitude * kept).sum((0, 1, 2)) / kept.sum((0, 1, 2))
  conv = nodes["stage1_block1/conv1"]
  np.testing.assert_array_equal(conv.weights.levels, np.sign(kernel) * kept)
  before, after = params["stem_act"]["clip"] / 255, block["act1"]["clip"] / 255
  factor = block["norm1"]["scale"] / np.sqrt(s["norm1"]["var"] + 1e-5)
  np.testing.assert_allclose(
    conv.multiplier[0], alpha * before * factor / after * FRACTION, rtol=1e-5
  )
  bias = block["norm1"]["bias"] - s["norm1"]["mean"] * factor
  np.testing.assert_allclose(conv.addend, bias / after * FRACTION, rtol=1e-5, atol=1)
  assert nodes["stage1_block1/act1"].step == pytest.approx(after)
  out = block["act"]["clip"] / 255
  assert nodes["stage1_block1/identity"].multiplier == pytest.approx(before / out * FRACTION)


@pytest.mark.parametrize("per_channel", [True, False])
def test_ttqs_two_rows_of_multipliers_by_hand(per_channel):
  """The positive magnitude and minus the negative one, of each channel or of the layer, in the
  place of a scale."""
  kind = dict(weights="ttq", per_channel=per_channel)
  model, params, stats, _ = made(**kind)
  params = jax.tree.map(np.array, params)
  params["stage1_block1"]["conv1"]["negative"][0] = -0.1  # acts as the floor
  block, s = params["stage1_block1"], stats["stage1_block1"]
  network = lower.lower(
    model,
    params,
    stats,
    image_shape=(16, 16, 3),
    class_names=tuple("abcdefghij"),
    mean=MEAN,
    std=STD,
  )
  conv = {n.name: n for n in network.nodes}["stage1_block1/conv1"]
  p = block["conv1"]
  np.testing.assert_array_equal(
    conv.weights.levels,
    np.sign(p["kernel"]) * (np.abs(p["kernel"]) > 0.05 * np.abs(p["kernel"]).max()),
  )
  before, after = params["stem_act"]["clip"] / 255, block["act1"]["clip"] / 255
  factor = block["norm1"]["scale"] / np.sqrt(s["norm1"]["var"] + 1e-5) * before / after * FRACTION
  assert p["positive"].shape == p["negative"].shape == ((4,) if per_channel else (1,))
  for row, magnitude in zip(
    conv.multiplier, (p["positive"], -np.maximum(p["negative"], 1e-6)), strict=True
  ):
    np.testing.assert_allclose(row, magnitude * factor, rtol=1e-5)


@pytest.mark.parametrize("bits", [7, 8])
def test_integer_ends(bits):
  float_ends, eight = lowered(), lowered(f"{bits}bit")
  _, params, _, images = made()
  convs = {n.name: n for n in eight.nodes if isinstance(n, Conv)}
  for name in ("stem", "head"):
    kernel = params[name]["kernel"]
    assert convs[name].weights.bits == bits
    scale = np.abs(kernel).reshape(-1, kernel.shape[-1]).max(0) / (2 ** (bits - 1) - 1)
    difference = convs[name].weights.levels.reshape(kernel.shape) * scale - kernel
    assert np.all(np.abs(difference) <= scale / 2 * 1.0001)
  names = [n.name for n in eight.nodes if isinstance(n, Quantize)]
  assert names[0] == "image_act" and names[-1] == "mean_act"
  a, b = interpret.logits(float_ends, images), interpret.logits(eight, images)
  assert 0 < np.abs(a - b).max() < 0.2 * np.abs(a).max()
  with pytest.raises(BadNetwork, match=f"{bits}-bit ends are for networks with quantized weights"):
    lowered(f"{bits}bit", precision="32A,32W")


@pytest.mark.parametrize(
  "path, value, sentence",
  [
    ("stem/kernel", np.nan, "stem has a number that is not finite"),
    ("stage1_block1/conv1/kernel", np.nan, "stage1_block1/conv1: weights that are not finite"),
    ("stage1_block1/norm1/scale", np.inf, "stage1_block1/conv1 has a number that is not finite"),
    ("stage1_block1/norm1/scale", 1e38, "stage1_block1/conv1 has a number that is not finite"),
    ("stem_act/activation_step", 0.0, "stem_act: the activation grid has a step of 0.0"),
    ("stem_act/activation_step", -1.0, "stem_act: the activation grid has a step of -1.0"),
  ],
)
def test_what_cannot_be_lowered_is_said(path, value, sentence):
  model, params, stats, _ = made(activations="lsq")
  spoilt = jax.tree_util.tree_map_with_path(
    lambda p, a: np.full_like(a, value) if "/".join(k.key for k in p) == path else a, params
  )
  with pytest.raises(BadNetwork, match=sentence), np.errstate(all="ignore"):
    lower.lower(
      model,
      spoilt,
      stats,
      image_shape=(16, 16, 3),
      class_names=tuple("abcdefghij"),
      mean=MEAN,
      std=STD,
    )
