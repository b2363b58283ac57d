"""Bad inputs, each with the sentence it gets: the command says what is wrong, and nothing is lost.

`ROWS` is the table: how the command line or the files are wrong, and the whole sentence. For every
row the command ends with status 2 and one line on stderr, and no file changes apart from those that
the row names and the workdir's lock. Below it are those that take more than one command: what stops
a run that has begun, and what the same command does once the obstacle is gone.

In commands and sentences, {place} is the row's own folder, {run} the workdir in it, {data} the
photos in it; {digits} and {photos} are config files; {trained} and {of_photos} are workdirs of
networks for the digits and for three classes of photos, and {begun} of one that has not finished.
"""

import contextlib
import ctypes
import fcntl
import fnmatch
import os
import pathlib
import re
import resource
import shutil
import struct
import subprocess
import sys
from typing import Callable, NamedTuple

import jax
import numpy as np
from PIL import Image
import pytest

from apprentice_jax import bench, cli, report
from apprentice_jax.training import inputs, loop, metrics
from apprentice_jax.training import run as running
from apprentice_jax.training.checkpoint import Checkpoints

ROOT = pathlib.Path(__file__).parents[1]

SMALL = "student=resnet8,teacher=resnet8,width=0.25"
SHORT = ("--config.recipe.student.epochs=0.5 --config.recipe.finetune.epochs=0.5 "
         "--config.steps_per_dispatch=5 --config.checkpoint.every_epochs=0.2")
DIGITS = f"--config={{digits}}:{SMALL},scheme=baseline,precision=32A32W {SHORT}"
PHOTOS = (f"--config={{photos}}:{SMALL},scheme=baseline,precision=32A32W "
          "--config.data.image_size=8 --config.data.resize=8 --config.batch_size=8 "
          "--config.recipe.student.epochs=2 --config.recipe.student.warmup_epochs=0.5 "
          "--config.steps_per_dispatch=1")

TRAIN = "train --config={digits} --workdir={run} "  # refused before anything is trained
STUDY = "study --config={digits} --workdir={run} "
FILE = "train --config={place}/mine.py --workdir={run} "
FOLDER = f"train {PHOTOS} --config.data.dir={{data}} --workdir={{run}} "
GO_ON = f"train {DIGITS} --workdir={{run}} "
TAUGHT = f"train {DIGITS.replace('baseline', 'B')} --workdir={{run}} --config.teacher.init="
TUNED = (f"train {DIGITS.replace('baseline', 'C')} --workdir={{run}} "
         "--config.teacher.init={trained} --config.student.init=")


class Row(NamedTuple):
  """A bad input.

  Attributes:
    name: what is wrong.
    command: the command line.
    sentence: what it says, in whole; a pattern where a part depends on the machine.
    make: lays out the files: make(place, made).
    changes: patterns of files that may change or appear all the same.
    absent: a package that is not installed.
    bug: what is not as it should be yet.
  """
  name: str
  command: str
  sentence: object
  make: Callable = lambda place, made: None
  changes: tuple[str, ...] = ()
  absent: str = ""
  bug: str = ""


# How files are made wrong.


def config_file(*lines):
  """A config file of these lines."""
  def make(place, made):
    (place / "mine.py").write_text("\n".join(
        ["from apprentice_jax import config as base", *lines]) + "\n")
  return make


def body(*lines, argument='argument=""'):
  """A config file whose get_config has these lines."""
  return config_file(f"def get_config({argument}):", "  config = base.base()",
                     "  config.data.name = 'digits'", *("  " + line for line in lines),
                     "  return config")


def folder(change):
  """The photos, changed by change(folder)."""
  def make(place, made):
    shutil.copytree(made["data"], place / "data")
    change(place / "data")
  return make


def overwrite(pattern, content):
  def change(place):
    found = sorted(p for p in place.glob(pattern) if p.is_file())
    assert found
    for path in found:
      path.write_bytes(content(path.read_bytes()) if callable(content) else content)
  return change


