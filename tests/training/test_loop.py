"""Runs on the digits: what an interruption changes (nothing), and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import apprentice_jax
from apprentice_jax import config as configs
from apprentice_jax.config import ConfigError
from apprentice_jax.data import sources
from apprentice_jax.training import loop, metrics, run, start
from apprentice_jax.training.checkpoint import Checkpoints
from apprentice_jax.training.metrics import MetricsWriter, NonFiniteLoss
from apprentice_jax.training.program import program

STEPS = 27          # 1.2 epochs of 22.45 steps
KILLED_AT = 25      # past the end of an epoch, between the checkpoints of steps 20 and 27
TIMING = ("seconds", "images_per_second", "data_wait")


def tiny(**changes):
  """Seconds long; teacher and student are one network, so that they share a program."""
  config = configs.base()
  small = dict(name="resnet8", width=0.25)
  for network in (config.student, config.teacher):
    network.update(small)
  for recipe in config.recipe.values():
    recipe.update(epochs=1.2, warmup_epochs=0.2)
  config.update_from_flattened_dict({
      "data.name": "digits", "data.pad": 1, "data.flip": False, "batch_size": 64,
      "steps_per_dispatch": 5, "checkpoint.every_epochs": 0.4})
  config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
  return config


def final_state(workdir):
  """Everything the last checkpoint holds: parameters, statistics, optimizer state."""
  with Checkpoints(workdir) as checkpoints:
    step = checkpoints.latest()
  path = workdir.absolute() / "checkpoints" / str(step) / "state"
  tree = ocp.StandardCheckpointer().restore(path)
  return step, {jax.tree_util.keystr(p): np.asarray(leaf)
                for p, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def untimed(record):
  return {k: v for k, v in record.items() if k not in TIMING}


def assert_same_run(workdir, expected):
  """Bit for bit, and record for record, apart from the clock."""
  (step, state), (expected_step, expected_state) = final_state(workdir), final_state(expected)
  assert step == expected_step == STEPS and state.keys() == expected_state.keys()
  for name, leaf in expected_state.items():
    np.testing.assert_array_equal(state[name], leaf, err_msg=name)
  records = [[untimed(r) for r in metrics.read(w)] for w in (workdir, expected)]
  assert records[0] == records[1]
  assert untimed(loop.result(workdir)) == untimed(loop.result(expected))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
  """A workdir with a full-precision network, for teacher and student alike."""
  workdir = tmp_path_factory.mktemp("pretrained")
  config = tiny(scheme="baseline", precision="32A,32W", recipe__student__epochs=0.5)
  result = loop.train(config, workdir)
  assert result["steps"] == 11
  return workdir


def scheme_config(scheme, pretrained):
  config = tiny(scheme=scheme)
  if scheme in ("B", "C"):
    config.teacher.init = str(pretrained)
  if scheme == "C":
    config.student.init = str(pretrained)
  return config


@pytest.fixture(scope="module")
def unbroken(pretrained, tmp_path_factory):
  """unbroken(scheme) -> the workdir of a run that nothing interrupted."""
  done = {}

  def run(scheme):
    if scheme not in done:
      done[scheme] = tmp_path_factory.mktemp(f"unbroken-{scheme}")
      loop.train(scheme_config(scheme, pretrained), done[scheme])
    return done[scheme]
  return run


class Killed(BaseException):
  pass


# At the end: after the last checkpoint, before the result is written.
@pytest.mark.parametrize("scheme, killed_at, left, saved", [
    ("A", 25, [5, 10, 15, 20, 25], 20), ("B", 25, [5, 10, 15, 20, 25], 20),
    ("C", 25, [5, 10, 15, 20, 25], 20), ("C", "end", [5, 10, 15, 20, 25, 27, 27], 27)])
def test_an_interrupted_run_ends_as_an_unbroken_one(scheme, killed_at, left, saved, unbroken,
                                                    pretrained, tmp_path, monkeypatch):
  config, write = scheme_config(scheme, pretrained), MetricsWriter.write

  def killed(self, step, record):
    write(self, step, record)
    if step == killed_at or killed_at == "end" and "test_loss" in record:
      raise Killed
  with monkeypatch.context() as patch:
    patch.setattr(MetricsWriter, "write", killed)
    with pytest.raises(Killed):
      loop.train(config, tmp_path)
  assert loop.result(tmp_path) is None
  assert [r["step"] for r in metrics.read(tmp_path)] == left
  assert final_state(tmp_path)[0] == saved
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 27, "lo')  # and torn in the middle of a line
  loop.train(config, tmp_path)
  assert_same_run(tmp_path, unbroken(scheme))


def test_what_a_checkpoint_holds(unbroken):
  for scheme, networks in (("A", {"student", "teacher"}), ("B", {"student"})):
    _, state = final_state(unbroken(scheme))
    parts = {tuple(name.strip("[']").split("']['")[:2]) for name in state}
    for network in networks:
      assert {(network, p) for p in ("params", "batch_stats")} <= parts
      momentum = [v for k, v in state.items() if k.startswith(f"['{network}']['opt_state']")]
      assert momentum and all(np.any(m) for m in momentum)
    assert {p[0] for p in parts} == networks  # a fixed teacher is not written again and again


def test_a_run_killed_by_the_system_ends_as_an_unbroken_one(unbroken, pretrained, tmp_path):
  # SIGKILL, while a checkpoint may be half written.
  config = scheme_config("B", pretrained)
  (tmp_path / "flat.json").write_text(json.dumps(configs.flat(config)))
  workdir = tmp_path / "run"
  code = textwrap.dedent(f"""
      import json, os, signal, sys
      from apprentice_jax import config as configs
      from apprentice_jax.training import loop
      from apprentice_jax.training.metrics import MetricsWriter
      config = configs.base()
      flat = json.load(open(sys.argv[1]))
      config.update_from_flattened_dict(
          {{k: tuple(v) if isinstance(v, list) else v for k, v in flat.items()}})
      write = MetricsWriter.write
      def killed(self, step, record):
        write(self, step, record)
        if step == {KILLED_AT}:
          os.kill(os.getpid(), signal.SIGKILL)
      MetricsWriter.write = killed
      loop.train(config, sys.argv[2])
  """)
  process = subprocess.run([sys.executable, "-c", code, tmp_path / "flat.json", workdir],
                           capture_output=True, text=True, env=dict(os.environ))
  assert process.returncode == -signal.SIGKILL, process.stderr
  assert loop.result(workdir) is None
  loop.train(config, workdir)
  assert_same_run(workdir, unbroken("B"))


def test_a_finished_run_is_not_trained_again(unbroken, pretrained, monkeypatch):
  workdir = unbroken("B")
  monkeypatch.setattr(loop, "Run", None)  # whatever would be started fails
  assert loop.train(scheme_config("B", pretrained), workdir) == loop.result(workdir)


def test_what_a_run_leaves(unbroken):
  workdir, expected = unbroken("A"), {"config.json", "metrics.jsonl", "result.json"}
  assert expected <= {p.name for p in workdir.iterdir()}
  assert list((workdir / "tensorboard").glob("*tfevents*"))
  records = metrics.read(workdir)
  assert [r["step"] for r in records] == [5, 10, 15, 20, 25, 27, 27]
  for record in records[:-1]:
    assert {"loss", "student_ce", "teacher_ce", "distill", "student_accuracy", "teacher_accuracy",
            "epoch", "learning_rate", *TIMING} <= record.keys()
    np.testing.assert_allclose(
        record["loss"], record["teacher_ce"] + 0.5 * (record["student_ce"] + record["distill"]),
        rtol=1e-5)
    np.testing.assert_allclose(record["epoch"], record["step"] * 64 / 1437)
  assert records[5]["loss"] < records[0]["loss"]  # it learns
  result = loop.result(workdir)
  assert (result["steps"], result["examples"]) == (STEPS, STEPS * 64)
  assert result["test_count"] == result["test_teacher_count"] == 360


def test_evaluation_needs_the_workdir_alone(unbroken):
  workdir = unbroken("C")
  result, found = loop.result(workdir), apprentice_jax.evaluate(workdir)
  assert found == {k: result[f"test_{k}"] for k in ("accuracy", "loss", "count")}
  assert found["count"] == 360 and jax.device_count() == 8
  assert apprentice_jax.evaluate(workdir, "train")["count"] == 1437
  with pytest.raises(ConfigError, match="there is no validation split"):
    apprentice_jax.evaluate(workdir, "validation")


def test_accuracy_is_that_of_the_restored_network(unbroken):
  # Without the evaluator: one batch, NumPy, the test images as they are.
  workdir = unbroken("C")
  config = start.workdir_config(workdir)
  data = sources.load("digits", "test")
  model = start.model(config, "student", 10)
  network = start.load(str(workdir), model, (8, 8, 1))
  logits = jax.jit(model.apply, static_argnums=2)(
      {"params": network.params, "batch_stats": network.batch_stats},
      (np.float32(data.images) / 255 - 0.5) / 0.5, False)
  accuracy = np.mean(np.argmax(logits, -1) == data.labels)
  # Of 360, an image on the edge between two classes may fall either way.
  assert abs(accuracy - loop.result(workdir)["test_accuracy"]) < 1.5 / 360
  assert accuracy > 0.2


def test_another_config_is_refused_naming_what_differs(unbroken, pretrained):
  config = scheme_config("B", pretrained)
  config.seed, config.recipe.student.learning_rate = 7, 0.2
  with pytest.raises(ConfigError) as error:
    loop.train(config, unbroken("B"))
  assert "config.seed (0 there, 7 now)" in str(error.value)
  assert "config.recipe.student.learning_rate (0.1 there, 0.2 now)" in str(error.value)
  assert "config.scheme" not in str(error.value)


def test_what_does_not_change_the_result_may_change(unbroken, pretrained):
  config = scheme_config("B", pretrained)
  config.checkpoint.keep, config.eval.batch_size, config.study.seeds = 5, 100, (7,)
  assert loop.train(config, unbroken("B")) == loop.result(unbroken("B"))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(pretrained, tmp_path,
                                                                        monkeypatch):
  config = tiny(scheme="baseline", precision="32A,32W")
  rates = run.learning_rates

  def explode(*args):  # in step 13 the loss is that of parameters beyond float32
    changed = rates(*args).copy()
    changed[11] = 1e38
    return changed
  monkeypatch.setattr(run, "learning_rates", explode)
  with pytest.raises(NonFiniteLoss, match="at step 13"):
    loop.train(config, tmp_path)
  step, state = final_state(tmp_path)
  assert step == 10 and all(np.isfinite(leaf).all() for leaf in state.values())
  assert [r["step"] for r in metrics.read(tmp_path)] == [5, 10]
  monkeypatch.undo()
  assert loop.train(config, tmp_path)["steps"] == STEPS  # goes on from there


@pytest.mark.parametrize("field, value, difference", [
    ("width", 0.5, "kernel"), ("name", "resnet14", "missing")])
def test_a_teacher_of_another_architecture_is_refused(field, value, difference, pretrained,
                                                      tmp_path):
  config = scheme_config("B", pretrained)
  config.teacher[field] = value
  with pytest.raises(ConfigError) as error:
    loop.train(config, tmp_path)
  sentence = str(error.value)
  assert sentence.startswith(f"{pretrained} holds another network: ") and difference in sentence
  assert "\n" not in sentence


def test_a_teacher_of_other_classes_is_refused(pretrained):
  config = scheme_config("B", pretrained)
  with pytest.raises(ConfigError, match=r"holds another network: .*head/(kernel|bias) is \(.*10"):
    start.load(str(pretrained), start.model(config, "teacher", 7), (8, 8, 1))


@pytest.mark.parametrize("changes, sentence", [
    (dict(teacher__init="/nowhere"), "/nowhere is neither a workdir nor a checkpoint file."),
    (dict(scheme="C", student__init="/nowhere"), "/nowhere is neither a workdir nor"),
    (dict(scheme="C", teacher__init="/nowhere"), "/nowhere is neither a workdir nor"),
    (dict(recipe__teacher__epochs=0.01), "0.01 epochs of 1437 examples are less than a step"),
    (dict(batch_size=60), "config.batch_size is 60: it must be a multiple of the 8 devices."),
    (dict(batch_size=2000), "config.batch_size is 2000, but digits has only 1437"),
    (dict(data__validation=1437), "config.data.validation is 1437"),
    (dict(data__mean=(0.5,) * 3, data__std=(0.5,) * 3), "config.data.mean has 3 values"),
    (dict(data__name="digit"), "'digits'"),
    (dict(data__test_split="tset"), "'tset'")])
def test_what_does_not_fit_the_data_is_refused(changes, sentence, tmp_path):
  with pytest.raises(ValueError) as error:
    loop.train(tiny(**changes), tmp_path)
  assert sentence in str(error.value)
  # Before any long work, not at the end of it.
  assert not metrics.read(tmp_path) and not (tmp_path / "teacher" / "metrics.jsonl").exists()


def test_an_unfinished_teacher_is_refused(pretrained, tmp_path):
  begun = tmp_path / "begun"
  shutil.copytree(pretrained, begun)
  (begun / "result.json").unlink()
  with pytest.raises(ConfigError, match="has not finished training"):
    loop.train(tiny(scheme="B", teacher__init=str(begun)), tmp_path / "run")


def test_a_network_of_another_precision_is_not_scored(pretrained):
  with pytest.raises(ConfigError, match="it holds a network of another precision"):
    loop.evaluate_network(tiny(precision="8A,2W"), str(pretrained))


def test_a_workdir_without_checkpoint_is_no_teacher(pretrained, tmp_path):
  (tmp_path / "config.json").write_text((pretrained / "config.json").read_text())
  with pytest.raises(ConfigError, match="has no checkpoint yet"):
    apprentice_jax.evaluate(tmp_path)
  with pytest.raises(ConfigError, match="is not a workdir"):
    apprentice_jax.evaluate(tmp_path / "nothing")


def test_scheme_b_trains_the_teacher_it_is_not_given(tmp_path):
  config = tiny(scheme="B", recipe__student__epochs=0.3, recipe__teacher__epochs=0.7, seed=3)
  assert loop.train(config, tmp_path)["steps"] == round(0.3 * 1437 / 64)
  teacher = tmp_path / "teacher"
  assert loop.result(teacher)["steps"] == round(0.7 * 1437 / 64)
  facts = json.loads((teacher / "config.json").read_text())
  assert (facts["scheme"], facts["precision"], facts["seed"]) == ("baseline", "32A,32W", 3)
  assert apprentice_jax.evaluate(teacher)["accuracy"] == loop.result(teacher)["test_accuracy"]
  assert not (tmp_path / "student").exists()


def test_scheme_c_starts_from_the_given_student_and_its_statistics(unbroken, pretrained):
  config = scheme_config("C", pretrained)
  built = start.settings(config, 10)
  state = start.initial_state(config, built, str(pretrained), str(pretrained))
  given = start.load(str(pretrained), built.teacher, (8, 8, 1))
  for network in (state.student, state.teacher):
    for collection in ("params", "batch_stats"):
      ours = dict(jax.tree_util.tree_leaves_with_path(getattr(network, collection)))
      for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(given, collection)):
        np.testing.assert_array_equal(ours[path], leaf)
  # B, C and seeds share one compiled program.
  assert program(built) is program(start.settings(scheme_config("B", pretrained), 10))


def test_validation_images_are_held_out_and_scored_on_the_way(tmp_path):
  config = tiny(scheme="baseline", precision="32A,32W", data__validation=137,
                eval__every_epochs=0.5, eval__final="validation", recipe__student__epochs=1.0)
  result = loop.train(config, tmp_path)
  assert result["steps"] == round(1300 / 64) and result["validation_count"] == 137
  assert not any(k.startswith("test") for k in result)  # the test set stays unseen
  scored = [r for r in metrics.read(tmp_path) if "validation_accuracy" in r]
  assert sorted({r["step"] for r in scored}) == [15, 20]  # and at the end
  assert scored[-1]["validation_accuracy"] == result["validation_accuracy"]
