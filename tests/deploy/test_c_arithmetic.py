"""The integer arithmetic of machines without a floating-point unit: that of float32, to the bit."""

import pathlib
import subprocess

import numpy as np
import pytest
import tools

from apprentice_jax.deploy import c

SOURCE = pathlib.Path(c.__file__).parent / "arithmetic.c"
COUNT = 1_000_000
STOP = np.float32(2.0**31 - 2**7)  # the last float32 below 2**31
STEP = 2.0**20
PROGRAM = """#define NN_SOFT
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "{source}"
int main(void) {{
  struct {{
    int32_t acc, a, b;
    float x;
  }} in;
  int32_t result[3];
  (void)NN_whole;
  (void)NN_byte;
  while (fread(&in, sizeof in, 1, stdin) == 1) {{
    result[0] = NN_product(in.acc, NN_factor(in.x));
    result[1] = NN_sum(in.a, in.b);
    result[2] = NN_level(in.b, -128, 127);
    fwrite(result, 4, 3, stdout);
  }}
  return 0;
}}
"""


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
  """Numbers at the edges: (acc, a, b, x, products of acc and x, sums of a and b, levels of b)."""
  folder = tmp_path_factory.mktemp("arithmetic")
  (folder / "a.c").write_text(PROGRAM.format(source=SOURCE))
  command = [tools.program("gcc"), "-std=c99", "-O2", folder / "a.c", "-lm", "-o", folder / "a"]
  subprocess.run(command, check=True)
  random = np.random.default_rng(0)
  a, b = whole(random), whole(random)
  near = random.random(COUNT) < 0.3  # sums near 0, and near where they round
  b[near] = np.clip(np.float32(random.integers(-(2**25), 2**25, near.sum()) - a[near]), -STOP, STOP)
  acc = np.ldexp(random.uniform(-1, 1, COUNT), random.integers(0, 32, COUNT)).astype(np.int32)
  # Half of the products lie at a half, or beside it; the others anywhere.
  x = np.ldexp(random.integers(1, 2**24, COUNT).astype(np.float32), random.integers(-60, 12, COUNT))
  halves = random.random(COUNT) < 0.5
  with np.errstate(divide="ignore", invalid="ignore"):
    aimed = (random.integers(0, 2**10, COUNT) + 0.5) / np.float32(acc)
  x = np.where(halves & (acc != 0), aimed.astype(np.float32), x) * random.choice([-1, 1], COUNT)
  x = x.astype(np.float32)
  x[:8] = [0, -0.0, 1e-45, -1e-38, 1, -1, 3.4e38, -3.4e38]
  records = np.stack([acc, a, b, x.view(np.int32)], 1)
  done = subprocess.run(folder / "a", input=records.tobytes(), capture_output=True, check=True)
  return acc, a, b, x, *np.frombuffer(done.stdout, np.int32).reshape(-1, 3).T


def whole(random) -> np.ndarray:
  """int32 whole numbers that float32 has, of all magnitudes, some at halves of a level."""
  result = np.ldexp(random.uniform(-1, 1, COUNT), random.integers(0, 32, COUNT))
  halves = random.random(COUNT) < 0.3
  result[halves] = (random.integers(-200, 200, halves.sum()) + 0.5) * STEP
  result += random.integers(-1, 2, COUNT)
  return np.clip(np.rint(result).astype(np.float32), -STOP, STOP).astype(np.int32)


def test_products_are_those_of_float32(computed):
  acc, _, _, x, products, _, _ = computed
  with np.errstate(all="ignore"):
    expected = np.clip(np.rint(acc.astype(np.float32) * x), -STOP, STOP)
  np.testing.assert_array_equal(products, expected.astype(np.int32))


def test_sums_are_those_of_float32(computed):
  _, a, b, _, _, sums, _ = computed
  expected = np.clip(a.astype(np.float32) + b.astype(np.float32), -STOP, STOP)
  np.testing.assert_array_equal(sums, expected.astype(np.int32))


def test_levels_are_those_of_float32(computed):
  _, _, b, _, _, _, levels = computed
  expected = np.clip(np.rint(b.astype(np.float32) * np.float32(1 / STEP)), -128, 127)
  np.testing.assert_array_equal(levels, expected.astype(np.int32))
