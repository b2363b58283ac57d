"""A run with any option of recent recipes, killed and started again, ends as an unbroken one."""

import pytest
from runs import assert_same_run, begin, scheme_config

from apprentice_jax.training import api

KILLED_AT = 25  # past the end of an epoch, between the checkpoints of steps 20 and 27
OPTIONS = {
  "Adam": ("B", {"recipe.student.adam": ("kernel", "scale")}),
  "mixup": ("B", {"data.mix": "mixup"}),
  "streamed cutmix": ("baseline streamed", {"data.mix": "cutmix"}),
  "freezing": ("baseline", {"oscillation.freeze": (0.015, 0.005), "oscillation.damping": 0.1}),
}


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_an_interrupted_run_ends_as_an_unbroken_one(option, pretrained, tmp_path, monkeypatch):
  kind, changes = OPTIONS[option]
  config = scheme_config(kind, pretrained)
  config.update_from_flattened_dict(changes)
  api.train(config, tmp_path / "unbroken")
  begin(config, tmp_path / "killed", monkeypatch, KILLED_AT)
  api.train(config, tmp_path / "killed")
  assert_same_run(tmp_path / "killed", tmp_path / "unbroken")
