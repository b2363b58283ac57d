"""A student learns the same from a teacher's file as from the workdir that the file was made of."""

import json
import pathlib
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image
from runs import begin, tiny

import apprentice_jax
from apprentice_jax.data.splits import open_splits
from apprentice_jax.errors import ConfigError
from apprentice_jax.training import (
  api,
  compiled,
  dispatch,
  networks,
  preflight,
  run,
  teacher_logits,
)
from apprentice_jax.training.records import read_records
from apprentice_jax.training.teachers import onnx, stablehlo

ORDER = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]  # of the digits, in a file's outputs
# A student in full precision, at a low rate: levels that round otherwise would be differences of
# their own.
TAUGHT = dict(
  scheme="B",
  precision="32A,32W",
  recipe__student__epochs=0.5,
  recipe__student__learning_rate=0.02,
  # Images as they are stored: those of which a file's logits are.
  data__pad=0,
)


def config_of(teacher, **changes):
  return tiny(**{**TAUGHT, "teacher__init": str(teacher), **changes})


def losses(workdir, name="loss"):
  return np.array([r[name] for r in read_records(workdir) if name in r])


def assert_same_curve(workdir, expected):
  for name in ("loss", "distill", "teacher_ce", "teacher_accuracy"):
    found, wanted = losses(workdir, name), losses(expected, name)
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-6, err_msg=name)
  assert len(losses(workdir)) > 1 and np.ptp(losses(workdir)) > 0.02


@pytest.fixture(scope="module")
def by_workdir(pretrained, tmp_path_factory):
  """A run whose teacher is the workdir itself."""
  workdir = tmp_path_factory.mktemp("by-workdir")
  api.train(config_of(pretrained), workdir)
  return workdir


@pytest.fixture(scope="module")
def network(pretrained):
  """The teacher as a function of normalised float images."""
  config = config_of(pretrained)
  data = open_splits(config.data)["train"]
  model, found = networks.fixed_teacher(config, data, str(pretrained))
  variables = {"params": found.params, "batch_stats": found.batch_stats}
  return lambda images: model.apply(variables, images, False)


def write_program(function, path, shape=(None, 8, 8, 1), dtype=jnp.float32, platforms=("cpu",)):
  """A file of `jax.export`, of any batch where the shape begins with None."""
  batch = jax.export.symbolic_shape("b")[0] if shape[0] is None else shape[0]
  images = jax.ShapeDtypeStruct((batch, *shape[1:]), dtype)
  exported = jax.export.export(jax.jit(function), platforms=platforms)(images)
  path.write_bytes(exported.serialize())
  return path


def test_a_file_of_our_export(by_workdir, pretrained, tmp_path, capsys):
  file = tmp_path / "teacher.stablehlo"
  apprentice_jax.export(pretrained, "stablehlo", file)
  result = api.train(config_of(file), tmp_path / "run")
  assert_same_curve(tmp_path / "run", by_workdir)
  assert result["test_teacher_accuracy"] == api.result(by_workdir)["test_teacher_accuracy"]
  assert (
    f"the teacher is {file}; it sees images of 8x8 pixels and 1 channel, as they are stored."
    in capsys.readouterr().out
  )


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["scan", "while"])
def test_a_program_in_the_loops_of_accelerators(loop, network, by_workdir, tmp_path, monkeypatch):
  """Of a fixed batch, so that a loop over its pieces is inside the loop of steps."""
  file = write_program(network, tmp_path / "teacher.stablehlo", (3, 8, 8, 1))
  row = dispatch.Dispatch(loop, 5, dispatch.THIS)
  monkeypatch.setattr(run, "program", lambda settings: dispatch.Program(settings, row))
  api.train(config_of(file), tmp_path / "run")
  assert_same_curve(tmp_path / "run", by_workdir)


@pytest.mark.slow
def test_a_file_in_another_order_is_refused_or_put_in_order(by_workdir, network, tmp_path):
  file = write_program(lambda images: network(images)[:, jnp.array(ORDER)], tmp_path / "shuffled")
  names = {"class_names": list(map(str, ORDER))}
  (tmp_path / "shuffled.json").write_text(json.dumps(names))
  with pytest.raises(
    ConfigError,
    match="shuffled has the classes 3, 1, 4, 0, 5, 9, 2, 6, 8, 7, and the data have 0, 1, 2, 3, 4, "
    "5, 6, 7, 8, 9: --config.teacher.head=match takes the outputs of the same classes, and "
    "--config.teacher.classes=FILE says what its classes are called here",
  ):
    api.train(config_of(file), tmp_path / "run")
  assert not (tmp_path / "run").exists()
  api.train(config_of(file, teacher__head="match"), tmp_path / "run")
  assert_same_curve(tmp_path / "run", by_workdir)


