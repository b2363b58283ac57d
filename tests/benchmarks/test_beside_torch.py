"""The benchmark beside PyTorch: that PyTorch computes the same training step."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tools

torch = tools.module("torch")

import beside_torch  # noqa: E402
import torch_twin  # noqa: E402

from apprentice_jax import config as configs  # noqa: E402
from apprentice_jax.distill.step import Batch, Network, Rates, State, Trainer  # noqa: E402
from apprentice_jax.errors import ConfigError  # noqa: E402
from apprentice_jax.models import resnet  # noqa: E402
from apprentice_jax.training.optimizer import SGD  # noqa: E402

pytestmark = pytest.mark.slow
from apprentice_jax.training.program import make_apply  # noqa: E402

WEIGHTS = {"alpha": 1.0, "beta": 0.5, "gamma": 0.7, "temperature": 2.0}
RATE = 0.05


def ours(name: str) -> tuple[str, ...]:
  """Our name of a parameter of the twin."""
  block = re.match(r"layer(\d)\.(\d+)\.(.+)", name)
  place = (f"stage{block[1]}_block{int(block[2]) + 1}",) if block else ()
  module, leaf = (block[3] if block else name).rsplit(".", 1)
  module = {"downsample.0": "shortcut", "downsample.1": "shortcut_norm"}.get(module, module)
  if not block:
    module = {"conv1": "stem", "bn1": "stem_norm", "act": "stem_act", "fc": "head"}[module]
  module = re.sub(r"^bn", "norm", module)
  leaf = {
    "weight": "scale" if "norm" in module else "kernel",
    "running_mean": "mean",
    "running_var": "var",
  }.get(leaf, leaf)
  return (*place, module, leaf)


def parameters(network) -> tuple[dict, dict]:
  """Parameters and batch statistics under our names and shapes."""
  found = ({}, {})
  for name, tensor in network.state_dict().items():
    if name.endswith("num_batches_tracked"):
      continue
    array = tensor.detach().numpy().copy()
    *path, leaf = ours(name)
    tree = found[leaf in ("mean", "var")]
    for part in path:
      tree = tree.setdefault(part, {})
    axes = {"kernel": {4: (2, 3, 1, 0), 2: (1, 0)}}.get(leaf, {}).get(array.ndim)
    tree[leaf] = (
      array.transpose(axes) if axes else array.reshape(-1) if leaf == "weight_step" else array
    )
  return found


@pytest.mark.parametrize(
  "name, precision, options, trains_teacher",
  [
    ("resnet8", "32A,32W", {}, True),
    ("resnet8", "8A,2W", {}, True),
    ("resnet8", "8A,2W", {}, False),
    ("resnet8", "3A,4W", {"activations": "lsq", "shortcut": "conv"}, True),
    ("resnet8", "4A,32W", {}, None),
    ("resnet50", "32A,4W", {}, None),
    ("resnet8", "32A,2W", {}, None),
  ],
)
def test_a_training_step_is_ours(name, precision, options, trains_teacher):
  torch.manual_seed(0)
  # Of ResNet-50 the first blocks tell all: one block a stage.
  models = [
    resnet(name, 5, p, width=0.25, **options).clone(stages=(1, 1, 1))
    for p in (precision, "32A,32W")
  ]
  student, teacher = [torch_twin.Network(m) for m in models]
  with torch.no_grad():  # so that some activations are beyond the clip
    for name_, parameter in student.named_parameters():
      if name_.endswith("clip"):
        parameter.fill_(1.5)
  optimizer = SGD(momentum=0.9, nesterov=True, weight_decay=0.01)
  r = np.random.default_rng(0)
  images, labels = r.standard_normal((8, 16, 16, 3)).astype(np.float32), r.integers(0, 5, 8)

  network = lambda twin, trains: Network(*parameters(twin), None)._replace(
    opt_state=optimizer.build().init(parameters(twin)[0]) if trains else None
  )
  state = State(
    network(student, True), None if trains_teacher is None else network(teacher, trains_teacher)
  )
  trainer = Trainer(
    make_apply(models[0]),
    optimizer.build(),
    None if trains_teacher is None else make_apply(models[1]),
    optimizer.build() if trains_teacher else None,
  )
  new, metrics = jax.jit(trainer.step)(
    state, Batch(jnp.asarray(images), jnp.asarray(labels, jnp.int32)), WEIGHTS, Rates(RATE, RATE)
  )

  step = torch_twin.step_of(
    student,
    None if trains_teacher is None else teacher,
    bool(trains_teacher),
    WEIGHTS,
    optimizer,
    RATE,
  )
  loss = step(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels))
  assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-4)
  # An activation between two levels may be rounded to the one or the other.
  tolerance = 1e-3 if precision.startswith("32A") else 0.1
  triples = [(state.student, new.student, student)] + (
    [(state.teacher, new.teacher, teacher)] if trains_teacher else []
  )
  for before, after, twin in triples:
    expected = parameters(twin)[0]
    assert jax.tree.structure(after.params) == jax.tree.structure(expected)
    for (path, a), b, c in zip(
      jax.tree_util.tree_leaves_with_path(before.params),
      jax.tree.leaves(after.params),
      jax.tree.leaves(expected),
    ):
      size = lambda x: float(np.linalg.norm(np.ravel(x)))
      assert size(b - c) <= tolerance * size(c - a) + 1e-6, path


def test_what_there_is_no_twin_of():
  config = configs.base()
  config.scheme, config.precision, config.quantization.weights = "baseline", "8A,4W", "wrpn"
  with pytest.raises(ConfigError, match="the benchmark has weights of twn and lsq"):
    beside_torch.run(config)
  config.dtype = "bfloat16"
  with pytest.raises(ConfigError, match="compares in float32 on CPU"):
    beside_torch.run(config)


def test_both_take_turns(monkeypatch):
  """PyTorch in its own process; and a compiler that is missing is said to be."""
  config = configs.base()
  config.scheme, config.precision, config.batch_size = "A", "8A,2W", 8
  for network in (config.student, config.teacher):
    network.name, network.width = "resnet8", 0.25
  monkeypatch.setattr(
    beside_torch._Twins, "failure", lambda self, name: "no compiler" * (name == "compiled")
  )
  with pytest.warns(UserWarning, match=r"step \(compiled\) failed \(no compiler\): left out"):
    report = beside_torch.run(config, image_shape=(8, 8, 3), num_classes=4)
  assert list(report["step_seconds"]) == ["apprentice", "eager", "channels_last"]
  assert report["best"] in ("eager", "channels_last") and report["ratio"] > 0
  assert all(s > 0 for s in report["step_seconds"].values())


def test_the_table_names_the_best():
  report = {
    "student": "resnet20",
    "teacher": None,
    "scheme": "baseline",
    "precision": "8A,2W",
    "batch_size": 128,
    "step_seconds": {"apprentice": 0.5, "eager": 0.7, "compiled": 0.4},
    "images_per_second": {"apprentice": 256.0, "eager": 182.9, "compiled": 320.0},
    "best": "compiled",
    "ratio": 0.8,
    "dtype": "bfloat16",
    "image_shape": [32, 32, 3],
    "peak_share": {"apprentice": 0.25},
    "machine": {
      "devices": 1,
      "kind": "NVIDIA H100",
      "processor": "CPU",
      "cores": 2,
      "system": "Linux",
      "jax": "0.10",
      "torch": "2.13",
    },
  }
  lines = beside_torch.table(report).splitlines()
  assert lines[0] == "1 x NVIDIA H100 (CPU, 2 cores, Linux), jax 0.10, torch 2.13"
  assert lines[1] == "resnet20, scheme baseline, 8A,2W, bfloat16, batch 128, images 32x32x3"
  assert lines[2].split() == [
    "apprentice",
    "500.0",
    "ms/step",
    "256",
    "images/s",
    "25.0%",
    "of",
    "peak",
  ]
  assert lines[-1] == "speed, of PyTorch's best (compiled): 0.80"


def test_operations_by_hand():
  """Of the student's 3x3 stem alone: 2 * 9 * 3 * 16 * 32 * 32 a forward pass; three passes where it
  trains."""
  config = configs.base()
  config.scheme, config.student.name, config.teacher.name = "B", "resnet8", "resnet8"
  built = beside_torch.settings(config, 10)
  macs = {
    layer.path: layer.macs
    for layer in beside_torch.cost.layers(beside_torch.cost.blank(built.student, (32, 32, 3)))
  }
  assert macs["stem"] == 9 * 3 * 16 * 32 * 32 and macs["head"] == 64 * 10
  # ResNet-8: two 3x3 convolutions a stage, of which the first of a later stage halves the side.
  convs = (
    2 * 9 * 16 * 16 * 32**2
    + (9 * 16 * 32 + 9 * 32 * 32) * 16**2
    + (9 * 32 * 64 + 9 * 64 * 64) * 8**2
  )
  one = 2 * (macs["stem"] + convs + macs["head"])
  assert beside_torch.flops(built, 7, (32, 32, 3)) == 7 * one * (3 + 1)  # the teacher is fixed


def test_a_step_by_autocast_is_bfloat16(monkeypatch):
  """On CPU, what runs on a GPU."""
  config = configs.base()
  config.scheme, config.precision, config.batch_size, config.dtype = "B", "8A,2W", 8, "bfloat16"
  for network in (config.student, config.teacher):
    network.name, network.width = "resnet8", 0.25
  seen = []
  monkeypatch.setattr(
    torch_twin,
    "joint_loss",
    lambda student, teacher, *_, **__: (
      seen.append((student.dtype, teacher.dtype)),
      student.float().square().mean(),
    )[1],
  )
  step = beside_torch._torch_stepper(config, (8, 8, 3), 4, "channels_last", "cpu", 2)
  assert step() > 0 and seen == [(torch.bfloat16, torch.bfloat16)] * 2
