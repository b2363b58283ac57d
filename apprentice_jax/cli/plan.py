"""Compiles a config's training step for TPU slices, and estimates its memory and speed there.

No TPU is needed; the extra [plan] brings the compiler.
"""

import json
import pathlib

from apprentice_jax.cli import config_file
from apprentice_jax.cli import flags as shared

HELP = "estimate the memory and the speed of a config on TPU slices"


def flags(parser):
  add = parser.add_argument
  shared.config(parser)
  add(
    "--topology",
    type=lambda text: [name.strip() for name in text.split(",") if name.strip()],
    default=[],
    metavar="CHIP:SHAPE[,...]",
    help="the slices, as in v5e:16x16,v4:4x4x4",
  )
  add("--max_batch", **shared.SWITCH, help="find the largest batch that fits a chip")
  add("--scaling", **shared.SWITCH, help="add a table for larger slices")
  absent = " of a dataset that is not on this machine"
  add("--examples", type=shared.whole(0), default=0, metavar="N", help="the images" + absent)
  add("--classes", type=shared.whole(0), default=0, metavar="N", help="the classes" + absent)
  add("--out", metavar="FILE.json", help="a file to write all numbers to")


def run(given):
  shared.without_devices()  # those that it compiles for are not there
  shared.need(given, "config")
  config = config_file.load(given)
  shared.check_folder(given.out)
  shared.need(given, "topology")
  from apprentice_jax.plan import report
  from apprentice_jax.training import networks

  config = networks.named(config)
  sizes = dict(examples=given.examples, classes=given.classes)
  numbers = report.plan_on(config, given.topology, **sizes, max_batch=given.max_batch)
  print(report.table(numbers))
  if given.scaling:
    # A step that does not fit its chip was not compiled, and has no all-reduces to count.
    for plan in filter(lambda p: "all_reduced" in p, numbers["plans"]):
      plan["weak_scaling"] = report.weak_scaling(plan, config)
      print(
        f"\nEstimated from {plan['topology']}, with {plan['batch_per_chip']} images a chip:\n\n"
        + report.scaling_table(plan["weak_scaling"])
      )
  if given.out:
    pathlib.Path(given.out).write_text(json.dumps(numbers, indent=1))
