"""Rows: what is wrong is in the data, the networks to start from, or the workdir."""

import fractions
import re
import shutil

import numpy as np
from rows import (
  BROKEN,
  DAMAGED,
  DIGITS,
  FOLDER,
  GO_ON,
  HEADS,
  KEPT,
  LOCKED,
  OTHER_CLASSES,
  SCORED,
  STUDY,
  TAUGHT,
  TRAIN,
  TUNED,
  Row,
  by_torchvision,
  copy,
  corrupt,
  file,
  folder,
  half,
  hold,
  overwrite,
  permit,
  photos_since,
  torch_file,
)

from apprentice_jax.training import export

ROWS = [
  # Data.
  Row(
    "unknown dataset",
    TRAIN + "--config.data.name=digit",
    "unknown dataset 'digit' (neither in {place}/tfds nor known to tfds): did you mean 'digits'?",
  ),
  Row(
    "a folder's name misspelt",
    FOLDER + "--config.data.name=imagefolder",
    "unknown dataset 'imagefolder' (neither in {data} nor known to tfds): did you mean "
    "'image_folder'?",
    folder(lambda data: None),
  ),
  Row(
    "a dataset that is not prepared",
    TRAIN + "--config.data.name=cifar10",
    "dataset 'cifar10' is not prepared in {place}/tfds: prepare it with `apprentice prepare "
    "--dataset=cifar10`, which needs the [prepare] extra.",
  ),
  Row(
    "no such folder of datasets",
    TRAIN + "--config.data.dir={place}/none",
    "data_dir {place}/none does not exist: give the folder that holds the prepared datasets.",
  ),
  Row(
    "no such training split",
    TRAIN + "--config.data.train_split=trian",
    "dataset digits/1.0.0 has no split 'trian': use one of train, test, or a slice such as "
    "train[80%:].",
  ),
  Row(
    "no such test split",
    TRAIN + "--config.data.test_split=validation",
    "dataset digits/1.0.0 has no split 'validation': use one of train, test, or a slice such as "
    "train[80%:].",
  ),
  Row(
    "photos nowhere",
    FOLDER,
    "there is no folder {data}: images are expected in {data}/train/CLASS/.",
  ),
  Row(
    "no folder given",
    FOLDER + "--config.data.dir=",
    "data.dir is empty: give the folder that holds train/CLASS/*.jpg.",
  ),
  Row(
    "no training photos",
    FOLDER,
    "there is no folder {data}/train: images are expected in {data}/train/CLASS/; there is val: "
    "name the folder "
    "with --config.data.train_split.",
    folder(lambda data: shutil.rmtree(data / "train")),
  ),
  Row(
    "no validation photos",
    FOLDER + "--config.data.test_share=0",
    "there is no folder {data}/val: images are expected in {data}/val/CLASS/; set "
    "--config.data.test_share=0.2 "
    "to test on a fifth of the training images.",
    folder(lambda data: shutil.rmtree(data / "val")),
  ),
  Row(
    "photos without classes",
    FOLDER,
    "{data}/train has no folders: images are expected in {data}/train/CLASS/.",
    folder(lambda data: [shutil.rmtree(c) for c in (data / "train").iterdir()]),
  ),
  Row(
    "an empty class",
    FOLDER,
    "the class {data}/train/d has no images: add some, or remove the folder.",
    folder(lambda data: (data / "train" / "d").mkdir()),
  ),
  Row(
    "one class",
    FOLDER,
    "image_folder has one class, 'a': there is nothing to tell apart.",
    folder(lambda data: [shutil.rmtree(data / s / c) for s in ("train", "val") for c in "bc"]),
  ),
  Row(
    "other classes to test",
    FOLDER,
    "the train and val images of image_folder are not of the same classes: c, d differ.",
    folder(lambda data: (data / "val" / "c").rename(data / "val" / "d")),
  ),
  Row(
    "a class fewer to test",
    FOLDER,
    "the train and val images of image_folder are not of the same classes: c differ.",
    folder(lambda data: shutil.rmtree(data / "val" / "c")),
  ),
  Row(
    "no photo that can be read",
    FOLDER,
    "none of the first 10 images can be read: "
    "{data}/train/a/00.jpg cannot be read (cannot identify image file).",
    folder(overwrite("train/*/*.jpg", b"hello")),
  ),
  Row(
    "no photo to test that can be read",
    FOLDER,
    "none of the first 6 images can be read: "
    "{data}/val/a/00.jpg cannot be read (cannot identify image file).",
    folder(overwrite("val/*/*.jpg", b"")),
  ),
  Row(
    "a class that may not be read",
    FOLDER,
    "cannot read {data}/train/a: Permission denied.",
    folder(permit("train/a", 0)),
  ),
  # Teachers and students to start from.
  Row(
    "a teacher nowhere",
    TAUGHT + "{place}/none",
    "config.teacher.init={place}/none is neither a workdir nor a checkpoint file.",
  ),
  Row(
    "a teacher's folder without a run",
    TAUGHT + "{place}",
    "config.teacher.init={place} is neither a workdir nor a checkpoint file.",
  ),
  Row(
    "an unfinished teacher",
    TAUGHT + "{begun}",
    "config.teacher.init={begun} has not finished training: run it to its end.",
  ),
  Row(
    "a teacher of another class count",
    TAUGHT + "{of_photos} --config.data.image_size=8 --config.data.resize=8",
    "{of_photos} has the classes a, b, c, and the data have 0, 1, 2, 3, 4, 5, 6, 7, 8, 9: "
    + HEADS
    + ".",
  ),
  Row(
    "a teacher of other channels",
    TAUGHT + "{trained} --config.data.image_size=8 --config.data.resize=8",
    "{trained} holds another network: a resnet8 for 1-channel images, not 3 (stem/kernel is (3, 3, "
    "1, 4), not "
    "(3, 3, 3, 4)).",
  ),
  Row(
    "a deeper teacher",
    TAUGHT + "{trained} --config.teacher.name=resnet14",
    "{trained} holds another network: a resnet8, not a resnet14 (stage1_block2/conv1/kernel is "
    "missing, not "
    "(3, 3, 4, 4); stage1_block2/conv2/kernel is missing, not (3, 3, 4, 4); "
    "stage1_block2/norm1/bias is missing, "
    "not (4,); stage1_block2/norm1/scale is missing, not (4,); and 26 more): use "
    "--config.teacher.name=resnet8.",
  ),
  Row(
    "a wider teacher",
    TAUGHT + "{trained} --config.teacher.width=0.5",
    "{trained} holds another network: a resnet8 of width 0.25, not 0.5 (head/kernel is (16, 10), "
    "not (32, 10); "
    "stage1_block1/conv1/kernel is (3, 3, 4, 4), not (3, 3, 8, 8); stage1_block1/conv2/kernel is "
    "(3, 3, 4, 4), "
    "not (3, 3, 8, 8); stage1_block1/norm1/bias is (4,), not (8,); and 32 more): use "
    "--config.teacher.width=0.25.",
  ),
  Row(
    "a corrupted teacher",
    TAUGHT + "{place}/teacher",
    BROKEN,
    lambda place, made: corrupt(0, 1)(shutil.copytree(made["trained"], place / "teacher")),
  ),
  Row(
    "a teacher's file that is none",
    TAUGHT + "{place}/teacher.pth",
    "{place}/teacher.pth is not a PyTorch checkpoint with a state dict: it holds a Tensor, and no "
    "tensors by "
    "name, alone or under state_dict_ema, model_ema, ema, state_dict, model_state_dict, model, net "
    "or "
    "ema_state_dict.",
    torch_file(np.zeros(3)),
  ),
  Row(
    "a teacher's file of something else",
    TAUGHT + "{place}/teacher.pth",
    "{place}/teacher.pth is neither a file that torch.save wrote nor a safetensors file.",
    file("teacher.pth"),
  ),
  Row(
    "half a teacher's file",
    TAUGHT + "{place}/teacher.pth",
    "{place}/teacher.pth holds another network: fc.bias is missing, not (10,); fc.weight is "
    "missing, not (10, 16); "
    "layer1.0.conv1.weight is missing, not (4, 4, 3, 3); layer1.0.conv2.weight is missing, not (4, "
    "4, 3, 3); and "
    "32 more.",
    torch_file({"state_dict": {"conv1.weight": np.zeros((4, 1, 3, 3))}}),
  ),
  Row(
    "a teacher's file of another kind of network",
    TAUGHT + "{place}/teacher.pth",
    "{place}/teacher.pth: 'features.0.bias', 'features.0.weight' are not names of a ResNet of "
    "torchvision, timm or "
    "the 6n+2 repositories.",
    torch_file({"features.0.bias": np.zeros(4), "features.0.weight": np.zeros((4, 1, 3, 3))}),
  ),
  Row(
    "a teacher's file with something pickled",
    TAUGHT + "{place}/teacher.pth",
    "{place}/teacher.pth has fractions.Fraction pickled in it, and nothing pickled is run here: if "
    "you trust it, "
    "open it with PyTorch and save its tensors alone, torch.save(model.state_dict(), FILE).",
    torch_file(
      {"state_dict": {"conv1.weight": np.zeros((4, 1, 3, 3))}, "some": fractions.Fraction(1)}
    ),
  ),
  Row(
    "a teacher of other shortcuts",
    TAUGHT + "{place}/teacher.safetensors --config.teacher.shortcut=conv",
    "{place}/teacher.safetensors holds another network: a resnet8 with pad shortcuts, not conv "
    "(layer2.0.downsample.0.weight is missing, not (8, 4, 1, 1); layer2.0.downsample.1.bias is "
    "missing, not (8,); "
    "layer2.0.downsample.1.weight is missing, not (8,); layer3.0.downsample.0.weight is missing, "
    "not (16, 8, 1, "
    "1); and 6 more): use --config.teacher.shortcut=pad.",
    lambda place, made: by_torchvision(made["trained"], place / "teacher.safetensors"),
  ),
  Row(
    "a packed network as the teacher",
    TAUGHT + "{place}/teacher.packed",
    "{place}/teacher.packed is a packed network, which `apprentice export` wrote: give the workdir "
    "that it was "
    "exported from.",
    lambda place, made: export.export(made["trained"], "packed", place / "teacher.packed"),
  ),
  Row(
    "half a teacher's safetensors file",
    TAUGHT + "{place}/teacher.safetensors",
    re.compile(
      r".*/teacher\.safetensors is not a safetensors file, or one that was cut off \(.*\)\."
    ),
    lambda place, made: (
      by_torchvision(made["trained"], place / "teacher.safetensors"),
      overwrite("*.safetensors", half)(place),
    ),
  ),
  Row(
    "a student nowhere",
    TUNED + "{place}/none",
    "config.student.init={place}/none is neither a workdir nor a checkpoint file.",
  ),
  Row(
    "an unfinished student",
    TUNED + "{begun}",
    "config.student.init={begun} has not finished training: run it to its end.",
  ),
  Row(
    "a student of another class count",
    TUNED + "{of_photos}",
    "{of_photos} has the classes a, b, c, and the data have 0, 1, 2, 3, 4, 5, 6, 7, 8, 9: "
    + HEADS.replace("teacher", "student")
    + ".",
  ),
  # Workdirs.
  Row(
    "another run's workdir",
    GO_ON + "--config.seed=3 --config.batch_size=32",
    "{run} belongs to a run with another config: config.batch_size (64 there, 32 now), "
    "config.seed (0 there, 3 now); choose another --workdir.",
    copy("trained"),
  ),
  Row(
    "a workdir that is a file",
    GO_ON,
    "cannot write to the workdir {run}: File exists.",
    file("run"),
  ),
  Row(
    "a workdir below a file",
    GO_ON + "--workdir={run}/below",
    "cannot write to the workdir {run}/below: Not a directory.",
    file("run"),
  ),
  Row(
    "a workdir that may not be made",
    GO_ON,
    "cannot write to the workdir {run}: Permission denied.",
    lambda place, made: place.chmod(0o555),
  ),
  Row(
    "a workdir out of reach",
    GO_ON + "--workdir={run}/below",
    "cannot read or write {run}/below/result.json: Permission denied.",
    lambda place, made: (place / "run").mkdir(mode=0),
  ),
  Row(
    "a read-only workdir",
    GO_ON,
    "cannot write to the workdir {run}: Permission denied" + KEPT,
    copy("begun", permit(".", 0o555)),
  ),
  Row(
    "a read-only workdir with another user's lock",
    GO_ON,
    "cannot write to the workdir {run}: Permission denied.",
    copy("begun", lambda run: [permit("lock", 0o444)(run), permit(".", 0o555)(run)]),
  ),
  Row("two runs in a workdir", GO_ON, LOCKED, copy("begun", lambda run: hold(run / "lock"))),
  Row(
    "two runs that differ in what may differ",
    GO_ON + "--config.checkpoint.keep=5",
    LOCKED,
    copy("begun", lambda run: hold(run / "lock")),
  ),
  Row("a torn config.json", GO_ON, DAMAGED, copy("begun", overwrite("config.json", half))),
  Row(
    "a config.json of something else",
    GO_ON,
    "{run}/config.json is damaged: write it anew with the run's own config, or choose another "
    "--workdir.",
    copy("begun", overwrite("config.json", b"[]")),
  ),
  Row(
    "no config.json",
    GO_ON + "--config.seed=3",
    "{run} holds a run, but no config.json that says "
    "which: bring it back from a copy, or choose another --workdir.",
    copy("trained", lambda run: (run / "config.json").unlink()),
  ),
  Row(
    "a torn classes.json",
    GO_ON,
    "{run}/classes.json is damaged: bring it back from a copy, or delete it to have it written "
    "anew.",
    copy("begun", overwrite("classes.json", half)),
  ),
  Row(
    "a class that was not there at the start",
    FOLDER,
    "{run}" + OTHER_CLASSES + "d differ.",
    photos_since(
      lambda data: [shutil.copytree(data / s / "a", data / s / "d") for s in ("train", "val")]
    ),
  ),
  Row(
    "classes renamed since the start",
    FOLDER,
    "{run}" + OTHER_CLASSES + "a, z differ.",
    photos_since(lambda data: [(data / s / "a").rename(data / s / "z") for s in ("train", "val")]),
  ),
  Row(
    "a photo fewer than at the start",
    FOLDER,
    "{run} cannot continue: it began with 24 training images, and there are 23 now: bring them "
    "back, or choose another --workdir.",
    photos_since(lambda data: (data / "train" / "a" / "00.jpg").unlink()),
  ),
  Row(
    "all checkpoints corrupted",
    GO_ON,
    BROKEN,
    copy("begun", corrupt(0, 1)),
    changes=("run/classes.json",),
  ),
  Row(
    "a study in a run's workdir",
    f"study {DIGITS} --workdir={{run}}",
    "{run} holds a training run: choose another --workdir.",
    copy("begun"),
  ),
  Row(
    "a run in a study's workdir",
    GO_ON,
    "{run} holds a study: choose another --workdir.",
    copy("begun", lambda run: (run / "cells").mkdir()),
  ),
  # Scoring.
  Row("score nothing", "eval --workdir={run}", "{run} is not a workdir: it has no config.json."),
  Row(
    "score out of reach",
    "eval --workdir={run}",
    "cannot read or write {run}/config.json: Permission denied.",
    lambda place, made: (place / "run").mkdir(mode=0),
  ),
  Row(
    "score before the first checkpoint",
    "eval --workdir={run}",
    "{run} has no checkpoint yet: train it to the end first.",
    copy("trained", lambda run: shutil.rmtree(run / "checkpoints")),
  ),
  Row(
    "score with a torn config.json",
    "eval --workdir={run}",
    DAMAGED,
    copy("trained", overwrite("config.json", half)),
  ),
  Row(
    "score corrupted checkpoints", "eval --workdir={run}", BROKEN, copy("trained", corrupt(0, 1))
  ),
  Row(
    "score images that nobody held out",
    "eval --workdir={trained} --split=validation",
    "there is no validation split: config.data.validation is 0.",
  ),
  Row(
    "score data that are elsewhere",
    "eval --workdir={of_photos} --data_dir={place}/none",
    "there is no folder {place}/none: images are expected in {place}/none/val/CLASS/.",
  ),
  Row(
    "score on other classes",
    "eval --workdir={of_photos} --data_dir={data}",
    "{of_photos} has the classes a, b, c, and the data have b, c, z: " + SCORED,
    folder(lambda data: (data / "val" / "a").rename(data / "val" / "z")),
  ),
  Row(
    "score on another number of classes",
    "eval --workdir={of_photos} --data_dir={data}",
    "{of_photos} has the classes a, b, c, and the data have a, b: " + SCORED,
    folder(lambda data: shutil.rmtree(data / "val" / "c")),
  ),
  Row(
    "score a file that is not there",
    f"eval {DIGITS} --model={{place}}/none.pth",
    "{place}/none.pth is neither a workdir nor a checkpoint file.",
  ),
  Row(
    "score a network of other classes",
    f"eval {DIGITS} --model={{of_photos}}",
    "{of_photos} has the classes a, b, c, and the data have 0, 1, 2, 3, 4, 5, 6, 7, 8, 9: "
    + SCORED,
  ),
  Row(
    "score at another precision",
    f"eval {DIGITS.replace('32A32W', '8A2W')} --model={{trained}}",
    "{trained} has no stage1_block1/act/clip: it holds a network of another precision; a "
    "full-precision one is precision=32A32W.",
  ),
  Row(
    "score an unreadable photo",
    "eval --workdir={of_photos} --data_dir={data}",
    "{data}/val/b/01.jpg (Truncated File Read) is no image that can be read: replace it, or "
    "let it be skipped with --config.data.unreadable=skip.",
    folder(overwrite("val/b/01.jpg", half)),
  ),
  # Studies.
  Row(
    "cells without their teacher",
    STUDY + "--config.study.cells=('student','B')",
    "config.study.cells has 'B' without 'teacher', which it starts from: add it, or set "
    "config.teacher.init.",
  ),
  Row(
    "cells without their student",
    STUDY + "--config.study.cells=('teacher','C')",
    "config.study.cells has 'C' without 'student', which it starts from: add it, or set "
    "config.student.init.",
  ),
  Row(
    "unknown cell",
    STUDY + "--config.study.cells=('A','basline')",
    "config.study.cells has 'basline': did you mean 'baseline'?",
  ),
  Row(
    "no cells",
    STUDY + "--config.study.cells=()",
    "config.study.cells is (): it must name at least one, and none twice.",
  ),
  Row(
    "a seed twice",
    STUDY + "--config.study.seeds=(0,1,0)",
    "config.study.seeds is (0, 1, 0): it must name at least one, and none twice.",
  ),
  Row(
    "negative seeds",
    STUDY + "--config.study.seeds=(-1,)",
    "config.study.seeds is (-1,): seeds are whole numbers from 0.",
  ),
  Row(
    "a precision twice",
    STUDY + "--config.study.precisions=('8A2W','8A,2W')",
    "config.study.precisions is ('8A,2W', '8A,2W'): it must name at least one, and none twice.",
  ),
  Row(
    "a precision that is none",
    STUDY + "--config.study.precisions=('8A,9W',)",
    "config: precision '8A,9W' is not one: write activation and weight bits as in '8A,2W', "
    "each 1 to 8, or 32 for full precision.",
  ),
  Row(
    "a study's cells of less than a step",
    STUDY + "--config.recipe.finetune.epochs=0.001 --config.study.seeds=(0,)",
    "config.recipe.finetune.epochs: 0.001 epochs of 1437 examples are less than a step.",
  ),
  Row(
    "another study's workdir",
    STUDY + "--config.seed=3",
    "{run} belongs to a run with another config: config.seed (0 there, 3 now); choose another "
    "--workdir.",
    copy("study"),
  ),
  Row("two studies in a workdir", STUDY, LOCKED, copy("study", lambda run: hold(run / "lock"))),
  # Preparing.
  Row("prepare nothing", "prepare", "this command needs --dataset=...; see apprentice --help."),
  Row(
    "prepare an unknown dataset",
    "prepare --dataset=cifr10 --data_dir={place}/tfds",
    re.compile(r"tfds has no dataset 'cifr10': did you mean 'cifar10'.*\?"),
  ),
  Row(
    "prepare without TensorFlow",
    "prepare --dataset=cifar10 --data_dir={place}/tfds",
    re.compile(r".*'cifar10'.* TensorFlow.*: pip install 'apprentice-jax\[prepare\]'\."),
    absent="tensorflow",
  ),
  Row(
    "prepare below a file",
    "prepare --dataset=digits --data_dir={place}/file",
    re.compile(
      r"'digits' cannot be prepared in .*/file \(.*\): give a data_dir that can be "
      r"written, or none\."
    ),
    file("file"),
  ),
]
