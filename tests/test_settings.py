"""Settings that run and cannot be meant, paths, and flags that are given more than once."""

import os
import pathlib
import re
import runpy
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apprentice_jax import cli
from apprentice_jax import config as configs
from apprentice_jax.cli import config_file, parser
from apprentice_jax.errors import ConfigError
from apprentice_jax.models import norm
from apprentice_jax.models.residual import resnet
from apprentice_jax.study import variations
from apprentice_jax.training import preflight
from apprentice_jax.training.optimizer import learning_rates, shortened
from apprentice_jax.training.program import normalise
from apprentice_jax.training.workdir import local

DIGITS = str(pathlib.Path(__file__).parents[1] / "configs" / "digits.py")


def valid(**changes):
  config = configs.base()
  config.data.name = "digits"
  config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
  return config


def parse(*flags, command="train"):
  return parser.parse([command, *flags])


def read(given):
  return config_file.read(given.config, given.fields)


# A normalisation in the scale of the images.


@pytest.mark.parametrize("field", ["data", "teacher_input"])
@pytest.mark.parametrize(
  "mean, std",
  [
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ((0.0,), (1.0,)),
    ((0.5,), (0.5,)),
    ((1.0,), (0.5,)),
    ((0.0,), (1 / 255,)),  # for a network whose inputs were 0 to 255
    ((-0.1,), (1.2,)),
    ((0.4,), (2.0,)),
  ],
)
def test_normalisations_of_scaled_images_are_taken(field, mean, std):
  configs.validate(valid(**{f"{field}__mean": mean, f"{field}__std": std}))


@pytest.mark.parametrize(
  "mean, std, divided_mean, divided_std",
  [
    (
      (123.675, 116.28, 103.53),
      (58.395, 57.12, 57.375),
      (0.485, 0.456, 0.406),
      (0.229, 0.224, 0.225),
    ),
    ((127.5,), (127.5,), (0.5,), (0.5,)),
    (
      (33.3,),
      (1.0,),
      (0.1306,),
      (0.003922,),
    ),  # such as Caffe's: the deviation, too, is one of 0 to 255
    ((33.3,), (0.3081,), (0.1306,), (0.3081,)),  # the mean alone is wrong
    ((0.1307,), (78.6,), (0.1307,), (0.3082,)),  # the deviation alone is
    ((0.0,), (255.0,), (0.0,), (1.0,)),
  ],
)
def test_normalisations_of_0_to_255_are_refused_with_what_they_should_be(
  mean, std, divided_mean, divided_std
):
  with pytest.raises(ConfigError) as error:
    configs.validate(valid(data__mean=mean, data__std=std))
  assert str(error.value).endswith(
    f"divide values of 0 to 255 by 255, mean={divided_mean} and std={divided_std}."
  )
  # What is said normalises images of [0, 1] as what was meant does those of 0 to 255.
  pixels = np.arange(256, dtype=np.uint8).reshape(1, 256, 1, 1).repeat(len(mean), -1)
  if mean != divided_mean and std != divided_std:
    meant = (pixels.astype(np.float64) - mean) / std
    found = normalise(jnp.asarray(pixels), divided_mean, divided_std, jnp.float32)
    np.testing.assert_allclose(found, meant, atol=2e-3 * np.abs(meant).max())


def test_every_variation_is_in_the_images_scale():
  config = valid(study__variations=("a: data.mean=(127.5)", "b: data.mean=(0.4)"))
  with pytest.raises(ConfigError, match="variations at a: data.mean=.*images are scaled to"):
    variations.check(config)


# Paths.


def test_home_is_expanded_wherever_a_path_is_given(monkeypatch, tmp_path):
  monkeypatch.setenv("HOME", str(tmp_path))
  (tmp_path / "mine.py").write_text(pathlib.Path(DIGITS).read_text())
  found = parse(
    "--config=~/mine.py:width=0.25",
    "--workdir=~/run",
    "--config.teacher.init=~/teacher",
    "--config.student.init=~/student",
    "--config.data.dir=~/photos",
  )
  config = configs.checked(read(found))
  assert found.workdir == f"{tmp_path}/run" and config.student.width == 0.25
  assert (config.teacher.init, config.student.init, config.data.dir) == tuple(
    f"{tmp_path}/{name}" for name in ("teacher", "student", "photos")
  )
  assert parse("--model=~/a.onnx", "--data-dir=~/b", command="eval").data_dir == f"{tmp_path}/b"
  found = parse("--workdir=~/a,~/b", "--out=~/c", command="report")
  assert (found.workdir, found.out) == (f"{tmp_path}/a,{tmp_path}/b", f"{tmp_path}/c")
  found = parse("--model=~/a.onnx", "~/1.jpg", "./~/2.jpg", command="predict")
  assert (found.model, found.images) == (f"{tmp_path}/a.onnx", [f"{tmp_path}/1.jpg", "./~/2.jpg"])
  assert local("~/run") == tmp_path / "run"