def half(content):
  return content[:len(content) // 2]


def copy(which, change=lambda place: None):
  """A workdir, copied to {run} and changed by change(workdir)."""
  def make(place, made):
    shutil.copytree(made[which], place / "run")
    change(place / "run")
  return make


def photos_since(change):
  """A run on the photos that has not finished, and the photos as they are by now."""
  def make(place, made):
    folder(change)(place, made)
    shutil.copytree(made["of_photos"], place / "run")
    shutil.rmtree(place / "run" / "checkpoints" / "6")
    (place / "run" / "result.json").unlink()
  return make


def file(name, content=b"hello"):
  def make(place, made):
    (place / name).write_bytes(content)
  return make


def torch_file(content):
  def make(place, made):
    torch = pytest.importorskip("torch")
    torch.save(content(torch), place / "teacher.pth")
  return make


def steps(workdir):
  return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


def corrupt(*places):
  """Damages the largest file of the oldest (0), ... or newest (-1) checkpoint."""
  def change(workdir):
    for i in places:
      state = workdir / "checkpoints" / str(steps(workdir)[i]) / "state"
      largest = max((p for p in state.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
      largest.write_bytes(half(largest.read_bytes()))
  return change


def permit(name, mode):
  return lambda place: (place / name).chmod(mode)


# The table.

LOCKED = re.compile(r"another run is writing to .*/run \(a run of the test\): wait for its end, or "
                    r"choose another --workdir\.")
OTHER_CLASSES = " was trained on other classes than those of the dataset now: "
BROKEN = re.compile(r"none of the checkpoints in .*/checkpoints can be read \(.* is not what was "
                    r"written\): delete the workdir to start again, or bring one back from a "
                    r"copy\.")
DAMAGED = ("{run}/config.json is damaged: write it anew with the run's own config, or choose "
           "another --workdir.")
KEPT = "; what was saved before is kept, and the same command continues from there."

ROWS = [
    # The command line.
    Row("unknown command", "trian", "command 'trian' does not exist: did you mean 'train'?"),
    Row("no config", "train", "this command needs --config=...; see apprentice --help."),
    Row("no workdir", "train --config={digits}",
        "this command needs --workdir=...; see apprentice --help."),
    Row("nothing to score", "eval", "this command needs --workdir=...; see apprentice --help."),
    Row("a model without a config", "eval --model=resnet20.th",
        "this command needs --config=...; see apprentice --help."),
    Row("unknown flag", "train --config={digits} --wordkir={run}",
        "flag --wordkir does not exist: did you mean '--workdir'?"),
    Row("a flag without a value", "train --config={digits} --workdir",
        "Missing value for flag --workdir"),
    Row("a word without dashes", "train digits",
        "unexpected argument 'digits': flags are written --name=value."),
    Row("--config without =", "train --config {digits}",
        "a config is given as --config=FILE, with an equals sign."),
    Row("a field without a config", "train --workdir={run} --config.batch_size=64",
        "--config.batch_size changes a config: give one with --config=FILE."),
    Row("two configs", TRAIN + "--config={digits} --config.seed=1",
        "--config is given more than once."),
    Row("another command's flag", TRAIN + "--data_dir={data}",
        "train takes no --data_dir: see apprentice --help."),
    Row("a config for a workdir that has one", "eval --workdir={trained} --config={digits}",
        "eval takes --workdir, or --model and --config: see apprentice --help."),
    Row("unknown split", "eval --workdir={trained} --split=tset",
        "flag --split=tset: value should be one of <test|validation|train>"),
    Row("a report that cannot be written", "bench --config={digits} --out={place}/none/bench.json",
        "cannot write {place}/none/bench.json: there is no folder {place}/none."),

    # Config files.
    Row("missing config file", "train --config=digit.py --workdir={run}",
        "there is no config file 'digit.py'."),
    Row("a syntax error", FILE,
        "config file {place}/mine.py, line 2: SyntaxError: '(' was never closed.",
        config_file("config = (")),
    Row("an unknown name", FILE,
        "config file {place}/mine.py, line 3: NameError: name 'confg' is not defined.",
        config_file("def get_config(argument=''):", "  return confg")),
    Row("a missing module", FILE,
        "config file {place}/mine.py, line 2: ModuleNotFoundError: No module named "
        "'no_such_module'.", config_file("import no_such_module")),
    Row("no get_config", FILE, "config file {place}/mine.py has no get_config(argument).",
        config_file("config = base.base()")),
    Row("nothing returned", FILE, "config file {place}/mine.py: get_config returns no config, but "
        "NoneType.", config_file("def get_config(argument=''):", "  base.base()")),
    Row("a field of the wrong type", FILE,
        "config file {place}/mine.py, line 5: TypeError: Could not override field 'batch_size' "
        "(reference). many is of original type <class 'str'> and cannot be casted to type <class "
        "'int'>.", body("config.batch_size = 'many'")),
    Row("an argument that is not taken", "train --config={place}/mine.py:scheme=A --workdir={run}",
        "config file {place}/mine.py: TypeError: get_config() takes 0 positional arguments but 1 "
        "was given.", body(argument="")),
    Row("a misspelt field", FILE, "config.data.nmae does not exist: did you mean 'data.name'?",
        body("config.data.nmae = 'digits'")),
    Row("a missing field", FILE,
        "config.seed is missing: build the config on apprentice_jax.config.base().",
        body("del config.seed")),

    # Config arguments.
    Row("unknown argument", "train --config={digits}:schem=A --workdir={run}",
        "config argument 'schem' does not exist: did you mean 'scheme'?"),
    Row("a comma in a precision", "train --config={digits}:precision=8A,2W --workdir={run}",
        "in a config argument a precision has no comma: write precision=8A2W"),
    Row("a width in words", "train --config={digits}:width=wide --workdir={run}",
        "config argument width takes a number: 'width=wide'"),
    Row("runlocal or not", "train --config={digits}:runlocal=maybe --workdir={run}",
        "config argument runlocal is 'maybe': write runlocal or runlocal=False."),
    Row("an argument without a value", "train --config={digits}:student --workdir={run}",
        "config argument student needs a value: write student=..."),

    # Fields.
    Row("unknown field", TRAIN + "--config.batchsize=64",
        "flag --config.batchsize does not exist: did you mean '--config.batch_size'?"),
    Row("text for a number", TRAIN + "--config.batch_size=many",
        "flag --config.batch_size=many: invalid literal for int() with base 10: 'many'"),
    Row("a fraction for a whole number", TRAIN + "--config.batch_size=1.5",
        "flag --config.batch_size=1.5: invalid literal for int() with base 10: '1.5'"),
    Row("text for yes or no", TRAIN + "--config.data.flip=maybe",
        "flag --config.data.flip=maybe: ('Non-boolean argument to boolean flag', 'maybe')"),
    Row("text in a list of numbers", TRAIN + "--config.recipe.student.milestones=('half',)",
        "config.recipe.student.milestones is ('half',): it must be a list of numbers."),
    Row("an unclosed list", TRAIN + "--config.data.mean=(0.5",
        "config.data.mean is ('(0.5',): it must be a list of numbers."),
    Row("half a precision", TRAIN + "--config.precision=8A",
        "config: precision '8A' is not one: write activation and weight bits as in '8A,2W', each 1 "
        "to 8, or 32 for full precision."),
    Row("too many bits", TRAIN + "--config.precision=8A,9W",
        "config: precision '8A,9W' is not one: write activation and weight bits as in '8A,2W', "
        "each 1 to 8, or 32 for full precision."),
    Row("bits that a quantizer cannot do",
        TRAIN + "--config.quantization.weights=twn --config.precision=8A,4W",
        "config: weight quantizer 'twn' cannot do 4 bits: use wrpn or dorefa or lsq."),
    Row("unknown weight quantizer", TRAIN + "--config.quantization.weights=twm",
        "config: weight quantizer 'twm' does not exist: did you mean 'twn'?"),
    Row("unknown activation quantizer", TRAIN + "--config.quantization.activations=pcat",
        "config: activation quantizer 'pcat' does not exist: did you mean 'pact'?"),
    Row("unknown scale", TRAIN + "--config.quantization.wrpn_scale=maximum",
        "config: wrpn_scale 'maximum' is not one: choose 'max' or 'unit'."),
    Row("a layer that is not there", TRAIN + "--config.quantization.full_precision=('stem','haed')",
        "config.quantization.full_precision has 'haed', which no layer of resnet8 matches: did you "
        "mean 'head'?"),
    Row("unknown scheme", TRAIN + "--config.scheme=D",
        "config.scheme 'D' does not exist: choose one of baseline, A, B, C, C-control"),
    Row("unknown type of floats", TRAIN + "--config.dtype=float16",
        "config.dtype 'float16' does not exist: did you mean 'bfloat16'?"),
    Row("unknown schedule", TRAIN + "--config.recipe.student.schedule=cosin",
        "config.recipe.student.schedule 'cosin' does not exist: did you mean 'cosine'?"),
    Row("unknown network", TRAIN + "--config.student.name=resnet9",
        "config: network 'resnet9' does not exist: did you mean 'resnet8'?"),
    Row("unknown shortcut", TRAIN + "--config.student.shortcut=padding",
        "config: shortcut 'padding' does not exist: choose 'pad' or 'conv'."),
    Row("no width", TRAIN + "--config.student.width=0",
        "config: width 0.0 leaves no channels: it multiplies 16 (6n+2) or 64 (ImageNet)."),
    Row("infinite width", TRAIN + "--config.student.width=inf",
        "config.student.width is inf: it must be finite."),
    Row("a batch that devices cannot share", TRAIN + "--config.batch_size=60",
        "config.batch_size is 60: it must be a multiple of the 8 devices."),
    Row("a batch larger than the set", TRAIN + "--config.batch_size=2048",
        "config.batch_size is 2048, but digits has only 1437 training examples."),
    Row("an empty batch", TRAIN + "--config.batch_size=0",
        "config.batch_size is 0: it must be at least 1."),
    Row("a negative batch", TRAIN + "--config.batch_size=-8",
        "config.batch_size is -8: it must be at least 1."),
    Row("epochs that are no number", TRAIN + "--config.recipe.student.epochs=nan",
        "config.recipe.student.epochs is nan: it must be finite."),
    Row("endless epochs", TRAIN + "--config.recipe.teacher.epochs=inf",
        "config.recipe.teacher.epochs is inf: it must be finite."),
    Row("less than a step", GO_ON + "--config.recipe.student.epochs=0.001",
        "config.recipe.student.epochs: 0.001 epochs of 1437 examples are less than a step."),
    Row("less than a step after a teacher", TRAIN + "--config.recipe.student.epochs=0.001",
        "config.recipe.student.epochs: 0.001 epochs of 1437 examples are less than a step."),
    Row("a negative rate", TRAIN + "--config.recipe.student.learning_rate=-0.1",
        "config.recipe.student.learning_rate is -0.1: it must be at least 0."),
    Row("an infinite rate", TRAIN + "--config.recipe.student.learning_rate=inf",
        "config.recipe.student.learning_rate is inf: it must be finite."),
    Row("no temperature", TRAIN + "--config.loss.temperature=0",
        "config.loss.temperature is 0.0: it must be above 0."),
    Row("an infinite temperature", TRAIN + "--config.loss.temperature=inf",
        "config.loss.temperature is inf: it must be finite."),
    Row("a weight that is no number", TRAIN + "--config.loss.alpha=nan",
        "config.loss.alpha is nan: it must be finite."),
    Row("unknown parameter to decay", TRAIN + "--config.recipe.student.decay=('kernal',)",
        "config.recipe.student.decay has 'kernal': did you mean 'kernel'?"),
    Row("a milestone after the end", TRAIN + "--config.recipe.student.milestones=(0.5,1.5)",
        "config.recipe.student.milestones is (0.5, 1.5): they are fractions of the run, between 0 "
        "and 1."),
    Row("a negative seed", TRAIN + "--config.seed=-1", "config.seed is -1: it must be at least 0."),
    Row("a seed beyond 64 bits", TRAIN + "--config.seed=99999999999999999999",
        "config.seed is 99999999999999999999, config.study.seeds (0, 1): they must be below "
        "4294967296."),
    Row("no checkpoint to keep", TRAIN + "--config.checkpoint.keep=0",
        "config.checkpoint.keep is 0: it must be at least 1."),
    Row("all held out", TRAIN + "--config.data.validation=1437",
        "config.data.validation is 1437, but digits has only 1437 training examples."),
    Row("scores of nothing", TRAIN + "--config.eval.every_epochs=1",
        "config.eval.every_epochs scores held-out images, but config.data.validation holds out "
        "none."),
    Row("a final score of nothing", TRAIN + "--config.eval.final=validation",
        "config.eval.final is 'validation', but config.data.validation holds out no examples."),
    Row("a mean without std", TRAIN + "--config.data.mean=(0.5,0.5,0.5)",
        "config.data.mean and config.data.std must have one value per channel, std above 0."),
    Row("no std", TRAIN + "--config.data.std=(0.0,)",
        "config.data.mean and config.data.std must have one value per channel, std above 0."),
    Row("means of other channels",
        TRAIN + "--config.data.mean=(0.5,0.5,0.5) --config.data.std=(0.5,0.5,0.5)",
        "config.data.mean has 3 values, but the images of digits have 1 channels."),
    Row("unknown way with unreadable images", FOLDER + "--config.data.unreadable=skp",
        "config.data.unreadable 'skp' does not exist: did you mean 'skip'?"),
    Row("no size for photos", FOLDER + "--config.data.image_size=0",
        "config.data.image_size is 0: images of a folder are streamed, cropped to a size such as "
        "224."),
    Row("a resize below the crop", FOLDER + "--config.data.resize=4",
        "config.data.resize is 4: it must be at least data.image_size, 8."),
    Row("crops beyond the image", FOLDER + "--config.data.crop_area=(0.5,2.0)",
        "config.data.crop_area is (0.5, 2.0): it must be a least and a largest value of 1 at "
        "most."),
    Row("crops from large to small", FOLDER + "--config.data.crop_ratio=(1.5,0.5)",
        "config.data.crop_ratio is (1.5, 0.5): it must be a least and a largest value."),

    # Data.
    Row("unknown dataset", TRAIN + "--config.data.name=digit",
        "unknown dataset 'digit' (neither in {place}/tfds nor known to tfds): did you mean "
        "'digits'?"),
    Row("a folder's name misspelt", FOLDER + "--config.data.name=imagefolder",
        "unknown dataset 'imagefolder' (neither in {data} nor known to tfds): did you mean "
        "'image_folder'?", folder(lambda data: None)),
    Row("a dataset that is not prepared", TRAIN + "--config.data.name=cifar10",
        "dataset 'cifar10' is not prepared in {place}/tfds: prepare it with `apprentice prepare "
        "--dataset=cifar10`, which needs the [prepare] extra."),
    Row("no such folder of datasets", TRAIN + "--config.data.dir={place}/none",
        "data_dir {place}/none does not exist: give the folder that holds the prepared datasets."),
    Row("no such training split", TRAIN + "--config.data.train_split=trian",
        "dataset digits/1.0.0 has no split 'trian': use one of train, test."),
    Row("no such test split", TRAIN + "--config.data.test_split=validation",
        "dataset digits/1.0.0 has no split 'validation': use one of train, test."),
    Row("photos nowhere", FOLDER,
        "there is no folder {data}: images are expected in {data}/train/CLASS/."),
    Row("no folder given", FOLDER + "--config.data.dir=",
        "data.dir is empty: give the folder that holds train/CLASS/*.jpg."),
    Row("no training photos", FOLDER,
        "there is no folder {data}/train: images are expected in {data}/train/CLASS/.",
        folder(lambda data: shutil.rmtree(data / "train"))),
    Row("no validation photos", FOLDER,
        "there is no folder {data}/val: images are expected in {data}/val/CLASS/.",
        folder(lambda data: shutil.rmtree(data / "val"))),
    Row("photos without classes", FOLDER,
        "{data}/train has no folders: images are expected in {data}/train/CLASS/.",
        folder(lambda data: [shutil.rmtree(c) for c in (data / "train").iterdir()])),
    Row("an empty class", FOLDER,
        "the class {data}/train/d has no images (.jpg, .jpeg, .png, .webp, "
        ".bmp, .tif, .tiff, .gif, .ppm).", folder(lambda data: (data / "train" / "d").mkdir())),
    Row("one class", FOLDER, "image_folder has one class, 'a': there is nothing to tell apart.",
        folder(lambda data: [shutil.rmtree(data / s / c) for s in ("train", "val") for c in "bc"])),
    Row("other classes to test", FOLDER,
        "the train and val images of image_folder are not of the same classes: c, d differ.",
        folder(lambda data: (data / "val" / "c").rename(data / "val" / "d"))),
    Row("a class fewer to test", FOLDER,
        "the train and val images of image_folder are not of the same classes: c differ.",
        folder(lambda data: shutil.rmtree(data / "val" / "c"))),
    Row("no photo that can be read", FOLDER, "none of the first 10 images can be read: "
        "{data}/train/a/00.jpg cannot be read (cannot identify image file).",
        folder(overwrite("train/*/*.jpg", b"hello"))),
    Row("no photo to test that can be read", FOLDER, "none of the first 6 images can be read: "
        "{data}/val/a/00.jpg cannot be read (cannot identify image file).",
        folder(overwrite("val/*/*.jpg", b""))),
    Row("a class that may not be read", FOLDER,
        "[Errno 13] Permission denied: '{data}/train/a'", folder(permit("train/a", 0))),

    # Teachers and students to start from.
    Row("a teacher nowhere", TAUGHT + "{place}/none",
        "{place}/none is neither a workdir nor a checkpoint file."),
    Row("a teacher's folder without a run", TAUGHT + "{place}",
        "{place} is neither a workdir nor a checkpoint file."),
    Row("an unfinished teacher", TAUGHT + "{begun}",
        "config.teacher.init={begun} has not finished training: run it to its end."),
    Row("a teacher of another class count",
        TAUGHT + "{of_photos} --config.data.image_size=8 --config.data.resize=8",
        "{of_photos} holds another network: head/bias is (3,), not (10,); head/kernel is (16, 3), "
        "not (16, 10)."),
    Row("a teacher of other channels",
        TAUGHT + "{trained} --config.data.image_size=8 --config.data.resize=8",
        "{trained} holds another network: stem/kernel is (3, 3, 1, 4), not (3, 3, 3, 4)."),
    Row("a deeper teacher", TAUGHT + "{trained} --config.teacher.name=resnet14",
        "{trained} holds another network: stage1_block2/conv1/kernel is missing, not (3, 3, 4, 4); "
        "stage1_block2/conv2/kernel is missing, not (3, 3, 4, 4); stage1_block2/norm1/bias is "
        "missing, not (4,); stage1_block2/norm1/scale is missing, not (4,); and 14 more."),
    Row("a wider teacher", TAUGHT + "{trained} --config.teacher.width=0.5",
        "{trained} holds another network: head/kernel is (16, 10), not (32, 10); "
        "stage1_block1/conv1/kernel is (3, 3, 4, 4), not (3, 3, 8, 8); stage1_block1/conv2/kernel "
        "is (3, 3, 4, 4), not (3, 3, 8, 8); stage1_block1/norm1/bias is (4,), not (8,); and 18 "
        "more."),
    Row("a corrupted teacher", TAUGHT + "{place}/teacher",
        BROKEN,
        lambda place, made: corrupt(0, 1)(shutil.copytree(made["trained"], place / "teacher"))),
    Row("a teacher's file that is none", TAUGHT + "{place}/teacher.pth",
        re.compile(r".*/teacher\.pth is not a PyTorch checkpoint with a state dict \(\w+\)\."),
        torch_file(lambda torch: torch.zeros(3))),
    Row("a teacher's file of something else", TAUGHT + "{place}/teacher.pth",
        re.compile(r".*/teacher\.pth is not a PyTorch checkpoint with a state dict \(\w+\)\."),
        lambda place, made: pytest.importorskip("torch") and file("teacher.pth")(place, made)),
    Row("a teacher's file without PyTorch", TAUGHT + "{place}/teacher.pth",
        "reading teacher.pth needs PyTorch: pip install 'apprentice-jax[torch]'.",
        file("teacher.pth"), absent="torch"),
    Row("half a teacher's file", TAUGHT + "{place}/teacher.pth",
        "{place}/teacher.pth holds another network: head/bias is missing, not (10,); head/kernel "
        "is missing, not (16, 10); stage1_block1/conv1/kernel is missing, not (3, 3, 4, 4); "
        "stage1_block1/conv2/kernel is missing, not (3, 3, 4, 4); and 18 more.",
        torch_file(lambda torch: {"state_dict": {"conv1.weight": torch.zeros(4, 1, 3, 3)}})),
    Row("a teacher's file of another kind of network", TAUGHT + "{place}/teacher.pth",
        "{place}/teacher.pth: 'features.0.weight' is not a name of a ResNet of torchvision or the "
        "6n+2 repositories.",
        torch_file(lambda torch: {"features.0.weight": torch.zeros(4, 1, 3, 3)})),
    Row("a student nowhere", TUNED + "{place}/none",
        "{place}/none is neither a workdir nor a checkpoint file."),
    Row("an unfinished student", TUNED + "{begun}",
        "config.student.init={begun} has not finished training: run it to its end."),
    Row("a student of another class count", TUNED + "{of_photos}",
        "{of_photos} holds another network: head/bias is (3,), not (10,); head/kernel is (16, 3), "
        "not (16, 10); stem/kernel is (3, 3, 3, 4), not (3, 3, 1, 4)."),

    # Workdirs.
    Row("another run's workdir", GO_ON + "--config.seed=3 --config.batch_size=32",
        "{run} belongs to a run with another config: config.batch_size (64 there, 32 now), "
        "config.seed (0 there, 3 now); choose another --workdir.", copy("trained")),
    Row("a workdir that is a file", GO_ON, "cannot write to the workdir {run}: File exists.",
        file("run")),
    Row("a workdir below a file", GO_ON + "--workdir={run}/below",
        "cannot write to the workdir {run}/below: Not a directory.", file("run")),
    Row("a workdir that may not be made", GO_ON,
        "cannot write to the workdir {run}: Permission denied.",
        lambda place, made: place.chmod(0o555)),
    Row("a workdir out of reach", GO_ON + "--workdir={run}/below",
        "cannot read or write {run}/below/result.json: Permission denied.",
        lambda place, made: (place / "run").mkdir(mode=0)),
    Row("a read-only workdir", GO_ON, "cannot write to the workdir {run}: Permission denied" + KEPT,
        copy("begun", permit(".", 0o555))),
    Row("a read-only workdir with another user's lock", GO_ON,
        "cannot write to the workdir {run}: Permission denied.",
        copy("begun", lambda run: [permit("lock", 0o444)(run), permit(".", 0o555)(run)])),
    Row("two runs in a workdir", GO_ON, LOCKED, copy("begun", lambda run: hold(run / "lock"))),
    Row("two runs that differ in what may differ", GO_ON + "--config.checkpoint.keep=5", LOCKED,
        copy("begun", lambda run: hold(run / "lock"))),
    Row("a torn config.json", GO_ON, DAMAGED, copy("begun", overwrite("config.json", half))),
    Row("a config.json of something else", GO_ON,
        "{run}/config.json is damaged: write it anew with the run's own config, or choose another "
        "--workdir.", copy("begun", overwrite("config.json", b"[]"))),
    Row("no config.json", GO_ON + "--config.seed=3",
        "{run} holds a run, but no config.json that says "
        "which: bring it back from a copy, or choose another --workdir.",
        copy("trained", lambda run: (run / "config.json").unlink())),
    Row("a torn classes.json", GO_ON,
        "{run}/classes.json is damaged: bring it back from a copy, or delete it to have it written "
        "anew.", copy("begun", overwrite("classes.json", half))),
    Row("a class that was not there at the start", FOLDER,
        "{run}" + OTHER_CLASSES + "d differ.",
        photos_since(lambda data: [shutil.copytree(data / s / "a", data / s / "d")
                                   for s in ("train", "val")])),
    Row("classes renamed since the start", FOLDER,
        "{run}" + OTHER_CLASSES + "a, z differ.",
        photos_since(lambda data: [(data / s / "a").rename(data / s / "z")
                                   for s in ("train", "val")])),
    Row("a photo fewer than at the start", FOLDER,
        "{run} cannot continue: it began with 24 training images, and there are 23 now: bring them "
        "back, or choose another --workdir.",
        photos_since(lambda data: (data / "train" / "a" / "00.jpg").unlink())),
    Row("all checkpoints corrupted", GO_ON,
        BROKEN,
        copy("begun", corrupt(0, 1)),
        changes=("run/classes.json",)),
    Row("a study in a run's workdir", f"study {DIGITS} --workdir={{run}}",
        "{run} holds a training run: choose another --workdir.", copy("begun")),
    Row("a run in a study's workdir", GO_ON, "{run} holds a study: choose another --workdir.",
        copy("begun", lambda run: (run / "cells").mkdir())),

    # Scoring.
    Row("score nothing", "eval --workdir={run}",
        "{run} is not a workdir: it has no config.json."),
    Row("score before the first checkpoint", "eval --workdir={run}",
        "{run} has no checkpoint yet: train it to the end first.",
        copy("trained", lambda run: shutil.rmtree(run / "checkpoints"))),
    Row("score with a torn config.json", "eval --workdir={run}",
        DAMAGED, copy("trained", overwrite("config.json", half))),
    Row("score corrupted checkpoints", "eval --workdir={run}",
        BROKEN,
        copy("trained", corrupt(0, 1))),
    Row("score images that nobody held out", "eval --workdir={trained} --split=validation",
        "there is no validation split: config.data.validation is 0."),
    Row("score data that are elsewhere", "eval --workdir={of_photos} --data_dir={place}/none",
        "there is no folder {place}/none: images are expected in {place}/none/val/CLASS/."),
    Row("score on other classes", "eval --workdir={of_photos} --data_dir={data}",
        "{of_photos}" + OTHER_CLASSES + "a, z differ.",
        folder(lambda data: (data / "val" / "a").rename(data / "val" / "z"))),
    Row("score on another number of classes", "eval --workdir={of_photos} --data_dir={data}",
        "{of_photos}" + OTHER_CLASSES + "c differ.",
        folder(lambda data: shutil.rmtree(data / "val" / "c"))),
    Row("score a file that is not there", f"eval {DIGITS} --model={{place}}/none.pth",
        "{place}/none.pth is neither a workdir nor a checkpoint file."),
    Row("score a network of other classes", f"eval {DIGITS} --model={{of_photos}}",
        "{of_photos}" + OTHER_CLASSES + "0, 1, 2, 3, 4 differ."),
    Row("score at another precision",
        f"eval {DIGITS.replace('32A32W', '8A2W')} --model={{trained}}",
        "{trained} has no stage1_block1/act/clip: it holds a network of another precision; a "
        "full-precision one is precision=32A32W."),
    Row("score an unreadable photo", "eval --workdir={of_photos} --data_dir={data}",
        "{data}/val/b/01.jpg (Truncated File Read) is no image that can be read: replace it, or "
        "let it be skipped with --config.data.unreadable=skip.",
        folder(overwrite("val/b/01.jpg", half))),

    # Studies.
    Row("cells without their teacher", STUDY + "--config.study.cells=('student','B')",
        "config.study.cells has 'B' without 'teacher', which it starts from: add it, or set "
        "config.teacher.init."),
    Row("cells without their student", STUDY + "--config.study.cells=('teacher','C')",
        "config.study.cells has 'C' without 'student', which it starts from: add it, or set "
        "config.student.init."),
    Row("unknown cell", STUDY + "--config.study.cells=('A','basline')",
        "config.study.cells has 'basline': did you mean 'baseline'?"),
    Row("no cells", STUDY + "--config.study.cells=()",
        "config.study.cells is (): it must name at least one, and none twice."),
    Row("a seed twice", STUDY + "--config.study.seeds=(0,1,0)",
        "config.study.seeds is (0, 1, 0): it must name at least one, and none twice."),
    Row("negative seeds", STUDY + "--config.study.seeds=(-1,)",
        "config.study.seeds is (-1,): seeds are whole numbers from 0."),
    Row("a precision twice", STUDY + "--config.study.precisions=('8A2W','8A,2W')",
        "config.study.precisions is ('8A,2W', '8A,2W'): it must name at least one, and none "
        "twice."),
    Row("a precision that is none", STUDY + "--config.study.precisions=('8A,9W',)",
        "config: precision '8A,9W' is not one: write activation and weight bits as in '8A,2W', "
        "each 1 to 8, or 32 for full precision."),
    Row("a study's cells of less than a step",
        STUDY + "--config.recipe.finetune.epochs=0.001 --config.study.seeds=(0,)",
        "config.recipe.finetune.epochs: 0.001 epochs of 1437 examples are less than a step."),
    Row("another study's workdir", STUDY + "--config.seed=3",
        "{run} belongs to a run with another config: config.seed (0 there, 3 now); choose another "
        "--workdir.", copy("study")),
    Row("two studies in a workdir", STUDY, LOCKED, copy("study", lambda run: hold(run / "lock"))),

    # Preparing.
    Row("prepare nothing", "prepare", "this command needs --dataset=...; see apprentice --help."),
    Row("prepare an unknown dataset", "prepare --dataset=cifr10 --data_dir={place}/tfds",
        re.compile(r"tfds has no dataset 'cifr10': did you mean 'cifar10'.*\?")),
    Row("prepare without TensorFlow", "prepare --dataset=cifar10 --data_dir={place}/tfds",
        re.compile(r".*'cifar10'.* TensorFlow.*: pip install 'apprentice-jax\[prepare\]'\."),
        absent="tensorflow"),
    Row("prepare below a file", "prepare --dataset=digits --data_dir={place}/file",
        re.compile(r"'digits' cannot be prepared in .*/file \(.*\): give a data_dir that can be "
                   r"written, or none\."), file("file")),
]

held = []  # locks of the test


def hold(path):
  """Holds a workdir's lock, as another run does."""
  held.append(path.open("a+"))
  fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
  held[-1].truncate(0)
  held[-1].write("a run of the test")
  held[-1].flush()


# What the tests share.


@pytest.fixture(scope="module")
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
    patch.setattr(loop, "train", began)
    with contextlib.suppress(Began):  # claims its workdir
      cli.main("study --config={digits} --workdir={study}".format(**names).split())
  return names


class Began(BaseException):
  """Training began: the input was taken for a good one."""


def began(*_, **__):
  raise Began


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
    inputs._split.cache_clear()
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


@contextlib.contextmanager
def obeying_permissions():
  """Root may read and write anywhere: gives that up (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)."""
  if os.geteuid():
    yield
    return
  libc, header = ctypes.CDLL(None), struct.pack("=Ii", 0x20080522, 0)
  data = ctypes.create_string_buffer(24)
  assert libc.capget(header, data) == 0
  before = data.raw
  effective, *rest = struct.unpack("=6I", before)
  assert libc.capset(header, struct.pack("=6I", effective & ~0b110, *rest)) == 0
  try:
    yield
  finally:
    assert libc.capset(header, before) == 0


def files(*folders):
  """What is in folders: the bytes of every file, None for a folder."""
  return {str(p): p.read_bytes() if p.is_file() else None
          for folder in folders for p in sorted(pathlib.Path(folder).rglob("*"))}


def assert_kept(before, after, place, changes):
  changed = {k for k in before.keys() | after.keys() if before.get(k, "") != after.get(k, "")}
  unexpected = {k for k in changed if not any(
      fnmatch.fnmatch(k, f"{place}/{pattern}") for pattern in changes)}
  assert not unexpected


def assert_sentence(found, sentence, names):
  status, err = found
  lines = err.splitlines()
  assert status == 2 and len(lines) == 1 and lines[0].startswith("apprentice: ")
  said = lines[0].removeprefix("apprentice: ")
  if isinstance(sentence, str):
    assert said == sentence.format(**names)
  else:
    assert sentence.fullmatch(said), said


def marks(row):
  return [pytest.mark.xfail(reason=row.bug, strict=True)] if row.bug else []


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name, marks=marks(row)) for row in ROWS])
def test_bad_input(row, made, names, command, tmp_path, monkeypatch):
  monkeypatch.setattr(bench, "run", began)
  monkeypatch.setattr(running.Run, "_advance", began)
  if row.absent:
    monkeypatch.setitem(sys.modules, row.absent, None)
  row.make(tmp_path, made)
  place = made["trained"].parent
  before = files(tmp_path, place)
  found = command(row.command)
  assert_sentence(found, row.sentence, names)
  tmp_path.chmod(0o755)
  assert_kept(before, files(tmp_path, place), tmp_path, (*row.changes, "run/lock"))


