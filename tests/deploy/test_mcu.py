"""Exported C code on emulated microcontrollers, and the benchmark that measures it there."""

import json
import pathlib
import sys

import pytest
import tools
from networks import lowered

from apprentice_jax.deploy import registry
from apprentice_jax.errors import ConfigError

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks" / "mcu"))
import building
import counting
import flash
import measure
import tables
from machines import MACHINES

pytestmark = pytest.mark.slow
CASES = [(key, "-O3") for key in MACHINES]
CASES += [(key, "-O2 -std=gnu11 -ffp-contract=fast") for key in ("m4", "m7", "m55")]
# A network by hand: two calls of a layer of 3,000 instructions, a stack of 600 bytes to 700.
HEADER = """#include <stdint.h>
typedef struct { uint8_t levels[%d]; } net_arena_t;
void net_logits(const uint8_t *image, float *logits, net_arena_t *arena);
"""
CODE = """#include "net.h"
#ifdef __riscv
#define SYNTAX ""
#define STEP "addi %0, %0, -1\\n bnez %0, 1b"
#else
#define SYNTAX ".syntax unified\\n"
#define STEP "subs %0, %0, #1\\n bne 1b"
#endif
static const uint8_t weights[1000] = {1};
uint32_t net_word = 7;
__attribute__((noinline)) static void net_layer(volatile uint8_t *levels) {
  uint32_t n = 1500;
  __asm__ volatile(SYNTAX "1: " STEP : "+l"(n));
  levels[0] = 1;
}
void net_logits(const uint8_t *image, float *logits, net_arena_t *arena) {
  volatile uint8_t bytes[600];
  volatile uint32_t at = image[1] % 1000u, past = PAST;
  bytes[0] = weights[at];
  net_layer(arena->levels);
  net_layer(arena->levels);
  arena->levels[sizeof arena->levels - 1 + past] = 0;
  logits[0] = (float)bytes[0] + 0.5f;
}
"""
TEST = '#include <stdio.h>\nint main(void) { puts("PASS"); return 0; }\n'


@pytest.fixture(params=MACHINES)
def machine(request):
  machine = MACHINES[request.param]
  for program in ("gcc", *machine.programs):
    tools.program(program)
  return machine


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
  """A small network's C code and packed file."""
  path = tmp_path_factory.mktemp("exported")
  network = lowered(ends="8bit", shortcut="conv")
  registry.write(network, "c", path / "net")
  registry.write(network, "packed", path / "net.apprentice")
  return path


def by_hand(path, arena=100):
  about = dict(image_shape=(4, 4, 1), class_names=["a"], architecture="hand", precision="")
  (path / "net.json").write_text(json.dumps({**about, "arena_bytes": arena}))
  for name, text in (("net.h", HEADER % arena), ("net.c", CODE), ("net_test.c", TEST)):
    (path / name).write_text(text)
  return building.folder(path)


def key_of(machine):
  return next(key for key, m in MACHINES.items() if m is machine)


@pytest.mark.parametrize("machine, flags", CASES, indirect=["machine"])
def test_logits_are_the_definitions(machine, exported, flags):
  model = exported / "net.apprentice"
  report = measure.measure(exported / "net", [key_of(machine)], 9, flags.split(), model)
  (row,) = report["machines"]
  assert row["check"] == "PASS: 9 of 9"
  estimate = json.loads((exported / "net" / "net.json").read_text())["memory"]["stack"]
  assert 0 < row["stack"] <= estimate and row["arena"] + row["stack"] <= row["ram"]
  assert row["instructions"] > 1e5 and row["cycles"] > row["instructions"] / 2
  assert sum(n for _, n, _ in row["layers"]) == row["instructions"]
  assert sum(n for _, n, _ in row["functions"]) == row["instructions"]
  assert row["code"] + row["weights"] + row["constants"] == row["flash"]
  assert machine.model not in ("m0", "riscv") or row["unaligned"] == 0
  assert report["macs"] > 1e5 and 0.2 < report["zeros"] < 0.8
  assert f"| {machine.title} | PASS: 9 of 9 |" in tables.markdown(report)
  assert tables.machines_csv(report).count("\n") == 2


