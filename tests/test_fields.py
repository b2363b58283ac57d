"""The table of the config's fields: complete, readable, and the only list that there is."""

import importlib.util
import json
import pathlib
import re

import jax
import pytest

from apprentice_jax import config as configs
from apprentice_jax.config import fields, saved
from apprentice_jax.deploy import registry
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.errors import ConfigError
from apprentice_jax.training import devices
from apprentice_jax.training.workdir import claim, read_config, workdir_config, write_config

ROOT = pathlib.Path(__file__).parents[1]


def valid(**changes):
  config = configs.base()
  config.data.name = "digits"
  config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
  return config


# The table.


def test_the_table_has_every_field_of_a_config_and_no_other():
  assert configs.flat(configs.base()) == {f.path: f.default for f in configs.FIELDS.values()}


@pytest.mark.parametrize("field", configs.FIELDS.values(), ids=lambda f: f.path)
def test_every_field_has_one_sentence_of_help(field):
  text = field.help
  assert text[0].isupper() or text.startswith(("student.", "teacher."))
  assert text.endswith("."), text
  assert not re.search(r"[.!?]\s", text) and "\n" not in text
  assert 1 < len(text.split()) <= 25
  assert not re.match(r"(That|Those|What|Such|Of|Its|Nor)\b", text)


@pytest.mark.parametrize("field", configs.FIELDS.values(), ids=lambda f: f.path)
def test_every_default_passes_its_own_check_and_has_known_tags(field):
  config = valid()
  configs.validate(config, config.study.precisions)
  if field.choices:
    items = field.default if isinstance(field.default, tuple) else (field.default,)
    assert set(items) <= set(field.choices)
  assert isinstance(field.default, (bool, int, float, str, tuple))
  for kind in configs.CELLS:  # a part that nothing knows is a KeyError
    configs.reads(field.path, kind, "8A,2W")
  assert any(configs.reads(field.path, kind, "8A,2W") for kind in configs.CELLS)
  # A field that changes nothing in a result cannot be varied to see what it changes.
  assert field.tags.shared or not field.tags.free


def test_fields_that_change_no_result_are_free_and_no_others():
  free = set(
    "checkpoint.every_epochs checkpoint.keep cpu_devices eval.every_epochs eval.batch_size "
    "data.dir data.threads data.workers data.unreadable export note study.seeds study.jobs".split()
  )
  assert free <= configs.paths("free")
  assert free - {"cpu_devices", "eval.every_epochs"} <= configs.paths("merges")
  assert {"seed", "scheme", "precision", "teacher.init"} <= configs.paths("merges")
  assert not {"cpu_devices", "eval.every_epochs", "teacher.head"} & configs.paths("merges")
  training = "student. teacher. teacher_input. recipe. loss. quantization. batch dtype seed scheme"
  assert not [f for f in configs.paths("free") if f.startswith(tuple(training.split()))]


def test_lists_that_the_config_has_of_its_own_are_those_of_their_owners():
  assert set(fields.FORMATS) == set(registry.FORMATS)
  assert configs.CELLS == ("teacher", "student", *SCHEMES)


def test_a_config_describes_itself():
  every = configs.describe(valid(), all=True)
  assert [name for name, _, _ in every] == list(configs.FIELDS)
  assert ("batch_size", 128, configs.FIELDS["batch_size"].help) in every
  changed = configs.describe(valid(batch_size=64))
  assert [(name, value) for name, value, _ in changed] == [
    ("batch_size", 64),
    ("data.name", "digits"),
  ]