def test_the_table_is_one():
  assert len({row.name for row in ROWS}) == len(ROWS) >= 100
  for row in ROWS:
    assert "\n" not in getattr(row.sentence, "pattern", row.sentence), row.name


# What is refused leaves the workdir to the corrected command.
MENDED = {
    "less than a step": GO_ON,
    "an unclosed list": TRAIN,
    "a batch that devices cannot share": TRAIN,
    "a teacher nowhere": GO_ON.replace("baseline", "B"),
    "other classes to test": FOLDER,
    "another run's workdir": GO_ON + "--workdir={run}2",
}


@pytest.mark.parametrize("name", [
    pytest.param(row.name, marks=marks(row)) for row in ROWS if row.name in MENDED])
def test_the_corrected_command_works(name, made, names, command, tmp_path, monkeypatch):
  monkeypatch.setattr(running.Run, "_advance", began)
  row, = (r for r in ROWS if r.name == name)
  row.make(tmp_path, made)
  assert_sentence(command(row.command), row.sentence, names)
  if (tmp_path / "data").exists():
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(made["data"], tmp_path / "data")
  with pytest.raises(Began):
    command(MENDED[name])


# Runs that have begun.

TIMING = ("seconds", "images_per_second", "data_wait", "host_memory")


def untimed(record):
  return {k: v for k, v in record.items() if k not in TIMING}


