"""The ONNX file: a network for ONNX Runtime and whatever else reads its operator set.

The input is "images", uint8 (any batch, height, width, channels), its output "logits", float32
(batch, classes). The normalisation is in the graph. The metadata name the classes in the order of
the logits. They say how to prepare images, in "preprocessing" for programs and in "pixels" for
people. docs/onnxruntime.md has a script.

All operators are standard ones, and their optional attributes are written out. ONNX's reference
evaluator runs both forms:

- "exact": the numbers of `interpret`, see `exact`; of networks with float activations, float
  convolutions.
- "fast": 8 bits between all layers, see `fast`, for students trained with quantization.residual.

In both, weights of up to 4 bits are packed (of 3 bits, in 4). ONNX Runtime restores them to int8 or
float32 when it loads the file. A weight of 5 to 8 bits takes a byte.
"""

import hashlib
import json
import pathlib
import warnings

import numpy as np

import apprentice_jax
from apprentice_jax.deploy import preprocessing
from apprentice_jax.deploy.network import Lowered, check
from apprentice_jax.deploy.predictor import BadFile, Predictor
from apprentice_jax.errors import ConfigError
from apprentice_jax.files import write_whole

FORMS = ("auto", "exact", "fast")
PRODUCER = "apprentice"
VERSION = 1  # of the inputs, outputs and metadata
_CHECKSUM = "sha256"


def write(network: Lowered, path, form: str = "auto", packing: str = "bits"):
  """Writes a network.

  It warns of layers that processors without VNNI would compute wrongly in the fast form.

  Args:
    network: from `lower.lower`.
    path: of the file.
    form: "exact", "fast", or "auto": fast for a network that has such a form.
    packing: of ternary weights, "bits" (2 bits) or "base3" (1.6).

  Raises:
    ConfigError: it has no fast form, or onnx is not installed.
  """
  write_whole(path, encode(network, form, packing))


def encode(network: Lowered, form: str = "auto", packing: str = "bits") -> bytes:
  """The bytes of the file; see `write`."""
  _import("onnx")
  from apprentice_jax.deploy.onnx import exact, fast
  from apprentice_jax.deploy.onnx.graph import Graph

  if form not in FORMS:
    raise ValueError(f"form {form!r} does not exist: choose one of {', '.join(FORMS)}.")
  values = check(network)
  # Only a network trained for it has a fast form; every network has an exact one.
  why = fast.unfit(network, values)
  if form == "fast" and why:
    raise ConfigError(f"the network has no fast form: {why}.")
  if form == "auto":
    form = "exact" if why else "fast"
  if form == "fast":
    _warn_of_saturation(fast.needs_vnni(network, values))
  graph = Graph(packing, form)
  head = (fast if form == "fast" else exact).build(graph, network, values, "images")
  graph.add("Identity", head, name="logits")
  model = graph.model(
    [("images", np.uint8, ["batch", *network.image_shape])],
    [("logits", np.float32, ["batch", len(network.class_names)])],
    metadata(network) | {"form": form, "packing": packing},
    producer_name=PRODUCER,
    producer_version=apprentice_jax.__version__,
    domain="apprentice_jax",
    model_version=VERSION,
    doc_string=_description(network),
  )
  # The same network gives the same bytes, so that files can be compared.
  data = model.SerializeToString(deterministic=True)
  return data + _seal(data)


def _warn_of_saturation(layers: list[str]):
  if layers:
    fitting = "--ends=7bit or --form=exact" if layers == ["stem"] else "--form=exact"
    warnings.warn(
      "on x86 processors without VNNI, ONNX Runtime adds products of 8-bit weights in 16 bits, "
      f"and the sums of {', '.join(layers[:5])} come out wrong there; what fits is {fitting}."
    )


def metadata(network: Lowered) -> dict[str, str]:
  """The file's account of itself; numbers and lists in JSON."""
  as_json = lambda value: json.dumps(value, ensure_ascii=False)
  fields = ("image_shape", "resize", "mean", "std", "class_names")
  return {
    "architecture": network.architecture,
    "precision": network.precision,
    "pixels": " ".join(preprocessing.sentences(network)),
    **{field: as_json(getattr(network, field)) for field in fields},
    "preprocessing": as_json(preprocessing.steps(network)),
  }


def _description(network: Lowered) -> str:
  what = (
    f"An image classifier of {len(network.class_names)} classes: {network.architecture}, "
    f"{network.precision} (activation bits, weight bits)."
  )
  names = "The metadata property class_names has the classes in the order of the logits."
  return " ".join([what, names, *preprocessing.sentences(network)])


def _seal(data: bytes) -> bytes:
  """A last entry of the metadata, as serialized: the checksum over all before it."""
  from onnx import ModelProto

  end = ModelProto()
  end.metadata_props.add(key=_CHECKSUM, value=hashlib.sha256(data).hexdigest())
  return end.SerializeToString()


def load(path, threads: int = 0) -> Predictor:
  """Reads a file that `write` wrote, for ONNX Runtime on the CPU.

  Args:
    threads: how many compute; 0: as many as there are cores.

  Raises:
    BadFile: it is none, or not as it was written.
    ConfigError: onnxruntime is not installed.
  """
  runtime = _import("onnxruntime")
  data = pathlib.Path(path).read_bytes()
  # Before ONNX Runtime reads it, which would take a changed weight for what was written.
  size = len(_seal(b""))
  if len(data) < size or data[-size:] != _seal(data[:-size]):
    raise BadFile("it is damaged: its checksum is not that of its content")
  options = runtime.SessionOptions()
  options.intra_op_num_threads = threads
  try:
    session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    text = session.get_modelmeta().custom_metadata_map
    values = [json.loads(text[key]) for key in ("image_shape", "class_names", "resize")]
    shape, names, resize = tuple(map(int, values[0])), tuple(map(str, values[1])), int(values[2])
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    wanted = [("images", "tensor(uint8)", [*shape]), ("logits", "tensor(float)", [len(names)])]
    own = [(value.name, value.type, value.shape[1:]) for value in (images, logits)]
    if own != wanted or len(shape) != 3:
      raise ValueError(f"it computes {own}, and its metadata are for {wanted}")
  # onnxruntime has a dozen kinds of errors. The checksum is right, so somebody else wrote the file.
  except Exception as error:
    why = " ".join(str(error).split())[:100]
    raise BadFile(
      "it is no network that export wrote, or none that ONNX Runtime "
      f"{runtime.__version__} can run ({why})"
    ) from None
  run = lambda images: session.run(["logits"], {"images": images})[0]
  return Predictor(shape, names, resize, run)


def recognises(path) -> bool:
  """Whether this module reads the file at path: the producer's name follows the IR version."""
  # ONNX files of other producers are not ours to read.
  with open(path, "rb") as file:
    start = file.read(4 + len(PRODUCER))
  return start[:1] == b"\x08" and start[2:] == bytes([0x12, len(PRODUCER)]) + PRODUCER.encode()


def _import(name: str):
  try:
    return __import__(name)
  except ImportError:
    raise ConfigError(
      f"ONNX files take the package {name}: pip install 'apprentice-jax[export]'."
    ) from None
