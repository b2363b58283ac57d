"""The networks: sizes against published figures, values against PyTorch and NumPy, the rules."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tools

from apprentice_jax.deploy import cost
from apprentice_jax.errors import nearest
from apprentice_jax.models.layers import QuantActivation
from apprentice_jax.models.precision import Precision, Quantization
from apprentice_jax.models.residual import Block, ResNet, resnet
from apprentice_jax.training.optimizer import SGD

CIFAR, IMAGENET = (32, 32, 3), (224, 224, 3)


def shapes(model, image_shape=(8, 8, 1)):
  images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
  return jax.eval_shape(lambda k, x: model.init(k, x, False), jax.random.key(0), images)


@pytest.mark.parametrize(
  "name, classes, image, parameters, low, high",
  [
    ("resnet20", 10, CIFAR, 269_722, 40.5e6, 41.0e6),
    ("resnet56", 10, CIFAR, 853_018, 125e6, 126.5e6),
    ("resnet18", 1000, IMAGENET, 11_689_512, 1.81e9, 1.82e9),
    ("resnet50", 1000, IMAGENET, 25_557_032, 4.08e9, 4.11e9),
  ],
)
def test_published_sizes(name, classes, image, parameters, low, high):
  model = resnet(name, classes)
  tree = shapes(model, image)["params"]
  assert sum(leaf.size for leaf in jax.tree.leaves(tree)) == parameters
  assert cost.parameters(model, image) == parameters
  assert low <= sum(layer.macs for layer in cost.layers(cost.blank(model, image))) <= high


@pytest.mark.parametrize(
  "name, depth",
  [("resnet8", 8), ("resnet110", 110), ("resnet34", 34), ("resnet101", 101), ("resnet152", 152)],
)
def test_the_depth_is_that_of_the_name(name, depth):
  layers = cost.layers(cost.blank(resnet(name, 10), (32, 32, 3)))
  assert sum(not layer.path.endswith("shortcut") for layer in layers) == depth


@pytest.mark.parametrize(
  "name, width, channels",
  [
    ("resnet20", 0.5, (8, 16, 32)),
    ("resnet8", 2, (32, 64, 128)),
    ("resnet18", 0.25, (16, 32, 64, 128)),
  ],
)
def test_width_multiplies_every_stage(name, width, channels):
  params = shapes(resnet(name, 10, width=width), (32, 32, 3))["params"]
  assert params["stem"]["kernel"].shape[-1] == channels[0]
  for stage, count in enumerate(channels, 1):
    assert params[f"stage{stage}_block1"]["conv1"]["kernel"].shape[-1] == count
  assert params["head"]["kernel"].shape == (channels[-1], 10)


def quantized_layers(model):
  """Names of the layers that have integer accumulators."""
  images = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
  tree = jax.eval_shape(
    lambda k, x: model.init_with_output(
      k, x, False, mutable=["params", "batch_stats", "accumulators"]
    ),
    jax.random.key(0),
    images,
  )[1]
  return {
    "/".join(k.key for k in path if hasattr(k, "key")).removesuffix("/value")
    for path, _ in jax.tree_util.tree_leaves_with_path(tree.get("accumulators", {}))
  }


ALL = {"stem", "head"} | {f"stage{s}_block1/{c}" for s in (1, 2, 3) for c in ("conv1", "conv2")}
SHORTCUTS = {f"stage{s}_block1/shortcut" for s in (2, 3)}


@pytest.mark.parametrize(
  "patterns, left_alone",
  [
    (None, {"stem", "head"}),
    ((), set()),
    (("stem",), {"stem"}),
    (("stem", "head", "*/shortcut"), {"stem", "head"} | SHORTCUTS),
    (("shortcut",), SHORTCUTS),
    (("stage1_*",), {"stage1_block1/conv1", "stage1_block1/conv2"}),
    (("stage?_block1/conv2",), {f"stage{s}_block1/conv2" for s in (1, 2, 3)}),
  ],
)
def test_which_layers_stay_in_full_precision(patterns, left_alone):
  changes = {} if patterns is None else {"full_precision": patterns}
  model = resnet("resnet8", 10, "8A,4W", width=0.25, shortcut="conv", **changes)
  assert quantized_layers(model) == (ALL | SHORTCUTS) - left_alone
  bits = {layer.path: layer.weight_bits for layer in cost.layers(cost.blank(model, (16, 16, 3)))}
  assert bits == {path: 32 if path in left_alone else 4 for path in ALL | SHORTCUTS}


def test_full_precision_quantizes_nothing():
  model = resnet("resnet8", 10, width=0.25, shortcut="conv")
  assert not quantized_layers(model)
  names = {path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(shapes(model)["params"])}
  assert names == {"kernel", "scale", "bias"}


@pytest.mark.parametrize("channels, features, stride", [(4, 8, 2), (4, 7, 2), (4, 8, 1), (6, 6, 2)])
def test_zero_pad_shortcut_equals_numpy(channels, features, stride):
  # Convolutions that give zero: what is left is the shortcut.
  class Zero(nn.Module):
    features: int
    kernel_size: tuple
    strides: int

    @nn.compact
    def __call__(self, x):
      return jnp.zeros((*x[:, :: self.strides, :: self.strides].shape[:3], self.features))

  block = Block(
    features,
    stride,
    False,
    "pad",
    Zero,
    lambda name: lambda y: y,
    lambda name: lambda y: y,
  )
  x = np.random.default_rng(0).standard_normal((2, 6, 6, channels)).astype(np.float32)
  extra = features - channels
  expected = np.zeros((2, len(range(0, 6, stride)), len(range(0, 6, stride)), features), np.float32)
  expected[..., extra // 2 : extra // 2 + channels] = x[:, ::stride, ::stride]
  np.testing.assert_array_equal(block.apply({}, x), expected)


def test_residual_quantization_points():
  model = ResNet(
    (1, 1), 4, 10, shortcut="conv", quantization=Quantization(Precision(4, 4), residual=True)
  )
  without = model.clone(quantization=Quantization(Precision(4, 4)))
  assert not {"residual_act", "shortcut_act"} & shapes(without)["params"]["stage2_block1"].keys()
  x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 16, 16, 3)), jnp.float32)
  added = {}

  def record(function, args, kwargs, context):
    module = context.module
    if isinstance(module, QuantActivation) and context.method_name == "__call__":
      added["/".join(module.path)] = args[0]
    return function(*args, **kwargs)

  def run(k, x):
    with nn.intercept_methods(record):
      variables = model.init(k, x, True)
    return variables["params"], dict(added)

  params, entering = jax.jit(run)(jax.random.key(0), x)
  points = {p for p in entering if p.rpartition("/")[2] in ("residual_act", "shortcut_act")}
  blocks = {"stage1_block1", "stage2_block1"}
  assert points == (
    {f"{b}/residual_act" for b in blocks}
    | {f"{b}/shortcut_act" for b in blocks - {"stage1_block1"}}
  )
  block, branches = params["stage2_block1"], []
  for point in ("residual_act", "shortcut_act"):
    step = np.float64(block[point]["activation_step"])
    given = np.float64(entering[f"stage2_block1/{point}"])
    np.testing.assert_allclose(step, 2 * np.abs(given).mean() / np.sqrt(7), rtol=1e-5)
    branches.append(np.clip(np.round(given / step), -8, 7) * step)
    assert branches[-1].min() < 0  # signed
  # What the block's last activation gets is the sum of the two branches, each on its grid.
  difference = np.abs(entering["stage2_block1/act"] - sum(branches))
  assert np.mean(difference > 1e-4) < 1e-3  # a value between two levels may round either way


def test_weight_decay_touches_kernels_and_clips_alone():
  for weights, activations in (("ttq", "pact"), ("lsq", "lsq")):
    model = resnet(
      "resnet8", 10, "8A,2W", width=0.25, weights=weights, activations=activations, residual=True
    )
    params = jax.tree.map(lambda s: jnp.ones(s.shape), shapes(model)["params"])
    optimizer = SGD(momentum=0.0, nesterov=False, weight_decay=0.1).build()
    updates, _ = optimizer.update(
      jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params
    )
    seen = {}
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
      seen.setdefault(path[-1].key, set()).update(np.unique(np.round(update, 6)).tolist())
    decaying = {"kernel": {0.1}, "clip": {0.1}}
    assert {k: {round(v, 6) for v in values} for k, values in seen.items()} == {
      k: decaying.get(k, {0.0}) for k in seen
    }
    assert {"kernel", "bias", "scale"} < seen.keys()
    assert seen.keys() & {"positive", "weight_step"}


@pytest.mark.parametrize(
  "arguments, sentence",
  [
    (("restnet20", 10), "network 'restnet20' does not exist: did you mean 'resnet20'?"),
    (("vgg", 10), "choose one of resnet8, resnet14"),
    (("resnet20", 10, "8A,9W"), "precision '8A,9W' is not one"),
    (("resnet20", 10, "ternary"), "precision 'ternary' is not one"),
    (("resnet20", 10, "8A,0W"), "precision '8A,0W' is not one"),
    (("resnet20", 10, dict(shortcut="cnov")), "shortcut 'cnov' does not exist: choose 'pad' or"),
    (("resnet20", 10, dict(width=0)), "width 0 leaves no channels"),
    (("resnet20", 10, dict(width=-1)), "width -1 leaves no channels"),
    (
      ("resnet20", 10, "8A,2W", dict(weights="twm")),
      "weight quantizer 'twm' does not exist: did you mean 'twn'?",
    ),
    (("resnet20", 10, "8A,2W", dict(activations="pcat")), "did you mean 'pact'?"),
    (
      ("resnet20", 10, "8A,4W", dict(weights="twn")),
      "weight quantizer 'twn' cannot do 4 bits: use wrpn or dorefa or lsq.",
    ),
    (("resnet20", 10, "8A,1W", dict(weights="lsq")), "cannot do 1 bits: use dorefa."),
    (("resnet20", 10, "1A,4W", dict(residual=True)), "need 2 bits or more"),
    (("resnet20", 10, "8A,4W", dict(weights="wrpn", wrpn_scale="mx")), "choose 'max' or 'unit'"),
  ],
)
def test_wrong_names_are_refused(arguments, sentence):
  *positional, last = arguments
  keywords = last if isinstance(last, dict) else {}
  with pytest.raises(ValueError) as error:
    resnet(*positional, *([] if isinstance(last, dict) else [last]), **keywords)
  assert sentence in str(error.value)


@pytest.mark.parametrize(
  "text, expected",
  [
    ("8A,2W", (8, 2)),
    ("8A2W", (8, 2)),
    ("32A,32W", (32, 32)),
    (" 8a, 4w ", (8, 4)),
    ("32A,2W", (32, 2)),
    ("1A,1W", (1, 1)),
  ],
)
def test_the_papers_notation(text, expected):
  parsed = Precision.parse(text)
  assert parsed == expected and Precision.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
  "text, weights, activations",
  [
    ("8A,1W", "dorefa", "pact"),
    ("8A,2W", "twn", "pact"),
    ("4A,3W", "lsq", "pact"),
    ("32A,8W", "lsq", "pact"),
    ("2A,2W", "twn", "lsq"),
    ("1A,1W", "dorefa", "lsq"),
  ],
)
def test_default_quantizers(text, weights, activations):
  q = Quantization(Precision.parse(text))
  assert (q.weights, q.activations) == (weights, activations)


def test_nearest_names_what_there_is_when_nothing_is_near():
  assert nearest("restnet20", ["resnet20", "wrpn"]) == "did you mean 'resnet20'?"
  assert nearest("zzz", ["a", "b"]) == "choose one of a, b"


def torch_network(model, variables, images, train):
  """The same network by PyTorch's functions: (logits, running statistics after)."""
  torch = tools.module("torch")
  f, tensor = torch.nn.functional, lambda a: torch.tensor(np.array(a))
  params, stats = variables["params"], jax.tree.map(tensor, variables["batch_stats"])

  def conv(x, p, stride):
    kernel = tensor(p["kernel"]).permute(3, 2, 0, 1)
    return f.conv2d(x, kernel, stride=stride, padding=(kernel.shape[-1] - 1) // 2)

  def norm(x, p, s):
    return f.batch_norm(
      x, s["mean"], s["var"], tensor(p["scale"]), tensor(p["bias"]), train, 0.1, 1e-5
    )

  x = tensor(images).permute(0, 3, 1, 2)
  x = f.relu(
    norm(
      conv(x, params["stem"], 2 if model.imagenet_stem else 1),
      params["stem_norm"],
      stats["stem_norm"],
    )
  )
  if model.imagenet_stem:
    x = f.max_pool2d(x, 3, 2, 1)
  for stage, blocks in enumerate(model.stages, 1):
    for number in range(1, blocks + 1):
      name = f"stage{stage}_block{number}"
      p, s, stride = params[name], stats[name], 2 if stage > 1 and number == 1 else 1
      count = 3 if model.bottleneck else 2
      y = x
      for i in range(1, count + 1):
        at = 2 if model.bottleneck else 1
        y = norm(conv(y, p[f"conv{i}"], stride if i == at else 1), p[f"norm{i}"], s[f"norm{i}"])
        y = f.relu(y) if i < count else y
      if "shortcut" in p:
        x = norm(conv(x, p["shortcut"], stride), p["shortcut_norm"], s["shortcut_norm"])
      x = f.relu(x + y)
  x = x.mean((2, 3)) @ tensor(params["head"]["kernel"]) + tensor(params["head"]["bias"])
  return x.numpy(), jax.tree.map(np.asarray, stats)


@pytest.mark.slow
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("bottleneck, stem", [(False, False), (True, True)])
def test_equals_torch(bottleneck, stem, train):
  model = ResNet(
    stages=(1, 2),
    width=4,
    num_classes=6,
    bottleneck=bottleneck,
    shortcut="conv",
    imagenet_stem=stem,
  )
  r = np.random.default_rng(0)
  images = r.standard_normal((4, 16, 16, 3)).astype(np.float32)
  variables = jax.tree.map(
    lambda s: np.float32(
      r.uniform(0.5, 1.5, s.shape) if len(s.shape) == 1 else r.standard_normal(s.shape) / 6
    ),
    dict(shapes(model, (16, 16, 3))),
  )
  expected, expected_stats = torch_network(model, variables, images, train)
  logits, updated = jax.jit(lambda v, x: model.apply(v, x, train, mutable=["batch_stats"]))(
    variables, images
  )
  assert logits.dtype == jnp.float32
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
  for path, ours in jax.tree_util.tree_leaves_with_path(updated["batch_stats"]):
    theirs, old = expected_stats, variables["batch_stats"]
    for key in path:
      theirs, old = theirs[key.key], old[key.key]
    if path[-1].key == "mean" or not train:
      np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5, err_msg=str(path))
    else:  # PyTorch keeps the unbiased variance, n / (n - 1) of ours; n is at least 4
      ratio = (theirs - 0.9 * old) / (ours - 0.9 * np.asarray(old))
      assert np.all((ratio > 0.999) & (ratio < 4 / 3 + 1e-3)), path


def test_logits_are_float32_and_near_in_bfloat16():
  x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, 8, 3)), jnp.float32)
  model = ResNet((1,), 4, 10)
  variables = jax.jit(model.init, static_argnums=2)(jax.random.key(0), x, False)
  logits = [
    jax.jit(m.apply, static_argnums=2)(variables, x.astype(m.dtype), False)
    for m in (model, model.clone(dtype=jnp.bfloat16))
  ]
  assert logits[1].dtype == jnp.float32
  np.testing.assert_allclose(logits[1], logits[0], atol=0.05 * np.abs(logits[0]).max())
  assert not np.array_equal(*logits)
