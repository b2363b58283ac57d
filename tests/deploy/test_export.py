"""The commands: export, predict, and eval of what was exported."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest
import tools
from PIL import Image

from apprentice_jax import cli
from apprentice_jax import config as configs
from apprentice_jax.data import sources
from apprentice_jax.data.splits import open_splits
from apprentice_jax.deploy import interpret, lower, packed, predict, registry
from apprentice_jax.deploy.network import BadNetwork
from apprentice_jax.deploy.predictor import Predictor
from apprentice_jax.errors import ConfigError
from apprentice_jax.training import api, export, finish, networks
from apprentice_jax.training.workdir import workdir_config

DIGITS = pathlib.Path(__file__).parents[2] / "configs" / "digits.py"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """A short ternary run on the digits, by a program that other tests have compiled."""
  workdir = tmp_path_factory.mktemp("export") / "run"
  config = configs.base()
  config.update_from_flattened_dict(
    {
      "data.name": "digits",
      "data.pad": 1,
      "data.flip": False,
      "scheme": "baseline",
      "student.name": "resnet8",
      "student.width": 0.25,
      "batch_size": 64,
      "steps_per_dispatch": 5,
      "recipe.student.epochs": 1.0,
      "recipe.student.warmup_epochs": 0.2,
    }
  )
  api.train(config, workdir)
  return workdir


@pytest.fixture
def command(capsys):
  """command(line) -> (status, stdout, stderr)."""

  def run(*words):
    capsys.readouterr()
    status = cli.main([str(word) for word in words])
    return status, *capsys.readouterr()

  return run


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


@pytest.mark.parametrize("name", ["packed", "onnx", "c", "stablehlo"])
def test_a_packed_file_is_written_in_any_format(name, workdir, command, tmp_path):
  """As the workdir is with the same ends, in every byte."""
  packed_file, out = tmp_path / "student.packed", tmp_path / "of_file" / "student"
  again = tmp_path / "of_workdir" / "student"
  for path in (out, again):
    path.parent.mkdir()
  ends, flags = "--ends=8bit", [f"--format={name}", "--packing=base3"]
  assert command("export", f"--workdir={workdir}", f"--out={packed_file}", ends)[0] == 0
  said = command("export", f"--workdir={workdir}", f"--out={again}", ends, *flags)[1]
  status, others, err = command("export", f"--model={packed_file}", f"--out={out}", *flags)
  assert status == 0, err
  cost = lambda text: text.rsplit("\n", 2)[0].split("resnet8", 1)[1]
  assert cost(others) == cost(said) and others.endswith(f"{registry.size(out):,} bytes, {name}\n")
  if name == "stablehlo":  # it also says where its functions lie in the source
    images = sources.load("digits", "test").images[:3]
    logits = [registry.load(path).logits(images) for path in (out, again)]
    np.testing.assert_array_equal(*logits)
    return
  files = [sorted(p for p in path.parent.rglob("*") if p.is_file()) for path in (out, again)]
  assert [p.name for p in files[0]] == [p.name for p in files[1]]
  for mine, wanted in zip(*files):
    assert mine.read_bytes() == wanted.read_bytes(), mine.name


def finished(config, workdir, formats):
  config.export = formats
  finish.write(config, workdir, open_splits(config.data))


def test_a_run_leaves_c_code_where_its_config_says_so(workdir, tmp_path, capsys):
  tools.program("gcc")
  run = tmp_path / "run"
  shutil.copytree(workdir, run)
  config = workdir_config(run)
  finished(config, run, ("packed", "c"))
  folder = run / "student_c"
  said = f"student: {folder}, {registry.size(folder):,} bytes\n"
  assert said in capsys.readouterr().out and (folder / "student.h").is_file()
  # Of its own ends, whatever those of the other files.
  images = sources.load("digits", "test").images[:5]
  wanted = interpret.logits(export.lowered(config, str(run), ends="8bit"), images)
  np.testing.assert_array_equal(registry.load(folder).logits(images), wanted)
  assert packed.read(run / "student.packed").nodes[-1].weights.bits == 32
  # A finished run that is started again writes what is missing, and a folder that is not whole.
  (folder / "student.json").unlink()
  (run / "student.packed").write_text("mine")
  finished(config, run, ("packed", "c"))
  assert registry.recognised(folder) == "c" and (run / "student.packed").read_text() == "mine"


def test_a_format_that_cannot_be_written_leaves_the_others(workdir, tmp_path, monkeypatch):
  run = tmp_path / "run"
  shutil.copytree(workdir, run)
  lowered = export.lowered

  def only_floats(*args, ends):
    if ends != "float":
      raise ConfigError("no integers.")
    return lowered(*args, ends=ends)

  monkeypatch.setattr(export, "lowered", only_floats)
  with pytest.warns(UserWarning, match=r"^there is no student_c: no integers\.$"):
    finished(workdir_config(run), run, ("c", "packed"))
  assert (run / "student.packed").is_file() and not (run / "student_c").exists()


def test_c_code_of_a_packed_file_with_float_ends(workdir, command, tmp_path):
  """Sums of floats have an order, so logits are near, and classes equal."""
  tools.program("gcc")
  out, code = tmp_path / "student", tmp_path / "c"
  assert command("export", f"--workdir={workdir}", f"--out={out}")[0] == 0
  assert command("export", f"--model={out}", "--format=c", f"--out={code}")[0] == 0
  exported, compiled = registry.load(out), registry.load(code)
  images = np.random.default_rng(0).integers(0, 256, (20, *exported.image_shape), np.uint8)
  expected = exported.logits(images)
  np.testing.assert_allclose(compiled.logits(images), expected, rtol=0, atol=1e-4)


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


def test_predict_takes_a_workdir(workdir, command, tmp_path):
  out = tmp_path / "student"
  assert command("export", f"--workdir={workdir}", "--format=packed", f"--out={out}")[0] == 0
  Image.fromarray(sources.load("digits", "test").images[0, ..., 0]).save(tmp_path / "0.png")
  answers = [
    command("predict", where, tmp_path / "0.png")[:2]
    for where in (f"--model={out}", f"--workdir={workdir}")
  ]
  assert answers[0] == answers[1] and answers[0][0] == 0


def opened(monkeypatch) -> list:
  """The names of the datasets that are opened from now on."""
  names, open_splits = [], export.open_splits
  monkeypatch.setattr(
    export, "open_splits", lambda data: names.append(data.name) or open_splits(data)
  )
  return names


def test_a_workdir_is_exported_without_its_dataset(workdir, command, tmp_path, monkeypatch):
  """Until a file of it is missing, as in a workdir of an earlier version, or damaged."""
  datasets, copy, files = opened(monkeypatch), tmp_path / "run", []
  shutil.copytree(workdir, copy)

  def export_to(name) -> tuple:
    out = tmp_path / name
    status, _, err = command("export", f"--workdir={copy}", "--format=packed", f"--out={out}")
    files.append(out.read_bytes() if status == 0 else None)
    return status, err

  assert export_to("alone")[0] == 0 and not datasets
  for name in ("images.json", "classes.json"):
    (copy / name).rename(tmp_path / name)
    assert export_to(f"without {name}")[0] == 0 and datasets.pop() == "digits"
    (tmp_path / name).rename(copy / name)
  assert len(set(files)) == 1
  (copy / "classes.json").write_text("[")
  status, err = export_to("damaged")
  assert status == 2 and "classes.json is damaged: bring it back from a copy" in err


def test_photos_need_no_more_than_the_size_of_the_config(workdir, tmp_path, monkeypatch):
  config, datasets = workdir_config(workdir), opened(monkeypatch)
  config.data.update({"name": "image_folder", "dir": str(tmp_path / "gone"), "image_size": 24})
  with pytest.raises(ConfigError, match="stem"):  # the network is one of grey images
    export.lowered(config, str(workdir))
  assert not datasets


def test_base3_and_8_bit_ends_are_smaller(workdir, command, tmp_path):
  sizes = []
  for i, flags in enumerate([(), ("--packing=base3",), ("--packing=base3", "--ends=8bit")]):
    status, _, err = command(
      "export", f"--workdir={workdir}", "--format=packed", f"--out={tmp_path}/{i}", *flags
    )
    assert status == 0, err
    sizes.append((tmp_path / str(i)).stat().st_size)
  assert sizes[0] > sizes[1] > sizes[2]
  for i, size in enumerate(sizes):
    said = command("eval", f"--model={tmp_path}/{i}", f"--config={DIGITS}:width=0.25")[1]
    assert f"packed file        {size:,} bytes\n" in said
  again = tmp_path / "again"
  assert command("export", f"--workdir={workdir}", "--format=packed", f"--out={again}")[0] == 0
  assert again.read_bytes() == (tmp_path / "0").read_bytes()


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


def test_wrong_files_and_flags(workdir, command, tmp_path):
  out = tmp_path / "student.packed"
  assert command("export", f"--workdir={workdir}", "--format=packed", f"--out={out}")[0] == 0
  damaged = bytearray(out.read_bytes())
  damaged[-1] ^= 1
  (tmp_path / "damaged").write_bytes(damaged)
  Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "image.png")
  (tmp_path / "text").write_text("text")
  (tmp_path / "empty").mkdir()
  for words, sentence in [
    (("export", f"--out={out}"), "this command needs --workdir=...; see apprentice --help."),
    (("export", f"--workdir={workdir}"), "this command needs --out=...; see apprentice --help."),
    (
      ("export", f"--workdir={workdir}", f"--out={tmp_path}/no/x"),
      f"cannot write {tmp_path}/no/x: there is no folder {tmp_path}/no.",
    ),
    (
      ("export", f"--workdir={workdir}", f"--out={tmp_path}"),
      f"cannot write {tmp_path}: Is a directory.",
    ),
    (
      ("export", f"--workdir={tmp_path}", f"--out={out}"),
      f"{tmp_path} is not a workdir: it has no config.json.",
    ),
    (
      ("export", f"--workdir={workdir}", f"--out={out}", "--format=tflite"),
      "flag --format=tflite: value should be one of <packed|",
    ),
    (
      ("export", f"--workdir={workdir}", f"--model={out}", f"--out={out}"),
      "export takes --workdir or --model, not both.",
    ),
    (("export", f"--model={out}"), "this command needs --out=...; see apprentice --help."),
    (
      ("export", f"--model={out}", f"--out={tmp_path}/x", "--ends=8bit"),
      "--ends is decided where a packed file is written: leave it out with --model.",
    ),
    (
      ("export", f"--model={tmp_path}/none", f"--out={tmp_path}/x"),
      f"cannot read {tmp_path}/none: No such file or directory.",
    ),
    (
      ("export", f"--model={tmp_path}/text", f"--out={tmp_path}/x"),
      f"cannot read {tmp_path}/text: it is no packed file, which --model of export takes; ",
    ),
    (
      ("export", f"--model={workdir}", f"--out={tmp_path}/x"),
      f"cannot read {workdir}: it is no packed file, which --model of export takes; ",
    ),
    (
      ("export", f"--model={tmp_path}/damaged", f"--out={tmp_path}/x"),
      f"cannot read {tmp_path}/damaged: it is damaged: its checksum is not that of its bytes.",
    ),
    (("predict", tmp_path / "image.png"), "this command needs --model=...; see apprentice --help."),
    (
      ("predict", f"--model={out}"),
      "predict takes images, or folders of them: apprentice predict --model=FILE IMAGE...",
    ),
    (
      ("predict", f"--model={out}", f"--workdir={workdir}", tmp_path),
      "predict takes --model or --workdir, not both.",
    ),
    (
      ("predict", f"--model={out}", "--top=0", tmp_path),
      "flag --top=0: 0 is not a positive integer",
    ),
    (
      ("predict", f"--workdir={tmp_path}", tmp_path / "image.png"),
      f"{tmp_path} is not a workdir: it has no config.json.",
    ),
    (
      ("predict", f"--model={out}", tmp_path / "empty"),
      f"there is no image in the folder {tmp_path}/empty.",
    ),
    (
      ("predict", f"--model={out}", tmp_path / "none.png"),
      f"cannot read {tmp_path}/none.png: No such file or directory.",
    ),
    (
      ("predict", f"--model={out}", tmp_path / "image.png", tmp_path / "text"),
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
    (("eval", f"--model={out}"), "this command needs --config=...; see apprentice --help."),
    (
      ("eval", f"--model={out}", f"--config={DIGITS}", "--split=validation"),
      "there is no validation split: config.data.validation is 0.",
    ),
  ]:
    status, _, err = command(*words)
    assert status == 2 and err.startswith("apprentice: " + sentence) and err.count("\n") == 1, err
  assert packed.read(out).architecture == "resnet8 at width 0.25"
