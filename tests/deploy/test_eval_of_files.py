"""`apprentice eval` scores exported files, and workdirs as the integers they are exported with."""

import json
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from apprentice_jax import config as configs
from apprentice_jax.deploy import lower, predict
from apprentice_jax.deploy.network import BadNetwork
from apprentice_jax.deploy.predictor import Predictor
from apprentice_jax.errors import ConfigError
from apprentice_jax.training import export, networks

DIGITS = pathlib.Path(__file__).parents[2] / "configs" / "digits.py"


@pytest.mark.parametrize("name", ["packed", "onnx", "stablehlo"])
def test_an_exported_network_scores_what_the_trained_one_does(name, workdir, command, tmp_path):
  out = tmp_path / "student"
  status, said, err = command("export", f"--workdir={workdir}", f"--format={name}", f"--out={out}")
  assert status == 0, err
  size = out.stat().st_size
  assert f"{out}: {size:,} bytes, {name}" in said
  if name == "packed":
    assert f"packed file        {size:,} bytes\n" in said
  result = json.loads((workdir / "result.json").read_text())
  status, said, err = command("eval", f"--model={out}", f"--config={DIGITS}:width=0.25")
  assert status == 0, err
  accuracy, loss, count = re.search(
    r"test: accuracy ([\d.]+)%, loss ([\d.]+), (\d+) examples", said
  ).groups()
  assert (
    float(accuracy) / 100 == pytest.approx(result["test_accuracy"], abs=1.1 / 360)
    and int(count) == 360
  )
  assert float(loss) == pytest.approx(result["test_loss"], rel=1e-3)


def test_the_lowering_is_scored_and_costs_are_told(workdir, command):
  status, said, err = command("eval", f"--workdir={workdir}", "--lowered", "--layers")
  assert status == 0, err
  status, trained, _ = command("eval", f"--workdir={workdir}")
  line = lambda text: re.search(r"accuracy ([\d.]+)%", text)[1]
  assert line(said) == pytest.approx(line(trained))
  assert (
    "| stage1_block1/conv1 | 144 | 2 | 8 | 9,216 | 147,456 |" in said and "| layer" not in trained
  )
  assert "integer weights" in trained


def test_a_file_knows_its_images_sizes(workdir, command, tmp_path):
  """Whatever the config's: the digits as photos, of other sizes and another normalisation, are
  scored as they are."""
  out = tmp_path / "student"
  assert command("export", f"--workdir={workdir}", "--format=packed", f"--out={out}")[0] == 0
  line = lambda said: re.search("test: accuracy.*", said)[0]
  wanted = line(command("eval", f"--model={out}", f"--config={DIGITS}")[1])
  for changes in (
    ("--config.data.mean=(0.1,)", "--config.data.std=(0.9,)"),
    ("--config.data.image_size=12", "--config.data.resize=14"),
  ):
    status, said, err = command("eval", f"--model={out}", f"--config={DIGITS}", *changes)
    assert status == 0 and line(said) == wanted, err


def test_photos_are_scored_at_the_sizes_of_the_file(tmp_path):
  """A config of 56 pixels and a network of 20: as if the images had been cut to 20 beforehand."""
  random = np.random.default_rng(0)
  for name in "ab":
    (tmp_path / "val" / name).mkdir(parents=True)
    for i in range(3):
      photo = random.integers(0, 256, (4, 5, 3), np.uint8)
      Image.fromarray(photo).resize((50, 40)).save(tmp_path / "val" / name / f"{i}.png")
  config, seen = configs.base(), []
  config.data.update(
    {"name": "image_folder", "dir": str(tmp_path), "test_split": "val", "image_size": 56}
  )

  def logits(images):
    seen.extend(images)
    return np.eye(2, dtype=np.float32)[np.zeros(len(images), int)]

  predictor = Predictor((20, 20, 3), ("a", "b"), 24, logits)
  found = export.evaluate(predictor, config)
  assert found["count"] == 6 and found["accuracy"] == 0.5 and config.data.image_size == 56
  files = sorted((tmp_path / "val").rglob("*.png"))
  np.testing.assert_array_equal(seen[:6], [predict.prepared(file, predictor) for file in files])
  with pytest.raises(ConfigError, match="photos are cut to squares"):
    export.evaluate(predictor._replace(image_shape=(20, 16, 3)), config)


def test_a_network_that_cannot_be_lowered_is_scored(workdir, command, monkeypatch):
  wanted = command("eval", f"--workdir={workdir}")[1]
  restored = []
  monkeypatch.setattr(
    networks, "load", lambda *a, load=networks.load, **k: restored.append(a) or load(*a, **k)
  )

  def bad(*_, **__):
    raise BadNetwork("stem: weights that are not finite")

  monkeypatch.setattr(lower, "lower", bad)
  status, said, err = command("eval", f"--workdir={workdir}")
  assert status == 0, err
  assert re.search("test: accuracy.*", said)[0] == re.search("test: accuracy.*", wanted)[0]
  assert (
    "its cost is not known, since it cannot be lowered: stem: weights that are not finite" in said
  )
  assert len(restored) == 1
  status, _, err = command("eval", f"--workdir={workdir}", "--lowered")
  assert status == 2 and "cannot be lowered: stem: weights that are not finite." in err


def test_wrong_files_and_flags(exported, refused):
  for words, sentence in [
    (("eval", f"--model={exported}"), "this command needs --config=...; see apprentice --help."),
    (
      ("eval", f"--model={exported}", f"--config={DIGITS}", "--split=validation"),
      "there is no validation split: config.data.validation is 0.",
    ),
  ]:
    refused(*words, sentence=sentence)
