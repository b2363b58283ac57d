"""What cells of a study make of networks that are given."""

from apprentice_jax import config as configs
from apprentice_jax.study import cells
from apprentice_jax.study.cells import Cell
from apprentice_jax.training import recipes


def given(**changes):
  config = configs.base()
  config.update_from_flattened_dict(
    {
      "data.name": "digits",
      "teacher.init": "T",
      "student.init": "S",
      "recipe.teacher.epochs": 20.0,
      "recipe.finetune.epochs": 5.0,
      **{k.replace("__", "."): v for k, v in changes.items()},
    }
  )
  return config


def starts(config, kind):
  """(init, head) of the teacher and of the student in a cell's config."""
  found = cells.cell_config(config, Cell(kind, "8A,2W", 0))
  return (found.teacher.init, found.teacher.head), (found.student.init, found.student.head)


def test_a_given_network_stands_for_its_cell():
  config = given(teacher__head="match", student__classes="imagenet")
  assert cells.own_network(config, "teacher") == "T"
  assert cells.own_network(config, "student") == "S"
  # Scored as it is given: its outputs are put in order.
  assert starts(config, "teacher") == (("", ""), ("T", "match"))
  assert starts(config, "B") == (("T", "match"), ("", ""))
  assert starts(config, "C") == (("T", "match"), ("S", ""))
  assert starts(config, "A") == starts(config, "baseline") == (("", ""), ("", ""))
  assert cells.cell_config(config, Cell("C", "8A,2W", 0)).student.classes == "imagenet"


def test_a_new_head_is_trained_in_its_cell():
  config = given(teacher__head="new", student__head="new")
  for kind, path in (("teacher", "T"), ("student", "S")):
    assert cells.own_network(config, kind) == ""
    found = cells.cell_config(config, Cell(kind, "32A,32W", 0))
    assert (found.student.init, found.student.head, found.teacher.init) == (path, "new", "")
    assert (found.recipe.student.epochs, found.recipe.student.learning_rate) == (5.0, 0.01)
  assert recipes.recipe(config, "teacher").momentum == config.recipe.teacher.momentum
  assert recipes.recipe(given(), "teacher") == config.recipe.teacher
