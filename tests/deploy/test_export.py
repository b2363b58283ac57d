"""`apprentice export` writes workdirs and packed files in every format; a run writes its own."""

import pathlib
import shutil

import numpy as np
import pytest
import tools

from apprentice_jax.data import sources
from apprentice_jax.data.splits import open_splits
from apprentice_jax.deploy import interpret, packed, registry
from apprentice_jax.errors import ConfigError
from apprentice_jax.training import export, finish
from apprentice_jax.training.workdir import workdir_config

DIGITS = pathlib.Path(__file__).parents[2] / "configs" / "digits.py"


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


def test_wrong_files_and_flags(exported, refused, workdir, tmp_path):
  for words, sentence in [
    (("export", f"--out={exported}"), "this command needs --workdir=...; see apprentice --help."),
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
      ("export", f"--workdir={tmp_path}", f"--out={exported}"),
      f"{tmp_path} is not a workdir: it has no config.json.",
    ),
    (
      ("export", f"--workdir={workdir}", f"--out={exported}", "--format=tflite"),
      "flag --format=tflite: value should be one of <packed|",
    ),
    (
      ("export", f"--workdir={workdir}", f"--model={exported}", f"--out={exported}"),
      "export takes --workdir or --model, not both.",
    ),
    (("export", f"--model={exported}"), "this command needs --out=...; see apprentice --help."),
    (
      ("export", f"--model={exported}", f"--out={tmp_path}/x", "--ends=8bit"),
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
  ]:
    refused(*words, sentence=sentence)
  assert packed.read(exported).architecture == "resnet8 at width 0.25"
