"""Runs on the digits: what they leave, what they start from, and what is refused."""

import json
import shutil

import jax
import numpy as np
import pytest
from runs import STEPS, TIMING, final_state, scheme_config, tiny

import apprentice_jax
from apprentice_jax.data import sources
from apprentice_jax.data.splits import open_splits
from apprentice_jax.errors import ConfigError, NonFiniteLoss
from apprentice_jax.training import api, dispatch, networks, run
from apprentice_jax.training.dispatch import NOBODY, program
from apprentice_jax.training.records import read_records
from apprentice_jax.training.workdir import workdir_config


def test_what_a_checkpoint_holds(unbroken):
  for scheme, names in (("A", {"student", "teacher"}), ("B", {"student"})):
    _, state = final_state(unbroken(scheme))
    parts = {tuple(name.strip("[']").split("']['")[:2]) for name in state}
    for network in names:
      assert {(network, p) for p in ("params", "batch_stats")} <= parts
      momentum = [v for k, v in state.items() if k.startswith(f"['{network}']['opt_state']")]
      assert momentum and all(np.any(m) for m in momentum)
    assert {p[0] for p in parts} == names  # a fixed teacher is not written again and again


def test_a_finished_run_is_not_trained_again(unbroken, pretrained, monkeypatch):
  workdir = unbroken("B")
  monkeypatch.setattr(api, "Run", None)  # whatever would be started fails
  assert api.train(scheme_config("B", pretrained), workdir) == api.result(workdir)


def test_rates_where_the_next_steps_are_under_way(tmp_path, monkeypatch):
  """Metrics are then read late, the last two chunks' together: neither's rate is the time between
  two readings."""
  chosen = dispatch.dispatch
  asynchronous = lambda settings, devices: chosen(settings, devices)._replace(
    steps=settings.steps_per_dispatch, waits=NOBODY
  )
  monkeypatch.setattr(dispatch, "dispatch", asynchronous)
  program.cache_clear()
  try:
    result = api.train(tiny(scheme="baseline", checkpoint__every_epochs=0.0), tmp_path)
  finally:
    program.cache_clear()
  records = [r for r in read_records(tmp_path) if "loss" in r]
  assert [r["step"] for r in records] == [5, 10, 15, 20, 25, 27]
  rates = [r["images_per_second"] for r in records]
  assert rates[-1] == rates[-2]
  seconds = sum(64 * n / rate for n, rate in zip((5, 5, 5, 5, 5, 2), rates))
  assert 0 < seconds < result["seconds"]


def test_what_a_run_leaves(unbroken):
  workdir, expected = unbroken("A"), {"config.json", "metrics.jsonl", "result.json"}
  assert expected <= {p.name for p in workdir.iterdir()}
  assert list((workdir / "tensorboard").glob("*tfevents*"))
  records = read_records(workdir)
  assert [r["step"] for r in records] == [5, 10, 15, 20, 25, 27, 27]
  for record in records[:-1]:
    assert {
      "loss",
      "student_ce",
      "teacher_ce",
      "distill",
      "student_accuracy",
      "teacher_accuracy",
      "epoch",
      "learning_rate",
      *TIMING,
    } <= record.keys()
    np.testing.assert_allclose(
      record["loss"],
      record["teacher_ce"] + 0.5 * (record["student_ce"] + record["distill"]),
      rtol=1e-5,
    )
    np.testing.assert_allclose(record["epoch"], record["step"] * 64 / 1437)
  assert records[5]["loss"] < records[0]["loss"]  # it learns
  result = api.result(workdir)
  assert (result["steps"], result["examples"]) == (STEPS, STEPS * 64)
  assert result["test_count"] == result["test_teacher_count"] == 360


def test_evaluation_needs_the_workdir_alone(unbroken):
  workdir = unbroken("C")
  result, found = api.result(workdir), apprentice_jax.evaluate(workdir)
  assert found == {k: result[f"test_{k}"] for k in ("accuracy", "loss", "count")}
  assert found["count"] == 360 and jax.device_count() == 8
  assert apprentice_jax.evaluate(workdir, "train")["count"] == 1437
  with pytest.raises(ConfigError, match="there is no validation split"):
    apprentice_jax.evaluate(workdir, "validation")


