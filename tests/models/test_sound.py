"""Broken networks are refused by the names of their file and tensor."""

import warnings

import jax
import numpy as np
import pytest

from apprentice_jax.models import resnet, sound
from apprentice_jax.models.pytorch.pretrained import Pretrained


@pytest.fixture
def variables():
  """A small network's, with statistics as after training."""
  shapes = jax.eval_shape(
    lambda key: resnet("resnet8", 10, width=0.25).init(key, np.zeros((1, 8, 8, 3)), False),
    jax.random.key(0),
  )
  random = np.random.default_rng(0)
  return jax.tree.map(lambda s: random.uniform(0.5, 1, s.shape).astype(np.float32), shapes)


def _said(variables, spelled=None):
  with pytest.raises(ValueError) as error:
    sound.check("net.pth", variables["params"], variables["batch_stats"], spelled)
  return str(error.value).removeprefix("net.pth holds a broken network: ")


@pytest.fixture
def silent():
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    yield


def test_a_trained_network_is_taken_in_silence(variables, silent):
  block = variables["params"]["stage2_block1"]
  block["conv2"]["kernel"][:] = block["norm2"]["scale"][:] = 0  # a block that has died
  variables["batch_stats"]["stage2_block1"]["norm1"]["var"][:] = 0
  variables["batch_stats"]["stage2_block1"]["norm1"]["mean"][:] = 0
  variables["params"]["head"]["bias"][:] = 0
  sound.check("net.pth", variables["params"], variables["batch_stats"])


@pytest.mark.parametrize(
  "value, what", [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")]
)
def test_every_tensor_is_looked_at(variables, value, what):
  for tree in (variables["params"], variables["batch_stats"]):
    for path, array in jax.tree_util.tree_leaves_with_path(tree):
      before, array.flat[-1] = array.flat[-1], value
      name = "/".join(key.key for key in path)
      assert _said(variables) == f"{name} is {what} in 1 of {array.size:,} places."
      array.flat[-1] = before


def test_names_are_the_files(variables):
  spelled = Pretrained({}, {}, {"stem/kernel": "module.conv1.weight"}).spelled
  variables["batch_stats"]["stage2_block1"]["norm1"]["var"][:3] = -1e-9
  assert _said(variables, spelled) == (
    "module.layer2.0.bn1.running_var is a variance, and below 0 in 3 of 8 places."
  )
  variables["params"]["head"]["kernel"][:] = 0
  assert _said(variables, spelled) == (
    "module.fc.weight is 0 everywhere: the network tells no images apart."
  )
  variables["params"]["stem"]["kernel"][:] = 0
  variables["params"]["head"]["kernel"][:] = 1
  assert "module.conv1.weight is 0 everywhere" in _said(variables, spelled)


def test_variances_that_are_all_the_same(variables):
  def stats(**values):
    """The statistics, with one value for all of a kind."""
    return jax.tree_util.tree_map_with_path(
      lambda path, a: np.full_like(a, values.get(path[-1].key, a)), variables["batch_stats"]
    )

  rest = "/var and all other variances of its batch norms are"
  for lost in (stats(var=0), stats(var=0, mean=0), stats(var=1)):
    assert f"{rest} {lost['stem_norm']['var'][0]:g}." in _said({**variables, "batch_stats": lost})
  with pytest.warns(UserWarning, match=f"{rest} 1, and all means are 0: nobody has trained this"):
    sound.check("net.pth", variables["params"], stats(var=1, mean=0))
