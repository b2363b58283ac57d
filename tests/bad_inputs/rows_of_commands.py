"""Rows: what is wrong is on the command line, in a config file, or in its arguments."""

import re

from rows import FILE, TRAIN, Row, body, config_file

ROWS = [
  # The command line.
  Row("unknown command", "trian", "command 'trian' does not exist: did you mean 'train'?"),
  Row("no config", "train", "this command needs --config=...; see apprentice --help."),
  Row(
    "no workdir",
    "train --config={digits}",
    "this command needs --workdir=...; see apprentice --help.",
  ),
  Row("nothing to score", "eval", "this command needs --workdir=...; see apprentice --help."),
  Row(
    "a model without a config",
    "eval --model={place}/resnet20.th",
    "this command needs --config=...; see apprentice --help.",
  ),
  Row(
    "a network by a wrong name",
    "eval --model=resnet8-cifar10-8a2 --data_dir={place}",
    "there is no file resnet8-cifar10-8a2, and no network of this name: did you mean "
    "'resnet8-cifar10-8a2w'?",
  ),
  Row(
    "a network by a name like no other",
    "export --model=student.packed --out={place}/x",
    re.compile(
      r"there is no file student\.packed, and no network of this name: choose one of "
      r"resnet8-cifar10-8a2w, .*"
    ),
  ),
  Row(
    "the card of a wrong name",
    "models resnet8-8a4w",
    "there is no network 'resnet8-8a4w': did you mean 'resnet8-cifar10-8a4w'?",
  ),
  Row(
    "a network of a dataset that is not there",
    "eval --model=resnet8-cifar10-8a2w --data_dir={place}",
    "dataset 'cifar10' is not prepared in {place}: prepare it with `apprentice prepare "
    "--dataset=cifar10`, which needs the [prepare] extra.",
  ),
  Row(
    "a network and a workdir",
    "eval --model=resnet8-cifar10-8a2w --workdir={trained}",
    "eval takes --workdir, or --model and --config: see apprentice --help.",
  ),
  Row(
    "unknown flag",
    "train --config={digits} --wordkir={run}",
    "flag --wordkir does not exist: did you mean '--workdir'?",
  ),
  Row(
    "a flag without a value",
    "train --config={digits} --workdir",
    "Missing value for flag --workdir: write --workdir=VALUE.",
  ),
  Row(
    "a word without dashes",
    "train digits",
    "unexpected argument 'digits': flags are written --name=value.",
  ),
  Row(
    "a config by a wrong name",
    "train --config digit --workdir {run}",
    "there is no config 'digit': did you mean 'digits'?",
  ),
  Row(
    "a field as a flag",
    TRAIN + "--epochs=5",
    "flag --epochs does not exist: did you mean '--config.recipe.student.epochs'?",
  ),
  Row(
    "a field by another name",
    TRAIN + "--lr 0.1",
    "flag --lr does not exist: did you mean '--config.recipe.student.learning_rate'?",
  ),
  Row(
    "a field with a dash",
    TRAIN + "--batch-size=64",
    "flag --batch_size does not exist: did you mean '--config.batch_size'?",
  ),
  Row(
    "a field of a command without a config",
    "predict --gamma=1 {place}",
    "flag --gamma does not exist: choose one of --model, --workdir, --top, --json, --data_dir",
  ),
  Row(
    "text for a switch",
    "study --status=maybe --workdir={run}",
    "flag --status=maybe: write true or false, or the flag alone",
  ),
  Row(
    "a field without a config",
    "train --workdir={run} --config.batch_size=64",
    "--config.batch_size changes a config: give one with --config=FILE.",
  ),
  Row(
    "two configs", TRAIN + "--config={digits} --config.seed=1", "--config is given more than once."
  ),
  Row(
    "another command's flag",
    TRAIN + "--model={data}",
    "train takes no --model: see apprentice --help.",
  ),
  Row(
    "a config for a workdir that has one",
    "eval --workdir={trained} --config={digits}",
    "eval takes --workdir, or --model and --config: see apprentice --help.",
  ),
  Row(
    "unknown split",
    "eval --workdir={trained} --split=tset",
    "dataset digits/1.0.0 has no split 'tset': use one of train, test, or a slice such as "
    "train[80%:].",
  ),
  Row(
    "a report that cannot be written",
    "bench --config={digits} --out={place}/none/bench.json",
    "cannot write {place}/none/bench.json: there is no folder {place}/none.",
  ),
  Row(
    "the grid of earlier studies",
    "study --config={digits} --workdir={run} --config.study.grid=loss.gamma=0.25|0.5",
    "flag --config.study.grid has gone: config.study.variations lists settings by name, as in "
    "'a: loss.gamma=0.25'.",
  ),
  Row(
    "a benchmark that is a program of its own",
    "bench --config={digits} --what=torch",
    "bench --what=torch is now `python benchmarks/beside_torch.py --config=...`, in the project's "
    "repository.",
  ),
  Row(
    "a benchmark that does not exist",
    "bench --config={digits} --what=speed",
    "bench takes no --what: it measures the training of a config.",
  ),
  # Config files.
  Row(
    "missing config file",
    "train --config=digit.py --workdir={run}",
    "there is no config file 'digit.py'.",
  ),
  Row(
    "a syntax error",
    FILE,
    "config file {place}/mine.py, line 2: SyntaxError: '(' was never closed.",
    config_file("config = ("),
  ),
  Row(
    "an unknown name",
    FILE,
    "config file {place}/mine.py, line 3: NameError: name 'confg' is not defined.",
    config_file("def get_config(argument=''):", "  return confg"),
  ),
  Row(
    "a missing module",
    FILE,
    "config file {place}/mine.py, line 2: ModuleNotFoundError: No module named 'no_such_module'.",
    config_file("import no_such_module"),
  ),
  Row(
    "no get_config",
    FILE,
    "config file {place}/mine.py has no get_config(argument).",
    config_file("config = base.base()"),
  ),
  Row(
    "nothing returned",
    FILE,
    "config file {place}/mine.py: get_config returns no config, but NoneType.",
    config_file("def get_config(argument=''):", "  base.base()"),
  ),
  Row(
    "a field of the wrong type",
    FILE,
    "config file {place}/mine.py, line 5: TypeError: Could not override field 'batch_size' "
    "(reference). many is of original type <class 'str'> and cannot be casted to type <class "
    "'int'>.",
    body("config.batch_size = 'many'"),
  ),
  Row(
    "an argument that is not taken",
    "train --config={place}/mine.py:scheme=A --workdir={run}",
    "config file {place}/mine.py: TypeError: get_config() takes 0 positional arguments but 1 "
    "was given.",
    body(argument=""),
  ),
  Row(
    "a misspelt field",
    FILE,
    "config.data.nmae does not exist: did you mean 'data.name'?",
    body("config.data.nmae = 'digits'"),
  ),
  Row(
    "a missing field",
    FILE,
    "config.seed is missing: build the config on apprentice_jax.config.base().",
    body("del config.seed"),
  ),
  # Config arguments.
  Row(
    "unknown argument",
    "train --config={digits}:schem=A --workdir={run}",
    "config argument 'schem' does not exist: did you mean 'scheme'?",
  ),
  Row(
    "a comma in a precision",
    "train --config={digits}:precision=8A,2W --workdir={run}",
    "in a config argument a precision has no comma: write precision=8A2W",
  ),
  Row(
    "a width in words",
    "train --config={digits}:width=wide --workdir={run}",
    "config argument width takes a number: 'width=wide'",
  ),
  Row(
    "runlocal or not",
    "train --config={digits}:runlocal=maybe --workdir={run}",
    "config argument runlocal is 'maybe': write runlocal or runlocal=False.",
  ),
  Row(
    "an argument without a value",
    "train --config={digits}:student --workdir={run}",
    "config argument student needs a value: write student=...",
  ),
]
