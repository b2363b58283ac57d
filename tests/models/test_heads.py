"""The classifier of a trained network on other classes."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tools

from apprentice_jax.data import class_names
from apprentice_jax.models import ResNet, fit, heads, resnet
from apprentice_jax.models.heads import Head
from apprentice_jax.models.pytorch import pretrained, state_dict

sys.path.insert(0, str(pathlib.Path(__file__).parent))

HEAD = {
  "kernel": np.arange(12.0).reshape(3, 4),
  "bias": np.arange(4.0),
  "weight_step": np.ones(4) * [5, 6, 7, 8],
  "clip": np.float32(2),
}
PARAMS = {"stem": {"kernel": np.ones((3, 3, 1, 2))}, "head": HEAD}


def test_the_outputs_of_the_same_classes():
  found = heads.placed(PARAMS, Head("match", tuple("abcd"), tuple("db")))
  assert found["stem"] is PARAMS["stem"]
  np.testing.assert_array_equal(found["head"]["kernel"], [[3, 1], [7, 5], [11, 9]])
  np.testing.assert_array_equal(found["head"]["bias"], [3, 1])
  np.testing.assert_array_equal(found["head"]["weight_step"], [8, 6])
  assert found["head"]["clip"] == 2


def test_a_new_head_is_left_out():
  assert heads.placed(PARAMS, Head("new", tuple("abcd"), tuple("xyz"))) == {"stem": PARAMS["stem"]}


@pytest.mark.parametrize(
  "head", [Head(), Head(ours=tuple("xy")), Head("", tuple("abcd"), tuple("abcd"))]
)
def test_a_head_that_fits_or_of_which_nothing_is_known_stays(head):
  assert heads.placed(PARAMS, head) is PARAMS


@pytest.mark.parametrize(
  "head, sentence",
  [
    (
      Head("", tuple("abcd"), tuple("abdc"), "config.teacher"),
      "has the classes a, b, c, d, and the data have a, b, d, c: --config.teacher.head=match takes "
      "the outputs of the same "
      "classes, --config.teacher.head=new starts with a new head, and "
      "--config.teacher.classes=FILE says what its classes "
      "are called here",
    ),
    (
      Head("", tuple("abcd"), tuple("abdc"), trains=False),
      "has the classes a, b, c, d, and the data have a, b, d, c: `eval --model` with "
      "--config.student.head=match takes the "
      "outputs of the same classes",
    ),
    (
      Head("", ("a", "b", "c", "x y"), ("a", "b", "c", "x  y"), trains=False),
      "has the classes a, b, c, x y, and the data have a, b, c, x  y ('x y' and 'x  y' differ only "
      "in blanks): `eval --model` "
      "with --config.student.head=match takes the outputs of the same classes",
    ),
    (
      Head("", tuple("abc"), tuple("abc")),
      "has 4 outputs, and 3 names of classes are given for them: see config.student.classes",
    ),
    (
      Head("match", (), tuple("abc"), "config.teacher"),
      "does not say which classes its outputs are, as config.teacher.head=match needs it: give "
      "--config.teacher.classes=FILE with one name a line, or imagenet",
    ),
    (
      Head("match", tuple("abcd"), tuple("ax"), "config.teacher"),
      "lacks 1 of the 2 classes of the data: 'x'; name its classes as the data do with "
      "--config.teacher.classes=FILE, or "
      "use --config.teacher.head=new",
    ),
    (
      Head("new", (), tuple("ab"), trains=False),
      "would have a head that is not trained: config.student.head=new is for `train`",
    ),
  ],
)
def test_what_does_not_fit(head, sentence):
  with pytest.raises(ValueError) as error:
    heads.placed(PARAMS, head)
  assert str(error.value) == sentence


def test_of_many_classes_a_part_that_differs_is_shown():
  names = [f"c{i}" for i in range(100)]
  swapped = [*names[:40], names[41], names[40], *names[42:]]
  with pytest.raises(ValueError) as error:
    heads.placed({"head": {"kernel": np.ones((3, 100))}}, Head("", tuple(names), tuple(swapped)))
  assert "the classes ..., c40, c41, c42," in str(
    error.value
  ) and "data have ..., c41, c40, c42," in str(error.value)
  assert str(error.value).count("c49, ...") == 2


@pytest.mark.parametrize("name", ["resnet8", "resnet18", "resnet50"])
def test_the_shapes_of_a_new_head(name):
  old, new = (fit.expected(resnet(name, classes, width=0.25), (32, 32, 3)) for classes in (1000, 4))
  assert heads.shapes(old, 4) == new
  assert heads.shapes({k: v for k, v in old.items() if not k.startswith("head")}, 4) == new


@pytest.mark.parametrize(
  "network, fields",
  [
    (resnet("resnet20", 10, "8A,2W", width=0.5), dict(name="resnet20", width=0.5, shortcut="pad")),
    (resnet("resnet56", 10, shortcut="conv"), dict(name="resnet56", width=1.0, shortcut="conv")),
    (resnet("resnet50", 1000, width=0.125), dict(name="resnet50", width=0.125, shortcut="conv")),
  ],
)
def test_the_fields_of_a_network(network, fields):
  have = fit.expected(network, (32, 32, 3))
  assert fit.fields(have) == fields
  again = resnet(
    fields["name"],
    network.num_classes,
    network.quantization.precision,
    width=fields["width"],
    shortcut=fields["shortcut"],
  )
  assert again == network
  del have["stem/kernel"]
  with pytest.raises(ValueError, match="^holds no ResNet of known sizes$"):
    fit.fields(have)


@pytest.mark.slow
def test_matched_logits_are_pytorchs(tmp_path):
  """A small ResNet by torchvision's names for ImageNet's classes, random weights."""
  torch = tools.module("torch")
  import torch_resnets

  net = torch_resnets.randomised(torch_resnets.Net((1, 1, 1, 1), 8, 1000))
  torch.save(net.state_dict(), tmp_path / "net.pth")
  found = pretrained.convert(state_dict.read(tmp_path / "net.pth"))
  ours = ("n03888257", "n01440764", "church", "golf ball")
  params = heads.placed(found.params, Head("match", class_names.imagenet(), ours))
  images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
  model = ResNet((1, 1, 1, 1), 8, 4, shortcut="conv", imagenet_stem=True)
  variables = {"params": params, "batch_stats": found.batch_stats}
  logits = jax.jit(model.apply, static_argnums=2)(variables, jnp.asarray(images), False)
  theirs = torch_resnets.logits(net, images)[:, [701, 0, 497, 574]]
  assert jax.tree.map(np.shape, params["head"]) == {"kernel": (64, 4), "bias": (4,)}
  np.testing.assert_allclose(logits / theirs.std(), theirs / theirs.std(), rtol=0, atol=2e-5)
