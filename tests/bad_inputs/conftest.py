"""The files that rows start from, and the command, as in a new process."""

import contextlib
import pathlib
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # for the helper modules, in any import mode

from checks import Began, began, obeying_permissions  # pylint: disable=g-import-not-at-top
from rows import DIGITS, PHOTOS, held, steps

from apprentice_jax import cli
from apprentice_jax.training import api

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="session")
def made(tmp_path_factory):
  """The files that rows start from."""
  place = tmp_path_factory.mktemp("made")
  names = {name: place / name for name in ("trained", "of_photos", "begun", "study", "data")}
  names.update(digits=ROOT / "configs" / "digits.py", photos=ROOT / "configs" / "image_folder.py")
  random = np.random.default_rng(0)
  for split, count in (("train", 8), ("val", 2)):
    for label in "abc":
      (names["data"] / split / label).mkdir(parents=True)
      for i in range(count):
        pixels = random.integers(0, 255, (12, 12, 3), np.uint8)
        Image.fromarray(pixels).save(names["data"] / split / label / f"{i:02}.jpg")
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("TFDS_DATA_DIR", str(place / "tfds"))
    for line, workdir in ((DIGITS, "trained"), (PHOTOS + " --config.data.dir={data}", "of_photos")):
      assert cli.main(f"train {line} --workdir={{{workdir}}}".format(**names).split()) == 0
  shutil.copytree(names["trained"], names["begun"])  # as it was before its last step
  assert steps(names["begun"]) == [10, 11]
  shutil.rmtree(names["begun"] / "checkpoints" / "11")
  shutil.copytree(names["begun"] / "checkpoints" / "10", names["begun"] / "checkpoints" / "5")
  for name in ("result.json", "report.md", "curves.png"):
    (names["begun"] / name).unlink()
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(api, "train", began)
    with contextlib.suppress(Began):  # claims its workdir
      cli.main(
        "study --config={digits} --workdir={study} --config.study.jobs=1".format(**names).split()
      )
  return names


@pytest.fixture
def names(made, tmp_path):
  result = {k: str(v) for k, v in made.items()}
  result.update(place=str(tmp_path), run=f"{tmp_path}/run", data=f"{tmp_path}/data")
  return result


@pytest.fixture
def command(names, capfd, caplog, monkeypatch):
  """command(line) -> (status, stderr), as in a new process."""
  monkeypatch.setenv("TFDS_DATA_DIR", names["place"] + "/tfds")

  def command(line):
    capfd.readouterr(), caplog.clear()
    with obeying_permissions():
      status = cli.main(line.format(**names).split())
    assert not caplog.records  # what libraries log comes to stderr as well
    return status, capfd.readouterr().err

  yield command
  while held:
    held.pop().close()
  for path in [pathlib.Path(names["place"]), *pathlib.Path(names["place"]).rglob("*")]:
    if path.is_dir():
      path.chmod(0o755)
