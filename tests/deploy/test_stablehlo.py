"""The StableHLO file: run by a process that has jax and nothing of ours."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from networks import lowered, made
from PIL import Image

from apprentice_jax import cli
from apprentice_jax.deploy import onnx, packed, program, registry, stablehlo
from apprentice_jax.deploy.predictor import BadFile
from apprentice_jax.errors import ConfigError

STRANGER = """
import sys, jax, numpy as np
exported = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
images = np.load(sys.argv[2])
np.savez(sys.argv[3], all=exported.call(images), two=exported.call(images[:2]))
assert not [name for name in sys.modules if name.startswith("apprentice")]
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  place = tmp_path_factory.mktemp("stablehlo")
  network = lowered(weights="ttq")
  stablehlo.write(network, place / "student")
  return network, place / "student"


def test_a_process_without_us_runs_it_on_any_batch(written, tmp_path):
  network, path = written
  images = made(weights="ttq")[3]
  np.save(tmp_path / "images.npy", images)
  subprocess.run(
    [
      sys.executable,
      "-I",
      "-c",
      STRANGER,
      str(path),
      str(tmp_path / "images.npy"),
      str(tmp_path / "logits.npz"),
    ],
    check=True,
    cwd=tmp_path,
  )
  found, wanted = np.load(tmp_path / "logits.npz"), program.predictor(network).logits(images)
  np.testing.assert_allclose(found["all"], wanted, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(found["two"], wanted[:2], rtol=1e-5, atol=1e-5)
  sidecar = json.loads(path.with_name("student.json").read_text())
  assert sidecar["class_names"] == list(network.class_names) and sidecar["image_shape"] == [
    13,
    16,
    3,
  ]


def test_it_is_for_all_platforms_and_holds_its_weights_packed(written):
  network, path = written
  exported = jax.export.deserialize(bytearray(path.read_bytes()))
  assert exported.platforms == ("cpu", "cuda", "tpu")
  assert str(exported.in_avals[0].shape[0]) == "batch"
  # As bytes of the large layers' codes; and not again as levels.
  text = exported.mlir_module()
  assert "tensor<576xui8>" in text  # 3 * 3 * 16 * 16 weights, four to a byte
  assert "shift_right_logical" in text


def test_damage_is_noticed(written, tmp_path):
  network, path = written
  data, sidecar = path.read_bytes(), path.with_name("student.json").read_bytes()
  random = np.random.default_rng(0)
  for i in range(60):
    a, b = bytearray(data), bytearray(sidecar)
    changed = a if i % 2 else b
    changed[random.integers(len(changed))] ^= 1 << random.integers(5)  # of white space, too
    (tmp_path / "x").write_bytes(a)
    (tmp_path / "x.json").write_bytes(b)
    try:
      said = json.loads(b)
    except ValueError:
      said = None
    if said == json.loads(sidecar) and a == data:
      continue  # one kind of white space for another
    with pytest.raises(BadFile):
      stablehlo.load(tmp_path / "x")
  (tmp_path / "x.json").unlink()
  with pytest.raises(BadFile, match="beside it"):
    stablehlo.load(tmp_path / "x")


def _drop(key):
  return lambda data, said: (data, {k: v for k, v in said.items() if k != key})


@pytest.mark.parametrize(
  "change",
  [
    lambda data, said: (b"no program", said),
    lambda data, said: (data[: len(data) // 2], said),
    lambda data, said: (data, {**said, "class_names": said["class_names"][1:]}),
    lambda data, said: (data, {**said, "class_names": [*range(len(said["class_names"]))]}),
    lambda data, said: (data, {**said, "image_shape": [13, 17, 3]}),
    lambda data, said: (data, {**said, "resize": "much"}),
    _drop("resize"),
    _drop("class_names"),
    lambda data, said: (bytes(jax.export.export(jax.jit(lambda x: x))(1.0).serialize()), said),
  ],
)
def test_what_was_never_written_together_is_refused(change, written, tmp_path):
  _, path = written
  data, said = change(path.read_bytes(), json.loads(path.with_name("student.json").read_text()))
  said["sha256"] = stablehlo._checksum(data, said)  # by someone who knows how
  (tmp_path / "x").write_bytes(data)
  (tmp_path / "x.json").write_text(json.dumps(said))
  with pytest.raises(BadFile, match="hold no program of images"):
    stablehlo.load(tmp_path / "x")


def rewritten(path, tmp_path, **changes):
  """A copy of a file whose sidecar says something else."""
  data, said = (
    path.read_bytes(),
    {**json.loads(path.with_name("student.json").read_text()), **changes},
  )
  said["sha256"] = stablehlo._checksum(data, said)
  (tmp_path / "x").write_bytes(data)
  (tmp_path / "x.json").write_text(json.dumps(said))
  return tmp_path / "x"


@pytest.mark.parametrize("part", ["deserialize", "lower"])
def test_a_file_that_this_jax_cannot_run_gives_a_sentence(
  part, written, tmp_path, monkeypatch, capsys
):
  """Some are not read, others are read and not run; jax 0.8.0 reads what 0.10.2 writes, and does
  not run it."""
  path = rewritten(written[1], tmp_path, jax="0.99.0")

  def fail(*_, **__):
    raise ValueError("Function run was exported\nfor 0 devices.")

  if part == "deserialize":
    monkeypatch.setattr(jax.export, "deserialize", fail)
  else:
    monkeypatch.setattr(jax, "jit", lambda *_, **__: type("", (), {"lower": fail}))
  sentence = (
    f"jax 0.99.0 wrote it, and jax {jax.__version__} cannot run it (Function run was exported for "
    "0 devices): "
    "jax runs files of jaxes up to 6 months older or 3 weeks newer; install jax==0.99.0, or export "
    "the "
    "network again"
  )
  with pytest.raises(BadFile) as error:
    stablehlo.load(path)
  assert str(error.value) == sentence
  Image.fromarray(np.zeros((13, 16, 3), np.uint8)).save(tmp_path / "x.png")
  assert cli.main(["predict", f"--model={path}", str(tmp_path / "x.png")]) == 2
  assert capsys.readouterr().err == f"apprentice: cannot read {path}: {sentence}.\n"


def test_the_sidecar_says_which_jax_wrote_it_and_who_reads_it(written):
  said = json.loads(written[1].with_name("student.json").read_text())
  assert said["jax"] == jax.__version__ and "6 months newer or 3 weeks older" in said["readable"]
  assert said["preprocessing"]["size"] == [13, 16] and "short side" in said["pixels"]


def test_files_of_before_are_read(written, tmp_path):
  """Their sidecars said less."""
  path = rewritten(written[1], tmp_path)
  said = json.loads((tmp_path / "x.json").read_text())
  said = {k: v for k, v in said.items() if k not in ("jax", "jaxlib", "readable", "preprocessing")}
  said["sha256"] = stablehlo._checksum(path.read_bytes(), said)
  (tmp_path / "x.json").write_text(json.dumps(said))
  assert stablehlo.load(path).class_names == written[0].class_names


def test_a_file_beside_some_other_json_is_no_program(written, tmp_path):
  onnx.write(written[0], tmp_path / "student.onnx")
  (tmp_path / "student.onnx.json").write_text("{}")
  assert registry.recognised(tmp_path / "student.onnx") == "onnx"


def test_files_are_told_apart(written, tmp_path):
  network, path = written
  packed.write(network, tmp_path / "packed")
  (tmp_path / "text").write_text("no network")
  (tmp_path / "empty").write_bytes(b"")
  names = [
    registry.recognised(p)
    for p in (path, tmp_path / "packed", tmp_path / "text", tmp_path / "empty")
  ]
  assert names == ["stablehlo", "packed", "", ""]
  with pytest.raises(ConfigError, match="of no format that export writes"):
    registry.load(tmp_path / "text")