def scores_of(images):
  """A function of images (batch, height, width, 3) whose outputs tell pixels and channels apart."""
  weights = np.random.default_rng(1).normal(size=(4, 4, 3, 5)).astype(np.float32)
  pooled = images.reshape(-1, 4, images.shape[1] // 4, 4, images.shape[2] // 4, 3)
  return jnp.einsum("bhwc,hwcn->bn", pooled.mean((2, 4)), weights)


@pytest.mark.parametrize(
  "shape, dtype",
  [
    ((None, 8, 8, 3), "float32"),
    ((3, 8, 8, 3), "float32"),
    ((16, 8, 8, 3), "bfloat16"),
    ((None, 3, 8, 8), "float32"),
    ((2, 3, 4, 12), "float32"),
    ((None, 16, 16, 3), "float32"),
    ((None, 4, 4, 3), "uint8"),
  ],
)
def test_a_program_sees_images_of_its_own_shape(shape, dtype, tmp_path):
  """In pieces of its batch, in its order of axes, at its size and of its type."""
  first = shape[1] == 3
  height, width = shape[2:] if first else shape[1:3]
  ordered = lambda images: images.transpose(0, 2, 3, 1) if first else images
  program = lambda images: scores_of(ordered(images).astype(jnp.float32))
  file = write_program(program, tmp_path / "x.stablehlo", shape, dtype)
  teacher = stablehlo.load(str(file)).of(3)
  pixels = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), np.uint8)
  images = jnp.asarray(pixels) if dtype == "uint8" else jnp.asarray(pixels / 255, dtype)
  # Pillow's bilinear filter averages where an image gets smaller, as ours has to.
  resized = np.stack([resize(image, height, width) for image in np.asarray(images, np.float32)])
  resized = np.round(resized) if dtype == "uint8" else resized
  outputs = np.array([4, 0, 2], np.int32)
  found = jax.jit(lambda images: teacher.apply({"params": {"outputs": outputs}}, images, False))
  wanted = np.asarray(scores_of(resized))[:, outputs]
  tolerance = {"float32": 1e-5, "bfloat16": 0.02, "uint8": 1.5}[dtype]
  np.testing.assert_allclose(found(images), wanted, atol=tolerance)
  assert np.ptp(wanted) > 50 * tolerance / (1 + 24 * (dtype != "float32"))


def resize(image, height, width):
  channels = [Image.fromarray(image[..., c]) for c in range(3)]
  filtered = [c.resize((width, height), Image.Resampling.BILINEAR) for c in channels]
  return np.stack(filtered, -1)


@pytest.mark.slow
def test_another_file_is_another_teacher(network, tmp_path, monkeypatch):
  """Programs on disk are of one file; and a run that has begun keeps its teacher."""
  file = write_program(network, tmp_path / "teacher.stablehlo")
  monkeypatch.setattr(compiled, "_folder", tmp_path / "programs")
  config = config_of(file, recipe__student__warmup_epochs=0.0)
  begin(config, tmp_path / "run", monkeypatch, "end")
  short = config_of(file, recipe__student__epochs=0.1, recipe__student__warmup_epochs=0.0)
  api.train(short, tmp_path / "one")
  write_program(lambda images: 4 * network(images)[:, ::-1], file)
  with pytest.raises(ConfigError, match="its fixed teacher is not the one it began with"):
    api.train(config, tmp_path / "run")
  with pytest.warns(UserWarning, match=r"teacher.stablehlo is right on \d+ of 128 training images"):
    api.train(short, tmp_path / "other")
  one, other = (losses(tmp_path / name, "teacher_ce") for name in ("one", "other"))
  assert abs(one[0] - other[0]) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("augmented", [False, True])
