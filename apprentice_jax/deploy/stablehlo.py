"""The StableHLO file: a network as a jax program for CPU, CUDA and TPU, and a sidecar of names.

The file is what ``jax.export.Exported.serialize()`` gives, so that a process with jax and nothing
of ours runs it:

    exported = jax.export.deserialize(bytearray(open("student.stablehlo", "rb").read()))
    # uint8 (any batch, height, width, channels) -> float32 (batch, classes)
    logits = exported.call(images)

``FILE.json`` lies beside it. It has the classes' names in the order of the logits, the images'
shape and preparation (see `preprocessing`), and the writer's jax. The normalisation is in the
program.

jax promises to run the file with a jax up to 6 months newer or 3 weeks older than its writer:
https://docs.jax.dev/en/latest/export/export.html#compatibility-guarantees. The dates of jaxlib's
releases count. The packed file has no such limit.
"""

import functools
import hashlib
import json
import pathlib
import textwrap

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from apprentice_jax.deploy import preprocessing, program
from apprentice_jax.deploy.network import Lowered
from apprentice_jax.deploy.predictor import BadFile, Predictor
from apprentice_jax.deploy.unlowered import Unlowered
from apprentice_jax.errors import ConfigError
from apprentice_jax.files import write_whole

PLATFORMS = ("cpu", "cuda", "tpu")
FORMAT = "StableHLO by jax.export"
PROMISE = (
  "by a jax up to 6 months newer or 3 weeks older than the one that wrote it; the dates of "
  "jaxlib's releases count"
)


def write(network: Lowered | Unlowered, path):
  """Writes the program to ``path`` and the sidecar to ``path`` + ".json"."""
  data = bytes(export(network).serialize())
  sidecar = {
    "format": FORMAT,
    "jax": jax.__version__,
    "jaxlib": jaxlib.__version__,
    "readable": PROMISE,
    "architecture": network.architecture,
    "precision": network.precision,
    "image_shape": network.image_shape,
    "pixels": " ".join(preprocessing.sentences(network)),
    "preprocessing": preprocessing.steps(network),
    "resize": network.resize,
    "class_names": network.class_names,
  }
  # One checksum over both, so that the sidecar of another network is noticed.
  sidecar["sha256"] = _checksum(data, sidecar)
  write_whole(path, data)
  write_whole(f"{path}.json", json.dumps(sidecar, indent=1, ensure_ascii=False).encode())


def _checksum(data: bytes, sidecar: dict) -> str:
  """Of the program and of all that the sidecar says."""
  said = json.dumps({k: v for k, v in sidecar.items() if k != "sha256"}, sort_keys=True).encode()
  return hashlib.sha256(said + data).hexdigest()


def export(network: Lowered | Unlowered) -> jax.export.Exported:
  """The program of uint8 images (batch, height, width, channels), of any batch.

  Raises:
    ConfigError: a network of the user's own computes with the batch as a number.
  """
  (batch,) = jax.export.symbolic_shape("batch")
  images = jax.ShapeDtypeStruct((batch, *network.image_shape), jnp.uint8)
  is_lowered = isinstance(network, Lowered)
  logits = functools.partial(program.logits, network) if is_lowered else network.logits
  try:
    return jax.export.export(jax.jit(logits), platforms=PLATFORMS)(images)
  # What jax raises depends on what the module does with the batch, which is a symbol here.
  except Exception as error:
    if is_lowered:
      raise
    why = textwrap.shorten(str(error), 100, placeholder=" ...").rstrip(".")
    raise ConfigError(
      f"{network.architecture} is no program for any number of images ({type(error).__name__}: "
      f"{why}): write x.shape[0] in the place of len(x), or -1 in a reshape."
    ) from error


def load(path) -> Predictor:
  """Reads a file that `write` wrote.

  Raises:
    BadFile: it is none, not as it was written, there is no sidecar, or the two do not fit.
  """
  data = pathlib.Path(path).read_bytes()
  try:
    sidecar = json.loads(pathlib.Path(f"{path}.json").read_bytes())
    intact = sidecar["sha256"] == _checksum(data, sidecar)
  except FileNotFoundError:
    raise BadFile(f"it has no {path}.json beside it, which export wrote with it") from None
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
    intact = False
  if not intact:
    raise BadFile(f"it is damaged: it and {path}.json do not belong together")
  try:
    exported = jax.export.deserialize(bytearray(data))
    shape, names = tuple(sidecar["image_shape"]), tuple(sidecar["class_names"])
    resize = int(sidecar["resize"])
    (images,), (logits,) = exported.in_avals, exported.out_avals
    fits = images.dtype == jnp.uint8 and images.shape[1:] == shape
    fits &= logits.shape[1:] == (len(names),) and all(isinstance(name, str) for name in names)
    call = jax.jit(exported.call)
    # A jax may read the file of another one, and not run it.
    call.lower(jax.ShapeDtypeStruct((1, *shape), jnp.uint8))
  except Exception as error:
    # jax has no error of its own for bytes that are no program; its version explains most.
    fits = False
    if (wrote := sidecar.get("jax", jax.__version__)) != jax.__version__:
      raise BadFile(_another_jax(wrote, error)) from None
  if not fits:
    raise BadFile(f"it and {path}.json hold no program of images with its classes")
  return Predictor(shape, names, resize, lambda images: np.asarray(call(images)))


def _another_jax(wrote, error: Exception) -> str:
  why = textwrap.shorten(str(error) or type(error).__name__, 100, placeholder=" ...")
  return (
    f"jax {wrote} wrote it, and jax {jax.__version__} cannot run it ({why.rstrip('.')}): "
    "jax runs files of jaxes up to 6 months older or 3 weeks newer; "
    f"install jax=={wrote}, or export the network again"
  )


def recognises(path) -> bool:
  """Whether the file at path is to be read by this module: its sidecar says so, damaged or not."""
  sidecar = pathlib.Path(f"{path}.json")
  return sidecar.is_file() and FORMAT.encode() in sidecar.read_bytes()
