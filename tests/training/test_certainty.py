"""The temperature at which a teacher is as uncertain as the config says."""

import numpy as np
import pytest
from runs import assert_same_run, scheme_config

from apprentice_jax.training import api, certainty

# The entropy of 3/4 and 1/4, in nats.
QUARTER = 2 * np.log(2) - 0.75 * np.log(3)


@pytest.mark.parametrize("tau", [0.25, 1.0, 4.0])
def test_by_hand(tau):
  logits = tau * np.log([[3.0, 1.0], [1.0, 3.0], [12.0, 4.0]])
  np.testing.assert_allclose(certainty.entropy(logits, tau), QUARTER)
  assert certainty.temperature(logits, QUARTER) == tau


def test_the_entropy_is_the_mean_over_images():
  logits = np.array([[0.0, 0.0], [2000.0, 0.0]])
  np.testing.assert_allclose(certainty.entropy(logits, 1.0), np.log(2) / 2)


@pytest.mark.parametrize("target", [0.7, 0.1])
def test_an_entropy_that_no_temperature_gives_is_refused(target):
  # A teacher that cannot tell two images apart has half of log 2 at any temperature.
  logits = np.array([[0.0, 0.0], [1.0, 0.0]])
  with pytest.raises(ValueError, match="this teacher's outputs is from 0.35 to 0.69"):
    certainty.temperature(logits, target)


@pytest.mark.slow
@pytest.mark.parametrize("cached", [False, True])
def test_a_run_is_that_of_the_temperature_it_finds(cached, pretrained, tmp_path, capfd):
  config = scheme_config("B", pretrained)
  config.teacher_input.cached = cached
  config.loss.teacher_entropy = 1.2
  found = api.train(config, tmp_path / "entropy")["temperature"]
  assert f"temperature {found:g}: the mean entropy" in capfd.readouterr().out
  config.loss.teacher_entropy, config.loss.temperature = 0.0, found
  assert "temperature" not in api.train(config, tmp_path / "temperature")
  result = tmp_path / "entropy" / "result.json"
  result.write_text(result.read_text().replace(f'\n "temperature": {found},', ""))
  records = tmp_path / "entropy" / "metrics.jsonl"
  records.write_text(records.read_text().replace(f', "temperature": {found}', ""))
  assert_same_run(tmp_path / "entropy", tmp_path / "temperature")
