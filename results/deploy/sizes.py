"""What a packed ternary ResNet-18 of 1000 classes takes, beside its float32 weights.

python results/deploy/sizes.py OUT.json
"""

import json
import pathlib
import sys

import jax
import jax.numpy as jnp

from apprentice_jax.deploy import bits, lower, packed
from apprentice_jax.deploy.network import FULL, Conv
from apprentice_jax.models import resnet

SHAPE = (224, 224, 3)


def main(out):
  model = resnet("resnet18", 1000, "8A,2W")
  variables = jax.jit(lambda key: model.init(key, jnp.zeros((1, 32, 32, 3)), False))(
    jax.random.key(0)
  )
  names = tuple(f"class {i:03}" for i in range(1000))
  floats = 4 * sum(a.size for a in jax.tree.leaves(variables["params"]))
  result = {
    "network": "resnet18 8A,2W, 1000 classes, random weights",
    "float32 bytes of its parameters": floats,
  }
  for ends in ("float", "8bit"):
    network = lower.lower(
      model,
      variables["params"],
      variables["batch_stats"],
      image_shape=SHAPE,
      class_names=names,
      mean=(0.485, 0.456, 0.406),
      std=(0.229, 0.224, 0.225),
      resize=256,
      architecture="resnet18",
      ends=ends,
    )
    ternary = [n for n in network.nodes if isinstance(n, Conv) and n.weights.bits == 2]
    for packing in ("bits", "base3"):
      data = packed.encode(network, packing)
      assert packed.decode(data)
      weights = 4 * sum(n.weights.levels.size for n in ternary)
      chosen = bits.BASE3 if packing == "base3" else "2bit"
      codes = sum(bits.packed_size(n.weights.levels.size, chosen) for n in ternary)
      scales = sum(4 * (n.multiplier.size + n.addend.size) for n in ternary)
      result[f"{ends} ends, {packing}"] = {
        "file": len(data),
        "of float32": round(floats / len(data), 2),
        "quantized layers' weights": codes,
        "of their float32": round(weights / codes, 2),
        "with their scales and biases": round(weights / (codes + scales), 2),
        "ends": sum(
          n.weights.levels.size * (4 if n.weights.bits == FULL else 1)
          for n in network.nodes
          if isinstance(n, Conv) and n not in ternary
        ),
      }
  print(json.dumps(result, indent=1))
  pathlib.Path(out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
  main(sys.argv[1])
