"""The formats of exported files, by their names and by their bytes."""

import os

import numpy as np
import pytest
import tools
from networks import lowered, made

import apprentice_jax
from apprentice_jax.deploy import registry
from apprentice_jax.errors import ConfigError


@pytest.mark.parametrize(
  "name",
  [
    # A page takes a compiler, which the slow tests have.
    pytest.param(name, marks=pytest.mark.slow) if name == "web" else name
    for name in registry.FORMATS
    if name != "c"
  ],
)
def test_one_function_loads_a_file_of_any_format(name, tmp_path):
  if name == "web":
    tools.module("ziglang")
  network, images = lowered(), made()[3]
  registry.write(network, name, tmp_path / "student")
  assert registry.recognised(tmp_path / "student") == name
  predictor = apprentice_jax.load(tmp_path / "student")
  assert predictor[:3] == (network.image_shape, network.class_names, network.resize)
  assert predictor.logits(images).shape == (len(images), len(network.class_names))
  assert predictor.logits(images).dtype == np.float32


def test_paths_that_are_no_exported_file(tmp_path):
  os.mkfifo(tmp_path / "pipe")
  (tmp_path / "text").write_text("no network")
  for path, words in (
    (tmp_path / "none", "No such file or directory."),
    (tmp_path, "it is a folder; `apprentice predict --workdir=DIR` takes a workdir."),
    (tmp_path / "pipe", "it is of no format that export writes"),
    (tmp_path / "text", "it is of no format that export writes"),
  ):
    assert registry.recognised(path) == ""
    with pytest.raises(ConfigError) as error:
      registry.load(path)
    assert str(error.value).startswith(f"cannot read {path}: {words}")
