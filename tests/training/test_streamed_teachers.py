"""Teachers' files on photos that are read as they are needed: the curve of the same network."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from runs import named_torch, tiny

import apprentice_jax
from apprentice_jax.data.splits import open_splits
from apprentice_jax.deploy import lower, registry
from apprentice_jax.distill.step import Network
from apprentice_jax.models import resnet
from apprentice_jax.training import api
from apprentice_jax.training.records import read_records

CLASSES = ("apple", "kiwi", "plum")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """Sixteen PNG photos a class, half of them to test."""
  folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
  for split in ("train", "val"):
    for i, name in enumerate(CLASSES):
      (folder / split / name).mkdir(parents=True)
      for j in range(8):
        pixels = np.clip(random.normal(90 + 40 * i, 50, (8, 8, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / split / name / f"{j}.png")
  return folder


@pytest.fixture(scope="module")
def network():
  """A network whose statistics nobody would take for an initialisation's."""
  model = resnet("resnet8", 3, width=0.25)
  variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=True)
  random = np.random.default_rng(0)
  stats = jax.tree.map(
    lambda s: np.float32(s + 0.2 * random.random(s.shape)), variables["batch_stats"]
  )
  return model, Network(variables["params"], stats)


def config_of(photos, teacher, **changes):
  """Crops of whole photos, so that a photo is the same in every epoch."""
  return tiny(
    scheme="B",
    precision="32A,32W",
    teacher__init=str(teacher),
    teacher__name="",
    data__name="image_folder",
    data__dir=str(photos),
    data__test_split="val",
    data__image_size=8,
    data__resize=8,
    data__crop_area=(1.0, 1.0),
    data__crop_ratio=(1.0, 1.0),
    batch_size=8,
    recipe__student__epochs=5.0,
    recipe__student__learning_rate=0.02,
    **changes,
  )


@pytest.fixture(scope="module")
def by_checkpoint(photos, network, tmp_path_factory):
  """A run whose teacher is the network itself, in PyTorch's names."""
  place = tmp_path_factory.mktemp("by-checkpoint")
  file = named_torch(network[1], place / "net.safetensors", range(3))
  api.train(config_of(photos, file), place / "run")
  return place / "run"


def assert_same_curve(workdir, expected):
  for name in ("loss", "distill", "teacher_ce", "teacher_accuracy"):
    found, wanted = (
      np.array([r[name] for r in read_records(w) if name in r]) for w in (workdir, expected)
    )
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-6, err_msg=name)
  assert np.ptp(found) > 0.001


def floats(network, images):
  model, (params, stats, _) = network
  return model.apply({"params": params, "batch_stats": stats}, images, False)


@pytest.mark.slow
def test_a_program_on_streamed_photos(photos, network, by_checkpoint, tmp_path):
  """One of a fixed batch that no device's share is."""
  images = jax.ShapeDtypeStruct((3, 8, 8, 3), jnp.float32)
  exported = jax.export.export(jax.jit(lambda images: floats(network, images)))(images)
  (tmp_path / "teacher.stablehlo").write_bytes(exported.serialize())
  config = config_of(photos, tmp_path / "teacher.stablehlo")
  result = api.train(config, tmp_path / "run")
  assert_same_curve(tmp_path / "run", by_checkpoint)
  expected = api.result(by_checkpoint)
  for name in ("test_teacher_accuracy", "test_agreement"):
    assert result[name] == expected[name]


def logits_of(photos, network):
  """The teacher's logits of the training photos, in the data set's order, and their labels."""
  data = open_splits(config_of(photos, "").data)["train"]
  images, labels = map(np.concatenate, zip(*data.batches(8)))
  return np.asarray(floats(network, (images.astype(np.float32) / 255 - 0.5) / 0.5)), labels


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_of_logits_travels_with_the_photos(
  workers, photos, network, by_checkpoint, tmp_path
):
  apprentice_jax.save_logits(tmp_path / "logits.npz", *logits_of(photos, network), CLASSES)
  config = config_of(photos, tmp_path / "logits.npz", data__workers=workers)
  result = api.train(config, tmp_path / "run")
  assert_same_curve(tmp_path / "run", by_checkpoint)
  assert "test_teacher_accuracy" not in result


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_an_onnx_file_runs_beside_the_decoder(
  workers, photos, network, by_checkpoint, tmp_path, capsys
):
  model, (params, stats, _) = network
  about = dict(image_shape=(8, 8, 3), class_names=CLASSES, mean=(0.5,), std=(0.5,))
  lowered = lower.lower(model, params, stats, ends="float", resize=8, architecture="x", **about)
  file = tmp_path / "teacher.onnx"
  registry.write(lowered, "onnx", file)
  result = api.train(config_of(photos, file, data__workers=workers), tmp_path / "run")
  assert_same_curve(tmp_path / "run", by_checkpoint)
  for name in ("test_teacher_accuracy", "test_agreement"):
    assert result[name] == api.result(by_checkpoint)[name]
  said = capsys.readouterr().out
  assert f"the teacher {file} runs in ONNX Runtime beside the decoder: " in said


def test_logits_are_those_of_the_photo_that_came_instead(photos, tmp_path):
  """Of one that cannot be read, the next one's, as its pixels and its label are."""
  shutil.copytree(photos, tmp_path / "photos")
  (tmp_path / "photos" / "train" / "kiwi" / "3.png").write_bytes(b"no image")
  data = open_splits(config_of(tmp_path / "photos", "", data__unreadable="skip").data)["train"]
  table = np.stack([np.arange(data.size), data.all_labels], 1).astype(np.float32)
  teacher = lambda pixels, index: table[index]
  with pytest.warns(UserWarning, match="3.png"), data.training(0, 8, 0, 3, teacher) as feed:
    batches = list(feed)
  indices, labels = np.concatenate([np.asarray(b.logits).reshape(-1, 2) for b in batches]).T
  assert sorted(indices) == sorted([*range(11), 12, *range(12, 24)])
  np.testing.assert_array_equal(labels, np.concatenate([np.ravel(b.labels) for b in batches]))
