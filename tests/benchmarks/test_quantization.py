"""The benchmark of what quantization costs."""

import pytest
import quantization

from apprentice_jax import config as configs
from apprentice_jax.bench import step
from apprentice_jax.configs import digits


@pytest.mark.slow
def test_quantization_costs_something(monkeypatch):
  monkeypatch.setattr(step, "ROUNDS", 2)
  config = digits.get_config("runlocal,precision=8A2W")
  config.student.update(dict(name="resnet8", width=0.125))
  config.batch_size = 32
  report = quantization.run(configs.checked(config))
  assert report["overhead"] > 0 and set(report["step_seconds"]) == {"plain", "quantized"}
  assert (
    quantization.table(report).splitlines()[-1] == f"quantized / plain: {report['overhead']:.2f}"
  )
