"""What a command takes and does not use: flags, and fields of the config that its scheme does not
read."""

from apprentice_jax.config import unread
from apprentice_jax.deploy import registry


def sentences(command: str, values, arguments: list[str]) -> list[str]:
  """One sentence for each kind of flag that changes nothing.

  Args:
    command: the command.
    values: its flags, from `arguments.parse`.
    arguments: as they were given.

  Returns:
    The sentences.
  """
  said = [
    f"--{name} changes nothing: {why}."
    for name, why in _flags(command, values)
    if values[name].present
  ]
  if command == "train" and values.config is not None:
    fields = [
      a.partition("=")[0].removeprefix("--config.") for a in arguments if a.startswith("--config.")
    ]
    said += unread(values.config, list(dict.fromkeys(fields)))
  return said


def _flags(command: str, values) -> list[tuple[str, str]]:
  """Flags, and why they change nothing."""
  if command == "study" and values.status:
    return [("config", "--status reads the study's own")]
  if command == "predict" and values.model:
    return [("data_dir", "an exported file needs no dataset")]
  if command == "export" and "form" not in registry.FORMATS[values.format]:
    return [("form", f"{values.format} files have one form")]
  return []
