"""What a run says before it starts: what is trained, and about how long it takes."""

import pytest
from runs import scheme_config, tiny

from apprentice_jax.data.splits import open_splits
from apprentice_jax.training import forecast, recipes

# Multiply-adds of a forward pass of one digit through a ResNet-8 of 4, 8 and 16 channels, by hand:
# kernel side ** 2 * inputs * outputs * pixels of the result.
MACS = (
  9 * 1 * 4 * 64
  + 2 * 9 * 4 * 4 * 64
  + (9 * 4 * 8 + 9 * 8 * 8) * 16
  + (9 * 8 * 16 + 9 * 16 * 16) * 4
  + 16 * 10
)


@pytest.mark.parametrize(
  "scheme, first, teachers",
  [("baseline", [], 0), ("A", [], 3), ("B", ["teacher"], 1), ("C", ["teacher", "student"], 1)],
)
def test_stages(scheme, first, teachers):
  config = tiny(scheme=scheme, batch_size=64)
  config.recipe.teacher.epochs = 3.0
  *before, last = forecast.stages(config, open_splits(config.data)["train"])
  assert [stage.name for stage in before] == first
  assert [stage.macs for stage in before] == [3 * MACS] * len(first)
  assert last.macs == (3 + teachers) * MACS
  assert (
    last.steps == round(last.epochs * 1437 / 64)
    and last.epochs == recipes.student_recipe(config).epochs
  )
  for stage in before:
    assert stage.epochs == config.recipe[stage.name].epochs


def test_seconds_by_hand():
  stage = forecast.Stage("student", "", 1.0, 100, 10, 7_000_000, 20)
  wanted = 100 * 10 * 7e6 / (forecast.EFFICIENCY * 2e9) + 20 * forecast.COMPILATION
  assert forecast.seconds([stage, stage], 2e9) == pytest.approx(2 * wanted)


@pytest.mark.parametrize(
  "count, words",
  [(5, "a minute"), (89, "a minute"), (100, "2 minutes"), (7000, "117 minutes"), (7300, "2 hours")],
)
def test_durations(count, words):
  assert forecast.duration(count) == words


def test_the_note_comes_first_and_the_loss_is_explained():
  config = scheme_config("B", "")
  config.note = "sizes for a CPU."
  note, loss, line = forecast.lines(config, open_splits(config.data)["train"])
  assert note == "sizes for a CPU."
  assert "tau² times the distillation term" in loss and "not comparable" in loss
  assert line.startswith("training the teacher (") and ", then the student (" in line
  config.scheme, config.note = "baseline", ""
  (line,) = forecast.lines(config, open_splits(config.data)["train"])
  assert line.startswith("training the student (")


def test_an_own_network_gets_no_advice_on_ours():
  config = tiny()
  first, own = "Version 1.5 sizes.", "--config=c:student=resnet18 takes a larger student."
  config.note = f"{first} {own}"
  assert forecast.note(config) == [f"{first} {own}"]
  config.student.name = "mynet:make"
  assert forecast.note(config) == [first]
  config.note = own
  assert forecast.note(config) == []
  config.note = "no full stop"
  assert forecast.note(config) == ["no full stop"]
