"""Folders as people have them: the files and classes that are read, the others, and the splits."""

import os
import pathlib

import pytest

from apprentice_jax.data import files, folder
from apprentice_jax.data.folder import Folder


def write(root, *paths, content=b"x"):
  """Files of these paths; a name that ends in "/" is an empty folder."""
  for path in paths:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).mkdir() if path.endswith("/") else (root / path).write_bytes(content)
  return str(root)


def read_of(found, root):
  return [os.path.relpath(found.name(i), root) for i in range(len(found))]


def test_folders_inside_a_class_are_read_as_image_folder_does(tmp_path):
  root = write(
    tmp_path,
    "train/cat/b.jpg",
    "train/cat/2024/may/a.jpg",
    "train/cat/2024/a.jpg",
    "train/dog/in/a.jpg",
    "train/dog/album.jpg/1.png",
  )
  # What torchvision's ImageFolder takes: every picture that os.walk finds below a class.
  expected = sorted(
    os.path.relpath(os.path.join(where, name), root)
    for where, _, names in os.walk(root)
    for name in names
  )
  found = Folder(root, "train")
  assert read_of(found, root) == expected and found.class_names == ("cat", "dog")
  assert found.labels.tolist() == [0, 0, 0, 1, 1] and not found.unread


def test_links_are_followed_but_not_around(tmp_path):
  write(tmp_path, "more/c.jpg", "data/train/cat/a.jpg", "data/train/dog/b.jpg")
  train = tmp_path / "data" / "train"
  for path, target in (
    ("cat/more", tmp_path / "more"),
    ("cat/self", train / "cat"),
    ("cat/all", train),
    ("cat/data", tmp_path / "data"),
    ("dog/x.jpg", tmp_path / "more" / "c.jpg"),
  ):
    (train / path).symlink_to(target)
  found = Folder(str(tmp_path / "data"), "train")
  assert read_of(found, train) == ["cat/a.jpg", "cat/more/c.jpg", "dog/b.jpg", "dog/x.jpg"]


def test_what_is_not_read_is_counted_by_reason(tmp_path):
  root = write(
    tmp_path,
    *(f"train/cat/{i}.txt" for i in range(3)),
    "train/cat/a.jpg",
    "train/cat/._a.jpg",
    "train/cat/.ipynb_checkpoints/a.jpg",
    "train/cat/in/notes",
    "train/dog/a.nef",
    "train/dog/a.jpg",
    "train/Thumbs.db",
    "train/__MACOSX/cat/._a.jpg",
    "train/@eaDir/",
    "train/list.csv",
  )
  found = Folder(root, "train")
  assert read_of(found, root) == ["train/cat/a.jpg", "train/dog/a.jpg"]
  assert found.unread == {
    ".txt": 3,
    "hidden": 2,
    "of the system": 3,
    "outside the classes' folders": 1,
    "without a suffix": 1,
    ".nef (it is a camera's raw photo: convert it to JPEG)": 1,
  }
  assert files.told(found.unread).startswith(
    "11 files are not read: 3 .txt, 3 of the system, 2 hidden, "
  )
  assert files.told(type(found.unread)({".md": 1})) == "1 file is not read: 1 .md"
  many = type(found.unread)({f".{letter}": 2 for letter in "abcdefgh"})
  assert files.told(many) == ("16 files are not read: 2 .a, 2 .b, 2 .c, 2 .d, 2 .e, 2 .f, 4 others")


def test_a_pipe_is_no_picture(tmp_path):
  root = write(tmp_path, "train/cat/a.jpg")
  os.mkfifo(tmp_path / "train" / "cat" / "b.jpg")  # to open it would wait for ever
  found = Folder(root, "train")
  assert len(found) == 1 and found.unread.total() == 1


def test_blanks_and_letters_of_names_are_kept(tmp_path):
  names = ("  two ", "granny smith", "Äpfel", "日本 語")
  root = write(tmp_path / "my photos", *(f"train/{name}/a b.jpg" for name in names))
  assert Folder(root, "train").class_names == names


