"""Where forward convolutions on int8 pay: two bottleneck blocks of each of ResNet-50's stages, and
all of ResNet-18 and ResNet-50 at 224x224; 8A,2W, bfloat16, 128 images, on one TPU v5e chip; the
forward pass of training, in the compiler's cycles.

    python results/plan/int8.py int8.json > int8.md      # minutes
"""

import functools
import json
import pathlib
import re
import sys

from apprentice_jax.plan import chips

STAGES = ((512, 7), (256, 14), (128, 28))  # width, resolution
IMAGES = 128
WAYS = ("float", "auto", "int8")


def blocks(width: int, compute: str):
  import jax.numpy as jnp

  from apprentice_jax.models.precision import Precision, Quantization
  from apprentice_jax.models.residual import ResNet

  return ResNet(
    (2,),
    width,
    1000,
    bottleneck=True,
    shortcut="conv",
    dtype=jnp.bfloat16,
    quantization=Quantization(Precision(8, 2), compute=compute),
  )


def whole(name: str, compute: str):
  import jax.numpy as jnp

  from apprentice_jax.models.residual import resnet

  return resnet(name, 1000, "8A,2W", dtype=jnp.bfloat16, compute=compute)


def cycles(model, size: int, device) -> int:
  import jax
  import jax.numpy as jnp
  from jax.sharding import SingleDeviceSharding

  from apprentice_jax.plan import hlo

  images = jax.ShapeDtypeStruct((IMAGES, size, size, 3), jnp.bfloat16)
  variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, True), images)
  place = SingleDeviceSharding(device)
  arguments = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), (variables, images)
  )
  forward = jax.jit(lambda v, x: model.apply(v, x, True, mutable=["batch_stats"]))
  return sum(hlo.cycles(forward.lower(*arguments).compile().as_text()).values())


def at_peak(flops_per_cycle: int) -> dict[str, float]:
  """M cycles of ResNet-50's products on images of 224x224 at the chip's peak in bfloat16: of all
  convolutions of levels, and of those that "auto" computes on int8, of 3x3 and stride 1 in stages 3
  and 4."""
  from apprentice_jax.deploy import cost

  layers = [
    layer
    for layer in cost.layers(cost.blank(whole("resnet50", "auto"), (224, 224, 3)))
    if layer.weight_bits < 32
  ]
  chosen = [layer for layer in layers if re.fullmatch(r"stage[34]_block[2-6]/conv2", layer.path)]
  return {
    name: 2 * IMAGES * sum(layer.macs for layer in found) / flops_per_cycle / 1e6
    for name, found in (("all", layers), ("auto", chosen))
  }


def main(out: str):
  chip, devices = chips.slice_of("v5e:2x2")
  report = {}
  print(
    "| channels, resolution | "
    + " | ".join(f"{way}, M cycles" for way in WAYS)
    + " | auto / float |\n"
    + "|---" * (len(WAYS) + 2)
    + "|"
  )
  rows = [
    (f"{width} at {size}x{size}", functools.partial(blocks, width), size) for width, size in STAGES
  ]
  rows += [
    (f"ResNet-{depth} at 224x224", functools.partial(whole, f"resnet{depth}"), 224)
    for depth in (18, 50)
  ]
  for name, model, size in rows:
    found = {way: cycles(model(way), size, devices[0]) for way in WAYS}
    report[name] = found
    print(
      f"| {name} | "
      + " | ".join(f"{c / 1e6:.3f}" for c in found.values())
      + f" | {found['auto'] / found['float']:.3f} |",
      flush=True,
    )
    pathlib.Path(out).write_text(json.dumps(report, indent=1) + "\n")
  bound = report["products at peak, M cycles"] = at_peak(chip.flops_per_cycle)
  pathlib.Path(out).write_text(json.dumps(report, indent=1) + "\n")
  print(
    "\nAt the chip's peak in bfloat16 the products of ResNet-50's quantized convolutions take "
    f"{bound['all']:.2f} M cycles, "
    f"those that auto computes on int8 {bound['auto']:.2f} M; int8 halves them at best."
  )


if __name__ == "__main__":
  main(*sys.argv[1:])
