"""Rows: what is wrong is with an exported file, or with the images it is asked about."""

import json
import pathlib
import re

from PIL import Image
from rows import DIGITS, Row, file, half

from apprentice_jax.deploy import stablehlo
from apprentice_jax.training import export

PREDICT = "predict --model={place}/student "


def exported(name="packed", which="of_photos", change=lambda place: None):
  """The network of a workdir, exported to {place}/student, and then changed by change(place)."""

  def make(place, made):
    export.export(made[which], name, place / "student")
    Image.new("RGB", (30, 20)).save(place / "image.png")
    change(place)

  return make


def rewrite(content):
  """Changes the bytes of the exported file."""

  def change(place):
    (place / "student").write_bytes(content((place / "student").read_bytes()))

  return change


def by_another_jax(place):
  """A program that no jax runs, of a version that is not this one's."""
  sidecar = json.loads((place / "student.json").read_text()) | {"jax": "0.1.2"}
  sidecar["sha256"] = stablehlo._checksum(b"later", sidecar)
  (place / "student").write_bytes(b"later")
  (place / "student.json").write_text(json.dumps(sidecar))


def empty_folder(place):
  (place / "folder").mkdir()


def folder_of_text(place):
  for name in ("a.txt", "b.txt"):
    (place / "folder" / "deep").mkdir(parents=True, exist_ok=True)
    (place / "folder" / "deep" / name).write_text("text")


def forbid(name):
  return lambda place: pathlib.Path(place / name).chmod(0)


ROWS = [
  Row(
    "predict without a network",
    "predict {place}/image.png",
    "this command needs --model=...; see apprentice --help.",
    file("image.png"),
  ),
  Row(
    "predict with two networks",
    PREDICT + "--workdir={of_photos} {place}/image.png",
    "predict takes --model or --workdir, not both.",
    exported(),
  ),
  Row(
    "predict with a network by a wrong name",
    "predict --model=resnet8-cifar-8a4w {place}/image.png",
    "there is no file resnet8-cifar-8a4w, and no network of this name: did you mean "
    "'resnet8-cifar10-8a4w'?",
    file("image.png"),
  ),
  Row(
    "predict nothing",
    PREDICT,
    "predict takes images, or folders of them: apprentice predict --model=FILE IMAGE...",
    exported(),
  ),
  Row(
    "predict no class",
    PREDICT + "--top=0 {place}/image.png",
    "flag --top=0: 0 is not a positive integer",
    exported(),
  ),
  Row(
    "predict with another command's flag",
    PREDICT + "--split=test {place}/image.png",
    "predict takes no --split: see apprentice --help.",
    exported(),
  ),
  Row(
    "predict with a folder that is no workdir",
    "predict --workdir={place} {place}/image.png",
    "{place} is not a workdir: it has no config.json.",
    file("image.png"),
  ),
  Row(
    "predict with a folder as a file",
    "predict --model={of_photos} {place}/image.png",
    re.compile(
      r"cannot read .*/of_photos: it is a folder; `apprentice predict --workdir=DIR` "
      r"takes a workdir\."
    ),
    file("image.png"),
  ),
  Row(
    "predict an image that is not there",
    PREDICT + "{place}/none.png",
    "cannot read {place}/none.png: No such file or directory.",
    exported(),
  ),
  Row(
    "predict an image that may not be read",
    PREDICT + "{place}/image.png",
    "cannot read {place}/image.png: Permission denied.",
    exported(change=forbid("image.png")),
  ),
  Row(
    "predict a text",
    PREDICT + "{place}/image.png {place}/student",
    "{place}/student is no image that can be read (cannot identify image file).",
    exported(),
  ),
  Row(
    "predict an empty folder",
    PREDICT + "{place}/folder",
    "there is no image in the folder {place}/folder.",
    exported(change=empty_folder),
  ),
  Row(
    "predict a folder of texts",
    PREDICT + "{place}/folder",
    "there is no image in the folder {place}/folder: 2 files are not read: "
    "2 .txt ({place}/folder/deep/a.txt, {place}/folder/deep/b.txt).",
    exported(change=folder_of_text),
  ),
  Row(
    "predict with a text",
    "predict --model={place}/text {place}/image.png",
    "cannot read {place}/text: it is of no format that export writes "
    "(packed, onnx, c, web, stablehlo).",
    file("text"),
  ),
  Row(
    "predict with half a packed file",
    PREDICT + "{place}/image.png",
    "cannot read {place}/student: it is damaged: its checksum is not that of its bytes.",
    exported(change=rewrite(half)),
  ),
  Row(
    "predict with half an ONNX file",
    PREDICT + "{place}/image.png",
    "cannot read {place}/student: it is damaged: its checksum is not that of its content.",
    exported("onnx", change=rewrite(half)),
  ),
  Row(
    "predict with half a StableHLO file",
    PREDICT + "{place}/image.png",
    "cannot read {place}/student: it is damaged: it and {place}/student.json do not belong "
    "together.",
    exported("stablehlo", change=rewrite(half)),
  ),
  Row(
    "predict with a file of another jax",
    PREDICT + "{place}/image.png",
    re.compile(
      r"cannot read .*/student: jax 0\.1\.2 wrote it, and jax [\d.]+ cannot run it \(.*\): "
      r"jax runs files of jaxes up to 6 months older or 3 weeks newer; install "
      r"jax==0\.1\.2, or export the network again\."
    ),
    exported("stablehlo", change=by_another_jax),
  ),
  Row(
    "predict with a file that may not be read",
    PREDICT + "{place}/image.png",
    "cannot read {place}/student: Permission denied.",
    exported(change=forbid("student")),
  ),
  Row(
    "score a file that may not be read",
    f"eval {DIGITS} --model={{place}}/student",
    "cannot read {place}/student: Permission denied.",
    exported(change=forbid("student")),
  ),
  Row(
    "a page without a heading",
    "export --model=resnet8-cifar10-8a2w --format=web --title= --out={place}/page.html",
    "--title is empty: write a heading for the page, or leave it out.",
  ),
  Row(
    "score a file of other classes",
    f"eval {DIGITS} --model={{place}}/student",
    "the network knows other classes than the dataset: 0, 1, 2, 3, 4 differ.",
    exported(),
  ),
]