def test_a_name_that_is_not_utf8(tmp_path):
  root = write(tmp_path, "train/cat/a.jpg")
  os.mkdir(os.fsencode(f"{root}/train/") + b"caf\xe9")
  with pytest.raises(ValueError) as raised:
    Folder(root, "train")
  assert str(raised.value) == (
    f"the class b'caf\\xe9' in {root}/train has a name that is not UTF-8: rename the folder."
  )
  assert str(raised.value).isascii()


# Where splits are.


@pytest.mark.parametrize(
  "there, train, test",
  [
    (("train", "val"), "train", "val"),
    (("training", "valid"), "training", "valid"),
    (("Train", "Validation"), "Train", "Validation"),
    (("train", "val", "valid", "test"), "train", "val"),
    (("train", "test"), "train", "test"),
    (("train", "Testing"), "train", "Testing"),
  ],
)
def test_usual_spellings_are_found(there, train, test, tmp_path):
  root = write(tmp_path, *(f"{name}/cat/a.jpg" for name in there))
  assert folder.training_folder(root, "train", False) == train
  asked = "validation" if test == "Validation" else "val"
  assert folder.test_folder(root, "val", False) == folder.test_folder(root, asked, True) == test


def test_classes_without_splits_are_used_as_they_are_for_a_share(tmp_path):
  root = write(tmp_path, "cat/a.jpg", "dog/a.jpg", ".git/", "__MACOSX/", "readme.txt")
  assert folder.training_folder(root, "train", True) == "."
  assert folder.test_folder(root, "val", True) == ""
  assert Folder(root, ".").class_names == ("cat", "dog")
  with pytest.raises(ValueError) as raised:
    folder.training_folder(root, "train", False)
  assert str(raised.value) == (
    f"there is no folder {root}/train: images are expected in {root}/train/CLASS/; where cat, "
    "dog are the classes, --config.data.test_share=0.2 tests on a fifth of the images."
  )


@pytest.mark.parametrize(
  "paths, find, sentence",
  [
    (
      ("set/train/cat/a.jpg", "set/val/cat/a.jpg"),
      lambda root: folder.training_folder(root, "train", True),
      "there is no folder {root}/train, but {root}/set has one: set --config.data.dir={root}/set.",
    ),
    (
      ("val/cat/a.jpg", "trian/cat/a.jpg"),
      lambda root: folder.training_folder(root, "train", True),
      "there is no folder {root}/train: images are expected in {root}/train/CLASS/; there is "
      "trian, "
      "val: name the folder with --config.data.train_split.",
    ),
    (
      ("train/cat/a.jpg", "test/cat/a.jpg", "testing/cat/a.jpg"),
      lambda root: folder.test_folder(root, "val_", True),
      "there is no folder {root}/val_: images are expected in {root}/val_/CLASS/; there is test, "
      "testing: set --config.data.test_split=test (or --config.data.test_split=, to test on a "
      "share "
      "of the training images).",
    ),
    (
      ("train/cat/a.jpg",),
      lambda root: folder.test_folder(root, "val", False),
      "there is no folder {root}/val: images are expected in {root}/val/CLASS/; set "
      "--config.data.test_share=0.2 to test on a fifth of the training images.",
    ),
    (
      ("train/cat/a.jpg", "val/cat/a.jpg"),
      lambda root: folder.split_folder(root, "tset"),
      "there is no folder {root}/tset: images are expected in {root}/tset/CLASS/; there is train, "
      "val.",
    ),
    (
      ("train/cat/a.jpg", "val/cat/a.jpg"),
      lambda root: folder.training_folder(root, "train[:80%]", True),
      "there is no folder {root}/train[:80%]: images are expected in {root}/train[:80%]/CLASS/; "
      "there is train, val; slices are for tfds datasets (of a folder, config.data.validation and "
      "test_share are shares): name the folder with --config.data.train_split.",
    ),
  ],
  ids=["deeper", "misspelt", "another test folder", "none", "any split", "a slice"],
)
def test_sentences_name_what_is_there_and_the_setting(paths, find, sentence, tmp_path):
  root = write(tmp_path, *paths)
  with pytest.raises(ValueError) as raised:
    find(root)
  assert str(raised.value) == sentence.format(root=root)


