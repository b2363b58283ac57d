"""A teacher from a file of `jax.export`: any JAX model, run inside the compiled step.

The file holds a function of one array of images, with the weights in it:

    exported = jax.export.export(jax.jit(lambda images: model(images)))(images)
    open("teacher.stablehlo", "wb").write(exported.serialize())

Images are float, normalised by config.teacher_input, or uint8 as they are. A file that `apprentice
export --format=stablehlo` wrote is of the latter kind.
"""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from apprentice_jax.training.teachers import pictures, sha256
from apprentice_jax.training.teachers.pictures import Pictures


@dataclasses.dataclass(frozen=True)
class Program:
  """An exported program where a step expects a Flax module; hashable, and its repr tells it from
  any other.

  Attributes:
    path: of the file, for messages.
    sha256: of the file: two with the same are equal.
    pictures: the images that it takes.
    outputs: how many logits it gives.
    num_classes: how many of them are the data's.
    class_names: of its outputs, where a sidecar ``FILE.json`` has them; else ().
    exported: the program.
  """

  path: str = dataclasses.field(compare=False, repr=False)
  sha256: str
  pictures: Pictures
  outputs: int
  num_classes: int
  class_names: tuple[str, ...] = dataclasses.field(compare=False, repr=False)
  exported: jax.export.Exported = dataclasses.field(compare=False, repr=False)

  @property
  def dtype(self):
    """Of the images that `apply` takes."""
    return jnp.dtype(self.pictures.dtype).type

  def of(self, num_classes: int, *_) -> "Program":
    """The program, for data of so many classes."""
    return dataclasses.replace(self, num_classes=num_classes)

  def clone(self, **_) -> "Program":
    """The program: it has none of the settings of our networks."""
    return self

  def apply(self, variables: dict, images: jax.Array, train: bool) -> jax.Array:
    """The logits of a batch.

    Args:
      variables: those of `teachers.network`.
      images: (batch, height, width, channels) of `dtype`, of any size.
      train: False: a program has no training mode.

    Returns:
      float32 (batch, num_classes).
    """
    assert not train
    takes, count = self.pictures, len(images)
    images = _resized(images, *takes.side(images.shape[1:]))
    if takes.channels_first:
      images = images.transpose(0, 3, 1, 2)
    if takes.batch in (0, count):
      logits = self.exported.call(images)
    else:
      # One piece after another: the program takes no other batch. Zeros fill up the last.
      number, missing = pictures.pieces(count, takes.batch)
      images = jnp.pad(images, ((0, missing), *((0, 0),) * 3))
      parts = images.reshape(number, takes.batch, *images.shape[1:])
      logits = jax.lax.map(self.exported.call, parts).reshape(-1, self.outputs)[:count]
    return jnp.take(logits.astype(jnp.float32), variables["params"]["outputs"], axis=1)

  def check(self, data):
    """Raises ValueError if the program cannot run on the images of a split, or on this machine."""
    self.pictures.check(data.image_shape)
    platforms, here = self.exported.platforms, jax.default_backend()
    names = ("cuda", "rocm") if here == "gpu" else (here,)
    if not set(platforms) & set(names):
      raise ValueError(
        f"was exported for {', '.join(platforms)}, and this run is on {here}: export it with "
        f"platforms={(*platforms, names[0])!r}"
      )
    # A symbolic shape may have conditions of its own, such as an even batch.
    batch = self.pictures.batch or 1
    images = jax.ShapeDtypeStruct((batch, *data.image_shape), self.dtype)
    variables = {"params": {"outputs": np.zeros(self.num_classes, np.int32)}}
    try:
      jax.eval_shape(lambda images: self.apply(variables, images, False), images)
    except Exception as error:
      why = " ".join(str(error).split())[:200]
      raise ValueError(f"cannot run on the data's images ({why})") from None


def _resized(images: jax.Array, height: int, width: int) -> jax.Array:
  """Images of another size, by a bilinear filter that averages where they get smaller."""
  if images.shape[1:3] == (height, width):
    return images
  shape = (len(images), height, width, images.shape[-1])
  result = jax.image.resize(images.astype(jnp.float32), shape, "bilinear")
  if images.dtype == jnp.uint8:
    result = jnp.clip(jnp.round(result), 0, 255)
  return result.astype(images.dtype)


def load(path: str) -> Program:
  """Reads a file of `jax.export`.

  Raises:
    ValueError: it is damaged, of another jax, or no function of images; goes on from its name.
  """
  data = pathlib.Path(path).read_bytes()
  try:
    exported = jax.export.deserialize(bytearray(data))
    arguments, results = exported.in_avals, exported.out_avals
  # jax has no error of its own for bytes that are no program.
  except Exception as error:
    why = " ".join(str(error).split())[:100]
    raise ValueError(f"holds no program that jax {jax.__version__} can read ({why})") from None
  one = jax.tree.structure
  if exported.in_tree != one(((0,), {})) or exported.out_tree != one(0):
    raise ValueError(
      f"holds a function of {len(arguments)} array{'s' * (len(arguments) != 1)} with "
      f"{len(results)} result{'s' * (len(results) != 1)}: export one of an array of images, "
      "lambda images: model(images), that returns the logits and has the weights in it"
    )
  takes = pictures.taken(arguments[0].shape, str(arguments[0].dtype))
  outputs = pictures.scores(results[0].shape)
  return Program(path, sha256(path), takes, outputs, outputs, _class_names(path), exported)


def _class_names(path: str) -> tuple[str, ...]:
  """The classes that the file beside a program names; () where there is none."""
  sidecar = pathlib.Path(f"{path}.json")
  if not sidecar.is_file():
    return ()
  try:
    names = json.loads(sidecar.read_bytes())["class_names"]
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
      return tuple(names)
  except (ValueError, KeyError, TypeError):
    pass
  raise ValueError(f"has a damaged {sidecar}: bring it back, or delete it")
