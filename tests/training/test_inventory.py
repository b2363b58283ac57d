"""What a start says of its images, and that a run goes on with those it began with."""

import json
import shutil
import zlib

import numpy as np
import pytest
from PIL import Image
from runs import tiny

from apprentice_jax.data.splits import open_splits
from apprentice_jax.errors import ConfigError, UnreadableImage
from apprentice_jax.training import identity, inventory, workdir


def photos(root, splits=(("train", 10), ("val", 3)), names=("cat", "granny smith")):
  for split, count in splits:
    for name in names:
      (root / split / name).mkdir(parents=True)
      for i in range(count):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(root / split / name / f"{i}.png")
  return root


def of_folder(root, **changes):
  return tiny(
    data__name="image_folder",
    data__dir=str(root),
    data__image_size=8,
    data__resize=8,
    **{"data__test_split": "val", **changes},
  )


def opened(config):
  """The config's images, opened as in another process."""
  return open_splits(config.data)


def line_of(config):
  return inventory.line(config, opened(config))


def begun(workdir, config):
  """A workdir with a checkpoint, as far as its images are concerned."""
  (workdir / "checkpoints" / "5").mkdir(parents=True)
  identity.claim_data(workdir, opened(config))
  return workdir


# The line.


@pytest.mark.parametrize(
  "splits, changes, line",
  [
    ((("train", 10), ("val", 3)), {}, "data: 20 training and 6 test images of 2 classes in {root}"),
    (
      (("train", 10), ("val", 3)),
      dict(data__validation=0.2),
      "data: 16 training, 4 validation and 6 test images of 2 classes in {root}",
    ),
    (
      (("train", 10),),
      dict(data__test_share=0.2, data__validation=4),
      "data: 12 training, 4 validation and 4 test images of 2 classes in {root}; the test images "
      "are 0.2 of all, as there is no other test set (config.data.test_share)",
    ),
    (
      (("", 10),),
      dict(data__test_share=0.2),
      "data: 16 training and 4 test images of 2 classes in {root}; the test images are 0.2 of all, "
      "as there is no other test set (config.data.test_share); the classes are the folders of "
      "{root}",
    ),
    (
      (("training", 10), ("valid", 1)),
      {},
      "data: 20 training and 2 test images of 2 classes in {root}; the training images are those "
      "of "
      "training; the test images are those of valid",
    ),
    (
      (("train", 10), ("test", 1)),
      dict(data__test_share=0.2),
      "data: 20 training and 2 test images of 2 classes in {root}; the test images are those of "
      "test",
    ),
    (
      (("train", 10), ("val", 3), ("test", 1)),
      {},
      "data: 20 training and 6 test images of 2 classes in {root}; the test images are those of "
      "val; "
      "the folder test is not read",
    ),
    (
      (("train", 10), ("val", 3), ("test", 1), ("valid", 1)),
      dict(data__test_split="test"),
      "data: 20 training and 2 test images of 2 classes in {root}; the test images are those of "
      "test; the folders val, valid are not read",
    ),
  ],
)
def test_line_of_a_folder(splits, changes, line, tmp_path):
  root = photos(tmp_path / "data", splits)
  assert line_of(of_folder(root, **changes)) == line.format(root=root)


def test_line_says_what_is_not_read(tmp_path):
  root = photos(tmp_path)
  (root / "train" / "cat" / "notes.txt").write_text("hello")
  (root / "val" / ".DS_Store").write_text("hello")
  assert line_of(of_folder(root)) == (
    f"data: 20 training and 6 test images of 2 classes in {root}; of train, 1 file is not read: "
    "1 .txt; of val, 1 file is not read: 1 hidden"
  )


def test_the_folder_of_a_name_is_scored_and_said(tmp_path):
  root = photos(tmp_path, (("train", 10), ("val", 3), ("test", 1)))
  images = opened(of_folder(root))
  with pytest.warns(UserWarning) as warned:
    name = images.named("test")
  assert str(warned[0].message) == (
    f"'test' is the folder of this name in {root}: the run's own test images are those of val "
    "(--split=val)."
  )
  assert images[name].size == 2
  own = images[images.named("val")]
  assert images["test"].size == own.size == 6


