"""Writes docs/command.md, the reference of the flags: python docs/write_command_page.py."""

import pathlib

from apprentice_jax.cli import parser

PAGE = pathlib.Path(__file__).with_name("command.md")
HEAD = """# The command

`apprentice COMMAND` and `python -m apprentice_jax COMMAND` are the same. A flag is written
`--name=value` or `--name value`, with dashes or underscores in its name. The last value of a
repeated flag counts; `--config` is given once. `~` in a path is expanded.

`--config` takes the name of a config that comes with the package, such as `cifar10`, or a file.
Arguments follow a colon: `--config=cifar10:scheme=B,precision=8A2W`. They are `student`, `teacher`,
`precision`, `scheme`, `width`, `preset` and `runlocal`. `--config.FIELD=VALUE` sets any field;
[config.md](config.md) lists the fields, and `apprentice config` prints those of a config.

`apprentice help COMMAND` and `apprentice COMMAND --help` print the same.

This page is made from `apprentice_jax/cli/` by `python docs/write_command_page.py`.
"""


def page() -> str:
  """The page as Markdown: for each command what it does, and a table of its flags."""
  lines = [HEAD]
  for name, command in parser.parsers()[1].items():
    lines += [f"\n## apprentice {name}\n", command.description.strip()]
    lines += ["\n| flag | what it is |", "|---|---|"]
    lines += [f"| {' | '.join(_cells(action))} |" for action in command.arguments[1:]]  # no --help
  return "\n".join(lines) + "\n"


def _cells(action) -> tuple[str, str]:
  name = action.option_strings[-1] if action.option_strings else ""
  value = "" if action.nargs == "?" else action.metavar
  written = f"{name}={value}" if name and value else name or value
  return f"`{written}`".replace("|", "\\|"), action.help.replace("|", "\\|")


if __name__ == "__main__":
  PAGE.write_text(page())
