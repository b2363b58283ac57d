"""The benchmark of reading images: the JPEGs it makes, what it computes, what it prints."""

import json
import sys

import beside_tf_data
import numpy as np
import photos as made_photos
import pytest
import simplejpeg
import tools
from beside_tf_data import KINDS, Kind
from PIL import Image

from apprentice_jax.data import encoded
from apprentice_jax.errors import ConfigError


@pytest.fixture
def photos(tmp_path):
  """A folder with three photos of waves and noise: 224x224, a larger one and a smaller one."""
  folder = tmp_path / "photos" / "train" / "waves"
  folder.mkdir(parents=True)
  rng = np.random.default_rng(0)
  for i, (height, width) in enumerate(((224, 224), (300, 400), (100, 300))):
    y, x = np.mgrid[:height, :width]
    waves = 128 + 90 * np.sin(y / 11)[..., None] * np.cos(x[..., None] / np.array([7, 13, 29]))
    pixels = np.clip(waves + rng.normal(0, 8, waves.shape), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(folder / f"{i}.jpg", quality=90)
  return tmp_path / "photos"


@pytest.mark.parametrize("name", KINDS)
def test_made_jpegs(photos, tmp_path, name):
  kind = KINDS[name]._replace(files=2)
  found = beside_tf_data.make(encoded.Folder(str(photos), "train"), kind, tmp_path / "made")
  made = encoded.Folder(str(tmp_path / "made"), "train")
  files = [data for data, _ in made.read(range(len(made)))]
  assert found == {"files": 2, "mean_bytes": sum(map(len, files)) / 2}
  for data in files:
    assert simplejpeg.decode_jpeg_header(data) == (kind.height, kind.width, "YCbCr", "420")
    assert simplejpeg.decode_jpeg(data).std() > 20  # a picture
  assert files[0] != files[1]


def test_photos_of_the_right_size_stay_as_they_are(photos, tmp_path):
  examples = encoded.Folder(str(photos), "train")
  found = beside_tf_data.make(examples, Kind(224, 224, 90, 1000), tmp_path / "made")
  made = encoded.Folder(str(tmp_path / "made"), "train")
  assert found["files"] == len(made) == 3  # no photo twice
  original = next(examples.read([0]))[0]
  assert [data for data, _ in made.read(range(3))].count(original) == 1


def test_a_mosaic_is_made_of_photos_as_they_are(tmp_path):
  folder = tmp_path / "photos" / "train" / "red"
  folder.mkdir(parents=True)
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (224, 224, 3), np.uint8)
  Image.fromarray(pixels).save(folder / "0.png")
  examples = encoded.Folder(str(tmp_path / "photos"), "train")
  mosaic = made_photos._mosaic(examples, Kind(375, 500, 97, 1), np.random.default_rng(1))
  assert mosaic.shape == (375, 500, 3)
  np.testing.assert_array_equal(mosaic[224:], mosaic[:151])  # of one photo: it repeats
  np.testing.assert_array_equal(np.sort(mosaic[:224, :224], None), np.sort(pixels, None))


def test_psnr():
  a = np.full((2, 4, 4, 3), 100, np.uint8)
  b = a.copy()
  b[0, 0] += 2  # a quarter of the pixels by 2: the mean square is 1
  b[1] -= 10
  # 10 log10(65025 / 1) = 48.1308 and 10 log10(65025 / 100) = 28.1308
  np.testing.assert_allclose(beside_tf_data.psnr(a, b), 38.1308, atol=1e-4)
  assert beside_tf_data.psnr(a, a) == pytest.approx(100)


def test_time_in_python(photos):
  # Far less than an image takes, as the calls outside the lock are not counted.
  found = beside_tf_data._python_time(encoded.Folder(str(photos), "train"), 3)
  assert 5 < found["python_microseconds"] < 2000
  assert found["ceiling_per_process"] == pytest.approx(1e6 / found["python_microseconds"])


def test_without_tensorflow(photos, monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorflow", None)
  with pytest.raises(ConfigError, match=r"pip install 'apprentice-jax\[bench\]'"):
    beside_tf_data.run(str(photos))


def test_table():
  pair = {"ours": 2000.0, "tf.data": 1000.0}
  found = {
    "files": 3,
    "mean_bytes": 12345.6,
    "images_a_round": 64,
    "images_per_second": pair,
    "images_per_second_per_core": {"ours": 1250.0, "tf.data": 500.0},
    "cpu_microseconds": {"ours": 800.0, "tf.data": 2000.0},
    "ratio": 2.0,
    "cpu_ratio": 2.5,
    "workers_ratio": 0.9,
    "python_microseconds": 60.0,
    "ceiling_per_process": 1e6 / 60,
    "reductions": {"1": 0.75, "2": 0.25},
    "psnr": {"ours / tf.data": 41.23, "ours at r": None},
  }
  machine = {"cores": 2, "batch": 32, "rounds": 15, "tensorflow": "2.18"}
  lines = beside_tf_data.table({"sets": {"224x224": found}, "machine": machine}, 2500).splitlines()
  assert lines[2:] == [
    "224x224: 3 files of 12,346 bytes",
    "  ours       2,000 images/s; a core:   1,250 images/s, 800 us an image",
    "  tf.data    1,000 images/s; a core:     500 images/s, 2,000 us an image",
    "  ours / tf.data: 2.00 in images/s, 2.50 a core",
    "  2 workers of 1 thread / ours: 0.90",
    "  Python holds its lock for 60 us an image: at most 16,667 images/s in a process",
    "  4 chips of 2,500 images/s (assumed): 8.0 cores, 2.0 a chip; processes: 1",
    "  8 chips of 2,500 images/s (assumed): 16.0 cores, 2.0 a chip; processes: 2",
    "  decoded at 1/r: 75% r = 1, 25% r = 2",
    "  ours / tf.data: 41.2 dB",
    "  ours at r: -",
  ]


@pytest.mark.slow
def test_run(photos, tmp_path, monkeypatch):
  tools.module("tensorflow")
  with pytest.raises(ConfigError, match="there is no folder"):
    beside_tf_data.run(str(tmp_path / "nowhere"))
  monkeypatch.setattr(
    beside_tf_data, "KINDS", {"small": Kind(224, 224, 90, 3), "large": Kind(1500, 2000, 90, 2)}
  )
  report = beside_tf_data.run(str(photos), images=64, rounds=1)
  json.dumps(report, allow_nan=False)
  assert report["machine"]["cores"] >= 1
  for found in report["sets"].values():
    assert set(found["images_per_second"]) == {"ours", "tf.data"}
    assert min(found["images_per_second"].values()) > 0
    assert min(found["cpu_microseconds"].values()) > 0
    assert found["ratio"] > 0 and found["cpu_ratio"] > 0 and found["workers_ratio"] > 0
  small, large = report["sets"]["small"], report["sets"]["large"]
  # The same crops: one pixel apart they are at 32 dB, mirrored at 12.
  assert small["reductions"] == {"1": 1} and small["psnr"]["ours at r > 1 / Pillow"] is None
  assert small["psnr"]["ours / Pillow"] == small["psnr"]["ours at r = 1 / Pillow"] > 50
  assert small["psnr"]["ours / tf.data"] > 35
  assert small["psnr"]["ours / tf.data, exact decoder"] > 45
  assert large["reductions"]["2"] > 0 and large["psnr"]["ours at r > 1 / Pillow"] > 40
  assert beside_tf_data.table(report).count("dB") == 11
