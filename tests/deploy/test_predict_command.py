"""`apprentice predict` answers as evaluation does, from files and workdirs, for the same pixels."""

import numpy as np
import pytest
from PIL import Image

from apprentice_jax.data import sources
from apprentice_jax.deploy import predict, registry
from apprentice_jax.deploy.predictor import Predictor
from apprentice_jax.errors import ConfigError


def test_predict_takes_a_workdir(workdir, command, tmp_path):
  out = tmp_path / "student"
  assert command("export", f"--workdir={workdir}", "--format=packed", f"--out={out}")[0] == 0
  Image.fromarray(sources.load("digits", "test").images[0, ..., 0]).save(tmp_path / "0.png")
  answers = [
    command("predict", where, tmp_path / "0.png")[:2]
    for where in (f"--model={out}", f"--workdir={workdir}")
  ]
  assert answers[0] == answers[1] and answers[0][0] == 0


def test_predict_names_classes_as_evaluation_would(workdir, command, tmp_path):
  out = tmp_path / "student.packed"
  assert command("export", f"--workdir={workdir}", "--format=packed", f"--out={out}")[0] == 0
  data = sources.load("digits", "test")
  files = []
  for i in range(5):
    files.append(tmp_path / f"{i}.png")
    Image.fromarray(data.images[i, ..., 0]).save(files[-1])
  predictor = registry.load(out)
  logits = predictor.logits(data.images[:5])
  status, said, err = command("predict", f"--model={out}", *files)
  assert status == 0, err
  lines = [line for line in said.splitlines() if line.startswith(str(tmp_path))]
  for path, line, row in zip(files, lines, logits.astype(float), strict=True):
    best, odds = np.argsort(-row)[:5], np.exp(row) / np.exp(row).sum()
    assert line == f"{path}: " + ", ".join(f"{data.class_names[i]} {odds[i]:.1%}" for i in best)


def test_images_are_prepared_as_for_evaluation(tmp_path):
  random = np.random.default_rng(0)
  photo = random.integers(0, 256, (40, 60, 3), np.uint8)
  Image.fromarray(photo).save(tmp_path / "photo.png")
  network = lambda shape, resize: Predictor(shape, ("a", "b"), resize, None)
  # Torchvision's: short side to 20, bilinear, then the centre.
  wanted = np.asarray(Image.fromarray(photo).resize((30, 20), Image.Resampling.BILINEAR))[
    2:18, 7:23
  ]
  found = predict.prepared(tmp_path / "photo.png", network((16, 16, 3), 20))
  assert np.abs(found.astype(int) - wanted).max() <= 1
  np.testing.assert_array_equal(
    predict.prepared(tmp_path / "photo.png", network((40, 60, 3), 0)), photo
  )
  with pytest.raises(ConfigError, match="has 60x40 pixels: this network takes 8x6"):
    predict.prepared(tmp_path / "photo.png", network((6, 8, 3), 0))
  Image.fromarray(photo[..., 0]).save(tmp_path / "grey.png")
  np.testing.assert_array_equal(
    predict.prepared(tmp_path / "grey.png", network((40, 60, 1), 0))[..., 0], photo[..., 0]
  )


def test_wrong_files_and_flags(exported, refused, workdir, tmp_path):
  Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "image.png")
  (tmp_path / "empty").mkdir()
  for words, sentence in [
    (("predict", tmp_path / "image.png"), "this command needs --model=...; see apprentice --help."),
    (
      ("predict", f"--model={exported}"),
      "predict takes images, or folders of them: apprentice predict --model=FILE IMAGE...",
    ),
    (
      ("predict", f"--model={exported}", f"--workdir={workdir}", tmp_path),
      "predict takes --model or --workdir, not both.",
    ),
    (
      ("predict", f"--model={exported}", "--top=0", tmp_path),
      "flag --top=0: 0 is not a positive integer",
    ),
    (
      ("predict", f"--workdir={tmp_path}", tmp_path / "image.png"),
      f"{tmp_path} is not a workdir: it has no config.json.",
    ),
    (
      ("predict", f"--model={exported}", tmp_path / "empty"),
      f"there is no image in the folder {tmp_path}/empty.",
    ),
    (
      ("predict", f"--model={exported}", tmp_path / "none.png"),
      f"cannot read {tmp_path}/none.png: No such file or directory.",
    ),
    (
      ("predict", f"--model={exported}", tmp_path / "image.png", tmp_path / "text"),
      f"{tmp_path}/text is no image that can be read (cannot identify image file).",
    ),
    (
      ("predict", f"--model={tmp_path}/none", tmp_path / "image.png"),
      f"cannot read {tmp_path}/none: No such file or directory.",
    ),
    (
      ("predict", f"--model={tmp_path}/text", tmp_path / "image.png"),
      f"cannot read {tmp_path}/text: it is of no format that export writes (packed, ",
    ),
    (
      ("predict", f"--model={tmp_path}/damaged", tmp_path / "image.png"),
      f"cannot read {tmp_path}/damaged: it is damaged: its checksum is not that of its bytes.",
    ),
  ]:
    refused(*words, sentence=sentence)
