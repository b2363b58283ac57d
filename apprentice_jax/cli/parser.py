"""How the command's flags are read, and the sentences about wrong ones; nothing imports jax here.

A flag is ``--name=value`` or ``--name value``, with dashes or underscores in its name. A flag that
is on or off stands alone. Fields of a config, ``--config.a.b=value``, are read by `config_file`.
"""

import argparse
import difflib
import functools
import importlib

import apprentice_jax
from apprentice_jax.cli import bench, flags
from apprentice_jax.errors import ConfigError, nearest

# In the order in which the help lists them.
_NAMES = "train eval export predict models study report config prepare plan bench".split()
COMMANDS = {name: importlib.import_module(f"apprentice_jax.cli.{name}") for name in _NAMES}
PATHS = ("model", "workdir", "data_dir", "out", "config", "images")  # ~ is expanded in these
ALIASES = {"lr": "learning_rate", "wd": "weight_decay"}  # other programs' names of fields
ABOUT = """Trains low-precision networks that keep their accuracy, and exports them."""
NOTES = """\
The last value of a repeated flag counts; --config itself is given once. ~ in a path is expanded.
`apprentice COMMAND --help` says what each flag of a command is for."""


class Parser(argparse.ArgumentParser):
  """A parser that knows its flags.

  Attributes:
    arguments: argparse's actions, in their order.
  """

  def __init__(self, **options):
    self.arguments: list[argparse.Action] = []
    super().__init__(
      allow_abbrev=False,
      exit_on_error=False,
      formatter_class=argparse.RawDescriptionHelpFormatter,
      **options,
    )

  def add_argument(self, *names, **options):
    default = options.setdefault("default", "")
    if default and default != argparse.SUPPRESS:
      options["help"] += f"; default: {default}"
    self.arguments.append(super().add_argument(*names, **options))

  def flags(self) -> dict[str, argparse.Action]:
    """The flags by their names, such as "--name"."""
    return {name: action for action in self.arguments for name in action.option_strings}

  def takes_words(self) -> bool:
    """Whether it takes arguments that are no flags."""
    return not all(action.option_strings for action in self.arguments)


def parsers() -> tuple[Parser, dict[str, Parser]]:
  """The parser of the command, and those of its commands by their names."""
  top = Parser(prog="apprentice", description=ABOUT, epilog=NOTES)
  top.add_argument("--version", action="store_true", help="print the version")
  commands = top.add_subparsers(title="commands", metavar="COMMAND")
  for name, module in COMMANDS.items():
    parser = commands.add_parser(name, help=module.HELP, description=module.__doc__)
    module.flags(parser)
    parser.set_defaults(run=module.run)
  return top, commands.choices


def help_text(argv: list[str]) -> str | None:
  """The help or version that the arguments ask for; None if they ask for neither."""
  if argv == ["--version"]:
    return f"apprentice {apprentice_jax.__version__}"
  if argv and argv[0] != "help" and not {"-h", "--help"} & set(argv):
    return None
  # Help is there wherever its flag stands: flags before it may be wrong.
  top, commands = parsers()
  names = [name for name in argv if not name.startswith("-")]
  if names[:1] == ["help"]:
    del names[0]
  parser = commands[_command(names[0])] if names else top
  return parser.format_help().rstrip()


def parse(argv: list[str]) -> argparse.Namespace:
  """Reads a command and its flags.

  Args:
    argv: the command's name and its arguments.

  Returns:
    The values by the flags' names, and ``run``, which does the command; ``names``, the flags given;
    ``fields``, those of the config, as ``--config.a.b=value``; ``repeated``, a sentence for each
    flag that was given with several values, the last of which counts.

  Raises:
    ConfigError: one of them is wrong.
  """
  command = _command(argv[0])
  parser = parsers()[1][command]
  pairs, words = _pairs(command, parser, argv[1:])
  # argparse sees each flag once: its own rules for repeated flags differ by type.
  last = dict(pairs)
  own = [f"{name}={value}" for name, value in last.items() if not _is_field(name)]
  try:
    given = parser.parse_args([*own, "--", *words] if words else own)
  except argparse.ArgumentError as error:
    value = last[error.argument_name]
    raise ConfigError(f"flag {error.argument_name}={value}: {error.message}") from None
  given.names = [name.removeprefix("--") for name in last]
  given.fields = [_spelled(name, value) for name, value in last.items() if _is_field(name)]
  given.repeated = [
    f"{name} is given more than once: the last one counts, {_spelled(name, last[name])}."
    for name in sorted({name for name, value in pairs if value != last[name]})
  ]
  _expand(given)
  return given


