"""The kernels of a training step on a GPU that is not at hand, by what they are part of.

    JAX_SKIP_CUDA_CONSTRAINTS_CHECK=1 python results/bench/gpu_kernels.py \\
        configs/cifar10.py:student=resnet20,teacher=resnet20,scheme=A,precision=8A2W OUT.md

Compiles a dispatch for an H200 (`jax.experimental.topologies`; no driver is needed, but the wheels
of jax[cuda13] are) and counts what the body of its loop starts: fusions, convolutions, products,
copies ("other": among them those updates of parameters that are selects at last, and copies of what
the loop carries). The choice of convolution algorithms wants the card, so what these start by
themselves (clears of buffers, second stages) is not in it. The compiled text is left in OUT.txt.
"""

import argparse
import collections
import importlib.util
import pathlib
import re
import sys

import jax
import jax.numpy as jnp
from jax._src import xla_bridge
from jax.experimental import topologies

H200 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 4800000000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98 device_memory_size: 150000000000 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 } registers_per_core_limit: 65536
    registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 28 }
runtime_version { major: 13 minor: 0 patch: 0 }
device_description_str: "NVIDIA H200"
"""
FREE = ("parameter", "tuple", "get-tuple-element", "bitcast", "constant", "iota")  # no kernel
PARTS = {
  "jvp(student": "student forward",
  "transpose(jvp(student": "student backward",
  "jvp(teacher": "teacher forward",
  "transpose(jvp(teacher": "teacher backward",
  "/optimizer": "optimizer",
  "/health": "health",
}


def device():
  # jax knows no platform "cuda" before there is a client for it:
  # https://github.com/jax-ml/jax/issues/23971
  known = xla_bridge.canonicalize_platform
  xla_bridge.canonicalize_platform = lambda name: "cuda" if name in ("gpu", "cuda") else known(name)
  return topologies.get_topology_desc(
    platform="cuda", target_config=H200, topology="1x1x1"
  ).devices[0]


def lowered(spec: str, changes):
  """The dispatch of a config, for shapes alone."""
  from apprentice_jax.bench import step
  from apprentice_jax.data.batches import Chunk, DeviceData
  from apprentice_jax.distill.step import Network, Rates, State
  from apprentice_jax.models.residual import variable_shapes
  from apprentice_jax.training.dispatch import NOBODY, Dispatch, Program
  from apprentice_jax.training.program import Hyperparameters

  config = sibling("gpu_step").config_of(spec, changes)
  shape, classes = step.synthetic(config)
  steps, size = config.steps_per_dispatch, max(step.SIZE, config.batch_size)
  settings = step.settings(config, classes)._replace(steps_per_dispatch=steps)

  def network(model, optimizer):
    found = variable_shapes(model, shape)
    return Network(
      found["params"],
      found["batch_stats"],
      optimizer and jax.eval_shape(optimizer.build().init, found["params"]),
    )

  array = jax.ShapeDtypeStruct
  state = State(
    network(settings.student, settings.student_optimizer),
    settings.teacher and network(settings.teacher, settings.teacher_optimizer),
  )
  data = DeviceData(array((size, *shape), jnp.uint8), array((size,), jnp.int32))
  index = array((1, steps, config.batch_size), jnp.int32)
  weights = {name: array((), jnp.float32) for name in step.loss_weights(config)}
  row = Dispatch("scan", steps, NOBODY)  # a described device calls itself "cuda"
  program = Program(settings, row, "shard_map", devices=[device()])
  hyper = Hyperparameters(weights, Rates(*[array((steps,), jnp.float32)] * 2))
  return program.lower_train(state, data, Chunk(index, index), hyper)


def sibling(name: str):
  path = pathlib.Path(__file__).with_name(f"{name}.py")
  spec = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def counted(text: str) -> tuple[collections.Counter, collections.Counter]:
  """Kernels of the loop's body by part, and by kind."""
  entry = re.search(r"^ENTRY .*?^\}", text, re.M | re.S)[0]
  (body,) = re.findall(
    r"\bwhile\(.*?body=%?([\w.\-]+)", entry
  )  # one: the loop over the steps of a dispatch
  lines = re.search(rf"^%?{re.escape(body)} \(.*?\{{\n(.*?)^\}}", text, re.M | re.S)[1].splitlines()
  parts, kinds = collections.Counter(), collections.Counter()
  for line in lines:
    found = re.match(r"\s*(?:ROOT )?%?([\w.\-]+) = .*?\s([a-z\-]+)\(", line)
    if not found or found[2] in FREE:
      continue
    scope = re.search(r'op_name="([^"]*)"', line)
    part = [name for start, name in PARTS.items() if scope and start in scope[1]]
    parts[part[-1] if part else "other"] += 1
    kinds[re.sub(r"[._]\d+", "", found[1])] += 1
  return parts, kinds


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument("spec")
  parser.add_argument("out", type=pathlib.Path)
  parser.add_argument(
    "--set", dest="changes", type=sibling("gpu_step").change, action="append", default=[]
  )
  given = parser.parse_args()
  options = {
    "xla_gpu_autotune_level": 0,
    "xla_gpu_enable_triton_gemm": False,
  }  # what else would want the card
  text = lowered(given.spec, given.changes).compile(compiler_options=options).as_text()
  given.out.with_suffix(".txt").write_text(text)
  parts, kinds = counted(text)
  rows = [f"{given.spec}: {sum(parts.values()):,} kernels a step", ""]
  for title, found in (
    ("part", parts),
    ("kind, the most frequent", collections.Counter(dict(kinds.most_common(12)))),
  ):
    rows += [
      f"| {title} | kernels |",
      "|---|---|",
      *(f"| {name} | {count:,} |" for name, count in found.most_common()),
      "",
    ]
  given.out.write_text("\n".join(rows))
  print("\n".join(rows))


if __name__ == "__main__":
  sys.exit(main())
