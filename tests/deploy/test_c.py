"""C code: the logits of the definition to the bit, whatever the compiler's flags."""

import ctypes
import dataclasses
import json
import subprocess

import numpy as np
import pytest
import tools
from networks import lowered, made

from apprentice_jax.deploy import c, interpret, registry
from apprentice_jax.deploy.c import memory, plan, report, source
from apprentice_jax.deploy.network import Conv
from apprentice_jax.errors import ConfigError

KINDS = [
  dict(),
  dict(precision="1A,1W"),
  dict(precision="2A,3W"),
  dict(precision="8A,4W", shortcut="conv"),
  dict(precision="4A,8W", weights="dorefa"),
  dict(precision="8A,5W", weights="wrpn", per_channel=False),
  dict(precision="8A,6W"),
  dict(activations="lsq", residual=True, shortcut="conv"),
  dict(name="resnet18", width=0.0625, weights="ttq"),
  dict(name="resnet50", width=0.0625, precision="8A,4W"),
  dict(name="resnet20", weights="dorefa"),
  dict(name="resnet14", width=0.5, weights="ttq", per_channel=False),
]
WARNINGS = "-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror".split()
# By name: the compiler, its flags, and every how-many-th network.
FLAGS = {
  "portable": ("gcc", ["-std=c99", "-O2"], 1),
  "no floating-point unit": ("gcc", ["-std=c99", "-O2", "-DNN_SOFT"], 1),
  "contraction": ("gcc", ["-std=gnu11", "-O3", "-ffp-contract=fast", "-march=native"], 4),
  "plain loops": ("gcc", ["-std=c99", "-O2", "-DNN_PORTABLE"], 4),
  "clang": ("clang", ["-std=c99", "-O2", "-ffp-contract=fast", "-march=native"], 4),
}


@pytest.fixture(autouse=True)
def no_cross_compiler(request, monkeypatch):
  """Code is measured where the test is about it; it takes time."""
  if "report" not in request.function.__name__:
    monkeypatch.setattr(report, "COMPILER", "no cross-compiler")


@pytest.fixture(scope="module")
def networks():
  """Of every kind, also with numbers that leave 31 bits; each lowered with 8-bit ends."""
  kinds = [lowered(ends="8bit", **kind) for kind in KINDS]
  return [*kinds, _larger(kinds[0], 64), _larger(kinds[8], 1024)]


def _larger(network, factor: int):
  """The network with multipliers and addends this many times as large."""
  grow = lambda n: dataclasses.replace(
    n, multiplier=n.multiplier * np.float32(factor), addend=n.addend * np.float32(factor)
  )
  inside = [grow(n) if isinstance(n, Conv) and n.fixed else n for n in network.nodes]
  return dataclasses.replace(network, nodes=tuple(inside))


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_logits_are_the_definitions(flags, networks, tmp_path):
  """All networks in one library, so that they compile in seconds and their names must not meet."""
  compiler, flags, step = tools.program(flags[0]), *flags[1:]
  text, chosen = "", list(enumerate(networks))[::step]
  for i, network in chosen:
    files = source.sources(network, f"n{i}")
    (tmp_path / f"n{i}.h").write_text(files[f"n{i}.h"])
    text += files[f"n{i}.c"] + "#undef NN_SOFT\n#undef NN_LARGE\n"
    if "-DNN_SOFT" in flags:
      text += "#define NN_SOFT\n"
  (tmp_path / "all.c").write_text(text)
  library = tmp_path / "all.so"
  command = [compiler, *flags, *WARNINGS, "-fPIC", "-shared", tmp_path / "all.c", "-o", library]
  subprocess.run([*command, "-lm"], check=True)
  code, images = ctypes.CDLL(str(library)), made()[3]
  for i, network in chosen:
    logits = np.zeros((len(images), 10), np.float32)
    arena = ctypes.create_string_buffer(source.arena_bytes(network) + 8)
    for image, row in zip(images, logits):
      pointers = (a.ctypes.data_as(ctypes.c_void_p) for a in (image, row))
      getattr(code, f"n{i}_logits")(*pointers, arena)
    kind = [*KINDS, "larger", "larger"][i]
    np.testing.assert_array_equal(logits, interpret.logits(network, images), err_msg=str(kind))


@pytest.mark.slow
@pytest.mark.parametrize("level", ["-O0", "-O2", "-Os", "-O3"])
@pytest.mark.parametrize(
  "processor",
  [
    "arm-none-eabi-gcc -mthumb -mcpu=cortex-m0",
    "arm-none-eabi-gcc -mthumb -mcpu=cortex-m3",
    "arm-none-eabi-gcc -mthumb -mcpu=cortex-m4 -mfpu=fpv4-sp-d16 -mfloat-abi=hard",
    "arm-none-eabi-gcc -mthumb -mcpu=cortex-m55 -mfloat-abi=hard",
    "riscv64-unknown-elf-gcc -march=rv32imc -mabi=ilp32 --specs=picolibc.specs",
    "clang -isystem /usr/lib/arm-none-eabi/include --target=thumbv6m-none-eabi",
    "clang -isystem /usr/lib/arm-none-eabi/include --target=thumbv7em-none-eabihf",
  ],
)
def test_no_compiler_warns(processor, level, networks, tmp_path):
  compiler, *flags = processor.split()
  for i in (0, 3, 8):
    for file, text in source.sources(networks[i], f"n{i}").items():
      (tmp_path / file).write_text(text)
    command = [tools.program(compiler), *flags, level, "-std=c99", *WARNINGS, "-c"]
    subprocess.run([*command, tmp_path / f"n{i}.c", "-o", tmp_path / "n.o"], check=True)