def test_accuracy_is_that_of_the_restored_network(unbroken):
  # Without the evaluator: one batch, NumPy, the test images as they are.
  workdir = unbroken("C")
  config = workdir_config(workdir)
  data = sources.load("digits", "test")
  model = networks.model(config, "student", 10)
  network = networks.load(str(workdir), model, (8, 8, 1))
  logits = jax.jit(model.apply, static_argnums=2)(
    {"params": network.params, "batch_stats": network.batch_stats},
    (np.float32(data.images) / 255 - 0.5) / 0.5,
    False,
  )
  accuracy = np.mean(np.argmax(logits, -1) == data.labels)
  # Of 360, an image on the edge between two classes may fall either way.
  assert abs(accuracy - api.result(workdir)["test_accuracy"]) < 1.5 / 360
  assert accuracy > 0.2


def test_another_config_is_refused_naming_what_differs(unbroken, pretrained):
  config = scheme_config("B", pretrained)
  config.seed, config.recipe.student.learning_rate = 7, 0.2
  with pytest.raises(ConfigError) as error:
    api.train(config, unbroken("B"))
  assert "config.seed (0 there, 7 now)" in str(error.value)
  assert "config.recipe.student.learning_rate (0.1 there, 0.2 now)" in str(error.value)
  assert "config.scheme" not in str(error.value)


def test_what_does_not_change_the_result_may_change(unbroken, pretrained):
  config = scheme_config("B", pretrained)
  config.checkpoint.keep, config.eval.batch_size, config.study.seeds = 5, 100, (7,)
  assert api.train(config, unbroken("B")) == api.result(unbroken("B"))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(
  pretrained, tmp_path, monkeypatch
):
  config = tiny(scheme="baseline", precision="32A,32W")
  rates = run.learning_rates

  def explode(*args):  # in step 13 the loss is that of parameters beyond float32
    changed = rates(*args).copy()
    changed[11] = 1e38
    return changed

  monkeypatch.setattr(run, "learning_rates", explode)
  with pytest.raises(NonFiniteLoss, match="at step 13"):
    api.train(config, tmp_path)
  step, state = final_state(tmp_path)
  assert step == 10 and all(np.isfinite(leaf).all() for leaf in state.values())
  assert [r["step"] for r in read_records(tmp_path)] == [5, 10]
  monkeypatch.undo()
  assert api.train(config, tmp_path)["steps"] == STEPS  # goes on from there


@pytest.mark.parametrize(
  "field, value, difference", [("width", 0.5, "kernel"), ("name", "resnet14", "missing")]
)
def test_a_teacher_of_another_architecture_is_refused(
  field, value, difference, pretrained, tmp_path
):
  config = scheme_config("B", pretrained)
  config.teacher[field] = value
  with pytest.raises(ConfigError) as error:
    api.train(config, tmp_path)
  sentence = str(error.value)
  assert sentence.startswith(f"{pretrained} holds another network: ") and difference in sentence
  assert "\n" not in sentence


def test_a_teacher_of_other_classes_is_refused(pretrained):
  config = scheme_config("B", pretrained)
  with pytest.raises(ConfigError, match=r"holds another network: .*head/(kernel|bias) is \(.*10"):
    networks.load(str(pretrained), networks.model(config, "teacher", 7), (8, 8, 1))