def test_another_network_fails(exported, tmp_path):
  tools.program("gcc"), [tools.program(p) for p in MACHINES["m4"].programs]
  registry.write(lowered(ends="8bit"), "packed", tmp_path / "other.apprentice")
  report = measure.measure(exported / "net", ["m4"], 2, model=tmp_path / "other.apprentice")
  assert report["machines"][0]["check"] == "FAIL: 0 of 2"


def test_what_is_measured_of_a_network_by_hand(machine, tmp_path):
  network = by_hand(tmp_path)
  code = building.network_object(machine, network, ["-O2", "-DPAST=0"], tmp_path)
  program = building.bench(machine, network, code, tmp_path)
  logits, arena, stack = building.printed(building.emulate(machine, program, 3))
  assert logits.tolist() == [[0.5 + (i[0, 1, 0] == 232)] for i in building.images(3, (4, 4, 1))]
  assert arena == 100 and 600 <= stack < 750
  counted = counting.count(machine, program, "net", counting.plugin(tmp_path))
  layers = [row for row in counted["layers"] if row[0] == "layer"]
  assert len(layers) == 2 and layers[0] == layers[1]
  assert 3000 <= layers[0][1] < 3010
  # A loop's branch is taken 1,499 times: by the manuals 2 more cycles each.
  if machine.model in ("m0", "m4", "riscv"):
    assert 3000 + 2 * 1499 <= layers[0][2] < 3000 + 2 * 1499 + 20
  sizes = flash.sizes(building.alone(machine, code, tmp_path))
  assert 1000 + 4 <= sizes["weights"] <= 1000 + 16 and 4 <= sizes["static"] <= 8
  assert ("libgcc: addsf3" in sizes["libraries"]) == (machine.model in ("m0", "riscv"))


def test_an_image_in_the_arena_is_counted_once(tmp_path):
  [tools.program(p) for p in ("gcc", *MACHINES["m4"].programs)]
  by_hand(tmp_path)
  apart = measure.measure(tmp_path, ["m4"], flags=["-DPAST=0"])
  macros = "#define NET_IMAGE_IN_ARENA 84\n#define NET_IMAGE(arena) ((arena)->levels + 84)\n"
  (tmp_path / "net.h").write_text(HEADER % 100 + macros)
  inside = measure.measure(tmp_path, ["m4"], flags=["-DPAST=0"])
  assert [r["image_in_arena"] for r in (apart, inside)] == [False, True]
  assert apart["machines"][0]["ram"] - inside["machines"][0]["ram"] == 16
  assert inside["machines"][0]["check"] == "PASS"


def test_a_byte_behind_the_arena_is_noticed(machine, tmp_path):
  network = by_hand(tmp_path)
  code = building.network_object(machine, network, ["-O2", "-DPAST=1"], tmp_path)
  program = building.bench(machine, network, code, tmp_path)
  with pytest.raises(ConfigError, match="canaries overwritten"):
    building.emulate(machine, program)


def test_unaligned_accesses_fault_on_an_m0_alone(machine, tmp_path):
  source = tmp_path / "unaligned.c"
  source.write_text("""#include "board.h"
static uint32_t words[2];
int main(void) {
  uint8_t *volatile byte = (uint8_t *)words + 1;
  return (int)*(volatile uint32_t *)byte;
}
""")
  program = building.link(machine, [source], tmp_path / "unaligned.elf")
  if machine.model != "m0":
    assert building.emulate(machine, program) == ""
    return
  with pytest.raises(ConfigError, match="FAULT"):
    building.emulate(machine, program)


def test_a_network_that_does_not_fit_is_a_failure(tmp_path):
  [tools.program(p) for p in MACHINES["microbit"].programs]
  by_hand(tmp_path, arena=17000)
  (row,) = measure.measure(tmp_path, ["microbit"], flags=["-DPAST=0"])["machines"]
  assert row["check"].startswith("FAIL") and "region `ram' overflowed" in row["check"]