def assert_same_end(workdir, expected):
  """The same results, records and weights, apart from the clock."""
  assert untimed(loop.result(workdir)) == untimed(loop.result(expected))
  found, wanted = ([untimed(r) for r in metrics.read(w)] for w in (workdir, expected))
  assert found == wanted
  states = []
  for place in (workdir, expected):
    with Checkpoints(place) as checkpoints:
      state, meta = checkpoints.contents()
      leaves = jax.tree_util.tree_leaves_with_path(state)
      states.append({jax.tree_util.keystr(k): np.asarray(v).tobytes() for k, v in leaves})
      states[-1]["step"] = meta["step"]
  assert states[0] == states[1]


def sentences(warned):
  """Of our warnings, not those of libraries that are about to change."""
  return [str(w.message) for w in warned if w.category is UserWarning]


def test_what_was_begun_is_finished(made, command, names, tmp_path):
  # What the tests below begin with is a run like any other.
  shutil.copytree(made["begun"], tmp_path / "run")
  assert command(GO_ON) == (0, "")
  assert_same_end(tmp_path / "run", made["trained"])


def test_the_newest_checkpoint_corrupted(made, command, tmp_path):
  shutil.copytree(made["trained"], tmp_path / "run")
  (tmp_path / "run" / "result.json").unlink()
  corrupt(-1)(tmp_path / "run")
  with pytest.warns(UserWarning) as warned:
    assert command(GO_ON)[0] == 0
  sentence, = sentences(warned)
  assert re.fullmatch(
      r"the checkpoint of step 11 is damaged \(.* is not what was written\) and now called .*/run/"
      r"broken_checkpoint_11: continuing from step 10\.", sentence)
  assert_same_end(tmp_path / "run", made["trained"])


