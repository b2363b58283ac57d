"""What a command takes and does not use: flags, and fields of the config that its scheme does not
read."""

from apprentice_jax.deploy import formats
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.study import grid

_BOUNDS = (
  "epochs",
  "warmup_epochs",
  "learning_rate",
)  # of recipe.finetune, which bound those of a new head


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
    said += _fields(values.config, list(dict.fromkeys(fields)))
  return said


def _flags(command: str, values) -> list[tuple[str, str]]:
  """Flags, and why they change nothing."""
  if command == "study" and values.status:
    return [("config", "--status reads the study's own")]
  if command == "predict" and values.model:
    return [("data_dir", "an exported file needs no dataset")]
  if command == "export" and "form" not in formats.OPTIONS[values.format]:
    return [("form", f"{values.format} files have one form")]
  return []


def _fields(config, fields: list[str]) -> list[str]:
  """The fields, of those that were set for a run, that its scheme does not read."""
  own = config.data
  of_data = (
    ("resize", "crop_area", "crop_ratio", "threads", "workers", "unreadable")
    if not own.image_size
    else ("pad", "augmentation_epochs")
  )
  said = []
  if unused := [f for f in fields if f in [f"data.{name}" for name in of_data]]:
    what = (
      "streamed images"
      if own.image_size
      else "images that live on the device (config.data.image_size=0)"
    )
    said.append(f"{_listed(unused)} nothing for {what}.")
  if unused := _unread(config, fields):
    said.append(f"{_listed(unused)} nothing under scheme {config.scheme} at {config.precision}.")
  return said


def _unread(config, fields: list[str]) -> list[str]:
  read = dict(grid.restricted(tuple((f, None) for f in fields), config.scheme, config.precision))
  unread = [
    f for f in fields if f not in read and f != "teacher.init"
  ]  # which is spoken of elsewhere
  scheme = SCHEMES[config.scheme]
  if (
    scheme.teacher == "fixed" and config.teacher.head == "new"
  ):  # trained first, see `training.start.recipe`
    unread = [f for f in unread if f not in [f"recipe.finetune.{name}" for name in _BOUNDS]]
  for which, needed in (
    ("teacher", scheme.teacher == "fixed"),
    ("student", scheme.pretrained_student),
  ):
    trained = not config[which].init or config[which].get("head") == "new"
    if needed and not trained and which != scheme.recipe:
      unread += [f for f in fields if f.startswith(f"recipe.{which}.")]
  return list(dict.fromkeys(unread))


def _listed(fields: list[str]) -> str:
  names = [f"config.{f}" for f in fields]
  return (
    f"{names[0]} changes" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} change"
  )
