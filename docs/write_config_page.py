"""Writes docs/config.md, the reference of the config's fields: python docs/write_config_page.py."""

import pathlib

from apprentice_jax.config import FIELDS

PAGE = pathlib.Path(__file__).with_name("config.md")
READERS = {
  "": "all",
  "resident": "images on the device",
  "streamed": "streamed images",
  "joint teacher": "scheme A",
  "fixed teacher": "schemes B, C",
  "teacher": "a teacher",
  "student": "a student",
  "finetune": "schemes C, C-control",
  "distillation": "schemes A, B, C",
}
HEAD = """# The fields of the config

`--config.FIELD=VALUE` sets a field, after `--config=FILE`. A list is written as
`--config.study.seeds="(1, 2)"`. The column *read by* says which runs a field concerns. A field
marked *free* may change between two starts of a run, since the result stays the same. A field
marked *study* has one value for a whole study.

This page is made from `apprentice_jax/config/fields.py` by `python docs/write_config_page.py`.
"""


def page() -> str:
  """The page as Markdown: a table for each group of fields."""
  groups = {}
  for field in FIELDS.values():
    groups.setdefault(field.path.rpartition(".")[0], []).append(field)
  lines = [HEAD]
  for group, fields in groups.items():
    lines += [f"\n## {group or 'The run'}\n", "| field | default | what it is | read by | marks |"]
    lines += ["|---|---|---|---|---|"]
    lines += [f"| {' | '.join(_cells(field))} |" for field in fields]
  return "\n".join(lines) + "\n"


def _cells(field) -> list[str]:
  meaning = field.help
  if field.choices:
    meaning += " One of " + ", ".join(f"`{c}`" if c else "empty" for c in field.choices) + "."
  if field.least is not None:
    meaning += f" At least {field.least}."
  marks = ["free"] * field.tags.free + ["study"] * bool(field.tags.shared)
  default = f"`{field.default!r}`" if field.default != "" else "empty"
  readers = READERS.get(field.tags.part, field.tags.part)
  return [f"`{field.path}`", default, meaning.replace("|", "\\|"), readers, ", ".join(marks)]


if __name__ == "__main__":
  PAGE.write_text(page())
