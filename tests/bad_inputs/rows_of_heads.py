"""Rows: a trained network has other classes than the data, or its names say nothing of them."""

import shutil

from rows import DIGITS, FOLDER, GO_ON, HEADS, TAUGHT, TRAIN, TUNED, Row, by_torchvision

MATCH = " --config.teacher.head=match"
TAUGHT_PHOTOS = FOLDER.replace("baseline", "B") + "--config.teacher.init={place}/net.safetensors "


def names(text):
  """A file of names, and the digits' network by torchvision's names, which knows none."""

  def make(place, made):
    (place / "names.txt").write_text(text)
    by_torchvision(made["trained"], place / "net.safetensors")

  return make


def photos(text):
  """Such ones, and photos."""
  return lambda place, made: [
    shutil.copytree(made["data"], place / "data"),
    names(text)(place, made),
  ]


def gone(place, made):
  """A run of scheme B whose teacher is not there any more."""
  shutil.copytree(made["begun"], place / "run")
  config = place / "run" / "config.json"
  config.write_text(config.read_text().replace('"scheme": "baseline"', '"scheme": "B"'))


ROWS = [
  Row(
    "an unknown head",
    TRAIN + "--config.teacher.head=nwe",
    "config.teacher.head 'nwe' does not exist: did you mean 'new'?",
  ),
  Row(
    "a head of no network",
    TRAIN + "--config.student.head=match",
    "config.student.head is 'match', and config.student.init names no network to take.",
  ),
  Row(
    "a student without a name",
    GO_ON + "--config.student.name=",
    "config.student.name is empty: name a network, such as resnet20, or give a trained one with "
    "config.student.init.",
  ),
  Row(
    "a network that has no name of ours",
    TAUGHT + "{place}/net.safetensors --config.teacher.name=",
    "{place}/net.safetensors holds no ResNet of known sizes: give one of our networks, and its "
    "name as "
    "config.teacher.name.",
    lambda place, made: by_torchvision(made["trained"], place / "net.safetensors", "stem_norm"),
  ),
  Row(
    "a teacher of classes in another order",
    TAUGHT + "{trained} --config.teacher.classes={place}/names.txt",
    "{trained} has the classes 1, 0, 2, 3, 4, 5, 6, 7, 8, 9, and the data have 0, 1, 2, 3, 4, 5, "
    "6, 7, 8, 9: " + HEADS + ".",
    names("\n".join("1023456789")),
  ),
  Row(
    "a teacher of unknown classes",
    TAUGHT + "{place}/net.safetensors" + MATCH,
    "{place}/net.safetensors does not say which classes its outputs are, as "
    "config.teacher.head=match needs it: give "
    "--config.teacher.classes=FILE with one name a line, or imagenet.",
    names(""),
  ),
  Row(
    "a teacher without one of the classes",
    TAUGHT + "{place}/net.safetensors --config.teacher.classes={place}/names.txt" + MATCH,
    "{place}/net.safetensors lacks 1 of the 10 classes of the data: '9'; name its classes as the "
    "data do with "
    "--config.teacher.classes=FILE, or use --config.teacher.head=new.",
    names("\n".join("012345678a")),
  ),
  Row(
    "a teacher with a class twice",
    TAUGHT_PHOTOS + "--config.teacher.classes={place}/names.txt" + MATCH,
    "{place}/net.safetensors has more than one class 'a': 'a', 'a'; name its classes as the data "
    "do with "
    "--config.teacher.classes=FILE, or use --config.teacher.head=new.",
    photos("\n".join("abcadefghi")),
  ),
  Row(
    "more names than outputs",
    TAUGHT + "{place}/net.safetensors --config.teacher.classes=imagenet" + MATCH,
    "{place}/net.safetensors has 10 outputs, and 1,000 names of classes are given for them: see "
    "config.teacher.classes.",
    names(""),
  ),
  Row(
    "no file of names",
    TAUGHT + "{trained} --config.teacher.classes={place}/names.txt",
    "config.teacher.classes: cannot read {place}/names.txt: No such file or directory.",
  ),
  Row(
    "a file of names with a gap",
    TUNED + "{trained} --config.student.classes={place}/names.txt",
    "config.student.classes: {place}/names.txt has no name on line 2: it must have the name of a "
    "class on each line.",
    names("0\n\n1\n"),
  ),
  Row(
    "a teacher of another number of unnamed classes",
    TAUGHT_PHOTOS + "--config.teacher.name= --config.teacher.head=",
    "{place}/net.safetensors holds another network: a resnet8 for 10 classes, not 3, for 1-channel "
    "images, not 3 "
    "(fc.bias is (10,), not (3,); fc.weight is (10, 16), not (3, 16); conv1.weight is (4, 1, 3, "
    "3), not (4, 3, 3, 3)): "
    "use --config.teacher.head=match or --config.teacher.head=new.",
    photos(""),
  ),
  Row(
    "a new head to score",
    f"eval {DIGITS} --model={{trained}} --config.student.head=new",
    "{trained} would have a head that is not trained: config.student.head=new is for `train`.",
  ),
  Row(
    "a begun run's teacher that is gone",
    TAUGHT + "{place}/none",
    "config.teacher.init={place}/none is not there any more: bring the network back, or say where "
    "it is now; the run "
    "goes on with the same one from any place.",
    gone,
  ),
]
