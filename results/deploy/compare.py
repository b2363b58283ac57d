"""One student, computed five ways over the whole test set: trained, lowered, in NumPy, packed,
StableHLO.

    python results/deploy/compare.py WORKDIR OUT.json [DATA]

- Layer by layer: the lowering gets the training network's own levels at every activation. Its
accumulators have to
  be equal, and its levels but for ties: values that folding moved over the middle between two
    levels.
- End to end: the packed file in NumPy and the lowering compiled. Their stems are float sums in
different orders;
  from the levels after the stem on, everything has to be equal.
- Logits and classes, of all against the training network's.
"""

import collections
import json
import pathlib
import sys
import tempfile

import jax
import numpy as np

from apprentice_jax.data.splits import open_splits
from apprentice_jax.deploy import interpret, packed, program, stablehlo
from apprentice_jax.deploy.network import Conv, Quantize, Weights
from apprentice_jax.models.layers import QuantActivation
from apprentice_jax.quantizers import Quantized
from apprentice_jax.training import export, networks
from apprentice_jax.training.program import normalise
from apprentice_jax.training.workdir import workdir_config

BATCH = 500


def trained(config, model, network):
  """images -> (logits, accumulators, levels) of the training network in inference, by layer."""

  @jax.jit
  def run(images):
    x = normalise(images, config.data.mean, config.data.std, model.dtype)
    logits, sown = model.apply(
      {"params": network.params, "batch_stats": network.batch_stats},
      x,
      False,
      mutable=["accumulators", "intermediates"],
      capture_intermediates=lambda module, name: (
        isinstance(module, QuantActivation) and name == "__call__"
      ),
    )
    sums = {
      "/".join(path): value[0] for path, value in _leaves(sown.get("accumulators", {}), "value")
    }
    levels = {
      "/".join(path): value[0].levels.astype(np.int16)
      for path, value in _leaves(sown["intermediates"], "__call__")
      if isinstance(value[0], Quantized)
    }
    return logits, sums, levels

  return run


def _leaves(tree, name, path=()):
  for key, value in tree.items():
    if key == name:
      yield path, value
    else:
      yield from _leaves(value, name, (*path, key))


def lowered(network):
  """(images, given) -> (logits, accumulators, results) of the compiled lowering, by node."""

  @jax.jit
  def run(images, given):
    sums, results = {}, {}

    def observe(name, accumulators, result):
      results[name] = result
      if accumulators is not None:
        sums[name] = accumulators

    return program.logits(network, images, given, observe), sums, results

  return run


def same(a, b) -> bool:
  """Whether two networks are equal in every bit."""
  flat = lambda n: [x for node in n.nodes for x in [type(node).__name__, *_fields(node)]]
  return all(np.array_equal(x, y) for x, y in zip(flat(a), flat(b), strict=True))


def _fields(node):
  for value in vars(node).values():
    yield from (_fields(value) if isinstance(value, Weights) else [value])


def compare(workdir, data_dir=""):
  config = workdir_config(workdir)
  config.data.dir = data_dir or config.data.dir
  data = open_splits(config.data)["test"]
  model = networks.model(config, "student", len(data.class_names))
  variables = networks.load(str(workdir), model, data.image_shape, complete=True)
  network = export.lowered(config, str(workdir))
  with tempfile.TemporaryDirectory() as folder:
    packed.write(network, f"{folder}/student")
    read = packed.read(f"{folder}/student")
    stablehlo.write(network, f"{folder}/student.hlo")
    exported = stablehlo.load(f"{folder}/student.hlo")
  reference, compiled = trained(config, model, variables), lowered(network)
  free = program.predictor(network)
  integers = [n.name for n in network.nodes if isinstance(n, Conv) and n.weights.bits != 32]
  grids = {n.name: n for n in network.nodes if isinstance(n, Quantize)}
  count, largest = collections.Counter(), collections.defaultdict(float)
  logits, labels = collections.defaultdict(list), []
  config.eval.batch_size = BATCH
  for images, label in data.batches(config.eval.batch_size):
    labels.append(label)
    wanted, sums, levels = jax.device_get(reference(images))
    logits["trained"].append(wanted)

    # Layer by layer.
    given = {
      name: levels[name].astype(np.int8 if grids[name].signed else np.uint8) for name in grids
    }
    _, own_sums, own = jax.device_get(compiled(images, given))
    for name in integers:
      found = np.concatenate(list(own_sums[name]), -1)
      if name in sums and grids:
        count["accumulators"] += found.size
        count["accumulators that differ"] += int(np.sum(found != sums[name]))
      elif name in sums:
        largest["float accumulators, relative"] = max(
          largest["float accumulators, relative"],
          float(np.max(np.abs(found - sums[name])) / np.max(np.abs(found))),
        )
    for name in grids:
      difference = np.abs(own[name].astype(np.int16) - levels[name])
      stem = name == "stem_act"
      count["levels of the float stem" if stem else "levels"] += difference.size
      count["of the float stem off by one" if stem else "levels off by one"] += int(
        np.sum(difference == 1)
      )
      count["levels off by more"] += int(np.sum(difference > 1))

    # End to end.
    by_numpy = {}
    logits["numpy, of the packed file"].append(
      interpret.logits(
        read, images, observe=lambda name, sums, result: by_numpy.update({name: (sums, result)})
      )
    )
    given = {"stem_act": by_numpy["stem_act"][1]} if grids else {}
    _, tail_sums, tail = jax.device_get(compiled(images, given))
    for name in integers if grids else ():
      count["accumulators, numpy and compiled, that differ"] += int(
        np.sum(tail_sums[name] != by_numpy[name][0])
      )
    for name in list(grids)[1:]:
      count["levels, numpy and compiled, that differ"] += int(
        np.sum(tail[name] != by_numpy[name][1])
      )
    logits["lowered"].append(free.logits(images))
    if grids:
      differing = tail["stem_act"] != by_numpy["stem_act"][1]  # as it was before it was given
      count["images whose stem numpy sums to another level"] += int(
        np.sum(np.any(differing, (1, 2, 3)))
      )
    logits["stablehlo"].append(exported.logits(images))
  logits = {k: np.concatenate(v) for k, v in logits.items()}
  wanted, labels = logits.pop("trained"), np.concatenate(labels)
  top = np.sort(wanted, -1)
  margin = top[:, -1] - top[:, -2]
  result = {
    "network": network.architecture,
    "precision": network.precision,
    "weights": config.quantization.weights,
    "dataset": config.data.name,
    "images": len(labels),
    "accuracy of the training network": float(np.mean(wanted.argmax(-1) == labels)),
    "largest logit": float(np.abs(wanted).max()),
    "packed file equals the lowering": same(network, read),
    "stablehlo's logits equal the lowering's": bool(
      np.array_equal(logits["stablehlo"], logits["lowered"])
    ),
    **count,
    **largest,
  }
  for name, found in logits.items():
    far = np.abs(found - wanted).max()
    other = found.argmax(-1) != wanted.argmax(-1)
    result[name] = {
      "largest logit difference": float(far),
      "images of another class": int(other.sum()),
      "of them with a margin above that": int(np.sum(other & (margin > far))),
      "accuracy": float(np.mean(found.argmax(-1) == labels)),
    }
  return result


if __name__ == "__main__":
  report = compare(sys.argv[1], *sys.argv[3:])
  print(json.dumps(report, indent=1))
  pathlib.Path(sys.argv[2]).write_text(json.dumps(report, indent=1) + "\n")
