"""Writes the network of a workdir to a file that runs with integer arithmetic."""

import pathlib

from apprentice_jax.cli import flags as shared
from apprentice_jax.deploy.network import ENDS
from apprentice_jax.deploy.registry import FORMATS

HELP = "write a trained network to a file: packed, ONNX, StableHLO"


def flags(parser):
  add = parser.add_argument
  add("--workdir", metavar="DIR", help="the folder of the run whose network it is")
  add("--format", **shared.one_of(FORMATS), help="the format of the file")
  add("--out", metavar="FILE", help="the file to write")
  add(
    "--ends",
    **shared.one_of(ENDS),
    help="the weights of layers that training left in full precision",
  )
  add(
    "--packing",
    **shared.one_of(("bits", "base3")),
    help="how ternary weights are stored: two bits each, or five to a byte",
  )
  add(
    "--form",
    **shared.one_of(("auto", "exact", "fast")),
    help="operators of an ONNX file: those with the packed file's exact result, or the fastest",
  )
  add("--layers", **shared.SWITCH, help="print the cost of each layer")
  shared.data_dir(parser)


def run(given):
  if "form" not in FORMATS[given.format]:
    shared.unused(given, "form", f"{given.format} files have one form")
  shared.need(given, "workdir", "out")
  shared.check_folder(given.out)
  from apprentice_jax.deploy import cost
  from apprentice_jax.training import devices, export

  devices.start(None, given.workdir)
  options = {name: getattr(given, name) for name in FORMATS[given.format]}
  network = export.export(
    given.workdir, given.format, given.out, ends=given.ends, data_dir=given.data_dir, **options
  )
  print(cost.table(network, given.packing, by_layer=given.layers))
  print(f"{given.out}: {pathlib.Path(given.out).stat().st_size:,} bytes, {given.format}")
