"""The networks that come with the package: their cards, their logits, and how a name finds them."""

import argparse
import dataclasses
import hashlib
import importlib.util
import json
import pathlib

import numpy as np
import pytest
import tools
import zoo_pictures
from PIL import Image
from scipy.special import softmax

import apprentice_jax
from apprentice_jax import cli, zoo
from apprentice_jax import config as configs
from apprentice_jax.data import sources
from apprentice_jax.deploy import cost, interpret, packed, registry
from apprentice_jax.errors import ConfigError
from apprentice_jax.training import export
from apprentice_jax.training.workdir import workdir_config

ROOT = pathlib.Path(__file__).parents[1]
FIRST = "resnet8-cifar10-8a2w"
NAMES = zoo.names()
SHIPPED = {name: (zoo.card(name), zoo.path(name).read_bytes()) for name in NAMES}


def loaded(path):
  """A script as a module."""
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture(scope="module")
def expected():
  return {
    name: np.float32(rows) for name, rows in json.loads(zoo_pictures.EXPECTED.read_text()).items()
  }


# Cards.


@pytest.mark.parametrize("name", NAMES)
def test_a_card_is_of_its_file(name):
  card, content = zoo.card(name), zoo.path(name).read_bytes()
  assert card.name == name and len(NAMES) >= 2
  assert card.bytes == len(content)
  assert card.sha256 == hashlib.sha256(content).hexdigest()
  network = packed.decode(content)
  assert (card.architecture, card.precision) == (network.architecture, network.precision)
  assert (tuple(card.image_shape), card.classes) == (network.image_shape, len(network.class_names))
  total = cost.total(network)
  assert (card.parameters, card.macs) == (total.parameters, total.macs)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_is_of_its_runs(name):
  card, seeds = zoo.card(name), []
  for run in card.runs:
    config = workdir_config(ROOT / run["folder"])
    result = json.loads((ROOT / run["folder"] / "result.json").read_text())
    assert (config.seed, result["test_accuracy"]) == (run["seed"], run["accuracy"])
    assert config.precision == card.precision and config.data.name == card.data["data.name"]
    assert config.scheme == card.training["scheme"]
    assert config.recipe.student.epochs == card.training["epochs"]
    seeds.append(config.seed)
  assert card.training["seed"] in seeds and len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_its_runs_file_but_for_the_names_of_classes(name):
  source = ROOT / zoo.card(name).training["file"]
  before = packed.read(source)
  after = dataclasses.replace(packed.read(zoo.path(name)), class_names=before.class_names)
  packing = registry.load(source).packing
  assert packed.encode(after, packing) == source.read_bytes()


@pytest.fixture
def script(tmp_path, monkeypatch):
  """results/add_to_zoo.py, for a zoo of its own; no images are scored."""
  module = loaded(ROOT / "results" / "add_to_zoo.py")
  score = {"accuracy": 0.87, "loss": 0.5, "count": 10000}
  monkeypatch.setattr(module.export, "evaluate", lambda *_, **__: score)
  monkeypatch.setattr(zoo, "FOLDER", tmp_path)
  return module


def again(script, card, runs):
  """Makes a network's files as they were made, with these folders of other seeds."""
  names = ("commit", "command", "chosen", "teacher_source")
  flags = argparse.Namespace(data_dir="", runs=[ROOT / run for run in runs])
  vars(flags).update({name: card.training[name] for name in names})
  return script.add(card.name, ROOT / card.training["file"], flags)


@pytest.mark.parametrize("name", NAMES)
def test_the_script_makes_what_is_here(name, script):
  card, content = SHIPPED[name]
  found = again(script, card, [run["folder"] for run in card.runs])
  assert found._replace(score=card.score) == card
  assert zoo.path(name).read_bytes() == content and zoo.card(name) == found


