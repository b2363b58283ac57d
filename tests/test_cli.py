"""The command line, and a run from end to end; what wrong inputs are told is in `bad_inputs`."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

import apprentice_jax
from apprentice_jax import cli, environment
from apprentice_jax.cli import parser
from apprentice_jax.training import api

ROOT = pathlib.Path(__file__).parents[1]
DIGITS = str(ROOT / "configs" / "digits.py")
TINY = f"{DIGITS}:student=resnet8,teacher=resnet8,width=0.25,runlocal,scheme=B"


def began(*_):
  raise AssertionError("training began")


@pytest.fixture
def run(capsys, monkeypatch):
  """run(*arguments) -> (status, stdout, stderr) of the command; nothing may train."""
  monkeypatch.setattr(api.Run, "run", began)

  def run(*arguments):
    monkeypatch.setattr(sys, "argv", ["apprentice", *arguments])
    status = cli.main()
    return status, *capsys.readouterr()

  return run


@pytest.mark.parametrize(
  "wrong",
  [
    "--config.teacher.init=/nowhere",
    "--config.data.name=digit",
    "--config.data.test_split=tset",
    "--config.batch_size=60",
  ],
)
def test_a_refused_run_leaves_the_workdir_to_the_corrected_one(wrong, run, tmp_path, monkeypatch):
  assert run("train", f"--config={DIGITS}", f"--workdir={tmp_path}", wrong)[0] == 2
  monkeypatch.setattr(api, "Run", began)
  with pytest.raises(AssertionError, match="training began"):
    run("train", f"--config={DIGITS}", f"--workdir={tmp_path}")


def test_another_configs_workdir(run, tmp_path, monkeypatch):
  monkeypatch.setattr(api, "Run", began)
  for spelling in ("", ":precision=8A2W"):  # the same config
    with pytest.raises(AssertionError, match="training began"):
      run("train", f"--config={DIGITS}{spelling}", f"--workdir={tmp_path}")
  status, _, err = run("train", f"--config={DIGITS}:precision=8A4W", f"--workdir={tmp_path}")
  assert status == 2 and "config.precision ('8A,2W' there, '8A" in err


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_help(arguments, run):
  status, out, err = run(*arguments)
  assert status == 0 and err == ""
  for command in parser.COMMANDS:
    assert re.search(rf"^ +{command} ", out, re.MULTILINE)


def test_main_takes_arguments_as_well_as_the_process_does(monkeypatch, capsys, tmp_path):
  monkeypatch.setattr(sys, "argv", ["something else"])
  # An override reaches the config: what is refused is its value.
  assert (
    cli.main(["train", f"--config={DIGITS}", f"--workdir={tmp_path}", "--config.batch_size=-4"])
    == 2
  )
  assert "config.batch_size is -4: it must be at least 1." in capsys.readouterr().err


def command(*arguments, devices=None):
  """Runs the command as a user does, on devices host devices (None: as the config says)."""
  env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
  env["PYTHONPATH"] = os.pathsep.join(
    [str(pathlib.Path(apprentice_jax.__file__).parents[1]), env.get("PYTHONPATH", "")]
  )
  if devices:
    env["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
  return subprocess.run(
    [sys.executable, "-m", "apprentice_jax", *arguments],
    env=env,
    text=True,
    capture_output=True,
    check=False,
  )


def test_the_process_ends_with_the_status():
  process = command("train", f"--config={DIGITS}:schem=A", "--workdir=x")
  assert process.returncode == 2 and process.stdout == ""
  assert process.stderr == (
    "apprentice: config argument 'schem' does not exist: did you mean 'scheme'?\n"
  )


@pytest.mark.slow
def test_train_then_eval_on_any_number_of_devices(tmp_path):
  train = (
    "train",
    f"--config={TINY}",
    f"--workdir={tmp_path}",
    "--config.cpu_devices=2",
    "--config.recipe.student.learning_rate=0.08",
    "--config.recipe.student.warmup_epochs=0.2",
    "--config.recipe.student.settle_steps=0",
    "--config.recipe.teacher.settle_steps=0",
  )
  process = command(*train)
  assert process.returncode == 0, process.stderr
  result = json.loads((tmp_path / "result.json").read_text())
  config = json.loads((tmp_path / "config.json").read_text())
  assert config["recipe.student.learning_rate"] == 0.08 and config["student.width"] == 0.25
  assert result["steps"] == 22 and result["test_count"] == 360
  assert result["test_accuracy"] > 0.2  # twice as good as chance, after one epoch
  report = (tmp_path / "report.md").read_text()
  assert report.partition("\n\n![")[0].strip() in process.stdout  # all before the pictures
  assert f"| test accuracy | {result['test_accuracy']:.2%} |" in report
  assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
  assert (tmp_path / "mistakes.png").read_bytes().startswith(b"\x89PNG")
  assert f"{tmp_path.name}: 22 steps to train\n" in process.stdout
  assert (
    "step 22/22" in process.stdout
    and json.loads((tmp_path / "teacher" / "result.json").read_text())["steps"] == 22
  )

  again = command(*train)
  assert (
    again.returncode == 0
    and f"{tmp_path} has finished already: nothing was trained.\n" in again.stdout
  )

  found = {8: apprentice_jax.evaluate(tmp_path)}
  for devices in (1,):
    process = command("eval", f"--workdir={tmp_path}", devices=devices)
    assert process.returncode == 0, process.stderr
    match = re.match(
      rf"running on {devices} x cpu\n"
      r"(?:(?:compiling|scoring) .*\n)*"  # what takes longer than a moment
      r"test: accuracy ([\d.]+)%, loss ([\d.]+), (\d+) examples\nresnet8 at width 0.25",
      process.stdout,
    )
    assert match, process.stdout
    accuracy, loss, count = match.groups()
    found[devices] = dict(accuracy=float(accuracy) / 100, loss=float(loss), count=int(count))
  for devices, numbers in found.items():
    # Rounded as printed; and an image on the edge between two classes may fall either way.
    assert numbers["count"] == 360, devices
    assert numbers["accuracy"] == pytest.approx(result["test_accuracy"], abs=1.1 / 360), devices
    assert numbers["loss"] == pytest.approx(result["test_loss"], rel=2e-3), devices


def test_the_command_sets_how_memory_is_kept(monkeypatch):
  """By starting anew, once; not where the user asked for something, nor beside an accelerator."""
  started = []
  monkeypatch.setattr(os, "execv", lambda path, arguments: started.append((path, arguments)))
  monkeypatch.setattr(cli, "main", lambda: 7)
  monkeypatch.setattr(sys, "orig_argv", ["python3", "-u", "-m", "apprentice_jax", "help"])
  monkeypatch.setattr(sys, "platform", "linux")
  monkeypatch.setattr(environment.platform, "libc_ver", lambda: ("glibc", "2.36"))
  monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
  assert cli.command() == 7 and not started
  monkeypatch.delenv("GLIBC_TUNABLES")
  monkeypatch.setattr(environment, "has_accelerator", lambda: True)
  assert cli.command() == 7 and not started
  monkeypatch.setattr(environment, "has_accelerator", lambda: False)
  cli.command()
  assert started == [(sys.executable, [sys.executable, "-u", "-m", "apprentice_jax", "help"])]
  assert os.environ["GLIBC_TUNABLES"] == environment.MALLOC


@pytest.mark.parametrize(
  "command, given, accelerator, expected",
  [
    ("train", "", False, f"--xla_cpu_multi_thread_eigen=false {environment.QUICK}"),
    ("train", "", True, "--xla_cpu_multi_thread_eigen=false"),
    ("plan", "", False, "--xla_cpu_multi_thread_eigen=false"),
    (
      "train",
      "--xla_dump_to=d --xla_backend_optimization_level=3",
      False,
      "--xla_dump_to=d --xla_backend_optimization_level=3 --xla_cpu_multi_thread_eigen=false",
    ),
  ],
)
def test_flags_of_xla_are_set_where_nobody_has(monkeypatch, command, given, accelerator, expected):
  monkeypatch.setenv("XLA_FLAGS", given)
  monkeypatch.setenv("APPRENTICE_XLA_FLAGS", "")
  monkeypatch.setattr(environment, "has_accelerator", lambda: accelerator)
  environment.set_xla_flags(quick=command != "plan")
  assert os.environ["XLA_FLAGS"] == expected
