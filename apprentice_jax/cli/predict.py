"""Says which classes a network sees on images, and how sure it is of each."""

import contextlib
import io
import sys

from apprentice_jax.cli import flags as shared
from apprentice_jax.errors import ConfigError

HELP = "say what a network sees on images"


def flags(parser):
  add = parser.add_argument
  add("images", nargs="*", default=[], metavar="IMAGE|FOLDER", help="photos, or folders of them")
  add("--model", metavar="FILE|NAME", help="an exported file, or a network of `apprentice models`")
  add("--workdir", metavar="DIR", help="the folder of a run, in place of --model")
  add(
    "--top",
    type=shared.whole(1),
    default=5,
    metavar="N",
    help="how many classes to print for each image",
  )
  add("--json", **shared.SWITCH, help="print one JSON object a line")
  shared.data_dir(parser)


def run(given) -> int:
  if given.model:
    shared.unused(given, "data_dir", "an exported file needs no dataset", sys.stderr)
  if given.workdir and given.model:
    raise ConfigError("predict takes --model or --workdir, not both.")
  if not given.images:
    raise ConfigError(
      "predict takes images, or folders of them: apprentice predict --model=FILE IMAGE..."
    )
  if not given.workdir:
    shared.need(given, "model")
    shared.model(given)
  from apprentice_jax.deploy import predict, registry
  from apprentice_jax.training import devices

  # The line about the devices is no part of an answer that a program reads.
  with contextlib.redirect_stdout(io.StringIO()):
    devices.start(None, given.workdir)
  files = predict.find(given.images)
  for line in predict.not_read(files.others):
    print(f"apprentice: {line}", file=sys.stderr)
  if given.workdir:
    # An exported file needs few modules of training, whose import takes longer than a picture.
    from apprentice_jax.training import export
    from apprentice_jax.training.workdir import workdir_config

    config = workdir_config(given.workdir)
    predictor = export.predictor(config, given.workdir, data_dir=given.data_dir)
  else:
    predictor = registry.load(given.model)
  # One image without an answer does not end the others', but the command's status tells.
  status = 0
  for answer in predict.predict(predictor, files.paths, given.top):
    if answer.trouble:
      status = 2
      print(f"apprentice: {predict.printable(answer.trouble)}", file=sys.stderr)
    if given.json or not answer.trouble:
      print(predict.printable(predict.as_json(answer) if given.json else predict.as_text(answer)))
  return status
