"""Which runs read a field of the config: for studies, and for hints about settings without use."""

from apprentice_jax.config.fields import FIELDS, HEAD_BOUNDS
from apprentice_jax.distill.schemes import SCHEMES
from apprentice_jax.models.precision import FULL, Precision


def reads(field: str, kind: str, precision: str) -> bool:
  """Whether a run's result may depend on a field; an unknown field counts.

  A run reads the parts of its own training and of the full-precision networks that it starts from.
  Whether its images are streamed or resident is left open.

  Args:
    field: its name.
    kind: a scheme, or "teacher" or "student" where one of them trains alone in full precision.
    precision: of the run.
  """
  part = FIELDS[field].tags.part if field in FIELDS else ""
  scheme, bits = SCHEMES.get(kind), Precision.parse(precision)
  # A network that trains alone has no scheme: it reads its own part and what concerns every run.
  if part in ("", "streamed", "resident") or scheme is None:
    return part in ("", "streamed", "resident", kind)
  return {
    "student": True,
    "teacher": scheme.teacher is not None,
    "joint teacher": scheme.teacher == "joint",
    "fixed teacher": scheme.teacher == "fixed",
    "finetune": scheme.recipe == "finetune",
    "distillation": scheme.distills,
    "quantized": bits != Precision(),
    "quantized weights": bits.weights != FULL,
    "quantized activations": bits.activations != FULL,
  }[part]


def unread(config, fields: list[str]) -> list[str]:
  """One sentence for each kind of field that changes nothing in the config's run.

  Args:
    config: the run's.
    fields: names of fields that the user set.
  """
  of_part = lambda part: [f for f in fields if f in FIELDS and FIELDS[f].tags.part == part]
  said = []
  if config.data.image_size:
    unused, images = of_part("resident"), "streamed images"
  else:
    unused = of_part("streamed")
    images = "images that live on the device (config.data.image_size=0)"
  if unused:
    said.append(f"{_listed(unused)} nothing for {images}.")
  if unused := [f for f in fields if not _is_read(config, f)]:
    said.append(f"{_listed(unused)} nothing under scheme {config.scheme} at {config.precision}.")
  return said


def _is_read(config, field: str) -> bool:
  scheme, (group, _, leaf) = SCHEMES[config.scheme], field.rpartition(".")
  fixed, which = scheme.teacher == "fixed", group.removeprefix("recipe.")
  # The start of the run speaks of it.
  if field == "teacher.init":
    return True
  # A fixed teacher with a new head is fine-tuned first: see `training.recipes.recipe`.
  if fixed and config.teacher.head == "new" and which == "finetune" and leaf in HEAD_BOUNDS:
    return True
  # A network that is there already is not trained again, unless its head is new.
  trained_before = {"recipe.teacher": fixed, "recipe.student": scheme.pretrained_student}
  if trained_before.get(group) and config[which].init and config[which].head != "new":
    return False
  return reads(field, config.scheme, config.precision)


def _listed(fields: list[str]) -> str:
  *others, last = [f"config.{f}" for f in fields]
  return f"{', '.join(others)} and {last} change" if others else f"{last} changes"