def _command(name: str) -> str:
  if name not in COMMANDS:
    raise ConfigError(f"command {name!r} does not exist: {nearest(name, COMMANDS)}")
  return name


def _pairs(command: str, parser: Parser, arguments: list[str]):
  """The flags as pairs of name and value, in their order, and the arguments that are no flags.

  The value of a config's field that stands alone is None.
  """
  pairs, words, left = [], [], list(arguments)
  while left:
    name, equals, value = (word := left.pop(0)).partition("=")
    if not name.startswith("--"):
      if not parser.takes_words():
        raise ConfigError(f"unexpected argument {word!r}: flags are written --name=value.")
      words.append(word)
      continue
    # --data-dir is --data_dir, as in many other programs.
    if not _is_field(name):
      name = "--" + name[2:].replace("-", "_")
    _check_name(command, parser, name, value)
    if not equals:
      value = _value(parser, name, left)
    pairs.append((name, value))
  names = [name for name, _ in pairs]
  if names.count("--config") > 1:
    raise ConfigError("--config is given more than once.")
  for name in filter(_is_field, names):
    if "--config" not in names:
      raise ConfigError(f"{name} changes a config: give one with --config=FILE.")
  return pairs, words


def _value(parser: Parser, name: str, left: list[str]) -> str | None:
  """The value of a flag without an equals sign: the argument after it, which is taken."""
  if name in parser.flags() and parser.flags()[name].type is flags.switch:
    return "true"
  if left and not left[0].startswith("--"):
    return left.pop(0)
  if _is_field(name):
    return None
  raise ConfigError(f"Missing value for flag {name}: write {name}=VALUE.")


def _check_name(command: str, parser: Parser, name: str, value: str):
  takes_config = "--config" in parser.flags()
  if name in parser.flags() or takes_config and name in _fields():
    return
  from apprentice_jax.config.saved import REMOVED

  # From the most to the least that can be said: it has gone, has moved, belongs to others, is new.
  if (field := name.removeprefix("--config.")) in REMOVED:
    raise ConfigError(f"flag {name} has gone: {REMOVED[field][1]}.")
  if command == "bench" and name == "--what":
    raise ConfigError(bench.moved(value))
  others = {flag for other in parsers()[1].values() for flag in other.flags()}
  if name in others or _is_field(name) and not takes_config:
    raise ConfigError(f"{command} takes no {name}: see apprentice --help.")
  raise ConfigError(f"flag {name} does not exist: {_meant(name, parser)}")


def _meant(name: str, parser: Parser) -> str:
  """A hint at the flag that was meant by a wrong one, a field of the config among them.

  The end of a field's name is enough: ``--epochs`` means those of the student.
  """
  own = [flag for flag in parser.flags() if flag not in ("-h", "--help")]
  names = {} if _is_field(name) else {flag.removeprefix("--"): flag for flag in own}
  # Every end of a field's name stands for the first field that has it, a student's before others.
  fields = _fields() if "--config" in parser.flags() else ()
  for field in sorted(fields, key=lambda field: "student" not in field):
    parts = field.removeprefix("--config.").split(".")
    for i in range(len(parts)):
      names.setdefault(".".join(parts[i:]), field)
  start, dot, last = name.removeprefix("--").removeprefix("config.").rpartition(".")
  wanted = start + dot + ALIASES.get(last, last)
  if close := difflib.get_close_matches(wanted, names, n=1):
    return f"did you mean {names[close[0]]!r}?"
  return "`apprentice config` lists the fields." if _is_field(name) else nearest(name, own)


@functools.cache
def _fields() -> dict[str, None]:
  """The flags of the config's fields, in their order."""
  from apprentice_jax.config import FIELDS

  return dict.fromkeys(f"--config.{field}" for field in FIELDS)


def _is_field(name: str) -> bool:
  return name.startswith("--config.")


def _spelled(name: str, value: str | None) -> str:
  return name if value is None else f"{name}={value}"


def _expand(given: argparse.Namespace):
  """Replaces a leading ``~`` in paths; a workdir may be several, with commas between them."""
  from apprentice_jax.config import expanded

  for name in PATHS:
    value = getattr(given, name, None)
    if isinstance(value, list):
      setattr(given, name, list(map(expanded, value)))
    elif value and name == "workdir":
      given.workdir = ",".join(map(expanded, value.split(",")))
    elif value:
      setattr(given, name, expanded(value))
