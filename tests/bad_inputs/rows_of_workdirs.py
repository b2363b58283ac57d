"""Rows: what is wrong is in a workdir, of a run that goes on, is scored, or belongs to a study."""

import shutil

from rows import (
  BROKEN,
  DAMAGED,
  DIGITS,
  FOLDER,
  GO_ON,
  KEPT,
  LOCKED,
  OTHER_CLASSES,
  SCORED,
  STUDY,
  Row,
  copy,
  corrupt,
  file,
  folder,
  half,
  hold,
  overwrite,
  permit,
  photos_since,
)

ROWS = [
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
    STUDY.replace("{digits}", "{digits}:all_schemes")
    + "--config.recipe.finetune.epochs=0.001 --config.study.seeds=(0,)",
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
]