def test_the_script_refuses_another_training(script, monkeypatch, tmp_path):
  card, _ = SHIPPED[FIRST]
  with pytest.raises(ConfigError, match=r"differ in config.loss.temperature\.$"):
    again(script, card, ["results/mlperf_tiny/B-8A2W-seed0"])
  monkeypatch.setattr(script.export, "evaluate", lambda *_, **__: {"accuracy": 0.5})
  with pytest.raises(ConfigError, match="packed scores 50.00%, and its run 86.73%"):
    again(script, card, [])
  monkeypatch.setattr(script, "SOURCES", {})
  with pytest.raises(ConfigError, match="licence of cifar10 are unknown"):
    again(script, card, [])
  held_out = ROOT / "results" / "mlperf_tiny" / "B-tau4-8A2W-seed1-heldout"
  for folder, words in ((held_out, "has not scored the test set"), (tmp_path, "no result.json")):
    with pytest.raises(ConfigError, match=words):
      script._result(folder)
  assert not list(tmp_path.iterdir())


def test_an_accuracy_is_that_of_the_same_file_as_c_code():
  """results/mcu scored the C code of all images, which `eval` has no part in."""
  measured = [json.loads(path.read_text()) for path in (ROOT / "results" / "mcu").glob("*.json")]
  by_file = {r["sha256"]: r["accuracy"] for r in measured if r.get("images") == 10_000}
  scored = {}
  for name in NAMES:
    card = zoo.card(name)
    digits = hashlib.sha256((ROOT / card.training["file"]).read_bytes()).hexdigest()
    if digits in by_file:
      scored[name] = card.score["accuracy"] == by_file[digits]
  assert len(scored) >= 2 and all(scored.values())


def test_the_page_is_current():
  module = loaded(ROOT / "docs" / "write_models_page.py")
  assert module.PAGE.read_text() == module.page(), "run: python docs/write_models_page.py"


def test_the_command_lists_networks_and_prints_cards(capsys):
  assert cli.main(["models"]) == 0
  said = capsys.readouterr().out
  assert all(f"| {name} | " in said for name in NAMES)
  assert cli.main(["models", *NAMES]) == 0
  assert capsys.readouterr().out == "\n\n".join(zoo.text(zoo.card(name)) for name in NAMES) + "\n"
  assert cli.main(["models", "--json"]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert [zoo.Card(**json.loads(line)) for line in lines] == list(map(zoo.card, NAMES))


def test_a_card_in_words():
  card = zoo.card(FIRST)._replace(
    bytes=1234,
    macs={"8A,8W": 1000, "8A,2W": 2000},
    score={"accuracy": 0.512, "loss": 1.5, "count": 10000},
    runs=[dict(seed=s, accuracy=a, folder=f"r{s}") for s, a in enumerate([0.5, 0.52, 0.51])],
  )
  row = "| 51.20% | 1,234 | 3,000 | 51.00 ± 1.00 |"
  assert row in zoo.table([card])
  said = zoo.text(card)
  for words in (
    "51.20% of the 10,000 test images of cifar10, loss 1.5000: this file",
    "50.00% (seed 0), 52.00% (seed 1), 51.00% (seed 2): 51.00 ± 1.00\n",
    "1,000 at 8A,8W, 2,000 at 8A,2W\n",
    "r0, r1, r2\n",
    f"apprentice eval --model={FIRST} --data_dir=DIR",
  ):
    assert words in said, words
  alone = card._replace(runs=card.runs[:1], training=card.training | {"teacher": ""})
  assert "| 50.00 (one seed) |" in zoo.table([alone])
  assert "50.00% (seed 0)\n" in zoo.text(alone) and "epochs, no teacher\n" in zoo.text(alone)


# Logits of drawn pictures.


def of_integers(network):
  return all(node.weights.bits != 32 for node in network.nodes if hasattr(node, "weights"))


@pytest.mark.parametrize("name", NAMES)
def test_a_network_computes_what_it_did(name, expected):
  network = packed.read(zoo.path(name))
  found = interpret.logits(network, zoo_pictures.batch(network.image_shape))
  # The order of float sums is each machine's own.
  tolerance = 0 if of_integers(network) else 1e-5 * np.abs(found).max()
  np.testing.assert_allclose(found, expected[name], rtol=0, atol=tolerance)
  assert len(set(np.argmax(expected[name], -1))) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NAMES if of_integers(registry.network(n))])
def test_a_network_computes_the_same_in_c(name, expected, tmp_path):
  tools.program("gcc")
  registry.write(registry.network(name), "c", tmp_path / "student")
  predictor = registry.load(tmp_path / "student")
  found = predictor.logits(zoo_pictures.batch(predictor.image_shape))
  np.testing.assert_array_equal(found, expected[name])


