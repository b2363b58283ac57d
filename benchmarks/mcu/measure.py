"""What an exported network costs on microcontrollers: instructions, modelled cycles, flash, RAM.

    python benchmarks/mcu/measure.py FOLDER --model=student.apprentice --out=results/mcu

The folder is one that `apprentice export --format=c` wrote. The command builds it for each machine
and runs it in QEMU. The network's own test must print PASS. With --model the logits of drawn images
must equal those that `deploy.interpret` computes of the packed file, to the bit. The command ends
with status 1 if a machine fails.

See `building` for what it takes to be installed, and `cycles` for the models.
"""

import argparse
import json
import pathlib
import re
import sys
import tempfile

import building
import counting
import flash
import numpy as np
import tables
from machines import KB, MACHINES

from apprentice_jax.deploy import cost, interpret, registry
from apprentice_jax.errors import ConfigError

SMALL = 12 * KB  # of RAM: such networks also run on a micro:bit
SECTIONS = ("-ffunction-sections", "-fdata-sections")


def measure(folder, machines=(), images=100, flags=("-O3",), model="", accuracy="") -> dict:
  """Measures an exported folder.

  Args:
    folder: that `apprentice export --format=c` wrote.
    machines: keys of `MACHINES`; by default all that are large enough.
    images: to draw and to compare.
    flags: the compiler's, beside those of the processor and of the exported Makefile.
    model: packed file of the same network, or its name in the zoo; "" for none.
    accuracy: words for the report.

  Returns:
    The report; its "machines" have one row each, whose "check" begins with PASS or FAIL.

  Raises:
    ConfigError: a tool is missing, or a file cannot be read.
  """
  network = building.folder(folder)
  shape = network.about["image_shape"]
  upper = network.name.upper()
  header = (network.path / f"{network.name}.h").read_text()
  inside = re.search(rf"^#define {upper}_IMAGE_IN_ARENA\b", header, re.M) is not None
  expected, macs, zeros = _defined(model, images, shape)
  image = 0 if inside else int(np.prod(shape))
  small = network.about["arena_bytes"] + image <= SMALL
  keys = machines or [key for key in MACHINES if small or key != "microbit"]
  rows = []
  with tempfile.TemporaryDirectory() as build:
    counter = counting.plugin(pathlib.Path(build))
    for key in keys:
      place = pathlib.Path(build) / key
      place.mkdir()
      row = {"key": key, "machine": MACHINES[key].title, "image": image}
      rows.append(row)
      try:
        row.update(_measure_machine(key, network, flags, expected, counter, place))
        row["ram"] = row["arena"] + row["image"] + row["stack"] + row["static"]
      except ConfigError as error:
        row.update(check=f"FAIL: {error}", flags=[*MACHINES[key].flags, *flags])
  return {
    "name": pathlib.Path(folder).resolve().name,
    **{key: network.about[key] for key in ("architecture", "precision", "image_shape")},
    "model": pathlib.Path(model).name,
    "macs": macs,
    "zeros": zeros,
    "images": images,
    "accuracy": accuracy,
    "image_in_arena": inside,
    "compilers": _versions(dict.fromkeys(MACHINES[key].tools + "gcc" for key in keys)),
    "emulator": _versions([MACHINES[keys[0]].emulator[0]])[0],
    "machines": rows,
  }


def _defined(model, images: int, shape) -> tuple:
  """(logits of the drawn images, products of one image, share of them with a weight of zero)."""
  if not model:
    return None, None, None
  network = registry.network(model)
  if list(network.image_shape) != list(shape):
    raise ConfigError(f"{model} is of another network than the folder: its images differ.")
  layers = cost.layers(network)
  macs = sum(layer.macs for layer in layers)
  zeros = sum(layer.macs * (layer.zeros or 0) / layer.weights for layer in layers)
  return interpret.logits(network, building.images(images, shape)), macs, zeros / macs


def _measure_machine(key, network, flags, expected, counter, build) -> dict:
  machine = MACHINES[key]
  code = building.network_object(machine, network, [*flags, *SECTIONS], build)
  own = building.emulate(machine, building.own_test(machine, network, code, build))
  if own != "PASS\n":
    raise ConfigError(f"the network's own test prints {own.strip()!r}.")
  program = building.bench(machine, network, code, build)
  count = 1 if expected is None else len(expected)
  logits, arena, stack = building.printed(building.emulate(machine, program, count))
  check = "PASS"
  if expected is not None:
    equal = int((logits.view(np.uint32) == expected.view(np.uint32)).all(1).sum())
    check = f"{'PASS' if equal == count else 'FAIL'}: {equal} of {count}"
  return {
    "check": check,
    "flags": [*machine.flags, *building.FLAGS, *flags],
    "arena": arena,
    "stack": stack,
    **flash.sizes(building.alone(machine, code, build)),
    **counting.count(machine, program, network.name, counter),
  }


def _versions(programs) -> list[str]:
  return [building.run([program, "--version"]).splitlines()[0] for program in programs]


def _arguments():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("folder", help="that `apprentice export --format=c` wrote")
  parser.add_argument("--machines", default="", help=f"of {','.join(MACHINES)}, with commas")
  parser.add_argument("--images", type=int, default=100, help="drawn, and compared with --model")
  parser.add_argument("--optimise", default="-O3", metavar="FLAGS", help="such as --optimise=-Os")
  parser.add_argument("--model", default="", help="packed file or zoo name of the same network")
  parser.add_argument("--accuracy", default="", help="words for the report")
  parser.add_argument("--out", default="", help="folder for NAME.md, NAME.json and NAME.csv")
  flags = parser.parse_args()
  flags.machines = [key for key in flags.machines.split(",") if key]
  if wrong := [key for key in flags.machines if key not in MACHINES]:
    parser.error(f"no machine {wrong[0]!r}: {', '.join(MACHINES)}")
  return flags


def main():
  flags = _arguments()
  options = (flags.machines, flags.images, flags.optimise.split(), flags.model, flags.accuracy)
  try:
    report = measure(flags.folder, *options)
  except ConfigError as error:
    print(f"measure.py: {error}", file=sys.stderr)
    sys.exit(2)
  page = tables.markdown(report)
  print(page)
  if flags.out:
    out = pathlib.Path(flags.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{report['name']}.md").write_text(page)
    (out / f"{report['name']}.json").write_text(json.dumps(report, indent=1) + "\n")
    (out / f"{report['name']}.csv").write_text(tables.machines_csv(report))
  sys.exit(0 if all(row["check"].startswith("PASS") for row in report["machines"]) else 1)


if __name__ == "__main__":
  main()
