"""The benchmarks as commands: each says what it takes, and a wrong input gets one sentence."""

import json
import pathlib
import subprocess
import sys

import command
import pytest

from apprentice_jax.bench import MOVED
from apprentice_jax.errors import ConfigError

ROOT = pathlib.Path(__file__).parents[2]


def run(script: str, *arguments):
  return subprocess.run(
    [sys.executable, f"benchmarks/{script}", *arguments], cwd=ROOT, capture_output=True, text=True
  )


@pytest.mark.parametrize(
  "script, arguments, sentence",
  [
    ("quantization.py", (), "quantization.py: this benchmark needs --config=FILE:key=value,..."),
    ("beside_torch.py", ("--out=x",), "this benchmark needs --config=FILE:key=value,..."),
    ("beside_tf_data.py", ("--data_dir=x", "--out=none/x"), "cannot write none/x: there is no"),
  ],
)
def test_a_wrong_input_gets_one_sentence(script, arguments, sentence):
  done = run(script, *arguments)
  assert done.returncode == 2 and not done.stdout
  assert sentence in done.stderr and done.stderr.count("\n") == 1


def test_the_report_is_printed_and_kept(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(command.environment, "restart_with_memory_settings", lambda: None)
  monkeypatch.setattr(command.environment, "set_xla_flags", lambda quick: None)
  monkeypatch.setattr(command.environment, "has_tpu", lambda: True)
  monkeypatch.setattr(command.warnings, "formatwarning", None)
  monkeypatch.setattr(sys, "argv", ["benchmark.py", "--flag"])
  out = tmp_path / "report.json"
  command.main(lambda arguments: ({"arguments": arguments}, str(out)), str)
  assert capsys.readouterr().out == "{'arguments': ['--flag']}\n"
  assert json.loads(out.read_text()) == {"arguments": ["--flag"]}


def test_what_took_the_place_of_a_benchmark_is_there():
  for instead in MOVED.values():
    script = next(w for w in instead.split() if w.startswith("benchmarks/"))
    assert (ROOT / script).is_file() and script in (ROOT / script).read_text()


def test_a_folder_that_is_missing(tmp_path):
  command.check_folder("")
  command.check_folder(str(tmp_path / "x.json"))
  with pytest.raises(ConfigError, match="there is no folder"):
    command.check_folder(str(tmp_path / "none" / "x.json"))
