"""A user's own network in the command: trained, scored, exported, looked at, and made anew."""

import importlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import plain_networks
import pytest
from runs import begin, final_state, tiny

import apprentice_jax
from apprentice_jax import cli
from apprentice_jax.data import sources
from apprentice_jax.deploy import cost
from apprentice_jax.errors import ConfigError
from apprentice_jax.models import health
from apprentice_jax.models.imported import imported_network
from apprentice_jax.models.precision import Precision, Quantization
from apprentice_jax.quantizers import twn
from apprentice_jax.training import compiled, export, finish, networks
from apprentice_jax.training.program import initialiser
from apprentice_jax.training.records import read_records
from apprentice_jax.training.workdir import workdir_config

TERNARY = Quantization(Precision(8, 2))


def own(name="plain_networks:net", **changes):
  fields = dict(student__name=name, student__width=1.0, recipe__student__epochs=0.5)
  return tiny(**{"scheme": "baseline", **fields, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("own")
  return workdir, apprentice_jax.train(own(), workdir)


def test_what_is_trained_is_the_quantized_module(trained):
  workdir, result = trained
  found, _ = networks.read(str(workdir))
  # By hand: the module at its precision, on images as they are normalised.
  module = apprentice_jax.quantize(plain_networks.Net(10), "8A,2W")
  data = sources.load("digits", "test")
  images = jnp.asarray(data.images, jnp.float32) / 255 / 0.5 - 1
  variables = {"params": found.params, "batch_stats": found.batch_stats}
  logits = np.asarray(module.apply(variables, images, train=False))
  assert result["test_accuracy"] == pytest.approx(np.mean(logits.argmax(-1) == data.labels))
  # The quantizers' parameters are in the checkpoint, beside those of the plain module.
  assert {*found.params} == {"stem", "conv", "norm", "head", "quantization"}
  # A file has the same logits.
  apprentice_jax.export(workdir, "stablehlo", workdir / "own.stablehlo")
  np.testing.assert_allclose(
    apprentice_jax.load(workdir / "own.stablehlo").logits(data.images[:50]), logits[:50], atol=1e-4
  )


@pytest.mark.parametrize(
  "function, given",
  [
    (lambda num_classes, width=24: plain_networks.Net(num_classes), None),
    (lambda num_classes, **options: plain_networks.Net(num_classes), None),
    (lambda num_classes, width=24, /: plain_networks.Net(num_classes), None),
    (lambda num_classes, width=0.5: plain_networks.Net(num_classes), 1.0),
    (lambda num_classes, width=1: plain_networks.Net(num_classes), 1.0),
    (lambda num_classes, width: plain_networks.Net(num_classes), 1.0),
  ],
)
def test_a_width_in_channels_is_left_as_it_is(function, given, monkeypatch):
  """Where it is no whole number, it is the config's factor."""
  monkeypatch.setattr(plain_networks, "wide", function, raising=False)
  made = imported_network("plain_networks:wide", 10, TERNARY, width=1.0)
  assert dict(made.options).get("width") == given


@pytest.mark.parametrize("formats", [("packed", "onnx"), ("stablehlo",), ()])
def test_an_own_network_is_left_as_stablehlo(formats, capsys):
  """A config file may name formats that it cannot have; the user may not."""
  config = own(export=formats)
  finish.check(config, chosen=False)
  said = capsys.readouterr().out
  assert finish.formats(config) == (("stablehlo",) if formats else ())
  assert ("left as StableHLO instead of packed, onnx." in said) == ("packed" in formats)
  if "packed" in formats:
    with pytest.raises(ConfigError, match="the format packed needs the layers of one of ours"):
      finish.check(config)


def test_health_and_cost(trained):
  workdir, _ = trained
  found, _ = networks.read(str(workdir))
  grid = np.asarray(twn(found.params["conv"]["kernel"], axis=-1))
  # A record has the mean of some steps, here of the last alone.
  last = [record for record in read_records(workdir) if "zeros/conv" in record][-1]
  assert last["zeros/conv"] == pytest.approx(np.mean(grid == 0))
  assert 0 <= last["saturation/conv/input"] <= 1
  network = export.lowered(workdir_config(workdir), str(workdir))
  total = cost.total(network)
  assert total.macs == {"32A,32W": 4 * 9 * 16 + 8 * 10, "8A,2W": 4 * 9 * 8 * 16}
  assert total.sparsity == pytest.approx(np.mean(grid == 0))
  assert "at its bits" in cost.table(network)


def test_lowered_scores_the_program_of_the_file(trained, capsys):
  workdir, result = trained
  assert cli.main(["eval", f"--workdir={workdir}", "--lowered"]) == 0
  said = "".join(capsys.readouterr())
  assert "a network of your own has no integer form: its StableHLO program is scored." in said
  assert f"test: accuracy {result['test_accuracy']:.2%}, loss {result['test_loss']:.4f}" in said


def test_the_workdir_says_which_network_it_is(trained):
  workdir, _ = trained
  config = own(name="", student__init=str(workdir))
  assert networks.named(config).student.name == "plain_networks:net"


def test_health_of_a_loop_counts_all_its_turns():
  model = imported_network("plain_networks:loop", 10, TERNARY)
  images = jax.random.normal(jax.random.key(1), (4, 4, 4, 1))
  network = initialiser(model)(jax.random.key(0), images, {})
  names = health.names(model, (4, 4, 1))
  # A scan hands on the collections that it was told of, and health is none of them.
  assert names.weights == ("loop/dense",) and names.activations == ()
  ((zeros, flips),) = np.asarray(health.weights(model, network.params, network.params, (4, 4, 1)))
  grids = [np.asarray(twn(kernel, axis=-1)) for kernel in network.params["loop"]["dense"]["kernel"]]
  assert zeros == pytest.approx(np.mean(np.stack(grids) == 0)) and flips == 0


def test_an_edited_network_is_another_program(tmp_path, monkeypatch):
  # The same names, settings and shapes: the text alone tells the two apart.
  source = tmp_path / "edited_network.py"
  original = shutil.copyfile(plain_networks.__file__, source).read_text()
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setattr(compiled, "_folder", tmp_path / "programs")
  (tmp_path / "programs").mkdir(mode=0o700)

  def loss(text):
    source.write_text(text)
    sys.modules.pop("edited_network", None)
    importlib.invalidate_caches()
    workdir = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
    config = own("edited_network:net", recipe__student__epochs=0.25)
    return apprentice_jax.train(config, workdir)["test_loss"]

  monkeypatch.setattr(sys, "dont_write_bytecode", True)
  first = loss(original)
  assert loss(original.replace("nn.relu(nn.Conv", "nn.tanh(nn.Conv")) != first
  kept = {path.name for path in (tmp_path / "programs").glob("*.program")}
  assert loss(original) == first
  assert {path.name for path in (tmp_path / "programs").glob("*.program")} == kept


@pytest.mark.slow
def test_a_killed_run_ends_as_an_unbroken_one(tmp_path, monkeypatch):
  # A student and its teacher are both the user's; the teacher's workdir names the function.
  teacher = tmp_path / "teacher"
  apprentice_jax.train(own(precision="32A,32W"), teacher)
  config = own(scheme="B", checkpoint__every_epochs=0.2, teacher__name="")
  config.teacher.init = str(teacher)
  unbroken = tmp_path / "unbroken"
  apprentice_jax.train(config, unbroken)
  begin(config, tmp_path / "killed", monkeypatch, killed_at=10)
  apprentice_jax.train(config, tmp_path / "killed")
  (steps, state), (_, expected) = final_state(tmp_path / "killed"), final_state(unbroken)
  assert steps == 11 and state.keys() == expected.keys()
  for name, leaf in expected.items():
    np.testing.assert_array_equal(state[name], leaf, err_msg=name)


@pytest.mark.slow
def test_the_example_learns(tmp_path):
  example = pathlib.Path(__file__).parents[2] / "examples" / "own_network.py"
  assert len(example.read_text().splitlines()) <= 60
  environment = {**os.environ, "PYTHONPATH": str(example.parents[1]), "XLA_FLAGS": ""}
  command = [sys.executable, str(example)]
  out = subprocess.run(
    command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
  ).stdout
  (accuracy,) = re.findall(r"([0-9.]+)% of the test images, at 8A,2W", out)
  assert float(accuracy) > 90
