"""The package's internals that this folder reads: where they move, this file alone changes."""

import functools
import importlib.util
import pathlib
import unittest.mock

import jax
import jax.numpy as jnp
import numpy as np

from apprentice_jax.config import checked
from apprentice_jax.data.batches import Chunk, DeviceBatch, DeviceData
from apprentice_jax.deploy import cost, interpret, lower, onnx, packed, program, stablehlo
from apprentice_jax.deploy.network import check
from apprentice_jax.deploy.onnx import fast
from apprentice_jax.distill.step import Network, Rates, State
from apprentice_jax.models import resnet
from apprentice_jax.models.residual import variable_shapes
from apprentice_jax.plan import chips
from apprentice_jax.plan import step as planned
from apprentice_jax.training import evaluate, networks, parallel
from apprentice_jax.training.checkpoint import Checkpoints
from apprentice_jax.training.dispatch import NOBODY, Dispatch, Program
from apprentice_jax.training.program import Hyperparameters, Part

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


def checkpoint(workdir) -> dict:
  """Every array of a workdir's last checkpoint, by its path."""
  with Checkpoints(workdir) as checkpoints:
    state, meta = checkpoints.contents()
  leaves = jax.tree_util.tree_leaves_with_path(state)
  arrays = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
  return {"step": np.asarray(meta["step"]), **arrays}


# Networks to export.


def model(name: str, classes: int, precision: str, **fields):
  """A network by name."""
  return resnet(name, classes, precision, **fields)


def shapes(model, image_shape) -> tuple:
  """Shapes of a model's parameters and of its running statistics."""
  found = variable_shapes(model, image_shape)
  return found["params"], found["batch_stats"]


def lowered(model, params, batch_stats, **about):
  """A network lowered to integers."""
  return lower.lower(model, params, batch_stats, **about)


def has_fast_form(network) -> bool:
  """Whether ONNX Runtime's 8-bit additions can compute a lowered network."""
  return not fast.unfit(network, check(network))


def onnx_bytes(network, form: str, packing: str) -> bytes:
  """The ONNX file of a lowered network."""
  return onnx.encode(network, form, packing)


def packed_bytes(network, packing: str) -> bytes:
  """The packed file of a lowered network."""
  return packed.encode(network, packing)


def decoded(data: bytes):
  """The lowered network of a packed file."""
  return packed.decode(data)


def costs(network, packing: str) -> str:
  """The table of costs of a lowered network, layer by layer."""
  return cost.table(network, packing, by_layer=True)


def exported(network):
  """The jax.export.Exported of a lowered network."""
  return stablehlo.export(network)


def interpreted(network, images: np.ndarray) -> np.ndarray:
  """Logits by the interpreter in NumPy, which defines what a lowered network computes."""
  return interpret.logits(network, images)


def compiled(network, images: np.ndarray) -> np.ndarray:
  """Logits by the program that is compiled for this machine."""
  return program.predictor(network).logits(images)


# Programs of training and evaluation, for shapes alone.


class Shapes:
  """What a config's programs are called with.

  Args:
    spec: a config's file name and argument, such as "digits.py:scheme=B".
    changes: further fields of the config.
    size, classes, image_shape: of its training set.
  """

  def __init__(self, spec: str, changes: dict, size: int, classes: int, image_shape: tuple):
    self.config = _config(spec, changes)
    self.size, self.classes, self.image_shape = size, classes, image_shape
    self.settings = networks.settings(self.config, classes)
    self.replicas = jax.device_count()
    s = self.settings
    teacher = s.teacher and self._network(s.teacher, s.teacher_optimizer)
    self.state = State(self._network(s.student, s.student_optimizer), teacher)

  def _network(self, model, optimizer):
    params, stats = shapes(model, self.image_shape)
    opt_state = optimizer and jax.eval_shape(optimizer.build().init, params)
    return Network(params, stats, opt_state)

  def data(self):
    """A set that lives on the devices."""
    images = _array((self.size, *self.image_shape), jnp.uint8)
    return DeviceData(images, _array((self.size,), jnp.int32))

  def batch(self):
    """A batch that was read, a share for each device."""
    lead = (self.replicas, self.config.batch_size // self.replicas)
    images = _array((*lead, *self.image_shape), jnp.uint8)
    return DeviceBatch(images, _array(lead, jnp.int32), _array(lead))

  def index(self):
    """The examples of the steps of a dispatch, a share for each device."""
    share = self.config.batch_size // self.replicas
    return _array((self.replicas, self.config.steps_per_dispatch, share), jnp.int32)

  def rates(self, *shape):
    """Learning rates."""
    return Rates(_array(shape), _array(shape))


def training(given: Shapes, platform: str) -> dict:
  """Programs of training on a platform, lowered, by name."""
  loop, steps = "scan" if platform == "cuda" else "while", given.config.steps_per_dispatch
  looped = Dispatch(loop, steps, NOBODY)
  devices = jax.devices()
  made = Program(given.settings, looped, "shard_map", devices)
  weights = {name: _array(()) for name in ("alpha", "beta", "gamma", "temperature")}
  number, flag = _array((), jnp.int32), _array((), jnp.bool_)
  key = jax.eval_shape(lambda: jax.random.key(0))
  state, index = given.state, given.index()
  hyper = Hyperparameters(weights, given.rates(steps), key)
  part = Part(number, number, flag)
  dispatched = (state, given.data(), Chunk(index, index), hyper, part)
  fed = (state, given.batch(), Hyperparameters(weights, given.rates()), flag)
  one = parallel.over_replicas(
    made.step.resident, (False, False, True, False, False), (0,), "shard_map", devices
  )
  watch = parallel.over_replicas(made.step.watch, (False, False, True), (), "shard_map", devices)
  look = (state.student.params, state.student.batch_stats, given.batch().images)
  calls = {
    "one": (one, dispatched),
    "many": (made._resident, dispatched),
    "fed": (made._fed, fed),
    "look": (watch, look),
  }
  return {
    name: _lowered(function, arguments, platform) for name, (function, arguments) in calls.items()
  }


def scoring(given: Shapes, platform: str) -> dict:
  """Programs of evaluation on a platform, lowered, by name."""
  mapped = functools.partial(parallel.over_replicas, backend="shard_map")
  with unittest.mock.patch.object(parallel, "over_replicas", mapped):
    mean, std = given.settings.mean, given.settings.std
    made = evaluate.Evaluator(given.settings.student, mean, std)
  student, index = given.state.student._replace(opt_state=None), given.index()
  mask = _array(index.shape)
  gathered = (student, given.data(), index, mask, _array((), jnp.int32))
  calls = {"score": (made._gathered, gathered), "score_fed": (made._fed, (student, given.batch()))}
  return {
    name: _lowered(kept._function, arguments, platform) for name, (kept, arguments) in calls.items()
  }


def plan(given: Shapes, topology: str) -> str:
  """The text of the step that `apprentice plan` compiles for a slice of TPUs."""
  _, devices = chips.slice_of(topology)
  data = planned.Data(given.size, given.classes, given.image_shape)
  return planned.lower(given.config, data, devices).lowered.as_text()


def _lowered(function, arguments, platform: str) -> str:
  return function.trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


def _config(spec: str, changes: dict):
  file, _, argument = spec.partition(":")
  module_spec = importlib.util.spec_from_file_location("unchanged_config", CONFIGS / file)
  module = importlib.util.module_from_spec(module_spec)
  module_spec.loader.exec_module(module)
  config = module.get_config(argument)
  config.update_from_flattened_dict(changes)
  return checked(config)


def _array(shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)