def test_a_workdir_knows_its_data_from_any_folder(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  assert configs.checked(valid(data__dir="photos")).data.dir == f"{tmp_path}/photos"
  for kept in ("", "gs://bucket/sets", "/sets"):
    assert configs.checked(valid(data__dir=kept)).data.dir == kept


def test_every_path_is_expanded():
  """A field whose help speaks of a file, a folder or a workdir is a path."""
  named = {
    field.path
    for field in configs.FIELDS.values()
    if field.default == "" and re.search(r"\b(file|folder|workdir)\b", field.help)
  }
  assert named == configs.paths("is_path") and len(named) == 5
  config = configs.checked(valid(**{key.replace(".", "__"): "~/x" for key in named}))
  assert all(configs.flat(config)[key] == os.path.expanduser("~/x") for key in named)


# Flags that are given more than once.


def test_the_last_of_a_flag_counts():
  found = parse(
    f"--config={DIGITS}",
    "--config.study.seeds=(7,)",
    "--config.batch_size=32",
    "--workdir=a",
    "--config.study.seeds=(8,9)",
    "--config.batch_size=64",
    "--workdir=b",
    "--config.recipe.student.decay=('kernel',)",
  )
  config = read(found)
  assert tuple(config.study.seeds) == (8, 9) and config.batch_size == 64
  assert tuple(config.recipe.student.decay) == ("kernel",) and found.workdir == "b"
  assert found.repeated == [
    f"{name} is given more than once: the last one counts, {last}."
    for name, last in (
      ("--config.batch_size", "--config.batch_size=64"),
      ("--config.study.seeds", "--config.study.seeds=(8,9)"),
      ("--workdir", "--workdir=b"),
    )
  ]
  # The order of others does not matter, nor a dash.
  found = parse("--workdir=a", "--process_id=1", "--process-id", "1", f"--config={DIGITS}")
  assert found.process_id == 1 and not found.repeated


def test_images_are_all_kept():
  found = parse("1.jpg", "--model", "a.onnx", "2.jpg", "--json", "1.jpg", command="predict")
  assert found.images == ["1.jpg", "2.jpg", "1.jpg"] and not found.repeated
  assert found.model == "a.onnx" and found.json


# Batch norm over a single value.


def test_pixels_of_every_batch_norm():
  found = preflight.norm_pixels(resnet("resnet8", 10, width=0.25), (32, 24, 3))
  assert found["stem_norm"] == 32 * 24 and found["stage3_block1/norm1"] == 8 * 6
  assert len(found) == sum(
    path[-1].key == "scale"
    for path, _ in jax.tree_util.tree_leaves_with_path(
      jax.eval_shape(
        lambda k: resnet("resnet8", 10).init(k, jnp.zeros((1, 32, 24, 3)), False), jax.random.key(0)
      )
    )
  )


@pytest.mark.parametrize(
  "batch, size, synchronised, refused",
  [
    (8, 8, False, True),
    (16, 8, False, False),
    (8, 8, True, False),
    (8, 64, False, True),
    (8, 128, False, False),
  ],
)  # 64 pixels: stem and stages leave 1x1 of them
def test_a_single_value_per_channel_is_refused(batch, size, synchronised, refused):
  assert jax.device_count() == 8
  config = valid(batch_size=batch, sync_batch_norm=synchronised)
  networks = {"teacher": resnet("resnet18", 10, width=0.0625)}
  shape = (size // 2, size // 2, 3)
  if not refused:
    return preflight.check_norms(config, networks, shape)
  with pytest.raises(
    ConfigError,
    match=r"^config.batch_size is 8 on 8 devices: stage\d_block1/norm1 of the teacher would "
    r"normalise each channel by a single value; set config.batch_size=16, or ",
  ):
    preflight.check_norms(config, networks, shape)


def test_a_single_value_normalises_to_nothing():
  """Why: whatever the value, the result is the bias."""
  layer = norm.BatchNorm(train=True)
  x = jnp.asarray([[[[3.0, -100.0]]]])
  variables = layer.init(jax.random.key(0), x)
  np.testing.assert_array_equal(layer.apply(variables, x, mutable=["batch_stats"])[0], 0)


# Warm-ups.


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
@pytest.mark.parametrize("warmup_epochs, expected", [(4.9, 4.9), (5.0, 0.5), (90.0, 0.5)])
def test_a_warm_up_ends_before_the_run(schedule, warmup_epochs, expected):
  r = configs.recipe(epochs=5.0, warmup_epochs=warmup_epochs, schedule=schedule, settle_steps=0)
  found = shortened(r, 500, 100.0)
  assert found.warmup_epochs == expected and r.warmup_epochs == warmup_epochs
  assert (found is r) == (expected == warmup_epochs)
  rates = learning_rates(found, 500, 100.0)
  assert rates.argmax() < 499 and rates.max() == pytest.approx(0.1)


def test_settling_steps_are_no_part_of_the_run_that_a_warm_up_may_take():
  r = configs.recipe(epochs=5.0, warmup_epochs=4.6, settle_steps=50)
  assert shortened(r, 500, 100.0).warmup_epochs == 0.45
  assert shortened(r, 0, 100.0) is r


def test_a_shortened_warm_up_is_named():
  config = valid(
    recipe__student__epochs=3.0,
    recipe__student__warmup_epochs=5.0,
    recipe__teacher__warmup_epochs=4.0,
    batch_size=64,
  )
  named = lambda scheme, **how: [
    str(w.message) for w in _caught(preflight.warn_of_warmups, config, 1437, [scheme], **how)
  ]
  config.scheme = "baseline"
  (sentence,) = named("baseline")
  assert sentence == (
    "config.recipe.student.warmup_epochs is 5, and the run has 3 epochs: it is shortened to 0.27, "
    "or the "
    "learning rate would only rise."
  )
  config.scheme = "A"  # its teacher takes as many steps as its student
  assert [s.partition(" is ")[0] for s in named("A")] == [
    "config.recipe.student.warmup_epochs",
    "config.recipe.teacher.warmup_epochs",
  ]
  config.recipe.student.warmup_epochs = config.recipe.teacher.warmup_epochs = 1.0
  assert not named("A")


def _caught(function, *args, **kwargs):
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    function(*args, **kwargs)
  return caught


@pytest.mark.parametrize(
  "path",
  sorted((pathlib.Path(__file__).parents[1] / "configs").glob("[!_]*.py")),
  ids=lambda p: p.stem,
)
def test_no_config_warms_up_for_the_whole_run(path):
  get_config = runpy.run_path(str(path))["get_config"]
  for argument in ("", "runlocal"):
    for name, r in get_config(argument).recipe.items():
      assert r.warmup_epochs < r.epochs, (argument, name)


# What changes nothing.


@pytest.mark.parametrize(
  "flags, said",
  [
    (
      "--config.loss.gamma=0.3 --config.recipe.finetune.epochs=2",
      [
        "config.loss.gamma and config.recipe.finetune.epochs change nothing under scheme baseline "
        "at 32A,32W."
      ],
    ),
    (
      "--config.scheme=B --config.precision=8A,2W --config.loss.gamma=0.3 "
      "--config.teacher.width=0.25",
      [],
    ),
    (
      "--config.scheme=B --config.precision=8A,2W --config.loss.alpha=0.3",
      ["config.loss.alpha changes nothing under scheme B at 8A,2W."],
    ),
    (
      "--config.scheme=B --config.precision=8A,2W --config.teacher.init=x "
      "--config.recipe.teacher.epochs=3",
      ["config.recipe.teacher.epochs changes nothing under scheme B at 8A,2W."],
    ),
    (
      "--config.scheme=B --config.precision=8A,2W --config.teacher.init=x "
      "--config.teacher.head=new "
      "--config.recipe.teacher.epochs=3 --config.recipe.finetune.epochs=3 "
      "--config.recipe.finetune.momentum=0.5",
      ["config.recipe.finetune.momentum changes nothing under scheme B at 8A,2W."],
    ),
    (
      "--config.scheme=A --config.precision=8A,2W --config.teacher_input.cached "
      "--config.recipe.teacher.nesterov",
      ["config.teacher_input.cached changes nothing under scheme A at 8A,2W."],
    ),
    (
      "--config.data.resize=64 --config.data.pad=2",
      [
        "config.data.resize changes nothing for images that live on the device "
        "(config.data.image_size=0)."
      ],
    ),
    (
      "--config.data.image_size=64 --config.data.resize=64 --config.data.pad=2",
      ["config.data.pad changes nothing for streamed images."],
    ),
    ("--config.batch_size=32 --config.study.seeds=(1,)", []),
  ],
)
def test_fields_that_change_nothing_are_named(flags, said):
  given = parse(f"--config={DIGITS}:scheme=baseline,precision=32A32W", *flags.split())
  changed = [name.removeprefix("config.") for name in given.names]
  assert configs.unread(configs.checked(read(given)), changed) == said


@pytest.mark.parametrize(
  "line, said",
  [
    (
      "study --status --workdir={0} --config=digits",
      "--config changes nothing: --status reads the study's own.",
    ),
    (
      "export --workdir={0} --out={0}/y --form=fast",
      "--form changes nothing: packed files have one form.",
    ),
    ("export --workdir={0} --out={0}/y --form=fast --format=onnx", ""),
    (
      "export --workdir={0} --out={0}/y --title=Mine",
      "--title changes nothing: it is for pages.",
    ),
    (
      "export --model={0}/x --data_dir={0} --out={0}/y",
      "--data_dir changes nothing: a packed file needs no dataset.",
    ),
    (
      "predict --model={0}/x --data_dir={0} {0}",
      "--data_dir changes nothing: an exported file needs no dataset.",
    ),
    ("predict --workdir={0} --data_dir={0} {0}", ""),
  ],
)
def test_flags_that_change_nothing_are_named(line, said, tmp_path, monkeypatch, capsys):
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  assert cli.main(line.format(tmp_path).split()) == 2  # for there is no run
  notes = [line for line in "".join(capsys.readouterr()).splitlines() if line.startswith("note: ")]
  assert notes == ([f"note: {said}"] if said else [])