def test_an_onnx_file_of_our_export(augmented, by_workdir, pretrained, tmp_path, monkeypatch):
  """Its logits are computed ahead, of the very images that the student sees, and kept."""
  monkeypatch.setattr(teacher_logits, "cache_dir", lambda: tmp_path / "kept")
  file, pad = tmp_path / "teacher.onnx", int(augmented)
  apprentice_jax.export(pretrained, "onnx", file)
  if augmented:
    by_workdir = tmp_path / "expected"
    api.train(config_of(pretrained, data__pad=1, recipe__student__epochs=1.5), by_workdir)
  changes = dict(recipe__student__epochs=1.5) if augmented else {}
  result = api.train(config_of(file, data__pad=pad, **changes), tmp_path / "run")
  assert_same_curve(tmp_path / "run", by_workdir)
  assert len(list((tmp_path / "kept").glob("logits/*/*"))) == 1 + augmented
  for name in ("test_teacher_accuracy", "test_teacher_count"):
    assert result[name] == api.result(by_workdir)[name]


@pytest.mark.parametrize(
  "shape, kind",
  [
    (("b", 8, 8, 3), TensorProto.FLOAT),
    ((3, 8, 8, 3), TensorProto.FLOAT),
    (("b", 3, 8, 8), TensorProto.UINT8),
    ((2, 3, 4, 12), TensorProto.FLOAT),
    (("b", 16, 16, 3), TensorProto.FLOAT16),
  ],
)
def test_an_onnx_file_sees_images_of_its_own_shape(shape, kind, tmp_path):
  """Against the images as they are prepared by hand; the network gives their first pixels."""
  height, width = shape[2:] if shape[1] == 3 else shape[1:3]
  size = height * width * 3
  nodes = [
    helper.make_node("Cast", ["images"], ["cast"], to=TensorProto.FLOAT),
    helper.make_node("Flatten", ["cast"], ["logits"]),
  ]
  values = [
    [helper.make_tensor_value_info("images", kind, shape)],
    [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (shape[0], size))],
  ]
  graph = helper.make_graph(nodes, "g", *values)
  model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
  (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
  mean, std = (0.2, 0.4, 0.6), (0.1, 0.2, 0.3)
  teacher = pickle.loads(pickle.dumps(onnx.load(str(tmp_path / "x.onnx")).of(4, (mean, std), 1)))
  pixels = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), np.uint8)
  wanted = np.stack([resize(image, height, width) for image in pixels.astype(np.float32)])
  if kind != TensorProto.UINT8:
    wanted = (wanted / 255 - mean) / std
  wanted = wanted.transpose(0, 3, 1, 2) if shape[1] == 3 else wanted
  outputs = np.array([size - 1, 0, 5, 40])
  found = teacher.logits(pixels, None, outputs)
  tolerance = 0.01 if kind == TensorProto.FLOAT16 else 1e-4
  np.testing.assert_allclose(found, wanted.reshape(7, -1)[:, outputs], atol=tolerance)


def test_the_snippets_of_the_page_write_teachers(tmp_path, monkeypatch):
  """Files that the checks before a training take."""
  monkeypatch.chdir(tmp_path)
  page, names = pathlib.Path(__file__).parents[2] / "docs" / "teachers.md", {}
  for snippet in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
    exec(compile(snippet, str(page), "exec"), names)
  for file in ("teacher.stablehlo", "logits.npz"):
    config = networks.named(config_of(file))
    preflight.check(config, open_splits(config.data))


@pytest.fixture(scope="module")
def rows(network):
  """The teacher's logits of the training images, and their labels."""
  data = open_splits(config_of("").data)["train"]
  images = data.sample(np.arange(data.size)).astype(np.float32) / 255
  return np.asarray(network((images - 0.5) / 0.5)), data.all_labels


@pytest.mark.slow
@pytest.mark.parametrize("order", [None, ORDER])
def test_a_file_of_logits(order, by_workdir, rows, tmp_path):
  logits, labels = rows
  file, names = tmp_path / "logits.npz", list(map(str, order or range(10)))
  apprentice_jax.save_logits(file, logits[:, order or slice(None)], labels, names)
  config = config_of(file)
  if order:
    with pytest.raises(ConfigError, match=r"has the classes 3, 1, .*, and the data have 0, 1, "):
      api.train(config, tmp_path / "run")
    config.teacher.head = "match"
  result = api.train(config, tmp_path / "run")
  assert_same_curve(tmp_path / "run", by_workdir)
  # It knows no test images.
  assert "test_teacher_accuracy" not in result and "test_agreement" not in result
