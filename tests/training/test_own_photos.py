"""From a folder of photos and a trained network to a small one, by one command."""

import json
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from runs import named_torch
from test_config import FILES, get_config

from apprentice_jax import cli, environment
from apprentice_jax import config as configs
from apprentice_jax.data.splits import open_splits
from apprentice_jax.deploy import registry
from apprentice_jax.distill.step import Network
from apprentice_jax.models import resnet
from apprentice_jax.training import identity

(CONFIG,) = (path for path in FILES if path.stem == "image_folder")
COLOURS = {"red apples": (200, 40, 40), "kiwi": (60, 180, 60), "blue plums": (60, 60, 200)}


@pytest.fixture
def photos(tmp_path):
  """Ten photos a class, a folder each, without a split."""
  random = np.random.default_rng(0)
  for name, colour in COLOURS.items():
    (tmp_path / "photos" / name).mkdir(parents=True)
    for i in range(10):
      pixels = np.clip(np.array(colour) + random.normal(0, 20, (40, 48, 3)), 0, 255)
      Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photos" / name / f"{i}.jpg")
  return tmp_path / "photos"


def test_other_images_than_the_runs_are_told(photos, tmp_path):
  config = configs.base()
  config.data.update({"name": "image_folder", "dir": str(photos), "image_size": 16})
  config.data.test_split, config.data.test_share = "val", 0.2
  noted = open_splits(config.data)
  (tmp_path / "data.json").write_text(json.dumps(noted.identity))
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    identity.warn_of_other_images(tmp_path, noted)
    identity.warn_of_other_images(tmp_path / "nowhere", noted)

  def warns(sentence):
    with pytest.warns(UserWarning, match=sentence + "; the images of now are scored"):
      identity.warn_of_other_images(tmp_path, open_splits(config.data))

  shutil.copy(photos / "kiwi" / "0.jpg", photos / "kiwi" / "10.jpg")
  warns("it began with 30 training images, and there are 31 now")
  # The test images get a folder of their own, and lose it.
  (photos / "train").mkdir()
  for name in COLOURS:
    shutil.copytree(photos / name, photos / "val" / name)
    (photos / name).rename(photos / "train" / name)
  warns("were a share of the training images, and now have a folder of their own")
  (tmp_path / "data.json").write_text(json.dumps(open_splits(config.data).identity))
  shutil.rmtree(photos / "val")
  warns("the folder of its test images is gone")


@pytest.mark.slow
def test_the_whole_way(photos, tmp_path, capsys):
  model = resnet("resnet14", 7, width=0.25)  # another network, of other classes
  variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=True)
  init = named_torch(
    Network(variables["params"], variables["batch_stats"]), tmp_path / "net.safetensors", range(7)
  )
  run = tmp_path / "run"
  assert (
    cli.main(
      [
        "train",
        f"--config={CONFIG}:runlocal",
        f"--config.data.dir={photos}",
        "--config.batch_size=8",
        f"--config.teacher.init={init}",
        f"--workdir={run}",
        "--config.data.image_size=16",
        "--config.data.resize=18",
      ]
    )
    == 0
  )
  said = capsys.readouterr().out
  note, plan = (
    said.index(words)
    for words in (
      "sizes for a CPU",
      "training the teacher (resnet14 in full",
    )
  )
  assert note < plan < said.index("run: 3 steps to train")
  config = json.loads((run / "config.json").read_text())
  assert (config["teacher.name"], config["teacher.width"]) == ("resnet14", 0.25)
  assert json.loads((run / "teacher" / "config.json").read_text())["precision"] == "32A,32W"
  report = (run / "report.md").read_text()
  assert "| red apples |" in report and "## Which class is taken for which" in report
  assert json.loads((run / "result.json").read_text())["test_count"] == 6  # a fifth of each class
  for name in ("packed", "onnx"):
    network = registry.load(run / f"student.{name}")
    assert network.class_names == tuple(sorted(COLOURS))
    assert network.image_shape == (16, 16, 3)
  # The report and files of a finished run are written anew where they are missing.
  (run / "student.onnx").unlink()
  (run / "mistakes.png").unlink(missing_ok=True)
  assert (
    cli.main(
      [
        "train",
        f"--config={CONFIG}:runlocal",
        f"--config.data.dir={photos}",
        "--config.batch_size=8",
        f"--config.teacher.init={init}",
        f"--workdir={run}",
        "--config.data.image_size=16",
        "--config.data.resize=18",
      ]
    )
    == 0
  )
  assert "has finished already" in capsys.readouterr().out and (run / "student.onnx").exists()


@pytest.mark.parametrize(
  "accelerator, argument, side, student",
  [
    (False, "", 32, "resnet20"),
    (False, "student=resnet18", 64, "resnet18"),
    (True, "", 224, "resnet18"),
    (True, "student=resnet50", 224, "resnet50"),
    (True, "student=resnet20", 32, "resnet20"),
  ],
)
def test_sizes_fit_the_machine(accelerator, argument, side, student, monkeypatch):
  monkeypatch.setattr(environment, "has_accelerator", lambda: accelerator)
  config = get_config(CONFIG, argument)
  assert (config.data.image_size, config.student.name) == (side, student)
  assert ("no GPU or TPU" in config.note) != accelerator
  assert config.data.resize == side * 8 // 7
  config.data.image_size = 128
  assert config.copy_and_resolve_references().data.resize == 146  # follows, unless it is set
  config.data.resize = 130
  assert config.copy_and_resolve_references().data.resize == 130


@pytest.mark.parametrize(
  "devices, plugin, variables, expected",
  [
    (["/dev/nvidia0"], True, {}, True),
    (["/dev/nvidia0"], False, {}, False),
    ([], True, {}, False),
    (["/dev/nvidia0"], True, {"CUDA_VISIBLE_DEVICES": ""}, False),
    (["/dev/nvidia0"], True, {"JAX_PLATFORMS": "cpu"}, False),
    (["/dev/nvidia0"], True, {"JAX_PLATFORMS": "cuda,cpu"}, True),
  ],
)
def test_a_gpu_counts_where_jax_uses_it(devices, plugin, variables, expected, monkeypatch):
  for name in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS"):
    monkeypatch.delenv(name, raising=False)
  for name, value in variables.items():
    monkeypatch.setenv(name, value)
  monkeypatch.setattr("glob.glob", lambda pattern: devices if "nvidia" in pattern else [])
  monkeypatch.setattr(environment, "jax_sees_gpus", lambda: plugin)
  monkeypatch.setattr(environment, "has_tpu", lambda: False)
  assert environment.has_accelerator() == expected
  monkeypatch.setattr(environment, "has_tpu", lambda: True)
  assert environment.has_accelerator() == (expected or "JAX_PLATFORMS" not in variables)


def test_formats_are_checked_before_training(photos, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  train = [
    "train",
    f"--config={CONFIG}:runlocal",
    f"--config.data.dir={photos}",
    f"--workdir={tmp_path / 'run'}",
  ]
  assert cli.main([*train, "--config.export=('onnx',)"]) == 2
  assert capsys.readouterr().err == (
    "apprentice: config.export names onnx, which is not installed: pip install "
    "'apprentice-jax[export]', or leave it out.\n"
  )
  assert cli.main([*train, "--config.export=('web',)"]) == 2
  assert capsys.readouterr().err == (
    "apprentice: a page takes the compiler of the package ziglang: pip install "
    "'apprentice-jax[c]'.\n"
  )
  assert not (tmp_path / "run").exists()
