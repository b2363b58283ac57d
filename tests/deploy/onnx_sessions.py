"""ONNX files of small networks, run by ONNX Runtime and by ONNX's own evaluator."""

import functools

import networks as small
import numpy as np
import onnx as library
import onnxruntime
from onnx.reference import ReferenceEvaluator

from apprentice_jax.deploy import network as networks
from apprentice_jax.deploy import registry

lowered = functools.lru_cache(maxsize=None)(small.lowered)


def levels(data: bytes, network, images) -> dict:
  """The levels that ONNX Runtime computes at every activation, (batch, height, width, channels), by
  node."""
  known = networks.check(network)
  names = [name for name, value in known.items() if value.kind == "levels"]
  model = library.load_from_string(data)
  model.graph.output.extend(library.ValueInfoProto(name=name) for name in names)
  session = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]
  )
  found = session.run(names, {"images": images})
  return {
    name: (x.transpose(0, 2, 3, 1).astype(np.int16) - (128 if known[name].low < 0 else 0))
    for name, x in zip(names, found)
  }


def predicted(data, folder, images):
  """The logits of the file, as `registry` loads it."""
  (folder / "x").write_bytes(data)
  return registry.load(folder / "x").logits(images)


def optimized(data: bytes, folder):
  """A session, and the kinds of nodes that ONNX Runtime made of the file's."""
  options = onnxruntime.SessionOptions()
  options.optimized_model_filepath = str(folder / "optimized")
  options.log_severity_level = 3
  session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
  return session, [node.op_type for node in library.load(folder / "optimized").graph.node]


def evaluated(data: bytes, network, images, run):
  """(logits, levels by node) by a function of a model and its inputs."""
  names = [name for name, value in networks.check(network).items() if value.kind == "levels"]
  model = library.load_from_string(data)
  model.graph.output.extend(library.ValueInfoProto(name=name) for name in names)
  logits, *found = run(model, {"images": images})
  return logits, {name: x.astype(int) for name, x in zip(names, found)}


def by_onnx(model, feed):
  """Runs a model by ONNX's own evaluator."""
  return ReferenceEvaluator(model).run(None, feed)


def by_runtime(model, feed):
  """Runs a model by ONNX Runtime."""
  return onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]
  ).run(None, feed)


def metadata_of(data: bytes) -> dict:
  """The entries of a file's metadata, by key."""
  return {entry.key: entry.value for entry in library.load_from_string(data).metadata_props}
