"""A line of a study's results names the layers that are not quantized."""

import pytest
from made_study import config_of

from apprentice_jax.data.splits import open_splits
from apprentice_jax.study import jobs, run
from apprentice_jax.study.cells import Cell

SCORES = {"test_accuracy": 0.5, "test_loss": 1.0, "test_count": 360}


@pytest.fixture(autouse=True)
def trained(monkeypatch):
  monkeypatch.setattr(jobs, "train", lambda *_: SCORES)


@pytest.mark.parametrize(
  "precision, left",
  [
    # A middle layer that is named has inputs of 8 bits, and is not quantized all the same.
    ("8A,2W", "stem;stage2_block1/conv1;stage2_block1/conv2;head"),
    ("32A,2W", "stem;stage2_block1/conv1;stage2_block1/conv2;head"),
    # No weights are quantized here, so the inputs decide.
    ("8A,32W", "stem;head"),
  ],
)
def test_layers_that_are_not_quantized(precision, left, tmp_path):
  config = config_of()
  config.student.update(dict(name="resnet8", width=0.25))
  config.quantization.full_precision = ("stem", "head", "stage2_block1/*")
  row = run._row(config, Cell("baseline", precision, 0), tmp_path, open_splits(config.data))
  assert row["full_precision"] == left and row["layers"] == 8
