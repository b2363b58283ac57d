"""Damaged and forged packed files: each is refused, or its C code computes the definition."""

import re
import subprocess
from typing import NamedTuple

import fuzz
import numpy as np
import pytest
import tools
from networks import lowered

from apprentice_jax.deploy import c, interpret, packed
from apprentice_jax.deploy.c import report
from apprentice_jax.deploy.network import Lowered
from apprentice_jax.deploy.predictor import BadFile
from apprentice_jax.errors import ConfigError

KINDS = [
  dict(),
  dict(precision="1A,1W"),
  dict(precision="4A,4W", shortcut="conv"),
  dict(activations="lsq", residual=True, weights="ttq"),
  dict(name="resnet18", width=0.0625, precision="8A,8W"),
]
C99 = "-std=c99 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror".split()
SANITIZERS = "-fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all -g".split()
TURNS = [fuzz.hostile, *[fuzz.plausible] * 4]
RUN = """
static int run_{name}(void) {{
  {name}_arena_t *arena = malloc(sizeof *arena);
  uint8_t *image = malloc({size});
  float *logits = malloc({classes} * sizeof *logits);
  int i;
  memset(arena, 170, sizeof *arena);
  for (i = 0; i < {count}; i++) {{
    if (fread(image, 1, {size}, stdin) != {size}) return 1;
    {name}_logits(image, logits, arena);
    fwrite(logits, sizeof *logits, {classes}, stdout);
  }}
  free(arena);
  free(image);
  free(logits);
  return 0;
}}
"""


class Forged(NamedTuple):
  """A network of a forged file, four images, and their logits by the definition."""

  network: Lowered
  images: np.ndarray
  logits: np.ndarray


@pytest.fixture(autouse=True)
def no_cross_compiler(monkeypatch):
  """Hundreds of networks' code need not be measured."""
  monkeypatch.setattr(report, "COMPILER", "no cross-compiler")


@pytest.fixture(scope="module")
def files():
  """Packed files of small networks."""
  return [packed.encode(lowered("8bit", **kind)) for kind in KINDS]


def test_flipped_bits_are_refused(files):
  for seed in range(100):
    data = files[seed % len(files)]
    changed = fuzz.flipped(np.random.default_rng(seed), data)
    if changed != data:
      with pytest.raises(BadFile):
        packed.decode(changed)


def test_forged_files_are_refused_or_computed(files, tmp_path):
  written = forged(files, range(25), TURNS, tmp_path)
  assert 5 < len(written) < 20
  assert_computed(written, tmp_path, ["-O0"])


def test_texts_stay_texts(files, tmp_path):
  written = forged(files, range(12), [fuzz.renamed], tmp_path)
  assert len(written) == 12
  assert_computed(written, tmp_path, ["-O0"])


@pytest.mark.slow
@pytest.mark.parametrize(
  "flags",
  [
    ["-O2"],
    ["-O0", *SANITIZERS],
    ["-O0", "-DNN_SOFT"],
    ["-O0", "-DNN_SOFT", *SANITIZERS],
  ],
  ids=["fast", "sanitizers", "no floating-point unit", "no floating-point unit, sanitizers"],
)
def test_many_forged_files(flags, files, tmp_path):
  for start in range(0, 200, 100):
    seeds = range(start, start + 100)
    assert_computed(forged(files, seeds, TURNS, tmp_path), tmp_path, flags)


def forged(files, seeds, makers, folder) -> dict[str, Forged]:
  """Forged files that have C code, by the name under which the code lies in the folder."""
  written = {}
  for seed in seeds:
    random, make = np.random.default_rng(seed), makers[seed % len(makers)]
    try:
      network = packed.decode(make(random, files[random.integers(len(files))]))
      images = np.random.default_rng(0).integers(0, 256, (4, *network.image_shape), np.uint8)
      images[0], images[1] = 0, 255
      # Large numbers may become infinite; the definition has no answer where they cancel.
      with np.errstate(all="ignore", invalid="raise"):
        logits = interpret.logits(network, images)
        c.write(network, folder / f"f{seed}")
    except (BadFile, ConfigError, FloatingPointError):
      continue
    written[f"f{seed}"] = Forged(network, images, logits)
  return written


def assert_computed(written: dict[str, Forged], folder, flags):
  """Compiles all in one program, which takes seconds, and compares every bit of the logits."""
  compiler = tools.program("gcc")
  text, calls = "#include <stdio.h>\n#include <stdlib.h>\n", ""
  for name, (_, images, logits) in written.items():
    code = folder / name / f"{name}.c"
    macros = sorted(set(re.findall(r"#\s*define (NN_\w+)", code.read_text())))
    text += f'#include "{code}"\n' + "".join(f"#undef {m}\n" for m in macros)
    text += "#define NN_SOFT\n" * ("-DNN_SOFT" in flags)
    sizes = {"size": images[0].size, "classes": logits.shape[1], "count": len(images)}
    text += RUN.format(name=name, **sizes)
    calls += f"  if (run_{name}()) return 1;\n"
  (folder / "all.c").write_text(f"{text}\nint main(void) {{\n{calls}  return 0;\n}}\n")
  command = [compiler, *C99, *flags, folder / "all.c", "-lm", "-o", folder / "all"]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr[:3000]
  pixels = b"".join(file.images.tobytes() for file in written.values())
  done = subprocess.run(folder / "all", input=pixels, capture_output=True, check=False)
  assert done.returncode == 0, done.stderr.decode()[:3000]
  computed = np.split(
    np.frombuffer(done.stdout, np.uint32),
    np.cumsum([file.logits.size for file in written.values()])[:-1],
  )
  wanted = [file.logits.ravel().view(np.uint32) for file in written.values()]
  wrong = [n for n, mine, own in zip(written, computed, wanted) if not np.array_equal(mine, own)]
  assert not wrong, wrong