def test_a_run_goes_on_beside_its_own_workdir(tmp_path, monkeypatch):
  """As of `cd photos; apprentice train --data_dir=. --workdir=runs/x`."""
  monkeypatch.chdir(photos(tmp_path, (("", 10),)))
  config = of_folder(".", data__test_share=0.2)
  assert "2 classes" in line_of(config)
  (tmp_path / "runs" / "x").mkdir(parents=True)
  for name in ("config.json", "lock"):
    (tmp_path / "runs" / "x" / name).write_text("{}")
  begun(tmp_path / "runs" / "x", config)
  for name in ("runs/x/curves.png", "runs/x/teacher/curves.png"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(tmp_path / name)
  assert line_of(config).endswith("1 file is not read: 1 of a run's workdir")
  identity.claim_data(tmp_path / "runs" / "x", opened(config))
  assert opened(config)["train"].class_names == ("cat", "granny smith")


@pytest.mark.parametrize("size", [0, 8])
def test_line_of_a_dataset(size):
  config = tiny(data__validation=0.1, data__image_size=size, data__resize=max(size, 8))
  assert line_of(config) == (
    "data: 1,293 training, 144 validation and 360 test images of 10 classes in digits"
  )


def test_the_line_is_said_once(capsys, tmp_path):
  config = of_folder(photos(tmp_path))
  for _ in range(3):
    inventory.announce(config, opened(config))
  assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_path_that_is_no_text(capsys, tmp_path):
  root = photos(tmp_path / "\udce9t\udce9")  # Latin-1
  config = of_folder(root)
  inventory.announce(config, opened(config))
  assert "\\udce9t\\udce9" in capsys.readouterr().out


# The images that a run began with.


def exchange(root):
  """The first two photos of two classes change places: all names and the number stay."""
  for name in ("0.png", "1.png"):
    shutil.move(root / "train/cat" / name, root / "t")
    shutil.move(root / "train/granny smith" / name, root / "train/cat" / name)
    shutil.move(root / "t", root / "train/granny smith" / name)


CHANGES = [
  (
    "fewer",
    lambda root: (root / "train/cat/0.png").unlink(),
    "it began with 20 training images, and there are 19 now: bring them back",
  ),
  (
    "one for another",
    lambda root: (root / "train/cat/0.png").rename(root / "train/cat/z.png"),
    "the names or classes of its training images are not those that it began with: bring them back",
  ),
  (
    "another class",
    lambda root: (root / "train/cat/0.png").rename(root / "train/granny smith/z.png"),
    "the names or classes of its training images are not those that it began with: bring them back",
  ),
  (
    "replaced",
    lambda root: (root / "val/cat/0.png").write_bytes(b"hello"),
    "files of its test images are not those that it began with (their sizes differ): bring them "
    "back",
  ),
  (
    "exchanged",
    exchange,
    "files of its training images are not those that it began with (their sizes differ): bring "
    "them back",
  ),
  (
    "fewer to test",
    lambda root: (root / "val/cat/0.png").unlink(),
    "it began with 6 test images, and there are 5 now: bring them back",
  ),
]


@pytest.mark.parametrize(
  "change, sentence", [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES]
)
def test_other_photos_are_refused(change, sentence, tmp_path):
  root = photos(tmp_path / "data")
  for i in range(10):  # of other sizes
    pixels = np.random.default_rng(i).integers(0, 255, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(root / "train" / "cat" / f"{i}.png")
  config, run = of_folder(root), tmp_path / "run"
  begun(run, config)
  identity.claim_data(run, opened(config))  # nothing has changed
  before = (run / "data.json").read_text()
  change(root)
  with pytest.raises(ConfigError) as raised:
    identity.claim_data(run, opened(config))
  assert str(raised.value) == f"{run} cannot continue: {sentence}, or choose another --workdir."
  assert (run / "data.json").read_text() == before


def test_a_test_folder_that_is_gone_or_new(tmp_path):
  root = photos(tmp_path / "data")
  config, run = of_folder(root, data__test_share=0.2), tmp_path / "run"
  begun(run, config)
  shutil.move(root / "val", tmp_path / "val")
  with pytest.raises(
    ConfigError, match="cannot continue: the folder of its test images is gone: bring it back"
  ):
    identity.claim_data(run, opened(config))
  begun(tmp_path / "other", config)
  shutil.move(tmp_path / "val", root / "val")
  with pytest.raises(
    ConfigError, match="cannot continue: its test images were a share of the training images, and"
  ):
    identity.claim_data(tmp_path / "other", opened(config))


def test_a_folder_may_be_moved(tmp_path):
  root = photos(tmp_path / "data")
  begun(tmp_path / "run", of_folder(root))
  moved = shutil.move(root, tmp_path / "elsewhere")
  identity.claim_data(tmp_path / "run", opened(of_folder(moved)))


@pytest.mark.parametrize(
  "place",
  [
    "checkpoints/5",
    "teacher/checkpoints/5",
    "cells/B-8A2W-seed0/checkpoints/5",
    "cells/B-8A2W-seed0/teacher/checkpoints/5",
  ],
)
def test_what_was_trained_anywhere_holds_a_run_to_its_images(place, tmp_path):
  root = photos(tmp_path / "data")
  config, run = of_folder(root), tmp_path / "run"
  run.mkdir()
  identity.claim_data(run, opened(config))
  (root / "train/cat/0.png").unlink()
  identity.claim_data(run, opened(config))  # nothing was trained
  (run / place).mkdir(parents=True)
  (root / "train/cat/1.png").unlink()
  with pytest.raises(ConfigError, match="began with 19 training images, and there are 18 now"):
    identity.claim_data(run, opened(config))


def test_a_run_of_before_goes_on_and_is_held_from_then_on(tmp_path):
  root = photos(tmp_path / "data")
  config, run = of_folder(root), tmp_path / "run"
  begun(run, config)
  (run / "data.json").unlink()
  identity.claim_data(run, opened(config))
  (root / "train/cat/1.png").unlink()
  with pytest.raises(ConfigError, match="cannot continue"):
    identity.claim_data(run, opened(config))


def test_an_image_that_could_not_be_read_may_be_replaced_but_not_removed(tmp_path):
  root = photos(tmp_path / "data")
  whole = (root / "train/cat/0.png").read_bytes()
  (root / "train/cat/0.png").write_bytes(whole[:20])
  config, run = of_folder(root), tmp_path / "run"
  begun(run, config)
  with pytest.raises(UnreadableImage), identity.replaceable(run):
    raise UnreadableImage("0.png")
  (root / "train/cat/0.png").write_bytes(whole)
  identity.claim_data(run, opened(config))
  (root / "train/cat/0.png").write_bytes(whole[:20])
  with pytest.raises(ConfigError, match="their sizes differ"):
    identity.claim_data(run, opened(config))


@pytest.mark.parametrize("place", ["teacher", "cells/B-8A2W-seed0", "cells/B-8A2W-seed0/teacher"])
def test_the_image_may_be_replaced_for_the_runs_inside_too(place, tmp_path):
  root = photos(tmp_path / "data")
  config, outer = of_folder(root), tmp_path / "run"
  begun(outer / place, config)
  with pytest.raises(UnreadableImage), identity.replaceable(outer):
    raise UnreadableImage("0.png")
  (root / "train/cat/0.png").write_bytes((root / "train/cat/0.png").read_bytes() + b" ")
  identity.claim_data(outer / place, opened(config))


def test_a_config_of_before_goes_on_with_a_share_that_it_does_not_need(tmp_path):
  config = of_folder(photos(tmp_path / "data"), data__test_share=0.2)
  workdir.claim(tmp_path, config)
  there = json.loads((tmp_path / "config.json").read_text())
  del there["data.test_share"]
  (tmp_path / "config.json").write_text(json.dumps(there))
  workdir.claim(tmp_path, config)
  there["data.test_share"] = 0.3
  (tmp_path / "config.json").write_text(json.dumps(there))
  with pytest.raises(ConfigError, match=r"config\.data\.test_share \(0\.3 there, 0\.2 now\)"):
    workdir.claim(tmp_path, config)


def test_a_torn_file_of_the_workdir(tmp_path):
  config = of_folder(photos(tmp_path / "data"))
  begun(tmp_path / "run", config)
  (tmp_path / "run" / "data.json").write_text('{"train": ')
  with pytest.raises(
    ConfigError,
    match=r"/data\.json is damaged: bring it back from a copy, or "
    r"delete it to have",
  ):
    identity.claim_data(tmp_path / "run", opened(config))


def test_one_checksum_of_a_set():
  """Its value is in the names of a teacher's kept logits: another would compute them anew."""
  config = tiny(data__image_size=0)
  own = opened(config)["test"]
  images, labels = own.sample(np.arange(own.size)), own.labels(np.arange(own.size))
  expected = zlib.crc32(images.tobytes() + labels.tobytes())
  assert own.checksum == opened(config).identity["test"]["checksum"] == expected


@pytest.mark.parametrize("size, field", [(0, "checksum"), (8, "sizes")])
def test_another_dataset_of_the_same_name_is_refused(size, field, tmp_path, monkeypatch):
  config = tiny(data__image_size=size, data__resize=8)
  begun(tmp_path, config)
  found = opened(config).identity
  assert {role: sorted(entry) for role, entry in found.items()} == {
    role: sorted(("examples", field)) for role in ("train", "test")
  }
  path = tmp_path / "data.json"
  there = json.loads(path.read_text())
  there["test"][field] = 0
  path.write_text(json.dumps(there))
  with pytest.raises(
    ConfigError, match=f"test images .*not those that it began with .*{field}s? differ"
  ):
    identity.claim_data(tmp_path, opened(config))