def test_other_splits_beside_the_runs_own(tmp_path):
  names = ("train", "training", "val", "Test", "holiday", "testing/runs")
  root = write(tmp_path, *(f"{name}/cat/a.jpg" for name in names if name != "testing/runs"))
  write(tmp_path, "testing/runs/config.json", "testing/runs/lock")  # a workdir is no split
  assert folder.siblings(root, ["train", "val"]) == ["Test", "training"]
  assert folder.siblings(root, ["./train", ""]) == ["Test", "training", "val"]
  assert folder.siblings(root, ["."]) == []  # there they are classes


def test_workdirs_inside_the_photos_are_no_class(tmp_path):
  root = write(tmp_path, "cat/a.jpg", "dog/a.jpg", "dog/run/config.json", "dog/run/curves.png")
  write(tmp_path, "dog/run/checkpoints/5/data", "runs/train/config.json", "runs/train/curves.png")
  write(tmp_path, "runs/train/lock", "runs/notes.txt", "own/config.json", "own/metrics.jsonl")
  assert folder.training_folder(root, "train", True) == "."
  found = Folder(root, ".")
  assert found.class_names == ("cat", "dog") and found.labels.tolist() == [0, 1]
  assert read_of(found, root) == ["cat/a.jpg", "dog/a.jpg"]
  assert found.unread == {files.WORKDIR: 3, ".txt": 1}


@pytest.mark.parametrize("names", [("train",), ("val",), ("test",), ("train/x", "val/y")])
def test_a_workdir_that_is_called_as_a_split(names, tmp_path):
  root = write(tmp_path, "cat/a.jpg", "dog/a.jpg")
  for name in names:
    write(tmp_path, f"{name}/config.json", f"{name}/lock", f"{name}/curves.png")
  assert folder.training_folder(root, "train", True) == "."
  assert folder.test_folder(root, "val", True) == ""
  assert Folder(root, ".").class_names == ("cat", "dog")


def test_no_test_split_on_purpose(tmp_path):
  root = write(tmp_path, "train/cat/a.jpg", "test/images/a.jpg")
  assert folder.test_folder(root, "", True) == ""


def test_identity_of_moved_renamed_and_replaced_files(tmp_path):
  root = write(tmp_path / "one", "train/cat/a.jpg", "train/cat/b.jpg", "train/dog/a.jpg")
  before = Folder(root, "train").identity()
  assert before["examples"] == 3
  moved = tmp_path / "two"
  os.rename(root, moved)
  assert Folder(str(moved), "train").identity() == before
  changes = [
    lambda: (moved / "train/cat/a.jpg").write_bytes(b"longer"),
    lambda: os.rename(moved / "train/cat/b.jpg", moved / "train/dog/b.jpg"),
    lambda: os.rename(moved / "train/dog/b.jpg", moved / "train/dog/c.jpg"),
  ]
  seen = [before]
  for change, field in zip(changes, ("sizes", "names", "names")):
    change()
    found = Folder(str(moved), "train").identity()
    assert found["examples"] == 3 and found[field] != seen[-1][field]
    seen.append(found)


def test_identity_by_any_name_of_the_folder(tmp_path, monkeypatch):
  root = pathlib.Path(write(tmp_path, "cat/a.jpg", "bat/a.jpg"))
  before = Folder(str(root), ".").identity()
  monkeypatch.chdir(root)
  assert Folder(".", ".").identity() == Folder("../" + root.name, ".").identity() == before
  (root / "bat").rename(root / "rat")  # one letter, the first
  assert Folder(".", ".").identity()["names"] != before["names"]


def test_identity_of_an_exchange_of_two_files(tmp_path):
  root = pathlib.Path(write(tmp_path, "train/cat/a.jpg"))
  write(root, "train/dog/a.jpg", content=b"dog")
  before = Folder(str(root), "train").identity()
  for source, target in (("cat", "t"), ("dog", "cat"), ("t", "dog")):
    os.rename(root / "train" / source, root / "train" / target)
  after = Folder(str(root), "train").identity()
  assert after["names"] == before["names"] and after["sizes"] != before["sizes"]
