"""C code of some hundreds of random networks: the logits of the definition to the bit."""

import dataclasses
import functools
import itertools
import subprocess
from typing import NamedTuple

import host
import numpy as np
import pytest
import random_networks
import tools
from networks import lowered

from apprentice_jax.deploy import interpret
from apprentice_jax.deploy.c import source
from apprentice_jax.deploy.network import FRACTION, Lowered, Rescale

# The frames: weights and activations of 1 to 8 bits. `random_networks` makes others of them.
KINDS = [
  dict(precision="1A,1W"),
  dict(precision="2A,2W", weights="ttq"),
  dict(precision="3A,3W", shortcut="conv", weights="wrpn", per_channel=False),
  dict(precision="4A,4W", weights="dorefa"),
  dict(precision="5A,5W", residual=True, activations="lsq"),
  dict(precision="6A,6W", weights="lsq", activations="lsq"),
  dict(precision="7A,7W", shortcut="conv", weights="dorefa"),
  dict(precision="8A,8W", per_channel=False),
  dict(precision="8A,1W", name="resnet14"),
  dict(precision="8A,2W", name="resnet20"),
  dict(activations="lsq", residual=True, shortcut="conv", weights="ttq"),
  dict(name="resnet18", width=0.0625, weights="ttq", per_channel=False),
  dict(name="resnet18", width=0.0625, precision="4A,8W", residual=True, activations="lsq"),
  dict(name="resnet50", width=0.0625, precision="8A,4W"),
  dict(precision="8A,8W", weights="dorefa", width=1.0),
]
HEAVY = len(KINDS) - 1  # whose sums leave 2**24
CHUNKS, SIZE = 8, 30
FLAGS = {
  "-O1": "-std=c99 -O1 -Wall -Wextra -Wconversion -Wshadow -Werror".split(),
  "no floating-point unit": "-std=c99 -O1 -Wall -Wextra -Wconversion -Werror -DNN_SOFT".split(),
}
CONTRACTED = "-std=gnu11 -O3 -march=native -ffp-contract=fast".split()
SANITIZED = "-std=c99 -O1 -fsanitize=address,undefined -fno-sanitize-recover=all".split()
BITS_32 = "-m32 -msse2 -mfpmath=sse -std=c99 -O1".split()


pytestmark = [
  pytest.mark.slow,
  pytest.mark.filterwarnings("ignore:.*accumulators can reach"),
]


class Random(NamedTuple):
  """A random network, its images, and their logits by the definition."""

  seed: int
  network: Lowered
  images: np.ndarray
  logits: np.ndarray

  @property
  def large(self) -> bool:
    """Whether its code computes in floats in any case."""
    return "#define NN_LARGE" in source.sources(self.network, "n")["n.c"]


@functools.cache
def frames():
  return [lowered("8bit", **kind) for kind in KINDS]


@functools.lru_cache(maxsize=2)
def chunk(number: int) -> list[Random]:
  return [random_network(seed) for seed in range(number * SIZE, (number + 1) * SIZE)]


def random_network(seed: int) -> Random:
  which, random = seed % len(KINDS), np.random.default_rng(seed)
  network, images = random_networks.varied(frames()[which], random, heavy=which == HEAVY)
  return Random(seed, network, images, interpret.logits(network, images))


def assert_equal(randoms: list[Random], flags: list[str], folder):
  networks = [one.network for one in randoms]
  program = host.compiled(networks, flags, folder)
  computed = host.logits(program, networks, [one.images for one in randoms])
  different = [
    one.seed
    for one, mine in zip(randoms, computed)
    if not np.array_equal(mine.view(np.uint32), one.logits.view(np.uint32))
  ]
  assert not different, f"seeds of networks with other logits: {different}"


@pytest.mark.parametrize(
  "number, flags",
  [pytest.param(n, FLAGS[f], id=f"{n}, {f}") for n, f in itertools.product(range(CHUNKS), FLAGS)],
)
def test_logits_are_the_definitions(number, flags, tmp_path):
  soft = "-DNN_SOFT" in flags
  assert_equal([one for one in chunk(number) if not (soft and one.large)], flags, tmp_path)


def test_contraction_changes_nothing(tmp_path):
  assert_equal(chunk(0), CONTRACTED, tmp_path)


@pytest.mark.parametrize("soft", [[], ["-DNN_SOFT"]], ids=["floats", "no floating-point unit"])
def test_sanitizers_find_nothing(soft, tmp_path):
  assert_equal(chunk(0)[: SIZE // 2], [*SANITIZED, *soft], tmp_path)


@pytest.mark.parametrize("soft", [[], ["-DNN_SOFT"]], ids=["floats", "no floating-point unit"])
def test_pointers_of_32_bits(soft, tmp_path):
  (tmp_path / "a.c").write_text("#include <string.h>\nint main(void) { return 0; }\n")
  command = [tools.program("gcc"), *BITS_32, tmp_path / "a.c", "-o", tmp_path / "a"]
  if subprocess.run(command, capture_output=True, check=False).returncode:
    pytest.skip("gcc has no libraries of 32 bits")
  assert_equal(chunk(1), [*BITS_32, *soft], tmp_path)


def test_the_networks_have_the_numbers_that_they_are_for():
  """Sums beyond 2**24 and products beyond 2**31, halves of levels, and images that matter."""
  randoms = [random_network(seed) for seed in (0, 1, 3, 4, 6, 7, 10, HEAVY)]
  sums, halves, products = [], [], []
  for one in randoms:
    nodes = {node.name: node for node in one.network.nodes}

    def observe(name, accumulators, result, nodes=nodes):
      if accumulators is not None and nodes[name].fixed:
        sums.append(np.abs(accumulators).max())
        multiplier = nodes[name].multiplier[:, None, None, None]
        products.append(np.abs(accumulators * multiplier).max())
        halves.append(np.sum(np.abs(result) % FRACTION == FRACTION / 2))

    interpret.logits(one.network, one.images, observe=observe)
  assert max(sums) > 2**24
  assert sum(product > 2**31 for product in products) >= 3
  assert sum(half > 0 for half in halves) > len(halves) / 2
  different = [len(np.unique(one.logits, axis=0)) > 1 for one in randoms]
  assert sum(different) >= len(randoms) / 2
  assert {one.large for one in randoms} == {False, True}


def test_branches_of_their_own_grids_that_cancel(tmp_path):
  network = lowered("8bit", precision="5A,5W", residual=True, activations="lsq")
  nodes, sign = [], 1
  for node in network.nodes:
    if isinstance(node, Rescale):
      node, sign = dataclasses.replace(node, multiplier=3000.0 * FRACTION * sign), -sign
    nodes.append(node)
  network = dataclasses.replace(network, nodes=tuple(nodes))
  images = np.random.default_rng(0).integers(0, 256, (4, *network.image_shape), np.uint8)
  one = Random(0, network, images, interpret.logits(network, images))
  assert_equal([one], FLAGS["no floating-point unit"], tmp_path)