def test_the_folder_passes_its_own_test_under_sanitizers(networks, tmp_path):
  compiler = tools.program("gcc")
  for network in (networks[3], networks[8]):
    out = tmp_path / "student"
    c.write(network, out)
    command = [compiler, "-std=c99", "-O1", "-g", "-fsanitize=address,undefined"]
    command += ["-fno-sanitize-recover", out / "student.c", out / "student_test.c", "-lm"]
    subprocess.run([*command, "-o", tmp_path / "test"], check=True)
    assert subprocess.run(tmp_path / "test", capture_output=True, check=True).stdout == b"PASS\n"


def test_the_test_fails_where_a_weight_is_another(networks, tmp_path):
  compiler = tools.program("gcc")
  c.write(networks[0], tmp_path)
  (name,) = (p.stem for p in tmp_path.glob("*.json"))
  code = tmp_path / f"{name}.c"
  head, mark, tail = code.read_text().partition(f"{name}_c1_addend[4] = {{\n  ")
  code.write_text(head + mark + "1.0e7f" + tail[tail.index(",") :])
  command = [compiler, "-std=c99", code, tmp_path / f"{name}_test.c", "-lm", "-o", tmp_path / "t"]
  subprocess.run(command, check=True)
  done = subprocess.run(tmp_path / "t", capture_output=True, check=False)
  assert (done.returncode, done.stdout) == (1, b"FAIL\n")


def test_the_arena_is_the_size_that_is_stated(networks, tmp_path):
  compiler = tools.program("gcc")
  for i, network in enumerate(networks):
    name = f"m{i}"
    (tmp_path / f"{name}.h").write_text(source.sources(network, name)[f"{name}.h"])
    size = source.arena_bytes(network)
    check = f'#include "{name}.h"\ntypedef char right[sizeof({name}_arena_t) == {size} ? 1 : -1];\n'
    (tmp_path / f"{name}.c").write_text(check)
    subprocess.run([compiler, "-c", tmp_path / f"{name}.c", "-o", tmp_path / "o"], check=True)


def test_fast_math_is_refused(networks, tmp_path):
  compiler = tools.program("gcc")
  c.write(networks[0], tmp_path, "n")
  command = [compiler, "-ffast-math", "-c", tmp_path / "n.c", "-o", tmp_path / "n.o"]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode and "-ffast-math changes the results" in done.stderr


def test_a_folder_is_loaded_like_any_exported_file(networks, tmp_path):
  tools.program("gcc")
  registry.write(networks[0], "c", tmp_path / "student", name="net")
  assert registry.recognised(tmp_path / "student") == "c"
  predictor, images = registry.load(tmp_path / "student"), made()[3]
  assert predictor[:3] == (networks[0].image_shape, networks[0].class_names, networks[0].resize)
  np.testing.assert_array_equal(predictor.logits(images), interpret.logits(networks[0], images))
  about = json.loads((tmp_path / "student" / "net.json").read_text())
  assert about["arena_bytes"] == source.arena_bytes(networks[0])
  (tmp_path / "student" / "net.c").write_text("int x;\n")
  with pytest.raises(ConfigError, match=r"net\.c is not as it was exported: export it again"):
    registry.load(tmp_path / "student")


def test_networks_and_names_without_c_code(networks, tmp_path):
  for network in (lowered(precision="32A,2W"), lowered(precision="8A,32W")):
    with pytest.raises(
      ConfigError, match="has floats: export a network with quantized activations"
    ):
      c.write(network, tmp_path / "x")
  with pytest.raises(ConfigError, match="'2net' cannot begin a name in C"):
    c.write(networks[0], tmp_path / "x", "2net")
  assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("flags", [["-O2"], ["-O2", "-DNN_SOFT"]], ids=["floats", "soft"])
def test_ends_in_full_precision_differ_in_the_order_of_sums_alone(flags, tmp_path):
  compiler, images = tools.program("gcc"), made(name="resnet18", width=0.0625)[3]
  network = lowered(name="resnet18", width=0.0625)
  c.write(network, tmp_path / "n")
  command = [compiler, "-std=c99", *flags, *WARNINGS, tmp_path / "n" / "n.c", "-lm"]
  subprocess.run([*command, tmp_path / "n" / "n_test.c", "-o", tmp_path / "t"], check=True)
  assert subprocess.run(tmp_path / "t", capture_output=True, check=True).stdout == b"PASS\n"
  found = c.load(tmp_path / "n").logits(images)
  np.testing.assert_allclose(found, interpret.logits(network, images), rtol=0, atol=1e-5)