@pytest.mark.parametrize(
  "changes, sentence",
  [
    (dict(teacher__init="/nowhere"), "/nowhere is neither a workdir nor a checkpoint file."),
    (dict(scheme="C", student__init="/nowhere"), "/nowhere is neither a workdir nor"),
    (dict(scheme="C", teacher__init="/nowhere"), "/nowhere is neither a workdir nor"),
    (dict(recipe__teacher__epochs=0.01), "0.01 epochs of 1437 examples are less than a step"),
    (dict(batch_size=60), "config.batch_size is 60: it must be a multiple of the 8 devices."),
    (dict(batch_size=2000), "config.batch_size is 2000, but digits has only 1437"),
    (dict(data__validation=1437), "config.data.validation is 1437"),
    (dict(data__mean=(0.5,) * 3, data__std=(0.5,) * 3), "config.data.mean has 3 values"),
    (dict(data__name="digit"), "'digits'"),
    (dict(data__test_split="tset"), "'tset'"),
  ],
)
def test_what_does_not_fit_the_data_is_refused(changes, sentence, tmp_path):
  with pytest.raises(ValueError) as error:
    api.train(tiny(**changes), tmp_path)
  assert sentence in str(error.value)
  # Before any long work, not at the end of it.
  assert not read_records(tmp_path) and not (tmp_path / "teacher" / "metrics.jsonl").exists()


def test_an_unfinished_teacher_is_refused(pretrained, tmp_path):
  begun = tmp_path / "begun"
  shutil.copytree(pretrained, begun)
  (begun / "result.json").unlink()
  with pytest.raises(ConfigError, match="has not finished training"):
    api.train(tiny(scheme="B", teacher__init=str(begun)), tmp_path / "run")


def test_a_network_of_another_precision_is_not_scored(pretrained):
  with pytest.raises(ConfigError, match="it holds a network of another precision"):
    api.evaluate_network(tiny(precision="8A,2W"), str(pretrained))


def test_a_workdir_without_checkpoint_is_no_teacher(pretrained, tmp_path):
  (tmp_path / "config.json").write_text((pretrained / "config.json").read_text())
  with pytest.raises(ConfigError, match="has no checkpoint yet"):
    apprentice_jax.evaluate(tmp_path)
  with pytest.raises(ConfigError, match="is not a workdir"):
    apprentice_jax.evaluate(tmp_path / "nothing")


def test_scheme_b_trains_the_teacher_it_is_not_given(tmp_path):
  config = tiny(scheme="B", recipe__student__epochs=0.3, recipe__teacher__epochs=0.7, seed=3)
  assert api.train(config, tmp_path)["steps"] == round(0.3 * 1437 / 64)
  teacher = tmp_path / "teacher"
  assert api.result(teacher)["steps"] == round(0.7 * 1437 / 64)
  facts = json.loads((teacher / "config.json").read_text())
  assert (facts["scheme"], facts["precision"], facts["seed"]) == ("baseline", "32A,32W", 3)
  assert apprentice_jax.evaluate(teacher)["accuracy"] == api.result(teacher)["test_accuracy"]
  assert not (tmp_path / "student").exists()


def test_scheme_c_starts_from_the_given_student_and_its_statistics(unbroken, pretrained):
  config = scheme_config("C", pretrained)
  built = networks.settings(config, 10)
  state = networks.initial_state(
    config, built, open_splits(config.data)["train"], str(pretrained), str(pretrained)
  )
  given = networks.load(str(pretrained), built.teacher, (8, 8, 1))
  for network in (state.student, state.teacher):
    for collection in ("params", "batch_stats"):
      ours = dict(jax.tree_util.tree_leaves_with_path(getattr(network, collection)))
      for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(given, collection)):
        np.testing.assert_array_equal(ours[path], leaf)
  # B, C and seeds share one compiled program.
  assert program(built) is program(networks.settings(scheme_config("B", pretrained), 10))


def test_validation_images_are_held_out_and_scored_on_the_way(tmp_path):
  config = tiny(
    scheme="baseline",
    precision="32A,32W",
    data__validation=137,
    eval__every_epochs=0.5,
    eval__final="validation",
    recipe__student__epochs=1.0,
  )
  result = api.train(config, tmp_path)
  assert result["steps"] == round(1300 / 64) and result["validation_count"] == 137
  assert not any(k.startswith("test") for k in result)  # the test set stays unseen
  scored = [r for r in read_records(tmp_path) if "validation_accuracy" in r]
  assert sorted({r["step"] for r in scored}) == [15, 20]  # and at the end
  assert scored[-1]["validation_accuracy"] == result["validation_accuracy"]
