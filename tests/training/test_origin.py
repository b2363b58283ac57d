"""How a report says it was made: the starts of its workdirs, and their commands as one types
them."""

import json
import shlex
import subprocess

import pytest

from apprentice_jax.document import Code, Heading
from apprentice_jax.training import origin

STUDY = """apprentice study --config.study.seeds="(0,)" --config.study.precisions="('8A,2W',)\""""


@pytest.mark.parametrize(
  "words, text",
  [
    (shlex.split(STUDY), STUDY),
    (["apprentice", "--workdir=a b", "--out=it's", "c d"], None),
    (["apprentice", "--workdir=", "", "a$b", "q\"'`x` \\", "--a b=c'", "~/x", "*"], None),
    (["apprentice", "--note=what!'", "!", "a=b c", "é'猫"], None),
  ],
)
def test_a_command_is_what_was_typed_with_few_quotes(words, text):
  found = origin.readable(shlex.join(words))
  assert text in (None, found)
  # What the shell reads, of which shlex.split knows a part.
  shell = subprocess.run(
    ["bash", "-c", f"printf '%s\\0' {found}"], capture_output=True, text=True, check=True
  )
  assert shell.stdout.split("\0")[:-1] == words
  assert "!" in found or "'\"'\"'" not in found


def test_a_command_that_is_none_is_left():
  assert origin.readable("apprentice 'a") == "apprentice 'a"


def test_the_last_starts_of_all_workdirs(tmp_path):
  assert origin.origin(tmp_path) == []
  for name, days in (("a", (1, 3, 5, 7)), ("b", (2, 4, 6))):
    (tmp_path / name).mkdir()
    lines = [{"date": f"d{day}", "command": f"apprentice {name}"} for day in days]
    (tmp_path / name / "starts.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
  heading, table, code = origin.origin(tmp_path / "a", tmp_path / "b")
  assert heading == Heading("How it was made")
  assert [row[0] for row in table.rows] == ["d3", "d4", "d5", "d6", "d7"]
  assert table.caption == "The last 5 of 7 starts." and "command" not in table.columns
  assert code == Code("The commands, in their order:", ["apprentice a", "apprentice b"])
  assert origin.origin(tmp_path / "b")[-1] == Code("The command:", ["apprentice b"])
