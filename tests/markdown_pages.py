"""What the pages hold: README.md, docs/ and results/ as commands, snippets and links."""

import pathlib
import re
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
RESULTS = sorted((ROOT / "results").rglob("README.md"))
PAGES = [README, *DOCS, *RESULTS]


class Block(NamedTuple):
  """A fenced block, or an indented one of commands.

  Attributes:
    language: after the fence, such as python; "" of an indented block.
    text: without the fence or the indent.
  """

  language: str
  text: str


def name(page: pathlib.Path) -> str:
  """A page's path in the repository, for the names of tests."""
  return page.relative_to(ROOT).as_posix()


def blocks(page: pathlib.Path) -> list[Block]:
  """The blocks of a page in their order."""
  pattern = r"^```(\w*)\n(.*?)^```$|((?:^    \S.*\n)+)"
  found = re.finditer(pattern, page.read_text() + "\n", re.MULTILINE | re.DOTALL)
  return [
    Block("", re.sub(r"^    ", "", m[3], flags=re.MULTILINE)) if m[3] else Block(m[1], m[2])
    for m in found
  ]


def commands(page: pathlib.Path) -> list[str]:
  """The command lines of a page."""
  return [line for language, text in blocks(page) for line in lines(text, language)]


def lines(text: str, language: str) -> list[str]:
  """The command lines of a block: of bash all, of an indented one those of our own programs."""
  joined = re.sub(r"\\\n\s*", "", text)
  joined = re.sub(r"(^|\s)#\s.*$", "", joined, flags=re.MULTILINE)
  found = joined.splitlines() if language == "bash" else []
  if not language:
    ours = r"^(?:\$ )?(?:[A-Z]+=\S+ )*(?:apprentice|bash|python|pip|git) .*$"
    found = re.findall(ours, joined, re.MULTILINE)
  return [line.removeprefix("$ ").strip() for line in found if line.strip()]


def inline_commands(page: pathlib.Path) -> list[str]:
  """The commands of ours that stand in the running text or in a table, whole ones alone."""
  text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
  return [
    " ".join(command.split())
    for command in re.findall(r"`(apprentice [a-z]+ -[^`]*)`", text)
    if "..." not in command and "--help" not in command
  ]


def anchors(page: pathlib.Path) -> set[str]:
  """The anchors of a page's headings, as GitHub makes them."""
  headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
  return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: pathlib.Path) -> list[str]:
  """The targets of a page's links and pictures."""
  return re.findall(r"\]\(([^)\s]+)\)", page.read_text())
