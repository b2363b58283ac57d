"""A run knows the networks that it began with by their content, wherever their files are now."""

import os
import shutil

import numpy as np
import pytest
from runs import assert_same_run, begin, named_torch, scheme_config, tiny

from apprentice_jax.errors import ConfigError
from apprentice_jax.training import api, networks
from apprentice_jax.training.checkpoint import Checkpoints

OTHER = "belongs to a run that starts from another network: config.{}.init ("


@pytest.fixture
def other(pretrained, tmp_path):
  """Another network than the trained one, in one number."""
  network, _ = networks.read(str(pretrained))
  kernel = np.array(network.params["stem"]["kernel"])
  kernel[0, 0, 0, 0] += 1
  params = {**network.params, "stem": {"kernel": kernel}}
  return named_torch(network._replace(params=params), tmp_path / "other.safetensors")


def test_a_run_goes_on_with_its_teacher_in_another_place(
  unbroken, pretrained, other, tmp_path, monkeypatch
):
  config = scheme_config("B", shutil.copytree(pretrained, tmp_path / "teacher"))
  begin(config, tmp_path / "run", monkeypatch, 15)
  (tmp_path / "teacher").rename(tmp_path / "moved")
  with pytest.raises(ConfigError) as error:
    api.train(config, tmp_path / "run")
  assert str(error.value) == (
    f"config.teacher.init={tmp_path}/teacher is not there any more: bring the network back, or say "
    "where it is now; the "
    "run goes on with the same one from any place."
  )
  config.teacher.init = other
  with pytest.raises(ConfigError) as error:
    api.train(config, tmp_path / "run")
  assert OTHER.format("teacher") in str(error.value)
  config.teacher.init = os.path.relpath(tmp_path / "moved")
  api.train(config, tmp_path / "run")
  assert_same_run(tmp_path / "run", unbroken("B"))


def test_a_finished_run_is_compared_too(unbroken, pretrained, other, tmp_path):
  moved = str(shutil.copytree(pretrained, tmp_path / "moved"))
  for kind in ("B", "C"):
    for which in ("teacher", *(["student"] if kind == "C" else [])):
      config = scheme_config(kind, pretrained)
      config[which].init = moved
      assert api.train(config, unbroken(kind)) == api.result(unbroken(kind))
      config[which].init = other
      with pytest.raises(ConfigError) as error:
        api.train(config, unbroken(kind))
      assert OTHER.format(which) in str(error.value)
  config = scheme_config("B", "")
  with pytest.raises(ConfigError, match="another network"):  # it would train one of its own
    api.train(config, unbroken("B"))


@pytest.mark.slow
def test_where_students_and_joint_teachers_start_is_noted(
  unbroken, pretrained, other, tmp_path, monkeypatch
):
  """Under scheme A from trained networks; what has another content at the same place is noticed,
  too."""
  place = shutil.copytree(pretrained, tmp_path / "place")
  config = tiny(scheme="A", teacher__init=str(place), student__init=str(place))
  begin(config, tmp_path / "run", monkeypatch, 15)
  scratch = tiny(scheme="A", student__init=str(place))
  with pytest.raises(ConfigError, match="another network: config.teacher.init"):
    api.train(scratch, tmp_path / "run")
  shutil.rmtree(place)
  shutil.copy(other, place)
  with pytest.raises(
    ConfigError, match="its (student|teacher) does not start from the network it began with"
  ):
    api.train(config, tmp_path / "run")
  # And a run from scratch has no such networks.
  with pytest.raises(ConfigError, match="another network: config.teacher.init"):
    api.train(tiny(scheme="A", teacher__init=str(pretrained)), unbroken("A"))
  with pytest.raises(ConfigError, match="another network: config.student.init"):
    api.train(tiny(scheme="A", student__init=str(pretrained)), unbroken("A"))


def test_runs_of_earlier_versions_go_on(unbroken, pretrained, tmp_path, monkeypatch):
  """Their checkpoints do not say from where a student starts: where its path is the same, it is the
  same."""
  contents = Checkpoints.contents

  def earlier(self):
    state, meta = contents(self)
    return state, {k: v for k, v in meta.items() if k not in ("student", "joint_teacher")}

  monkeypatch.setattr(Checkpoints, "contents", earlier)
  config = scheme_config("C", pretrained)
  assert api.train(config, unbroken("C")) == api.result(unbroken("C"))
  config.student.init = str(shutil.copytree(pretrained, tmp_path / "moved"))
  with pytest.raises(ConfigError, match="another network: config.student.init"):
    api.train(config, unbroken("C"))


def test_the_network_of_a_new_head_may_move(pretrained, other, tmp_path):
  file = shutil.copytree(pretrained, tmp_path / "first")
  config = tiny(
    scheme="B",
    teacher__init=str(file),
    teacher__head="new",
    recipe__student__epochs=0.2,
    recipe__finetune__epochs=0.2,
    recipe__finetune__warmup_epochs=0.1,
  )
  done = api.train(config, tmp_path / "run")
  file.rename(tmp_path / "moved")
  config.teacher.init = str(tmp_path / "moved")
  assert api.train(config, tmp_path / "run") == done
  config.teacher.init = other
  with pytest.raises(
    ConfigError, match="/run/teacher belongs to a run that starts from another network"
  ):
    api.train(config, tmp_path / "run")
