"""Rows: a fixed teacher's file, of a program or of logits, that cannot teach these images."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from rows import TAUGHT, TUNED, Row, file

from apprentice_jax.data import sources
from apprentice_jax.training.teachers import table

PROGRAM = TAUGHT + "{place}/teacher.stablehlo"
LOGITS = TAUGHT + "{place}/logits.npz"


def program(function=lambda images: jnp.mean(images, (1, 2)), shape=(8, 8, 1), platforms=("cpu",)):
  """A file of `jax.export`, of ten outputs that are all the same."""

  def make(place, made):
    (batch,) = jax.export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, *shape), jnp.float32)
    outputs = lambda images: jnp.tile(function(images)[:, :1], (1, 10))
    exported = jax.export.export(jax.jit(outputs), platforms=platforms)(images)
    (place / "teacher.stablehlo").write_bytes(exported.serialize())

  return make


def logits(change=lambda logits, labels: (logits, labels)):
  """A file of logits of the digits' training images, which are one-hot."""

  def make(place, made):
    labels = sources.load("digits", "train").labels
    table.save_logits(
      place / "logits.npz", *change(np.eye(10, dtype=np.float32)[labels], np.array(labels))
    )

  return make


def spoiled(logits, labels):
  logits[700, 3] = np.nan
  return logits, labels


def arrays(**named):
  return lambda place, made: np.savez(place / "logits.npz", **named)


ROWS = [
  Row(
    "logits of mixed images",
    LOGITS + " --config.data.mix=mixup",
    "config.data.mix=mixup mixes images on the devices, where the teacher {place}/logits.npz does "
    "not run: give it as a workdir, a checkpoint or a StableHLO file, or mix nothing.",
    logits(),
  ),
  Row(
    "a teacher's program for other images",
    PROGRAM,
    "{place}/teacher.stablehlo takes images of 224x224 pixels and 3 channels, and the data's have "
    "1 channel: give a teacher of such images.",
    program(shape=(224, 224, 3)),
  ),
  Row(
    "a teacher's program for no images",
    PROGRAM,
    "{place}/teacher.stablehlo takes float32 (b, 64), which are no images: a teacher takes one "
    "array of uint8 or float (batch, height, width, channels) or (batch, channels, height, width).",
    program(lambda images: images, shape=(64,)),
  ),
  Row(
    "a teacher's program for another platform",
    PROGRAM,
    "{place}/teacher.stablehlo was exported for tpu, and this run is on cpu: export it with "
    "platforms=('tpu', 'cpu').",
    program(platforms=("tpu",)),
  ),
  Row(
    "a teacher's program that is damaged",
    PROGRAM,
    re.compile(r".*/teacher.stablehlo holds no program that jax [\d.]+ can read \(.*\)\."),
    file("teacher.stablehlo"),
  ),
  Row(
    "a teacher's program that gives NaN",
    PROGRAM,
    "the logits of {place}/teacher.stablehlo are NaN or infinite for 128 of 128 training images: "
    "check the file, and config.teacher_input.mean and std.",
    program(lambda images: jnp.log(-1 - jnp.mean(jnp.abs(images), (1, 2)))),
    ("run", "run/*"),
  ),
  Row(
    "a program as a student",
    TUNED + "{place}/teacher.stablehlo",
    "config.student.init={place}/teacher.stablehlo holds a program and no parameters to train: it "
    "can be the teacher of schemes B and C.",
    program(),
  ),
  Row(
    "logits as a teacher that trains along",
    LOGITS.replace("=B", "=A"),
    "config.teacher.init={place}/logits.npz holds logits and no parameters to train: it can be the "
    "teacher of schemes B and C.",
    logits(),
  ),
  Row(
    "logits with a new head",
    LOGITS + " --config.teacher.head=new",
    "{place}/logits.npz holds no parameters, so its head cannot be trained anew: set "
    "--config.teacher.head=match, or --config.teacher.head= for outputs in the order of the data's "
    "classes.",
    logits(),
  ),
  Row(
    "logits of too few rows",
    LOGITS,
    "{place}/logits.npz has 1,400 rows, and there are 1,437 training images: it has to have a row "
    "for each image of the split, without those that data.validation and data.test_share hold out.",
    logits(lambda logits, labels: (logits[:1400], labels[:1400])),
  ),
  Row(
    "logits of another order of images",
    LOGITS,
    re.compile(
      r".*/logits.npz has label \d in row 0, and the data's is \d: its rows have to be in the "
      r"order of the training images before they are shuffled\."
    ),
    logits(lambda logits, labels: (logits[::-1], labels[::-1])),
  ),
  Row(
    "logits of other labels, by their SHA-256",
    LOGITS,
    "{place}/logits.npz holds the logits of other labels than the data's, by their SHA-256: its "
    "rows have to be in the order of the training images before they are shuffled.",
    arrays(logits=np.zeros((1437, 10)), labels_sha256=table.labels_sha256(np.zeros(1437))),
  ),
  Row(
    "logits without labels",
    LOGITS,
    "{place}/logits.npz says nothing of labels, by which the order of its rows is checked: write "
    "it with apprentice_jax.save_logits.",
    arrays(logits=np.zeros((1437, 10))),
  ),
  Row(
    "logits of other classes",
    LOGITS,
    "{place}/logits.npz has 7 outputs, and the data have 10 classes: say what the outputs are "
    "called with --config.teacher.classes=FILE, and take those of the same classes with "
    "--config.teacher.head=match.",
    logits(lambda logits, labels: (logits[:, :7], labels)),
  ),
  Row(
    "logits that are NaN",
    LOGITS,
    "{place}/logits.npz has logits that are NaN or infinite, first in row 700, column 3: "
    "compute them again.",
    logits(spoiled),
  ),
  Row(
    "no logits",
    LOGITS,
    "{place}/logits.npz has no array logits, but weights.",
    arrays(weights=np.zeros(3)),
  ),
  Row(
    "a damaged file of logits",
    LOGITS,
    re.compile(r".*/logits.npz cannot be read \(.*\)\."),
    file("logits.npz"),
  ),
  Row(
    "a teacher in ONNX without ONNX Runtime",
    TAUGHT + "{place}/net.onnx",
    "{place}/net.onnx takes the package onnxruntime: pip install 'apprentice-jax[export]'.",
    file("net.onnx"),
    absent="onnxruntime",
  ),
  Row(
    "a teacher in ONNX that is damaged",
    TAUGHT + "{place}/broken.onnx",
    re.compile(r".*/broken.onnx is no network that ONNX Runtime [\d.]+ can run \(.*\)\."),
    file("broken.onnx"),
  ),
]