def test_a_torn_result(made, command, tmp_path):
  shutil.copytree(made["trained"], tmp_path / "run")
  overwrite("result.json", half)(tmp_path / "run")
  with pytest.warns(UserWarning, match=r"/run/result\.json is damaged: it is written anew\.$"):
    assert command(GO_ON)[0] == 0
  assert_same_end(tmp_path / "run", made["trained"])


@pytest.mark.parametrize("number, line", [
    (-1, b'{"step": 11, "lo'),
    (0, b"\0" * 40 + b"\n"), (0, b"[]\n"), (0, b"\xff\xfe\n")],
    ids=["torn", "zeros", "no record", "no text"])
def test_damaged_metrics(number, line, made, command, tmp_path):
  # A line that cannot be read is dropped, and no other.
  shutil.copytree(made["begun"], tmp_path / "run")
  path = tmp_path / "run" / "metrics.jsonl"
  lines = path.read_bytes().splitlines(keepends=True)
  path.write_bytes(b"".join([line, *lines] if number == 0 else [*lines, line]))
  assert command(GO_ON) == (0, "")
  assert_same_end(tmp_path / "run", made["trained"])


def test_a_loss_that_is_not_finite(made, command, names, tmp_path, monkeypatch):
  rates = running.learning_rates

  def explode(*args):
    changed = rates(*args).copy()
    changed[6] = 1e38  # in step 8 the loss is that of parameters beyond float32
    return changed
  monkeypatch.setattr(running, "learning_rates", explode)
  assert_sentence(
      command(GO_ON), "the loss or its gradient is nan at step 8: lower the learning rate or "
      "lengthen the warm-up; the last checkpoint before it is kept.", names)
  assert steps(tmp_path / "run") == [5]
  monkeypatch.undo()
  assert command(GO_ON) == (0, "")
  assert_same_end(tmp_path / "run", made["trained"])


