"""A trained network on other classes: refused, its outputs put in order, or with a new head that is
trained first."""

import json
import shutil

import numpy as np
import pytest
from runs import assert_same_run, final_state, named_torch, scheme_config, tiny
from safetensors.numpy import save_file

from apprentice_jax.data.splits import open_splits
from apprentice_jax.errors import ConfigError
from apprentice_jax.training import api, networks
from apprentice_jax.training.records import read_records
from apprentice_jax.training.workdir import workdir_config

ORDER = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]  # of the digits, in a network's outputs


@pytest.fixture
def places(pretrained, tmp_path):
  """Of the trained digits: "file", "shuffled", files by PyTorch's names; "names", the outputs' of
  the latter; "workdir", of a run whose classes came in another order."""
  network, _ = networks.read(str(pretrained))
  result = {
    "file": named_torch(network, tmp_path / "net.safetensors"),
    "shuffled": named_torch(network, tmp_path / "shuffled.safetensors", ORDER),
    "names": str(tmp_path / "names.txt"),
    "workdir": str(tmp_path / "workdir"),
  }
  (tmp_path / "names.txt").write_text("\n".join(map(str, ORDER)))
  shutil.copytree(pretrained, result["workdir"])
  (tmp_path / "workdir" / "classes.json").write_text(json.dumps(list(map(str, ORDER))))
  return result


