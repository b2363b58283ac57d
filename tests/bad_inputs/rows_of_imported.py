"""Rows: a network of the user's own that cannot be imported, called, quantized or written."""

from rows import DIGITS, Row

WIDE = f"train {DIGITS} --workdir={{run}} --config.student.name="
OWN = f"train {DIGITS.replace('width=0.25', 'width=1')} --workdir={{run}} --config.student.name="


def row(what, name, sentence, flags=""):
  space = "" if sentence.startswith(":") else " "
  return Row(what, f"{OWN}{name} {flags}", f"config.student.name={name}{space}{sentence}")


def broken(what, function, sentence, flags=""):
  return row(what, f"broken_networks:{function}", sentence, flags)


ROWS = [
  row(
    "an own network of no module",
    "nowhere_at_all:network",
    "cannot be imported (ModuleNotFoundError: No module named 'nowhere_at_all'): start the command "
    "in the folder of nowhere_at_all, or put the folder on PYTHONPATH.",
  ),
  row(
    "an own network without a function",
    "broken_networks:",
    "is not of the form package.module:function.",
  ),
  broken(
    "a misspelled function", "goood", "names no function of broken_networks: did you mean 'good'?"
  ),
  broken(
    "a function that fails",
    "failing",
    "fails when it is called with 10 (RuntimeError: no such depth).",
  ),
  broken(
    "a function that returns no module",
    "a_number",
    "returns 3, and has to return a module of flax.linen.",
  ),
  broken(
    "a module that takes no train",
    "no_train",
    "returns a NoTrain whose __call__ takes no `train`: it is called as module.apply(variables, "
    "images, train=True).",
  ),
  broken(
    "an own network of other outputs",
    "seven_classes",
    "gives an array of shape (2, 7) for 10 classes: it has to give logits of shape (2, 10).",
  ),
  broken(
    "an own network with dropout at all times",
    "dropout",
    "draws random numbers where it does not train: let its dropout depend on `train`, as in "
    "nn.Dropout(0.1, deterministic=not train).",
  ),
  broken(
    "an own network with other variables",
    "cached",
    "keeps variables in cache: a network may keep params and batch_stats.",
  ),
  broken(
    "an own network that cannot be quantized",
    "transposed",
    ": up: a ConvTranspose cannot be quantized; leave it as it is by naming it in full_precision.",
    "--config.precision=8A2W",
  ),
  broken(
    "a pattern that matches no layer of an own network",
    "good",
    ": full_precision names 'stem1', and no layer has such a path: choose one of Dense_0",
    "--config.precision=8A2W --config.quantization.full_precision=('stem1',)",
  ),
  broken(
    "residual points of an own network",
    "good",
    "cannot take quantization.residual: put apprentice_jax.activation before the additions.",
    "--config.precision=8A2W --config.quantization.residual=True",
  ),
  broken(
    "an own network in bfloat16",
    "good",
    "takes no dtype, and the config's is bfloat16: give the function this keyword, or set "
    "--config.dtype=float32.",
    "--config.dtype=bfloat16",
  ),
  Row(
    "the width of an own network",
    WIDE + "broken_networks:good",
    "config.student.name=broken_networks:good takes no width, and the config's is 0.25: give the "
    "function this keyword, or set --config.student.width=1.0 --config.teacher.width=1.0.",
  ),
  Row(
    "the shortcut of an own network",
    OWN + "broken_networks:good --config.student.shortcut=conv",
    "config.student.name=broken_networks:good is a network of your own, and "
    "config.student.shortcut=conv is of our ResNets: write it into your module, and leave "
    "config.student.shortcut as it is.",
  ),
  Row(
    "an own network as C code",
    OWN + "broken_networks:good --config.export=('c',)",
    "config.student.name=broken_networks:good is a network of your own, and the format c needs the "
    "layers of one of ours, such as config.student.name=resnet20: choose stablehlo.",
  ),
]