def test_the_report_says_what_the_network_takes(networks, tmp_path):
  c.write(networks[0], tmp_path / "n")
  about = json.loads((tmp_path / "n" / "n.json").read_text())
  memory_of, header = about["memory"], (tmp_path / "n" / "n.h").read_text()
  image = 0 if "N_IMAGE_IN_ARENA" in header else 13 * 16 * 3
  assert memory_of["ram"] == about["arena_bytes"] + image + memory_of["stack"]
  assert memory_of["flash"] == memory_of["tables"] + (memory_of["code"] or 0)
  assert [layer["path"] for layer in about["layers"]][0] == "stem"
  for line in c.memory_lines(tmp_path / "n"):
    assert f" * {line}\n" in header
  # weights, a multiplier and an addend for each channel, the pixels' levels, the classes' names
  least = sum(
    -(-node.weights.levels.size * node.weights.bits // 8) + 8 * node.weights.levels.shape[-1]
    for node in networks[0].nodes
    if isinstance(node, Conv)
  )
  assert least + 3 * 256 < memory_of["tables"] < 1.1 * least + 3 * 256 + 200


@pytest.mark.parametrize(
  ("limits", "sentence"),
  [
    (dict(max_ram="1KB"), r"takes [\d,]+ bytes of RAM, more than --max_ram=1024: .* narrower"),
    (
      dict(max_flash="100"),
      r"takes [\d,]+ bytes of flash, more than --max_flash=100: .* fewer bits",
    ),
    (dict(max_ram="small"), "--max_ram=small is no size: write bytes, or 36KB"),
  ],
)
def test_limits_refuse_a_network(limits, sentence, networks, tmp_path):
  with pytest.raises(ConfigError, match=sentence):
    c.write(networks[0], tmp_path / "n", **limits)
  assert not (tmp_path / "n").exists()
  c.write(networks[0], tmp_path / "n", max_ram="1MB", max_flash="100KB")


def test_the_arena_is_used_to_its_last_byte_and_no_further(networks, tmp_path):
  """A canary behind it survives; one in its last byte does not. The image lies inside of it."""
  compiler, inside = tools.program("gcc"), 0
  for i, network in enumerate([*networks[6:9], lowered(ends="8bit", width=0.5)]):
    c.write(network, tmp_path / f"n{i}")
    library, header = tmp_path / f"n{i}.so", (tmp_path / f"n{i}" / f"n{i}.h").read_text()
    command = [compiler, "-std=c99", "-O2", "-fPIC", "-shared", tmp_path / f"n{i}" / f"n{i}.c"]
    subprocess.run([*command, "-o", library, "-lm"], check=True)
    code, size = ctypes.CDLL(str(library)), source.arena_bytes(network)
    image = made()[3][0]
    arena = np.full(size + 64, 0xA5, np.uint8)
    pointer = ctypes.c_void_p(arena.ctypes.data)
    if f"N{i}_IMAGE_IN_ARENA" in header:
      place, inside = int(header.split("IMAGE_IN_ARENA ")[1].split()[0]), inside + 1
      arena[place : place + image.size] = image.ravel()
      read = ctypes.c_void_p(arena.ctypes.data + place)
    else:
      read = image.ctypes.data_as(ctypes.c_void_p)
    found = np.zeros(10, np.float32)
    getattr(code, f"n{i}_logits")(read, found.ctypes.data_as(ctypes.c_void_p), pointer)
    np.testing.assert_array_equal(found, interpret.logits(network, image[None])[0])
    assert np.all(arena[size:] == 0xA5)
    assert not np.all(arena[size - 4 : size] == 0xA5), i
  assert inside


def test_a_result_may_overwrite_the_levels_that_were_added():
  planned = plan.plan(lowered(ends="8bit", name="resnet14"))
  placed = memory.place(planned)
  shared = [layer for layer in planned.layers if layer.output.name in placed.in_place]
  assert shared and all(layer.added[0].start == layer.output.start for layer in shared)


def test_no_two_levels_lie_in_one_place_at_a_time(networks):
  for network in networks:
    planned = plan.plan(network)
    placed = memory.place(planned)
    for i, step in enumerate(planned.steps):
      later = [s for s in planned.steps[i + 1 :] if isinstance(s, plan.Layer)]
      read = {b.input.name: b.input for s in later for b in s.branches}
      read |= {s.added[0].name: s.added[0] for s in later if s.added}
      written = {s.output.name for s in planned.steps[: i + 1]}
      alive = [t for name, t in read.items() if name in written and name != step.output.name]
      for tensor in alive:
        begin, end = tensor.start - tensor.before, tensor.start - tensor.before + tensor.bytes
        first = step.output.start - step.output.before
        assert end <= first or first + step.output.bytes <= begin, (tensor, step.output)
        assert end <= placed.levels
