"""The loop of steps on a GPU, whose host would have to wait for the device to read what decides.

The loop takes as many turns for any number of steps, and no step has a branch. A kernel takes a few
microseconds on a GPU, whatever its size, so the state goes from turn to turn as a few vectors.
"""

import functools

import jax
import jax.numpy as jnp

from apprentice_jax.data.augment import augmented
from apprentice_jax.data.batches import Chunk, DeviceData
from apprentice_jax.distill import flat
from apprentice_jax.distill.step import Network, State
from apprentice_jax.training.program import Hyperparameters, Part, Step


def loop(
  step: Step, state: State, data: DeviceData, chunk: Chunk, hyper: Hyperparameters, part: Part
):
  """`Step.loop` in as many turns as a chunk has steps.

  What the turns beyond ``part.count`` change is dropped. Activations are looked at after the loop,
  whatever ``part.observe`` is.
  """
  start, unpack = _packed(state)

  def turn(carry, i):
    # The student that the last step that counts began with: its activations are watched.
    packed, watched = carry
    state, one = unpack(packed), Part(part.first + i, 1, False)
    new, metrics = step.resident(state, data, chunk, hyper, one)
    # A turn beyond the count computes a step and drops it: a branch would wait for the host.
    keep = functools.partial(jax.tree.map, lambda new, old: jnp.where(i < part.count, new, old))
    return (keep(_packed(new)[0], packed), keep(packed[0], watched)), metrics

  turns = jnp.arange(len(chunk.index))
  (packed, watched), history = jax.lax.scan(turn, (start, start[0]), turns)
  # The images of the last step that counts are made again, not carried from turn to turn; as they
  # are before they are mixed.
  last = part.first + part.count - 1
  index, epoch = chunk.index[last], chunk.epoch[last]
  images = augmented(data.images, index, epoch, hyper.key, step.settings.augmentation)
  student = unpack((watched, packed[1])).student
  health = step.watch(student.params, student.batch_stats, images)
  new = unpack(packed)
  health = history["activations"].at[part.count - 1].set(health)
  return new, {**history, "activations": health}


def fed(step: Step, state: State, batch, hyper: Hyperparameters, observe):
  """`Step.fed` without a look at activations, whatever ``observe`` is, nor a branch."""
  del observe
  return step.fed(state, batch, hyper, False)


def _packed(state: State):
  """Packs what changes of the state: what the student's activations depend on, and the rest.

  A fixed teacher is in neither, so that what follows from its weights alone is computed once and
  not in every turn.

  Returns:
    The pair, and the function from such a pair back to the state.
  """
  student, teacher = state
  fixed = teacher is None or teacher.opt_state is None
  watched, unpack_watched = flat.pack((student.params, student.batch_stats))
  rest, unpack_rest = flat.pack((student.opt_state, None if fixed else teacher))

  def unpack(packed):
    optimizer, trained = unpack_rest(packed[1])
    return State(Network(*unpack_watched(packed[0]), optimizer), teacher if fixed else trained)

  return (watched, rest), unpack
