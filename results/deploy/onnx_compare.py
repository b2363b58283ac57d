"""A trained student's ONNX files, over the whole test set, beside the NumPy reference and the
training network.

    python results/deploy/onnx_compare.py OUT.json DATA WORKDIR...

Exact: the reference goes on from the levels that ONNX Runtime has after the stem, whose sums of
floats differ in their order; from there on every level has to be equal. Fast, of students with
quantization points before additions: each layer of the reference is given the levels that ONNX
Runtime has before it. Logits and classes are of the whole file beside those of the training
network. Where activations are quantized, also with 8-bit ends (exact: from the pixels on), with
7-bit ends (fast) and, where the processor has VNNI, with 8-bit ends (fast), whose logits are beside
those of the reference of the same network.
"""

import collections
import json
import pathlib
import sys
import tempfile

import numpy as np
import onnx as library
import onnxruntime
from compare import BATCH, trained

from apprentice_jax.data.splits import open_splits
from apprentice_jax.deploy import interpret, onnx
from apprentice_jax.deploy import network as networks
from apprentice_jax.errors import ConfigError
from apprentice_jax.training import export
from apprentice_jax.training.workdir import workdir_config

FORMS = (
  ("exact", "exact", "float"),
  ("exact, 8-bit ends", "exact", "8bit"),
  ("fast", "fast", "float"),
  ("fast, 7-bit ends", "fast", "7bit"),
)
if "vnni" in pathlib.Path("/proc/cpuinfo").read_text():  # others saturate
  FORMS += (("fast, 8-bit ends", "fast", "8bit"),)


class Observed:
  """A file with every activation's levels as an output."""

  def __init__(self, data: bytes, network):
    self._known = {k: v for k, v in networks.check(network).items() if v.kind == "levels"}
    model = library.load_from_string(data)
    model.graph.output.extend(library.ValueInfoProto(name=name) for name in self._known)
    self._session = onnxruntime.InferenceSession(
      model.SerializeToString(), providers=["CPUExecutionProvider"]
    )

  def __call__(self, images) -> dict:
    """Levels by node, (batch, height, width, channels)."""
    found = self._session.run(list(self._known), {"images": images}) if self._known else []
    return {
      name: (x.transpose(0, 2, 3, 1) - np.int16(128)).astype(np.int8)
      if self._known[name].low < 0
      else x.transpose(0, 2, 3, 1)
      for name, x in zip(self._known, found)
    }


def written(config, workdir):
  """form -> (Predictor, Observed, network), of the forms that a student has."""
  found = {}
  for name, form, ends in FORMS:
    try:
      network = export.lowered(config, str(workdir), ends=ends)
      data = onnx.encode(network, form)
    except ConfigError:
      continue
    if ends != "float" and network.precision.startswith("32A"):
      continue
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / "student.onnx"
      path.write_bytes(data)
      found[name] = onnx.load(path), Observed(data, network), network
  return found


def compare(workdir, data_dir):
  config = workdir_config(workdir)
  config.data.dir, config.eval.batch_size = data_dir, BATCH
  data = open_splits(config.data)["test"]
  model = networks.model(config, "student", len(data.class_names))
  variables = networks.load(str(workdir), model, data.image_shape, complete=True)
  reference, forms = trained(config, model, variables), written(config, workdir)
  counts, logits, wanted = (
    collections.defaultdict(kind) for kind in (collections.Counter, list, list)
  )
  labels = []
  for images, label in data.batches(config.eval.batch_size):
    labels.append(label)
    ours = np.asarray(reference(images)[0])
    for form, (predictor, observed, network) in forms.items():
      logits[form].append(predictor.logits(images))
      wanted[form].append(interpret.logits(network, images) if "ends" in form else ours)
      levels, own, count = observed(images), {}, counts[form]
      if not levels:
        continue
      given = {
        k: v
        for k, v in levels.items()
        if form.startswith("fast") or form == "exact" and k == "stem_act"
      }
      interpret.logits(network, images, given, lambda name, _, value: own.update({name: value}))
      for name, x in levels.items():
        difference = np.abs(x.astype(np.int16) - own[name])
        kind = "stem's levels" if name == "stem_act" else "levels"
        count[kind] += difference.size
        count[f"{kind} off by one"] += int(np.sum(difference == 1))
        count[f"{kind} off by more"] += int(np.sum(difference > 1))
  labels, ours = np.concatenate(labels), np.concatenate(wanted["exact"])
  result = {
    "precision": network.precision,
    "weights": config.quantization.weights,
    "residual": bool(config.quantization.residual),
    "images": len(labels),
    "largest logit": float(np.abs(ours).max()),
    "accuracy of the training network": float(np.mean(ours.argmax(-1) == labels)),
  }
  for form in forms:
    found, right = np.concatenate(logits[form]), np.concatenate(wanted[form])
    top = np.sort(right, -1)
    far, other = np.abs(found - right).max(), found.argmax(-1) != right.argmax(-1)
    result[form] = {
      **counts[form],
      "largest logit difference": float(far),
      "images of another class": int(other.sum()),
      "of them with a margin above that": int(np.sum(other & (top[:, -1] - top[:, -2] > far))),
      "of them with a margin above twice that": int(
        np.sum(other & (top[:, -1] - top[:, -2] > 2 * far))
      ),
      "accuracy": float(np.mean(found.argmax(-1) == labels)),
    }
  return result


if __name__ == "__main__":
  out, place, workdirs = sys.argv[1], sys.argv[2], sys.argv[3:]
  report = {pathlib.Path(w).name: compare(w, place) for w in workdirs}
  print(json.dumps(report, indent=1))
  pathlib.Path(out).write_text(json.dumps(report, indent=1) + "\n")
