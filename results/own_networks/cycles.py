"""TPU's compiler on the training step of a ResNet in our layers, in plain ones, and quantized.

    python results/own_networks/cycles.py cycles-v5e.json

One chip of v5e with 512 images of CIFAR-10's size; no TPU is needed, but `pip install .[plan]`.
"""

import importlib.metadata
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding
from sides import arguments, sides, step

from apprentice_jax.plan import chips, hlo
from apprentice_jax.plan.compiled import compiled

TOPOLOGY, BATCH = "v5e:2x2", 512
CASES = tuple(
  (depth, precision, dtype)
  for depth, precisions in ((8, ("8A,2W", "8A,4W")), (20, ("8A,2W",)))
  for precision in precisions
  for dtype in (jnp.bfloat16, jnp.float32)
)
SIDES = ("ours", "quantized", "quantized, nn.relu", "plain")


def cycles(net, device) -> int:
  """The compiler's estimate for one step on a device."""
  shapes = jax.eval_shape(lambda: arguments(net, BATCH))
  place = SingleDeviceSharding(device)
  shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), shapes)
  lowered = jax.jit(step(net), donate_argnums=(0, 1)).trace(*shapes)
  return sum(
    hlo.cycles(compiled(lowered.lower(lowering_platforms=("tpu",)), TOPOLOGY).text).values()
  )


def main(out: str):
  _, devices = chips.slice_of(TOPOLOGY)
  cases = []
  for depth, precision, dtype in CASES:
    name = jnp.dtype(dtype).name
    print(f"ResNet-{depth}, {precision}, {name}, {BATCH} images", flush=True)
    found = {}
    networks = sides(depth, precision, dtype)
    for side in SIDES:
      found[side] = cycles(networks[side], devices[0])
      print(f"  {side:24s} {found[side] / 1e6:6.3f} M", flush=True)
    cases.append({"depth": depth, "precision": precision, "dtype": name, "cycles": found})
  report = {"topology": TOPOLOGY, "batch": BATCH, "cases": cases}
  report |= {"jax": jax.__version__, "libtpu": importlib.metadata.version("libtpu")}
  pathlib.Path(out).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
  main(*sys.argv[1:])