def test_the_page_of_fields_is_up_to_date():
  path = ROOT / "docs" / "write_config_page.py"
  spec = importlib.util.spec_from_file_location("write_config_page", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  assert module.PAGE.read_text() == module.page(), "run: python docs/write_config_page.py"
  assert "docs/config.md" in (ROOT / "README.md").read_text()


def test_config_imports_nothing_above_it():
  layers = r"(from|import) apprentice_jax\.(study|deploy|training|bench|plan|cli)\b"
  for path in (ROOT / "apprentice_jax" / "config").glob("*.py"):
    assert not re.search(layers, path.read_text()), path.name


# The config.json of an earlier version.


def written(workdir, config, **more):
  """Writes a workdir's config.json with more fields, or without those that are None."""
  workdir.mkdir(exist_ok=True)
  write_config(workdir, config)
  path = workdir / "config.json"
  content = {**json.loads(path.read_text()), **{k.replace("__", "."): v for k, v in more.items()}}
  path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
  return workdir


def test_a_field_that_went_is_dropped_at_its_default(tmp_path, monkeypatch):
  monkeypatch.setitem(saved.REMOVED, "loss.delta", (0.25, "config.loss.gamma has its part"))
  workdir = written(tmp_path / "run", valid(), loss__delta=0.25, teacher_input__cache_epochs=0)
  assert set(read_config(workdir)) == set(configs.FIELDS)
  assert workdir_config(workdir) == valid()
  claim(workdir, valid())


def test_a_field_that_went_says_what_replaces_it(tmp_path, monkeypatch):
  workdir = written(tmp_path / "run", valid(), teacher_input__cache_epochs=2)
  sentence = (
    f"{workdir}/config.json has config.teacher_input.cache_epochs=2, which has gone: "
    "config.data.augmentation_epochs has the number of epochs."
  )
  for read in (read_config, workdir_config, lambda w: claim(w, valid())):
    with pytest.raises(ConfigError) as error:
      read(workdir)
    assert str(error.value) == sentence


def test_an_unknown_field_of_a_workdir_is_named(tmp_path):
  workdir = written(tmp_path / "run", valid(), student__wdith=0.5)
  for read in (read_config, workdir_config, lambda w: claim(w, valid())):
    with pytest.raises(ConfigError) as error:
      read(workdir)
    assert "config.json has config.student.wdith" in str(error.value)
    assert "did you mean 'student.width'?" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("value", ["many", None, [1, 2], {"a": 1}, 1.5])
def test_a_value_of_another_type_is_named(tmp_path, value):
  workdir = written(tmp_path / "run", valid())
  path = workdir / "config.json"
  path.write_text(json.dumps({**json.loads(path.read_text()), "batch_size": value}))
  with pytest.raises(ConfigError) as error:
    read_config(workdir)
  assert "config.batch_size=" in str(error.value) and "\n" not in str(error.value)


def test_a_field_added_later_has_its_default(tmp_path, monkeypatch):
  workdir = written(tmp_path / "run", valid(loss__gamma=0.5), loss__gamma=None, cpu_devices=None)
  assert workdir_config(workdir) == valid()
  claim(workdir, valid())
  with pytest.raises(ConfigError, match=r"config.loss.gamma \(0.5 there, 0.25 now\)"):
    claim(workdir, valid(loss__gamma=0.25))
  assert jax.device_count() == 8  # jax runs, whatever it is asked for below
  monkeypatch.setattr(devices.jax.config, "update", lambda name, value: asked.update({name: value}))
  asked = {}
  monkeypatch.delenv("XLA_FLAGS")
  devices.start(None, workdir)  # the devices of a run that does not say how many
  assert asked["jax_num_cpu_devices"] == 2


def test_a_run_of_before_the_share_for_the_test_keeps_its_split(tmp_path):
  workdir = written(tmp_path / "run", valid(), data__test_share=None)
  claim(workdir, valid(data__test_share=0.2))
  assert workdir_config(workdir).data.test_share == 0.0
  workdir = written(tmp_path / "other", valid(), data__test_share=0.1)
  with pytest.raises(ConfigError, match=r"config.data.test_share \(0.1 there, 0.2 now\)"):
    claim(workdir, valid(data__test_share=0.2))


@pytest.mark.parametrize("field", sorted(configs.FIELDS))
def test_a_run_may_go_on_with_another_value_of_its_free_fields_alone(tmp_path, field):
  row = configs.FIELDS[field]
  value = {tuple: ["another"], str: "another", bool: not row.default}.get(type(row.default), 77)
  workdir = written(tmp_path / "run", valid(), **{field.replace(".", "__"): value})
  if row.tags.free or row.tags.is_path:
    return claim(workdir, valid())
  with pytest.raises(ConfigError, match=f"belongs to a run with another config: config.{field} "):
    claim(workdir, valid())
