"""C code of many networks as one program of this machine."""

import pathlib
import subprocess

import numpy as np
import tools

from apprentice_jax.deploy.c import source
from apprentice_jax.deploy.network import Lowered

# Each network's images and logits lie in memory of their own, so that sanitizers see every step
# beyond. The arena begins full of bytes that are not zero, and has a canary behind it.
MAIN = """
#include <stdio.h>
#include <stdlib.h>

static int run(void (*logits)(const uint8_t *, float *, void *), size_t pixels, size_t classes,
               size_t bytes) {
  uint8_t *arena = malloc(bytes + 8), *image = malloc(pixels);
  float *result = malloc(classes * sizeof *result);
  uint32_t count;
  size_t i;
  if (arena == NULL || image == NULL || result == NULL || fread(&count, 4, 1, stdin) != 1) return 1;
  memset(arena, 0xA5, bytes + 8);
  for (; count != 0u; count--) {
    if (fread(image, 1, pixels, stdin) != pixels) return 1;
    logits(image, result, arena);
    fwrite(result, sizeof *result, classes, stdout);
  }
  for (i = 0; i < 8; i++) {
    if (arena[bytes + i] != 0xA5) return 2;
  }
  free(arena);
  free(image);
  free(result);
  return 0;
}

int main(void) {
  int failed = 0;
CALLS  return failed;
}
"""
CALL = """static void run_n{i}(const uint8_t *image, float *logits, void *arena) {{
  n{i}_logits(image, logits, (n{i}_arena_t *)arena);
}}
"""


def compiled(networks: list[Lowered], flags: list[str], folder: pathlib.Path) -> pathlib.Path:
  """Compiles the networks' code as one text, which takes a fraction of a second a network.

  Returns:
    The program, for `logits`.
  """
  compiler = tools.program("gcc")
  text = calls = ""
  for i, network in enumerate(networks):
    files = source.sources(network, f"n{i}")
    (folder / f"n{i}.h").write_text(files[f"n{i}.h"])
    text += "#define NN_SOFT\n" * ("-DNN_SOFT" in flags and i > 0)
    text += files[f"n{i}.c"] + "#undef NN_SOFT\n#undef NN_LARGE\n" + CALL.format(i=i)
    sizes = f"{np.prod(network.image_shape)}, {len(network.class_names)}, sizeof(n{i}_arena_t)"
    calls += f"  failed |= run(run_n{i}, {sizes});\n"
  (folder / "all.c").write_text(text + MAIN.replace("CALLS", calls))
  program = folder / "all"
  subprocess.run([compiler, *flags, folder / "all.c", "-lm", "-o", program], check=True)
  return program


def logits(program: pathlib.Path, networks: list[Lowered], images: list[np.ndarray]):
  """Runs a program.

  Args:
    program: see `compiled`.
    networks: of which it was made.
    images: of each network, uint8 (count, height, width, channels).

  Returns:
    Of each network float32 (count, classes).
  """
  data = b"".join(np.uint32(len(batch)).tobytes() + batch.tobytes() for batch in images)
  done = subprocess.run(program, input=data, capture_output=True, check=False)
  assert done.returncode == 0, (done.returncode, done.stderr.decode()[:3000])
  result, start = np.frombuffer(done.stdout, np.float32), 0
  rows = []
  for network, batch in zip(networks, images):
    shape = len(batch), len(network.class_names)
    rows.append(result[start : start + np.prod(shape)].reshape(shape))
    start += np.prod(shape)
  return rows