def test_a_teacher_in_another_order_is_refused_or_put_in_order(
  places, pretrained, unbroken, tmp_path, capsys
):
  config = scheme_config("B", places["shuffled"])
  config.teacher.classes = places["names"]
  with pytest.raises(
    ConfigError,
    match="shuffled.safetensors has the classes 3, 1, 4, 0, 5, 9, 2, 6, 8, 7, and the data "
    "have 0, 1, 2, 3, 4, 5, 6, 7, 8, 9: --config.teacher.head=match takes",
  ):
    api.train(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()
  config.teacher.head = "match"
  api.train(config, tmp_path / "run")
  assert_same_run(
    tmp_path / "run", unbroken("B")
  )  # as with the workdir itself: the same curve, bit for bit
  assert "its outputs in the order of the data's classes" in capsys.readouterr().out


@pytest.mark.parametrize(
  "scheme, which", [("B", "teacher"), ("A", "teacher"), ("C", "student"), ("B", "student")]
)
def test_a_workdir_in_another_order_is_refused_or_put_in_order(
  scheme, which, places, pretrained, tmp_path
):
  config = tiny(scheme=scheme)
  config.teacher.init = config.student.init = str(pretrained)
  config[which].init = places["workdir"]
  with pytest.raises(
    ConfigError, match=rf"/workdir has the classes 3, 1, .* --config.{which}.head=match"
  ):
    api.train(config, tmp_path / "run")
  config[which].head = "match"
  data = open_splits(config.data)["train"]
  found, original = (
    networks.trained(config, which, places["workdir"], data),
    networks.read(str(pretrained))[0],
  )
  # The output of class c, which is where ORDER has it.
  np.testing.assert_array_equal(
    np.asarray(found.params["head"]["kernel"])[:, ORDER], original.params["head"]["kernel"]
  )
  np.testing.assert_array_equal(
    np.asarray(found.params["head"]["bias"])[ORDER], original.params["head"]["bias"]
  )


def test_eval_takes_the_outputs_of_the_same_classes(places, pretrained):
  config = tiny(precision="32A,32W")
  right = api.evaluate_network(config, str(pretrained))
  with pytest.raises(ConfigError, match="`eval --model` with --config.student.head=match"):
    api.evaluate_network(config, places["workdir"])
  assert (
    api.evaluate_network(config, places["shuffled"])["accuracy"] < right["accuracy"]
  )  # nothing is known
  config.student.head, config.student.classes, config.student.name = "match", places["names"], ""
  assert api.evaluate_network(config, places["shuffled"]) == right
  config.student.head = "new"
  with pytest.raises(ConfigError, match="would have a head that is not trained"):
    api.evaluate_network(config, places["shuffled"])


def wide(network):
  """A network with outputs for 12 classes of which nothing is known."""
  head = {"kernel": np.ones((16, 12), np.float32), "bias": np.zeros(12, np.float32)}
  return network._replace(params={**network.params, "head": head})


def test_a_teacher_with_a_new_head_is_trained_first(pretrained, tmp_path, capsys):
  file = named_torch(
    wide(networks.read(str(pretrained))[0]), tmp_path / "wide.safetensors", range(12)
  )
  config = tiny(
    scheme="B",
    teacher__init=file,
    teacher__name="",
    recipe__student__epochs=0.3,
    recipe__finetune__epochs=0.6,
    recipe__finetune__warmup_epochs=0.1,
    recipe__teacher__learning_rate=0.05,
  )
  with pytest.raises(
    ConfigError,
    match=r"for 12 classes, not 10 .* use --config.teacher.head=match or "
    r"--config.teacher.head=new\.",
  ):
    api.train(config, tmp_path / "run")
  config.teacher.head = "new"
  api.train(config, tmp_path / "run")
  said = capsys.readouterr().out
  assert (
    f"the teacher starts from {file} with a new head and is trained first, in "
    f"{tmp_path}/run/teacher: 0.6 epochs at a "
    "learning rate of 0.01, the smaller values of recipe.teacher and recipe.finetune; it sees "
    "images normalised "
    "by mean (0.5,) and std (0.5,) (config.teacher_input)."
  ) in said
  own = workdir_config(tmp_path / "run" / "teacher")
  recipe = own.recipe.student
  assert (recipe.epochs, recipe.learning_rate, recipe.warmup_epochs) == (0.6, 0.01, 0.1)
  assert (own.student.name, own.student.width, own.student.init, own.teacher.init) == (
    "resnet8",
    0.25,
    file,
    "",
  )
  assert api.result(tmp_path / "run" / "teacher")["steps"] == round(0.6 * 1437 / 64)
  # It starts from the file but for its head, which is the seed's.
  data = open_splits(own.data)["train"]
  state = networks.initial_state(own, networks.settings(own, 10), data, "", file)
  original = networks.read(str(pretrained))[0]
  np.testing.assert_array_equal(
    state.student.params["stem"]["kernel"], original.params["stem"]["kernel"]
  )
  assert state.student.params["head"]["kernel"].shape == (16, 10)
  own.seed = 1
  other = networks.initial_state(own, networks.settings(own, 10), data, "", file)
  assert np.any(other.student.params["head"]["kernel"] != state.student.params["head"]["kernel"])
  assert api.train(config, tmp_path / "run")["steps"] == round(0.3 * 1437 / 64)  # finished
  assert "trained first" not in capsys.readouterr().out


def test_the_joint_teacher_starts_from_the_one_it_is_given(pretrained, tmp_path, capsys):
  config = tiny(
    scheme="A",
    teacher__init=str(pretrained),
    recipe__student__epochs=0.0,
    recipe__student__warmup_epochs=0.0,
  )
  api.train(config, tmp_path)
  _, state = final_state(tmp_path)
  np.testing.assert_array_equal(
    state["['teacher']['params']['stem']['kernel']"],
    networks.read(str(pretrained))[0].params["stem"]["kernel"],
  )
  assert (
    f"the teacher starts from {pretrained}, and trains beside the student by recipe.teacher."
    in capsys.readouterr().out
  )


def test_a_teacher_that_is_not_used_is_said_to_be(pretrained, tmp_path, capsys):
  config = tiny(
    scheme="baseline",
    teacher__init=str(pretrained),
    recipe__student__epochs=0.0,
    recipe__student__warmup_epochs=0.0,
  )
  api.train(config, tmp_path)
  assert f"{pretrained} is not used: scheme baseline has no teacher." in capsys.readouterr().out


def test_a_student_with_a_new_head_is_fine_tuned(pretrained, tmp_path):
  config = scheme_config("C", pretrained)
  config.student.head, config.recipe.finetune.epochs = "new", 0.0
  config.recipe.finetune.warmup_epochs = 0.0
  api.train(config, tmp_path)
  _, state = final_state(tmp_path)
  original = networks.read(str(pretrained))[0].params
  np.testing.assert_array_equal(
    state["['student']['params']['stem']['kernel']"], original["stem"]["kernel"]
  )
  # Of the same seed the new head is still another than the one that the network began with, which
  # it resembles.
  alike = np.corrcoef(
    state["['student']['params']['head']['kernel']"].ravel(), original["head"]["kernel"].ravel()
  )
  assert abs(alike[0, 1]) < 0.4


def test_names_and_heads_need_a_network(tmp_path):
  for changes, sentence in (
    (
      dict(student__name=""),
      "config.student.name is empty: name a network, such as resnet20, or give a trained one with "
      "config.student.init.",
    ),
    (
      dict(teacher__head="match"),
      "config.teacher.head is 'match', and config.teacher.init names no network to take.",
    ),
    (
      dict(student__head="match"),
      "config.student.head is 'match', and config.student.init names no network to take.",
    ),
    (dict(teacher__head="nwe"), "config.teacher.head 'nwe' does not exist: did you mean 'new'?"),
  ):
    with pytest.raises(ConfigError) as error:
      api.train(tiny(**changes), tmp_path / "run")
    assert str(error.value).startswith(sentence) and not (tmp_path / "run").exists()
  # A network from scratch has a new head as it is, and a teacher without a name is the student's.
  found = networks.named(tiny(teacher__name="", teacher__head="new", student__name="resnet14"))
  assert (found.teacher.name, found.teacher.head) == ("resnet14", "")


def test_an_empty_name_is_that_of_the_network(pretrained, places):
  config = tiny(
    scheme="C",
    teacher__init=places["file"],
    teacher__name="",
    teacher__width=1.0,
    student__name="",
    student__init=str(pretrained),
  )
  found = networks.named(config)
  for network in (found.teacher, found.student):
    assert (network.name, network.width, network.shortcut) == ("resnet8", 0.25, "pad")


def test_a_network_that_is_none_of_ours_has_no_name(tmp_path):
  save_file({"conv1.weight": np.ones((4, 1, 3, 3), np.float32)}, tmp_path / "x.safetensors")
  with pytest.raises(
    ConfigError,
    match="x.safetensors holds no ResNet of known sizes: give one of our networks, and its "
    "name as config.teacher.name",
  ):
    networks.named(tiny(teacher__init=str(tmp_path / "x.safetensors"), teacher__name=""))


def test_a_student_with_a_new_head_trains_by_the_smaller_recipe(pretrained, tmp_path):
  config = tiny(scheme="baseline", student__init=str(pretrained), student__head="new")
  config.recipe.student.update(epochs=1.2, learning_rate=0.2, warmup_epochs=0.1)
  config.recipe.finetune.update(epochs=0.5, learning_rate=0.02, warmup_epochs=0.0)
  assert api.train(config, tmp_path)["steps"] == round(0.5 * 1437 / 64)
  assert max(r.get("learning_rate", 0) for r in read_records(tmp_path)) <= 0.02


def test_the_student_of_scheme_c_with_a_new_head_is_trained_first(pretrained, tmp_path):
  config = scheme_config("C", pretrained)
  config.student.head, config.recipe.finetune.epochs = "new", 0.3
  config.recipe.finetune.warmup_epochs = 0.0
  api.train(config, tmp_path)
  assert workdir_config(tmp_path / "student").precision == "32A,32W"
  first = networks.read(str(tmp_path / "student"))[0].params["head"]["kernel"]
  original = networks.read(str(pretrained))[0].params["head"]["kernel"]
  last = networks.read(str(tmp_path))[0].params["head"]["kernel"]
  likeness = lambda other: np.corrcoef(last.ravel(), other.ravel())[0, 1]
  assert likeness(first) > 0.9 > likeness(original)
