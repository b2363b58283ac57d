"""Names of classes: read, and found in other lists."""

import pathlib
import subprocess
import sys
import unicodedata

import pytest
import tools

from apprentice_jax.data import class_names

ROOT = pathlib.Path(__file__).parents[2]
# Imagenette's folders, and where https://github.com/fastai/imagenette has them among ImageNet's
# classes.
IMAGENETTE = {
  "n01440764": 0,
  "n02102040": 217,
  "n02979186": 482,
  "n03000684": 491,
  "n03028079": 497,
  "n03394916": 566,
  "n03417042": 569,
  "n03425413": 571,
  "n03445777": 574,
  "n03888257": 701,
}


def test_imagenet_is_ilsvrcs():
  """tfds lists the same ids, for its reduced ImageNet, in another order."""
  import tensorflow_datasets as tfds

  names = class_names.imagenet()
  ids = [name.split()[0] for name in names]
  folder = pathlib.Path(tfds.__file__).parent / "image_classification"
  assert (
    ids == sorted((folder / "imagenet_resized_labels.txt").read_text().split()) and len(ids) == 1000
  )
  assert ids == sorted(set(ids))
  assert (names[0], names[207].split(" ", 1)[1]) == (
    "n01440764 tench, Tinca tinca",
    "golden retriever",
  )
  assert class_names.read("imagenet") == names


def test_imagenettes_ten_of_imagenet():
  assert class_names.places(IMAGENETTE, class_names.imagenet()) == tuple(IMAGENETTE.values())
  english = [
    "tench",
    "English_springer",
    "Cassette player",
    "chain saw",
    "church",
    "French  horn",
    "garbage truck",
    "gas pump",
    "golf ball",
    "parachute",
  ]
  assert class_names.places(english, class_names.imagenet()) == tuple(IMAGENETTE.values())


@pytest.mark.parametrize(
  "wanted, names, found",
  [
    ("cab", "abc", (2, 0, 1)),
    (["Cat", "cat"], ["cat", "dog", "Cat"], (2, 0)),  # to the letter first
    (["b a", "caf\u00e9"], ["CAFE\u0301", "B_A"], (1, 0)),
  ],
)
def test_places(wanted, names, found):
  assert class_names.places(wanted, names) == found


@pytest.mark.parametrize(
  "wanted, names, sentence",
  [
    ("axyb", "abc", "lacks 2 of the 4 classes of the data: 'x', 'y'"),
    (
      ["apple", *map(str, range(7))],
      ["apple"],
      "lacks 7 of the 8 classes of the data: '0', '1', '2', '3', '4' and 2 more",
    ),
    (["A_B"], ["a b", "a_b"], "has more than one class 'A_B': 'a b', 'a_b'"),
    (["Cat", "CAT"], ["cat"], "has one class, 'cat', for both 'Cat' and 'CAT' of the data"),
    (
      ["crane"],
      class_names.imagenet(),
      "has more than one class 'crane': 'n02012849 crane', 'n03126707 crane'",
    ),
  ],
)
def test_classes_that_cannot_be_placed(wanted, names, sentence):
  with pytest.raises(ValueError) as error:
    class_names.places(wanted, names)
  assert str(error.value) == sentence


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
  "some, others, clause",
  [
    (
      (COMPOSED,),
      (DECOMPOSED,),
      f"'{COMPOSED}' (caf\\xe9) and '{DECOMPOSED}' (cafe\\u0301) differ only in Unicode normal "
      "form",
    ),
    (("Kiwi", "plum"), ("kiwi", "plum"), "'Kiwi' and 'kiwi' differ only in letter case"),
    (
      ("granny smith",),
      ("granny  smith ",),
      "'granny smith' and 'granny  smith ' differ only in blanks",
    ),
    (
      ("Granny  Smith",),
      ("granny smith",),
      "'Granny  Smith' and 'granny smith' differ only in letter case and blanks",
    ),
    (("gas_pump",), ("gas pump",), "'gas_pump' and 'gas pump' differ only in underscores"),
    (("\uff41",), ("a",), "'\uff41' (\\uff41) and 'a' differ only in Unicode normal form"),
    (("gaspump",), ("gas pump",), "gas pump, gaspump differ"),
    (("a", "b"), ("b", "c"), "a, c differ"),
    (("a", "b"), ("b", "a"), "their order differ"),
    (("a", "A"), ("a", "A", "b"), "b differ"),
  ],
  ids=[
    "form",
    "case",
    "blanks",
    "both",
    "underscores",
    "wide",
    "words",
    "others",
    "order",
    "twins on both sides",
  ],
)
def test_how_names_differ(some, others, clause):
  """Names that are told as alike are those that are found for one another, and no others."""
  assert class_names.difference(some, others) == clause
  if "only in" in clause:
    assert class_names.places(some, others) == tuple(map(others.index, others))
  elif "order" not in clause:
    with pytest.raises(ValueError, match="lacks"):
      class_names.places(others, some)


def test_a_file_has_one_name_a_line(tmp_path):
  file = tmp_path / "names.txt"
  file.write_bytes("\ufeffcat\r\n r\u00f6d dog \r\n\r\n".encode())
  assert class_names.read(str(file)) == ("cat", "r\u00f6d dog")


@pytest.mark.parametrize(
  "content, sentence",
  [
    (None, "cannot read {}: No such file or directory."),
    (b"\n", "{} has no names: it must have the name of a class on each line."),
    (b"a\n\nb\n", "{} has no name on line 2: it must have the name of a class on each line."),
    (b"caf\xe9\n", "{} is no text in UTF-8: it must have the name of a class on each line."),
  ],
)
def test_files_without_names(content, sentence, tmp_path):
  file = tmp_path / "names.txt"
  if content is not None:
    file.write_bytes(content)
  with pytest.raises(ValueError) as error:
    class_names.read(str(file))
  assert str(error.value) == sentence.format(file)


def test_imagenets_names_are_installed(tmp_path):
  """By the package's own build, which takes only what setup.cfg declares."""
  tools.module("setuptools")
  for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
    (tmp_path / name).write_bytes((ROOT / name).read_bytes())
  (tmp_path / "apprentice_jax").symlink_to(ROOT / "apprentice_jax")
  subprocess.run(
    [
      sys.executable,
      "-c",
      "import setuptools; setuptools.setup()",
      "-q",
      "build_py",
      "--build-lib",
      "built",
    ],
    cwd=tmp_path,
    check=True,
    capture_output=True,
  )
  installed = tmp_path / "built" / "apprentice_jax" / "data" / "imagenet_classes.txt"
  assert installed.read_text().splitlines() == list(class_names.imagenet())