def test_a_rate_that_is_too_high(command, names, tmp_path):
  found = command(GO_ON + "--config.recipe.student.learning_rate=1e30 "
                  "--config.recipe.student.warmup_epochs=0")
  assert_sentence(found, "the loss or its gradient is nan at step 2: lower the learning rate or "
                  "lengthen the warm-up; the last checkpoint before it is kept.", names)
  assert not metrics.read(tmp_path / "run")


# What a run writes that goes on from its checkpoints 5 and 10, of which it keeps the newer one.
CONTINUED = ("run/lock", "run/tensorboard/*", "run/metrics.jsonl", "run/checkpoints/5*",
             "run/checksums/11.json")
UNREADABLE = ("{data}/%s (Truncated File Read) is no image that can be read: replace it, or let "
              "it be skipped with --config.data.unreadable=skip.")


def test_a_truncated_photo_to_train(made, command, names, tmp_path):
  folder(overwrite("train/b/03.jpg", half))(tmp_path, made)
  data = files(tmp_path)
  assert_sentence(command(FOLDER), UNREADABLE % "train/b/03.jpg", names)
  assert steps(tmp_path / "run") == [2]  # all that it has trained, in the midst of an epoch of 3
  assert [r["step"] for r in metrics.read(tmp_path / "run")] == [1, 2]
  before = files(tmp_path)
  assert before.items() >= data.items()
  assert_sentence(command(FOLDER), UNREADABLE % "train/b/03.jpg", names)  # nor does it go on
  assert_kept(before, files(tmp_path), tmp_path, CONTINUED)
  with pytest.warns(UserWarning) as warned:
    assert command(FOLDER + "--config.data.unreadable=skip")[0] == 0
  assert sentences(warned) == [
      f"skipped {tmp_path}/data/train/b/03.jpg (Truncated File Read): it cannot be read (1 so "
      f"far)."]
  records = metrics.read(tmp_path / "run")
  assert [r["step"] for r in records] == [1, 2, 3, 4, 5, 6, 6]
  assert [r["unreadable_images"] for r in records[:-1]] == [0, 0, 1, 1, 2, 2]  # once an epoch