@pytest.mark.parametrize("name", NAMES)
def test_predict_takes_a_name(name, expected, tmp_path, capsys):
  for i, picture in enumerate(zoo_pictures.batch(zoo.card(name).image_shape)):
    Image.fromarray(picture).save(tmp_path / f"{i}.png")
  assert cli.main(["predict", f"--model={name}", "--json", "--top=99", str(tmp_path)]) == 0
  answers = [json.loads(line)["classes"] for line in capsys.readouterr().out.splitlines()]
  class_names = packed.read(zoo.path(name)).class_names
  for answer, logits in zip(answers, expected[name], strict=True):
    odds = {each["name"]: each["probability"] for each in answer}
    wanted = softmax(logits.astype(np.float64))
    np.testing.assert_allclose([odds[key] for key in class_names], wanted, atol=2e-6)


# Names.


def test_a_path_comes_before_a_name(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  shipped = str(zoo.path(FIRST))
  assert registry.find(FIRST) == (shipped, zoo.card(FIRST), "")
  # A path that is written as one stands for no name.
  assert registry.find(f"./{FIRST}") == (f"./{FIRST}", None, "")
  assert cli.main(["export", f"--model=./{FIRST}", "--out=again"]) == 2
  assert f"cannot read ./{FIRST}: No such file" in capsys.readouterr().err
  # A folder of anything else is not what was meant.
  (tmp_path / FIRST).mkdir()
  path, card, note = registry.find(FIRST)
  assert (path, card.name) == (shipped, FIRST) and "in this folder is no exported file" in note
  # A folder of C code is.
  registry.write(registry.network(FIRST), "c", tmp_path / FIRST / "code")
  (tmp_path / FIRST).rename(tmp_path / "folder")
  (tmp_path / "folder" / "code").rename(tmp_path / FIRST)
  path, card, note = registry.find(FIRST)
  assert (path, card) == (FIRST, None) and "in this folder, not the network" in note
  # So is a file, whatever it holds; the command says which it took.
  (tmp_path / "folder" / FIRST).write_bytes(zoo.path(NAMES[1]).read_bytes())
  monkeypatch.chdir(tmp_path / "folder")
  assert cli.main(["export", f"--model={FIRST}", f"--out={tmp_path}/again"]) == 0
  out, err = capsys.readouterr()
  which = f"the {FIRST} in this folder, not the network {FIRST} of `apprentice models`"
  assert err == f"note: --model is {which}.\n" and "8A,4W" in out
  assert (tmp_path / "again").read_bytes() == zoo.path(NAMES[1]).read_bytes()


def test_python_takes_a_name_too():
  assert apprentice_jax.load(FIRST).class_names[3] == "cat"
  with pytest.raises(ConfigError, match=f"there is no file resnet8-8a2w.* '{FIRST}'"):
    apprentice_jax.load("resnet8-8a2w")


@pytest.fixture
def some_images(monkeypatch):
  """some_images(class_names) -> the folders that were asked for cifar10, of eight images each."""

  def use(class_names):
    folders = []

    def load(name, split, folder):
      assert name == "cifar10"
      folders.append(folder)
      images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
      labels = np.argmax(interpret.logits(registry.network(FIRST), images), -1).astype(np.int32)
      return sources.Dataset(images, labels, class_names)

    monkeypatch.setattr(sources, "load", load)
    return folders

  return use


def test_eval_takes_the_dataset_of_a_network(some_images, capsys, tmp_path):
  class_names = registry.network(FIRST).class_names
  for names in (class_names, tuple("0123456789")):
    folders = some_images(names)
    assert cli.main(["eval", f"--model={FIRST}", f"--data_dir={tmp_path}"]) == 0
    assert "test: accuracy 100.00%, loss" in capsys.readouterr().out
    assert set(folders) == {str(tmp_path)}
  # A copy with names has the network's, in their order.
  some_images(class_names[::-1])
  assert cli.main(["eval", f"--model={FIRST}"]) == 2
  assert "the network knows other classes than the dataset" in capsys.readouterr().err


def test_numbers_for_classes_are_names_of_other_data(some_images):
  config = configs.restored(zoo.card(FIRST).data)
  some_images(tuple("0123456789"))
  with pytest.raises(ConfigError, match="other classes than the dataset"):
    export.evaluate(registry.load(FIRST), config)
