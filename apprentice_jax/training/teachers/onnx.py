"""A teacher from an ONNX file, run by ONNX Runtime on the host's processors.

Of resident images its logits are computed before training. For streamed images, the threads that
read them compute the logits, which travel with the batch. A callback inside a compiled program can
hang on a CPU.
"""

import dataclasses
import functools
import json
import threading
import time

import numpy as np
from PIL import Image

from apprentice_jax.training.teachers import pictures, sha256
from apprentice_jax.training.teachers.pictures import Pictures

_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
_opening = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Session:
  """A network in a file, which can be pickled; its repr tells it from any other.

  Attributes:
    sees_images: True: it can be asked of any image.
    path, sha256: of the file.
    pictures: the images that it takes.
    outputs: how many logits it gives.
    num_classes: how many of them are the data's.
    class_names: of its outputs, where the file says them; else ().
    normalisation: mean and standard deviation of its images, where they are floats.
    threads: that compute one batch; 0: as many as there are cores.
  """

  sees_images = True

  path: str = dataclasses.field(compare=False, repr=False)
  sha256: str
  pictures: Pictures
  outputs: int
  num_classes: int
  class_names: tuple[str, ...] = dataclasses.field(compare=False, repr=False)
  normalisation: tuple = ((0.5,), (0.5,))
  threads: int = dataclasses.field(default=0, compare=False, repr=False)

  def of(self, num_classes: int, normalisation, threads: int) -> "Session":
    """The network, for data of so many classes, on images of a normalisation."""
    return dataclasses.replace(
      self, num_classes=num_classes, normalisation=normalisation, threads=threads
    )

  def check(self, data):
    """Raises ValueError for images that it does not take."""
    self.pictures.check(data.image_shape)

  def logits(self, pixels: np.ndarray, index, outputs: np.ndarray) -> np.ndarray:
    """The logits of a batch.

    Args:
      pixels: uint8 (batch, height, width, channels), of any size.
      index: not looked at.
      outputs: which logits.

    Returns:
      float32 (batch, outputs).
    """
    session = _session(self.path, self.sha256, self.threads)
    (images,), (result,) = session.get_inputs(), session.get_outputs()
    run = lambda part: session.run([result.name], {images.name: part})[0]
    given, batch = self._prepared(pixels), self.pictures.batch
    if batch in (0, len(pixels)):
      logits = run(given)
    else:
      parts = np.split(*_whole(given, batch))
      logits = np.concatenate([run(part) for part in parts])[: len(pixels)]
    return logits.astype(np.float32)[:, outputs]

  def _prepared(self, pixels: np.ndarray) -> np.ndarray:
    """The images as the file takes them."""
    takes = self.pictures
    images = _resized(pixels, *takes.side(pixels.shape[1:]))
    if takes.is_float:
      mean, std = (np.asarray(values, np.float32) for values in self.normalisation)
      images = (images * (1 / (255 * std)) - mean / std).astype(takes.dtype)
    else:
      images = images.round().astype(np.uint8)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if takes.channels_first else images

  def speed(self, pixels: np.ndarray) -> float:
    """Images a second, on some images."""
    first = np.zeros(1, np.int32)
    self.logits(pixels, None, first)  # the first call takes memory
    began = time.perf_counter()
    self.logits(pixels, None, first)
    return len(pixels) / (time.perf_counter() - began)


def _whole(images: np.ndarray, batch: int) -> tuple[np.ndarray, int]:
  """Images, filled up with zeros to whole batches, and how many batches there are."""
  number, missing = pictures.pieces(len(images), batch)
  return np.pad(images, ((0, missing), *((0, 0),) * 3)), number


def _resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
  """Images of another size, as floats or uint8, by a bilinear filter that averages where they get
  smaller."""
  if pixels.shape[1:3] == (height, width):
    return pixels
  result = np.empty((len(pixels), height, width, pixels.shape[-1]), np.float32)
  for image, out in zip(pixels, result):
    for channel in range(image.shape[-1]):
      # Not as bytes, which would be rounded after each axis.
      one = Image.fromarray(image[..., channel].astype(np.float32))
      out[..., channel] = one.resize((width, height), Image.Resampling.BILINEAR)
  return result


def load(path: str) -> Session:
  """Reads an ONNX file.

  Raises:
    ValueError: it is damaged, or no function of images, or ONNX Runtime is not installed; goes on
      from its name.
  """
  digest = sha256(path)
  session = _session(path, digest, 1)
  inputs, results = session.get_inputs(), session.get_outputs()
  if len(inputs) != 1 or len(results) != 1:
    raise ValueError(
      f"takes {', '.join(value.name for value in inputs)} and gives "
      f"{', '.join(value.name for value in results)}: a teacher takes images alone and gives "
      "logits alone"
    )
  takes = pictures.taken(inputs[0].shape, _TYPES.get(inputs[0].type, inputs[0].type))
  outputs = pictures.scores(results[0].shape)
  return Session(path, digest, takes, outputs, outputs, _class_names(session, outputs))


def _class_names(session, outputs: int) -> tuple[str, ...]:
  """The classes in the metadata of a file that `apprentice export` wrote; () of any other."""
  text = session.get_modelmeta().custom_metadata_map.get("class_names", "[]")
  try:
    names = tuple(map(str, json.loads(text)))
  except (ValueError, TypeError):
    return ()
  return names if len(names) == outputs else ()


def _session(path: str, digest: str, threads: int):
  """ONNX Runtime's session of a file."""
  # Threads that read images may ask at once.
  with _opening:
    return _opened(path, digest, threads)


@functools.lru_cache(maxsize=4)
def _opened(path: str, digest: str, threads: int):
  del digest  # of the file at this path
  try:
    import onnxruntime
  except ImportError:
    raise ValueError(
      "takes the package onnxruntime: pip install 'apprentice-jax[export]'"
    ) from None
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = threads
  options.log_severity_level = 3  # what it warns of concerns the file's author
  try:
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
  # onnxruntime has a dozen kinds of errors.
  except Exception as error:
    why = " ".join(str(error).split())[:100]
    raise ValueError(
      f"is no network that ONNX Runtime {onnxruntime.__version__} can run ({why})"
    ) from None
