"""README.md, docs/ and results/: links lead somewhere, and commands are ones that exist.

test_markdown_commands.py runs them.
"""

import configparser
import re
import shlex

import markdown_pages as pages
import pytest
from markdown_pages import ROOT

from apprentice_jax.cli import config_file, parser
from apprentice_jax.errors import ConfigError

by_page = pytest.mark.parametrize("page", pages.PAGES, ids=pages.name)
# Programs of other people, whose flags are not ours to check.
OTHERS = {"cd", "make", "source", "apt", "git", "arm-none-eabi-gcc", "arm-none-eabi-size"}


def test_the_readme_is_short():
  assert len(pages.README.read_text().splitlines()) <= 150


@by_page
def test_links_lead_to_files_and_headings(page):
  for link in pages.links(page):
    if link.startswith(("http://", "https://")):
      continue
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists(), link
    if anchor:
      assert anchor in pages.anchors(target), link


@by_page
def test_commands_exist(page):
  for command in [*pages.commands(page), *pages.inline_commands(page)]:
    if "..." not in command:
      check(command)


def check(command):
  """Fails where a command names a flag, a field, a file or an extra that is not there."""
  words = shlex.split(command)
  while re.fullmatch(r"[A-Z]+=.*", words[0]):  # a variable of the environment
    words.pop(0)
  program = words.pop(0).removeprefix(".venv/bin/")
  if program == "apprentice":
    parsed = parser.parse(words)
    if getattr(parsed, "config", None) and "own_network" not in command:
      config_file.read(parsed.config, parsed.fields)
  elif program == "pip":
    extras = configparser.ConfigParser()
    extras.read(ROOT / "setup.cfg")
    for names in re.findall(r"\[([\w,]+)\]", command):
      assert set(names.split(",")) <= set(extras["options.extras_require"]), command
  elif program in ("bash", "python", "python3") and words[0] != "-m":
    assert (ROOT / words[0]).is_file(), command
  else:
    assert program in OTHERS | {"python3"}, command


def test_a_wrong_command_is_noticed():
  for command in (
    "apprentice trian --config=digits",
    "apprentice train --config=digits --config.recipe.student.epoch=1 --workdir=x",
    "apprentice train --config=digit --workdir=x",
    "pip install '.[gpu]'",
    "bash launch/nowhere.sh",
    "sudo apprentice",
  ):
    with pytest.raises((AssertionError, ConfigError)):
      check(command)


def test_the_rows_of_the_paper_are_configs():
  page = (ROOT / "docs" / "paper.md").read_text()
  rows = re.findall(r"`(student=[^`]+)`", page)
  assert len(rows) == 12
  for row in rows:
    config = config_file.read(f"imagenet:preset=paper,{row}", [])
    assert row == (
      f"student={config.student.name},scheme={config.scheme},"
      f"precision={config.precision.replace(',', '')}"
    )