def test_a_photo_that_is_replaced(made, command, names, tmp_path):
  folder(overwrite("train/b/03.jpg", half))(tmp_path, made)
  assert_sentence(command(FOLDER), UNREADABLE % "train/b/03.jpg", names)
  shutil.copy(made["data"] / "train" / "b" / "03.jpg", tmp_path / "data" / "train" / "b" / "03.jpg")
  assert command(FOLDER) == (0, "")
  assert_same_end(tmp_path / "run", made["of_photos"])


def test_a_truncated_photo_to_test(made, command, names, tmp_path):
  folder(overwrite("val/b/01.jpg", half))(tmp_path, made)
  assert_sentence(command(FOLDER), UNREADABLE % "val/b/01.jpg", names)
  assert steps(tmp_path / "run")[-1] == 6  # all is trained
  before = files(tmp_path)
  with pytest.warns(UserWarning) as warned:
    assert command(FOLDER + "--config.data.unreadable=skip")[0] == 0
  assert sentences(warned) == [
      f"skipped {tmp_path}/data/val/b/01.jpg (Truncated File Read): it cannot be read (1 so far)."]
  assert loop.result(tmp_path / "run")["test_count"] == 5
  assert_kept(before, files(tmp_path), tmp_path, CONTINUED + (
      "run/config.json", "run/result.json", "run/report.md", "run/curves.png"))


