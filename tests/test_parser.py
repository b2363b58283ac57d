"""The flags of the command: how they are written, their help, and that wrong ones end fast."""

import importlib.util
import json
import pathlib
import re
import subprocess
import sys

import pytest

import apprentice_jax
from apprentice_jax import cli
from apprentice_jax import config as configs
from apprentice_jax.cli import config_file, parser
from apprentice_jax.errors import ConfigError

ROOT = pathlib.Path(__file__).parents[1]
COMMANDS = parser.parsers()[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def parse(line):
  return parser.parse(line.split())


# Help.


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_flag_has_help(name):
  command = COMMANDS[name]
  assert command.description.strip() and parser.COMMANDS[name].HELP
  for argument in command.arguments:
    assert len(argument.help) > 8 and argument.metavar != "", argument


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_docs(name):
  assert any(f"apprentice {name} " in page.read_text() for page in PAGES)


def test_the_page_of_flags_is_current():
  path = ROOT / "docs" / "write_command_page.py"
  spec = importlib.util.spec_from_file_location("write_command_page", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  assert module.PAGE.read_text() == module.page(), "run: python docs/write_command_page.py"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(name, capsys):
  for arguments in ([name, "--help"], ["help", name], [name, "-h"], ["--help", name]):
    assert cli.main(arguments) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: apprentice {name} ") and err == ""
    assert all(flag in out for flag in COMMANDS[name].flags())
  assert cli.main([name, "--workdir=x", "--help", "--wrong"]) == 0  # wherever it stands


def test_help_of_a_command_that_does_not_exist(capsys):
  assert cli.main(["help", "trian"]) == 2
  assert capsys.readouterr().err == (
    "apprentice: command 'trian' does not exist: did you mean 'train'?\n"
  )


def test_the_version(capsys):
  assert cli.main(["--version"]) == 0
  assert capsys.readouterr().out == f"apprentice {apprentice_jax.__version__}\n"


def test_help_and_wrong_flags_do_not_import_jax():
  code = """
import sys
from apprentice_jax import cli
statuses = [cli.main(line.split()) for line in sys.argv[1:]]
assert "jax" not in sys.modules and "tensorflow" not in sys.modules
print(statuses)
"""
  right = ["--help", "--version", "models", *(f"{name} --help" for name in COMMANDS)]
  wrong = [
    "train --wordkir=x",
    "train --config=digits --epochs=5 --workdir=x",
    "train --config=digits --config.batchsize=5 --workdir=x",
    "train --config=digits",
    "train --config=digit --workdir=x",
    "export --format=tflite",
    "predict --top=0 x",
  ]
  command = [sys.executable, "-c", code, *right, *wrong]
  process = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
  assert process.returncode == 0, process.stderr
  statuses = json.loads(process.stdout.splitlines()[-1])
  assert statuses == [0] * len(right) + [2] * len(wrong)


# How flags are written.


def test_a_value_follows_an_equals_sign_or_a_space():
  lines = (
    "train --config=digits:width=0.25 --config.seed=-3 --workdir=a --data-dir=b --num_processes=2",
    "train --config digits:width=0.25 --config.seed -3 --workdir a --data_dir b --num-processes 2",
  )
  one, other = (vars(parse(line)) for line in lines)
  assert one == other and one["fields"] == ["--config.seed=-3"] and one["num_processes"] == 2
  assert config_file.read(one["config"], one["fields"]).seed == -3


def test_switches():
  given = lambda flags: parse(f"eval --workdir=x {flags}")
  assert given("--layers").layers and given("--layers --split=train").layers
  assert given("--layers=True").layers and not given("--layers=false").layers
  assert not given("").layers
  config = parse(
    "train --config=digits --config.data.flip --config.teacher_input.cached --workdir x"
  )
  read = config_file.read(config.config, config.fields)
  assert read.data.flip and read.teacher_input.cached and config.workdir == "x"


def test_words_that_look_like_flags():
  assert parse("predict --model=m -1.jpg a=b.jpg").images == ["-1.jpg", "a=b.jpg"]
  assert parse("predict --model=m").images == []


@pytest.mark.parametrize(
  "flag, field",
  [
    ("--epochs=3", "recipe.student.epochs"),
    ("--lr=0.1", "recipe.student.learning_rate"),
    ("--learning-rate=0.1", "recipe.student.learning_rate"),
    ("--batch_size=8", "batch_size"),
    ("--seed=1", "seed"),
    ("--config.epochs=3", "recipe.student.epochs"),
    ("--config.lr=3", "recipe.student.learning_rate"),
    ("--student.epochs=3", "recipe.student.epochs"),
    ("--temperature=4", "loss.temperature"),
    ("--scheme=A", "scheme"),
  ],
)
def test_a_near_miss_names_the_field(flag, field):
  with pytest.raises(ConfigError, match=rf"did you mean '--config\.{re.escape(field)}'\?"):
    parse(f"train --config=digits --workdir=x {flag}")


def test_a_flag_that_is_like_no_other():
  with pytest.raises(ConfigError, match="choose one of --workdir, --out$"):
    parse("report --zzz")
  with pytest.raises(ConfigError, match="`apprentice config` lists the fields"):
    parse("train --config=digits --config.zzz=1")


# Configs.


def test_installed_configs_are_found_from_anywhere(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert set(config_file.installed()) >= {"cifar10", "digits", "imagenet", "image_folder"}
  for name in config_file.installed():
    read = config_file.read(f"{name}:precision=8A4W", ["--config.batch_size=24"])
    assert read.precision == "8A4W" and read.batch_size == 24
  (tmp_path / "digits").mkdir()
  assert config_file.find("digits") == str(config_file.installed()["digits"])
  (tmp_path / "mnist").write_text("")  # a file of this name comes first
  assert config_file.find("mnist") == "mnist"


def test_the_fields_of_a_config_are_printed(capsys):
  assert cli.main(["config", "--config=digits:scheme=A", "--config.seed=3"]) == 0
  some = capsys.readouterr().out
  assert "config.scheme = 'A'\n    " + configs.FIELDS["scheme"].help in some
  assert "config.seed = 3\n" in some and "config.remat" not in some
  assert cli.main(["config", "--config=digits", "--all"]) == 0
  out = capsys.readouterr().out
  for name, field in configs.FIELDS.items():
    assert f"config.{name} = " in out and field.help in out


def test_a_wrong_config_is_not_printed(capsys):
  assert cli.main(["config", "--config=digits", "--config.batch_size=0"]) == 2
  assert capsys.readouterr().err == "apprentice: config.batch_size is 0: it must be at least 1.\n"
