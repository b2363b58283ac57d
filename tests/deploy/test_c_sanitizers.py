"""C code under sanitizers: nothing is read or written outside, and no step is undefined."""

import dataclasses

import host
import numpy as np
import pytest
from networks import lowered

from apprentice_jax.deploy import interpret
from apprentice_jax.deploy.network import Mean

FLAGS = "-std=c99 -O1 -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all"
KINDS = {
  "8A,2W": dict(width=0.5),
  "trained ternary, residual": dict(
    activations="lsq", residual=True, shortcut="conv", weights="ttq", width=0.5
  ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_thousand_images(kind, tmp_path):
  network = of_32x32(lowered("8bit", **kind))
  images = np.random.default_rng(0).integers(0, 256, (1000, *network.image_shape), np.uint8)
  images[:500] = smooth(images[:500])
  program = host.compiled([network], FLAGS.split(), tmp_path)
  (computed,) = host.logits(program, [network], [images])
  expected = interpret.logits(network, images)
  np.testing.assert_array_equal(computed.view(np.uint32), expected.view(np.uint32))
  assert len(np.unique(expected, axis=0)) == len(images)


def of_32x32(network):
  """The network for images of 32 x 32; the mean divides by the pixels that are left."""
  nodes = [
    dataclasses.replace(n, multiplier=n.multiplier * 4 * 4 / (8 * 8)) if isinstance(n, Mean) else n
    for n in network.nodes
  ]
  return dataclasses.replace(network, nodes=tuple(nodes), image_shape=(32, 32, 3))


def smooth(images: np.ndarray) -> np.ndarray:
  """Images whose neighbouring pixels are alike, as photographs are; uint8 as they are."""
  coarse = images[:, ::8, ::8].repeat(8, 1).repeat(8, 2)
  return coarse // 2 + images // 4
