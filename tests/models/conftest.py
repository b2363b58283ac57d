"""Files of PyTorch's, from their bytes."""

import pathlib
import sys

import pytest

from apprentice_jax.models.pytorch import state_dict

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # for the helper module, in any import mode


@pytest.fixture
def read(tmp_path):
  """read(bytes) -> the tensors in a file of these bytes."""

  def read(content):
    (tmp_path / "x.pth").write_bytes(content)
    return state_dict.read(tmp_path / "x.pth")

  return read


@pytest.fixture
def refusal(read, tmp_path):
  """refusal(bytes) -> the sentence that a file of these bytes gets."""

  def refusal(content):
    with pytest.raises(ValueError) as error:
      read(content)
    assert "\n" not in str(error.value)
    return str(error.value).replace(str(tmp_path / "x.pth"), "FILE")

  return refusal
