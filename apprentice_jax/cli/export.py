"""Writes the network of a workdir, of a packed file, or of `apprentice models` to a file.

Our ResNets run on integers there. A network of your own becomes a StableHLO file with weights of
int8, which computes the rest in floats as its module does.
"""

from apprentice_jax.cli import flags as shared
from apprentice_jax.deploy.network import ENDS
from apprentice_jax.deploy.registry import FORMATS, usual_ends
from apprentice_jax.errors import ConfigError

HELP = "write a trained network to a file: packed, ONNX, C, a page for browsers, StableHLO"


def flags(parser):
  add = parser.add_argument
  add("--workdir", metavar="DIR", help="the folder of the run whose network it is")
  add(
    "--model",
    metavar="FILE|NAME",
    help="a packed file to write anew, or a network of `apprentice models`, in place of --workdir",
  )
  add("--format", **shared.one_of(FORMATS), help="the format of the file")
  add("--out", metavar="FILE", help="the file to write; of C code, the folder")
  add("--name", metavar="NAME", default="", help="of C code: the beginning of its public names")
  add(
    "--title", metavar="TEXT", help="of a page: its heading, in place of `What is in the picture?`"
  )
  add("--max_ram", metavar="SIZE", default="", help="of C code: refuse more RAM, such as 36KB")
  add("--max_flash", metavar="SIZE", default="", help="of C code: refuse more flash")
  add(
    "--ends",
    **shared.one_of(ENDS) | {"default": None},
    help="weights of layers that training left in full precision; float, for C code and pages 8bit",
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
  for form, files in (("c", "C code"), ("web", "pages")):
    if given.format != form:
      for flag in FORMATS[form]:
        shared.unused(given, flag, f"it is for {files}")
  if "title" in given.names and not given.title.strip():
    raise ConfigError("--title is empty: write a heading for the page, or leave it out.")
  if given.workdir and given.model:
    raise ConfigError("export takes --workdir or --model, not both.")
  shared.need(given, *(() if given.model else ("workdir",)), "out")
  if given.model and given.ends:
    raise ConfigError(
      "--ends is decided where a packed file is written: leave it out with --model."
    )
  if given.model:
    shared.unused(given, "data_dir", "a packed file needs no dataset")
    shared.model(given)
  shared.check_folder(given.out)
  from apprentice_jax.deploy import c, cost, registry, web
  from apprentice_jax.training import devices, export

  if given.format == "web":
    web.compiler()  # says now what would be missing in the end
  devices.start(None, given.workdir)
  # Each format takes options of its own; the flags have all of them.
  options = {name: getattr(given, name) for name in FORMATS[given.format]}
  if given.model:
    network = registry.network(given.model)
    registry.write(network, given.format, given.out, **options)
  else:
    ends = given.ends or usual_ends(given.format)
    network = export.export(
      given.workdir, given.format, given.out, ends=ends, data_dir=given.data_dir, **options
    )
  print(cost.table(network, given.packing, by_layer=given.layers))
  if given.format == "c":
    print(*c.memory_lines(given.out), sep="\n")
  print(f"{given.out}: {registry.size(given.out):,} bytes, {given.format}")
