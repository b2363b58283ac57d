"""The paper's training schemes, and their controls, as data.

Mishra & Marr, "Apprentice", ICLR 2018, https://arxiv.org/abs/1711.05852, sections 4.1 to 4.3.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Scheme:
  """A way to train an apprentice: its teacher, its start, its loss terms and its recipe.

  Attributes:
    teacher: None, "joint" (trains along, from scratch) or "fixed" (trained before; inference mode,
      nothing of it moves).
    pretrained_student: whether the student starts from its own trained full-precision weights
      instead of a random initialisation.
    recipe: "student" or "finetune": the part of config.recipe that the student trains by.
    distills: whether the config's alpha, beta and gamma apply; otherwise beta is 1 and there are no
      other terms.
  """

  teacher: str | None
  pretrained_student: bool
  recipe: str
  distills: bool

  def weights(self, alpha: float, beta: float, gamma: float) -> dict[str, float]:
    """The weights of the loss's terms under this scheme, from the configured ones."""
    if not self.distills:
      return {"alpha": 0.0, "beta": 1.0, "gamma": 0.0}
    # A fixed teacher's own cross-entropy is a constant.
    return {"alpha": alpha if self.teacher == "joint" else 0.0, "beta": beta, "gamma": gamma}


SCHEMES = {
  "baseline": Scheme(None, False, "student", False),
  "A": Scheme("joint", False, "student", True),
  "B": Scheme("fixed", False, "student", True),
  "C": Scheme("fixed", True, "finetune", True),
  # Scheme C without its teacher: separates distillation from a better start and schedule.
  "C-control": Scheme(None, True, "finetune", False),
}

# For a reader who sees the loss of one scheme beside that of another.
LOSS_WITH_A_TEACHER = (
  "The loss of schemes A, B and C contains tau² times the distillation term (tau: "
  "loss.temperature). It is not comparable with a loss without a teacher."
)
