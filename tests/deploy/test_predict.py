"""`predict`: files and folders, answers in text and JSON; and the script of docs/onnxruntime.md."""

import json
import os
import pathlib
import re
import subprocess
import sys
import threading

import numpy as np
import onnx as library
import pytest
from networks import NAMES, made
from PIL import Image

from apprentice_jax import cli
from apprentice_jax.data import files, folder
from apprentice_jax.deploy import lower, onnx, packed, predict, preprocessing, registry
from apprentice_jax.deploy.predictor import Predictor
from apprentice_jax.errors import ConfigError

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "onnxruntime.md"
SCRIPT = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
ORIENTATION = 0x0112


def network(shape=(16, 16, 3), resize=20):
  """A small network of random numbers, for photos."""
  channels = shape[-1]
  model, params, stats, _ = made()
  if channels == 1:
    params = {**params, "stem": {"kernel": params["stem"]["kernel"][:, :, :1]}}
  return lower.lower(
    model,
    params,
    stats,
    image_shape=shape,
    class_names=NAMES,
    mean=(0.5,) * channels,
    std=(0.25,) * channels,
    resize=resize,
  )


def photo(height, width, seed=0):
  """Structure at several scales, so that another resize or another reduction gives other pixels."""
  random = np.random.default_rng(seed)
  coarse = Image.fromarray(random.integers(0, 256, (height // 9 + 2, width // 9 + 2, 3), np.uint8))
  fine = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
  return Image.fromarray(
    (fine + random.integers(-12, 13, fine.shape)).clip(0, 255).astype(np.uint8)
  )


def album(folder):
  """Photos of many kinds; at 20 pixels, JPEGs are reduced from 160, 320 and 640 on."""
  folder.mkdir()
  for i, (height, width) in enumerate(
    [
      (16, 16),
      (20, 33),
      (79, 90),
      (80, 121),
      (159, 240),
      (161, 203),
      (321, 330),
      (333, 555),
      (701, 323),
    ]
  ):
    photo(height, width, i).save(
      folder / f"{i}.jpg", quality=90, subsampling=i % 3, progressive=i % 2 == 0
    )
    photo(height, width, i).save(folder / f"{i}.png")
  for orientation in range(1, 9):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    for suffix in ("jpg", "png", "tif", "webp"):
      options = {"lossless": True} if suffix == "webp" else {}
      photo(171, 233, orientation).save(
        folder / f"turned{orientation}.{suffix}", exif=exif, **options
      )
  photo(190, 170).convert("L").save(folder / "grey.jpg")
  photo(190, 170).convert("CMYK").save(folder / "cmyk.jpg")
  photo(190, 170).convert("P").save(folder / "palette.png")
  photo(190, 170).convert("RGBA").save(folder / "alpha.png")
  photo(190, 170).save(folder / "photo.bmp")
  return folder


@pytest.fixture
def command(capsys):
  """command(*words) -> (status, lines, stderr), without the line about devices before text."""

  def run(*words):
    capsys.readouterr()
    status = cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    lines = out.splitlines()
    if "--json" not in words:
      lines = [line for line in lines if not line.startswith("running on")]
    return status, lines, err

  return run


@pytest.mark.parametrize(
  "shape, resize", [((16, 16, 3), 20), ((13, 13, 1), 17), ((16, 16, 3), 0)], ids=str
)
def test_the_script_of_the_page_gives_predicts_answers(shape, resize, command, tmp_path):
  folder, model, script = (
    album(tmp_path / "album"),
    tmp_path / "student.onnx",
    tmp_path / "script.py",
  )
  onnx.write(network(shape, resize), model)
  script.write_text(SCRIPT)
  status, said, err = command("predict", f"--model={model}", folder)
  assert (status, err) == (0, "")
  files = sorted(map(str, folder.iterdir()))
  assert len(said) == len(files) > 50
  process = subprocess.run(
    [sys.executable, "-I", script, model, *files], capture_output=True, text=True, check=True
  )
  assert process.stdout.splitlines() == said


def test_the_script_prepares_the_same_pixels(tmp_path, monkeypatch):
  """Every pixel, of which probabilities show little."""
  folder, seen = album(tmp_path / "album"), []

  class Session:
    def get_modelmeta(self):
      said = onnx.metadata(network())
      return type("Meta", (), {"custom_metadata_map": said})

    def run(self, _, feed):
      seen.append(feed["images"])
      return [np.zeros((1, len(NAMES)), np.float32)]

  import onnxruntime  # pylint: disable=g-import-not-at-top

  files = sorted(map(str, folder.iterdir()))
  monkeypatch.setattr(onnxruntime, "InferenceSession", lambda _: Session())
  monkeypatch.setattr(sys, "argv", ["script", "model", *files])
  exec(compile(SCRIPT, "script", "exec"), {})  # pylint: disable=exec-used
  taken = Predictor((16, 16, 3), NAMES, 20, None)
  for path, image in zip(files, seen, strict=True):
    np.testing.assert_array_equal(image[0], predict.prepared(path, taken), err_msg=path)


def test_a_file_says_its_preprocessing_and_its_versions():
  model = library.load_from_string(onnx.encode(network()))
  said = {entry.key: entry.value for entry in model.metadata_props}
  assert json.loads(said["preprocessing"]) == {
    "orientation": "exif",
    "jpeg_short_side": 80,
    "short_side": 20,
    "long_side": "floor",
    "filter": "bilinear",
    "antialias": True,
    "size": [16, 16],
    "crop": "center",
    "crop_rounding": "half_to_even",
    "mode": "RGB",
    "dtype": "uint8",
    "layout": "NHWC",
    "normalisation": "in the graph",
  }
  keys = set(json.loads(said["preprocessing"])) - {"normalisation"}
  assert keys <= set(re.findall(r"`(\w+)`", PAGE.read_text()))
  for words in (
    "short side to 20 pixels, bilinear with antialiasing",
    "EXIF",
    "16x16 pixels out of the centre",
  ):
    assert words in said["pixels"] and words in model.doc_string
  assert (model.model_version, model.domain, model.producer_name) == (
    1,
    "apprentice_jax",
    "apprentice",
  )
  assert re.fullmatch(r"\d+\.\d+.*", model.producer_version)


@pytest.mark.parametrize(
  "shape, resize, stays",
  [
    ((16, 16, 3), 0, True),
    ((16, 16, 3), 16, True),
    ((16, 16, 3), 17, False),
    ((16, 16, 3), 20, False),
    ((16, 16, 1), 20, False),
    ((12, 16, 3), 0, True),
  ],
  ids=str,
)
def test_a_file_says_that_images_of_its_size_stay_where_they_do(shape, resize, stays, tmp_path):
  path, (height, width, channels) = tmp_path / "photo.png", shape
  image = photo(height, width) if channels == 3 else photo(height, width).convert("L")
  image.save(path)
  prepared = predict.prepared(path, Predictor(shape, NAMES, resize, None))
  assert np.array_equal(prepared, np.asarray(image).reshape(shape)) == stays
  said = " ".join(preprocessing.sentences(network(shape, resize)))
  assert (f"An image of {width}x{height} pixels stays as it is." in said) == stays


@pytest.fixture(scope="module")
def student(tmp_path_factory):
  path = tmp_path_factory.mktemp("student") / "student.packed"
  packed.write(network(), path)
  return path


def test_folders_are_walked_in_order_and_the_rest_is_named(student, command, tmp_path):
  for name in ("b/2.png", "b/1.JPG", "a/nested/x.png", "c.png", ".hidden/y.png"):
    (tmp_path / "album" / name).parent.mkdir(parents=True, exist_ok=True)
    photo(30, 40).save(tmp_path / "album" / name)
  (tmp_path / "album" / "b" / "notes.txt").write_text("notes")
  (tmp_path / "album" / "b" / "loop").symlink_to(tmp_path / "album")
  (tmp_path / "one").write_bytes(
    (tmp_path / "album" / "c.png").read_bytes()
  )  # a name that tells nothing
  status, said, err = command("predict", f"--model={student}", tmp_path / "one", tmp_path / "album")
  assert status == 0 and [line.partition(": ")[0] for line in said] == [
    str(tmp_path / name)
    for name in ("one", "album/a/nested/x.png", "album/b/1.JPG", "album/b/2.png", "album/c.png")
  ]
  assert err == (
    f"apprentice: 2 files are not read: 1 .txt ({tmp_path}/album/b/notes.txt), "
    f"1 hidden ({tmp_path}/album/.hidden)\n"
  )


def test_a_pipe_is_not_waited_for(student, command, tmp_path):
  photo(30, 40).save(tmp_path / "a.png")
  os.mkfifo(tmp_path / "b.jpg")
  # Who opens it gets nothing, rather than waiting for ever.
  writer = threading.Thread(target=lambda: open(tmp_path / "b.jpg", "wb").close(), daemon=True)
  writer.start()
  status, said, err = command("predict", f"--model={student}", tmp_path)
  assert status == 0 and len(said) == 1
  assert err == (
    f"apprentice: 1 file is not read: 1 no files but pipes or devices ({tmp_path}/b.jpg)\n"
  )
  status, said, err = command("predict", f"--model={student}", tmp_path / "b.jpg")
  assert (status, said) == (2, [])
  assert (
    err == f"apprentice: {tmp_path}/b.jpg is a pipe or a device: give a file with its content.\n"
  )
  os.close(os.open(tmp_path / "b.jpg", os.O_RDONLY | os.O_NONBLOCK))  # lets go of the writer
  writer.join(10)


def test_files_are_told_of_as_training_does(student, command, tmp_path):
  for name in ("c/a.png", "c/.hidden/b.png", "c/@eaDir/a.png", "c/run/curves.png"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    photo(30, 40).save(tmp_path / name)
  for name in ("notes.txt", "run/config.json", "run/lock"):
    (tmp_path / "c" / name).write_text("{}")
  trained_on = folder.Folder(str(tmp_path), ".")
  _, said, err = command("predict", f"--model={student}", tmp_path)
  assert len(said) == len(trained_on) == 1
  assert re.sub(r" \([^)]*\)", "", err) == f"apprentice: {files.told(trained_on.unread)}\n"


def test_an_image_without_an_answer_does_not_end_the_others(student, command, tmp_path):
  for i in range(predict.BATCH + 3):
    photo(20, 20, i).save(tmp_path / f"{i:03}.png")
  (tmp_path / "001.png").write_bytes(b"no image")
  (tmp_path / "002.png").write_bytes((tmp_path / "003.png").read_bytes()[:200])
  status, said, err = command("predict", f"--model={student}", tmp_path, tmp_path / "none.png")
  assert status == 2 and len(said) == predict.BATCH + 1
  wrong = err.splitlines()
  assert [re.search(r"\S+\.png", line)[0] for line in wrong] == [
    f"{tmp_path}/{name}.png" for name in ("001", "002", "none")
  ]
  # The answers are those of each image alone.
  for name in ("000", "003", "066"):
    status, alone, _ = command("predict", f"--model={student}", tmp_path / f"{name}.png")
    assert status == 0 and alone[0] in said


def test_json_has_a_line_for_every_image(student, command, tmp_path):
  photo(20, 30).save(tmp_path / "a.png")
  (tmp_path / "b.png").write_bytes(b"no image")
  status, said, err = command("predict", f"--model={student}", "--json", "--top=3", tmp_path)
  first, second = map(json.loads, said)
  assert status == 2 and f"{tmp_path}/b.png is no image" in err
  assert second["path"] == f"{tmp_path}/b.png" and second["error"] in err
  assert first["path"] == f"{tmp_path}/a.png" and len(first["classes"]) == 3
  predictor = registry.load(student)
  logits = predictor.logits(predict.prepared(tmp_path / "a.png", predictor)[None])[0].astype(float)
  odds = np.exp(logits) / np.exp(logits).sum()
  best = np.argsort(-odds)[:3]
  assert [c["name"] for c in first["classes"]] == [NAMES[i] for i in best]
  np.testing.assert_allclose(
    [c["probability"] for c in first["classes"]], odds[best], rtol=0, atol=2e-6
  )
  assert [
    len(line.split(","))
    for line in command("predict", f"--model={student}", "--top=99", tmp_path / "a.png")[1]
  ] == [len(NAMES)]


def test_names_that_are_no_text(student, command, tmp_path):
  path = os.fsencode(tmp_path) + b"/\xff.png"
  photo(20, 20).save(tmp_path / "x.png")
  os.rename(tmp_path / "x.png", path)
  for flag in ("--json", "--top=2"):
    status, said, err = command("predict", f"--model={student}", flag, tmp_path)
    assert status == 0 and "\ufffd.png" in said[0] and not err


@pytest.mark.parametrize("channels", [2, 4])
def test_networks_of_other_channels_are_refused_before_anything_is_read(channels, tmp_path):
  with pytest.raises(
    ConfigError, match=f"images of {channels} channels, and pictures have 1 .grey. or 3"
  ):
    list(predict.predict(Predictor((8, 8, channels), NAMES, 0, None), [tmp_path / "none.png"]))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3)], ids=str)
def test_tiny_and_narrow_images(size, student, command, tmp_path):
  photo(*size).save(tmp_path / "x.png")
  assert command("predict", f"--model={student}", tmp_path / "x.png")[0] == 0