# A disk that is full, or what is as good as one: no file may grow beyond some bytes.


@contextlib.contextmanager
def largest_file(size):
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def full_during(monkeypatch, place, name, size, when=lambda *a: True):
  """No file may be larger than size while place.name runs."""
  function = getattr(place, name)

  def limited(*args):
    if not when(*args):
      return function(*args)
    with largest_file(size):
      return function(*args)
  monkeypatch.setattr(place, name, limited)


def test_a_full_disk_at_the_start(made, command, names, tmp_path, monkeypatch):
  from apprentice_jax.training import workdir
  full_during(monkeypatch, workdir, "write_atomically", 100)
  assert_sentence(command(GO_ON), re.compile(
      r"cannot write to the workdir .*/run: File too large(; what was saved before is kept, and "
      r"the same command continues from there)?\."), names)
  monkeypatch.undo()
  monkeypatch.setattr(running.Run, "_advance", began)
  with pytest.raises(Began):
    command(GO_ON)


@pytest.mark.parametrize("place, name, size, when", [
    (metrics.MetricsWriter, "__init__", 100, lambda *_: True),
    (metrics.MetricsWriter, "write", 700, lambda *_: True),
    (running, "write_atomically", 10, lambda path, *_: path.name == "result.json"),
    (report, "write_run", 100, lambda *_: True)],
    ids=["the records kept", "a new record", "result.json", "report.md"])
def test_a_full_disk_on_the_way(place, name, size, when, made, command, names, tmp_path,
                                monkeypatch):
  shutil.copytree(made["begun"], tmp_path / "run")
  before = files(tmp_path)
  full_during(monkeypatch, place, name, size, when)
  assert_sentence(command(GO_ON), "cannot write to the workdir {run}: File too large" + KEPT, names)
  after = files(tmp_path)
  assert not [k for k in after if k.endswith(".tmp")]
  assert_kept(before, {k: v for k, v in after.items() if k in before}, tmp_path, CONTINUED)
  monkeypatch.undo()
  assert command(GO_ON) == (0, "")
  assert_same_end(tmp_path / "run", made["trained"])


# In a process of its own: orbax's threads fail as well.
def test_a_full_disk_while_a_checkpoint_is_written(made, command, names, tmp_path):
  shutil.copytree(made["begun"], tmp_path / "run")
  before = files(tmp_path)
  largest = max((made["trained"] / n).stat().st_size for n in ("config.json", "metrics.jsonl"))
  code = ("import resource, sys; hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]; "
          f"resource.setrlimit(resource.RLIMIT_FSIZE, ({largest + 1000}, hard)); "
          "from apprentice_jax import cli; sys.exit(cli.main(sys.argv[1:]))")
  process = subprocess.run(
      [sys.executable, "-c", code, *GO_ON.format(**names).split()], capture_output=True, text=True,
      timeout=200, check=False, env=dict(  # nor may it write compiled programs
          os.environ, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="1000",
          TFDS_DATA_DIR=str(tmp_path),
          PYTHONPATH=os.pathsep.join([str(pathlib.Path(cli.__file__).parents[1]),
                                      os.environ.get("PYTHONPATH", "")])))
  assert_sentence((process.returncode, process.stderr),
                  "cannot write to the workdir {run}: File too large" + KEPT, names)
  after = files(tmp_path)
  assert_kept(before, {k: v for k, v in after.items() if k in before}, tmp_path, CONTINUED)
  assert steps(tmp_path / "run") == [5, 10]
  assert command(GO_ON) == (0, "")
  assert_same_end(tmp_path / "run", made["trained"])


def test_checkpoints_that_are_read_only(made, command, names, tmp_path):
  shutil.copytree(made["begun"], tmp_path / "run")
  before = files(tmp_path)
  (tmp_path / "run" / "checkpoints").chmod(0o555)
  assert_sentence(
      command(GO_ON), "cannot write to the workdir {run}: Permission denied" + KEPT, names)
  after = files(tmp_path)
  assert_kept(before, {k: v for k, v in after.items() if k in before}, tmp_path, CONTINUED)
  (tmp_path / "run" / "checkpoints").chmod(0o755)
  assert command(GO_ON) == (0, "")
  assert_same_end(tmp_path / "run", made["trained"])
