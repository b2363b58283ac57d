"""A fixed teacher's logits, computed once instead of in every step.

A fixed teacher's logits depend on the image alone, and augmentation depends on the seed, the epoch
and the example (`data.augment`). So the logits of every epoch can be kept, equal to the teacher's
own up to the rounding of another program. ``data.augmentation_epochs`` keeps their number small.
Epochs are kept one by one: a run that is interrupted, or a longer one, goes on.
"""

import hashlib
import pathlib
import random
import shutil
import time
import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from apprentice_jax.data import order
from apprentice_jax.data.augment import Augmentation, augmented
from apprentice_jax.data.batches import DeviceData
from apprentice_jax.distill.step import Network
from apprentice_jax.errors import ConfigError
from apprentice_jax.files import cache_dir, write_whole
from apprentice_jax.models.imported import ImportedNetwork
from apprentice_jax.models.residual import ResNet
from apprentice_jax.training import cluster, parallel, teachers
from apprentice_jax.training.compiled import Kept
from apprentice_jax.training.networks import Teacher
from apprentice_jax.training.program import Settings, View, make_apply, normalise


def cached_logits(
  teacher: Teacher,
  settings: Settings,
  data,
  epochs: int,
  key,
  *,
  identity: int,
  batch: int,
  check: Callable[[], None],
) -> np.ndarray:
  """The logits of the first epochs: computed, or read where they are kept.

  Args:
    teacher: the network, on the host.
    settings: of the run, for how its images are augmented and how the teacher sees them.
    data: the training split, a `Resident` set.
    epochs: how many.
    key: of the run's augmentation.
    identity: a checksum of the teacher.
    batch: examples at a time: the run's batch size, so that they are computed in the same shares.
    check: called before each batch is dispatched; what it raises ends the work, and finished epochs
      are kept.

  Returns:
    float32 (epochs, size, classes), on the host; the same on every process.

  Raises:
    ConfigError: the disk is too full, or not writable.
  """
  view, (model, network) = settings.view, teacher
  # Whatever changes the logits is in the folder's name, so that no run reads another's.
  crops = _crops(settings, data, key)
  about = (model, identity, view, settings.mean, settings.std, data.checksum, crops)
  if isinstance(model, ImportedNetwork):
    about += (model.fingerprint(data.image_shape),)
  folder = cache_dir() / "logits" / hashlib.sha256(repr(about).encode()).hexdigest()[:32]
  shape = (data.size, model.num_classes)
  found = [_read(folder, e, shape) if cluster.first() else None for e in range(epochs)]
  missing = cluster.share([e for e, logits in enumerate(found) if logits is None])
  if missing:
    network = parallel.replicate(network)
    cluster.on_first(lambda: _announce(folder, shape, epochs, len(missing)))
    if teachers.on_host(model):
      logits_of = _on_host(model, settings.augmentation, view)
    else:
      logits_of = _program(model, settings.augmentation, view, settings.mean, settings.std)
    # Other runs of a study may be at the same epochs: each takes them in an order of its own, and
    # what is there by then.
    for done, epoch in enumerate(cluster.share(random.sample(missing, len(missing))), 1):
      if cluster.first():
        found[epoch] = _read(folder, epoch, shape)
      if cluster.share(found[epoch] is None):
        began = time.monotonic()
        found[epoch] = _epoch(logits_of, network, data.on_devices, epoch, key, batch, check)
        rate = f", {data.size / (time.monotonic() - began):,.0f} images/s"
        cluster.on_first(lambda: _write(folder, epoch, found[epoch]))
      else:
        rate = ""
      if cluster.first():
        print(f"teacher's logits: {done} of {len(missing)} epochs{rate}", flush=True)
  # Process 0 has all epochs; the others bring arrays of the same shape to the exchange.
  nothing = np.zeros(shape, np.float32)
  return parallel.same_on_all(np.stack([nothing if logits is None else logits for logits in found]))


def _crops(settings: Settings, data, key) -> int:
  """A checksum of how the first images are augmented in epoch 0; 0 where the teacher sees all
  images as they are stored. It differs where seeds, kinds of random numbers, or versions of the
  packages that draw them do."""
  if not settings.view.augmented or not (settings.augmentation.pad or settings.augmentation.flip):
    return 0
  first = np.arange(min(16, data.size), dtype=np.int32)
  pixels, epoch = jnp.asarray(data.sample(first)), jnp.zeros_like(first)
  images = augmented(pixels, jnp.asarray(first), epoch, key, settings.augmentation)
  return zlib.crc32(np.ascontiguousarray(images))


def _program(model: ResNet | ImportedNetwork, augmentation: Augmentation, view: View, mean, std):
  """program(network, data, index, epoch, key, i) -> logits of the i-th batch, of all devices."""
  apply = make_apply(model)
  mean, std = view.mean or mean, view.std or std

  def logits(network, data, index, epoch, key, i):
    images = _seen(data, index, epoch, key, i, augmentation, view)
    images = normalise(images, mean, std, model.dtype)
    found, _ = apply(network.params, network.batch_stats, images, False)
    return jax.lax.all_gather(found, parallel.AXIS, tiled=True)

  over = parallel.over_replicas(logits, (False, False, True, False, False, False))
  about = (model, augmentation, view, mean, std)
  return Kept(over, "teacher_logits", *about, what="the teacher's logits")


def _seen(data, index, epoch, key, i, augmentation: Augmentation, view: View):
  """The i-th batch of uint8 images, on one replica, as a teacher sees them."""
  if not view.augmented:
    return jnp.take(data.images, index[i], axis=0)
  epochs = jnp.full(index.shape[1:], epoch)
  return augmented(data.images, index[i], epochs, key, augmentation)


def _on_host(model, augmentation: Augmentation, view: View):
  """As `_program`, of a teacher that no device runs."""

  def images(data, index, epoch, key, i):
    seen = _seen(data, index, epoch, key, i, augmentation, view)
    return jax.lax.all_gather(seen, parallel.AXIS, tiled=True)

  over = parallel.over_replicas(images, (False, True, False, False, False))
  images_of = Kept(over, "teacher_images", augmentation, view, what="the teacher's images")

  def logits(network, data, index, epoch, key, i):
    pixels = np.asarray(images_of(data, index, epoch, key, i))
    return model.logits(pixels, None, np.asarray(network.params["outputs"]))

  return logits


def _epoch(
  logits_of, teacher: Network, data: DeviceData, epoch: int, key, batch: int, check
) -> np.ndarray:
  # The last batch is filled up with examples again, whose logits are cut off in the end.
  size = len(data.labels)
  index = parallel.split(order.padded(size, batch)[0])
  parts, shown = [], time.monotonic()
  one_by_one = jax.devices()[0].platform == "cpu"  # see `dispatch.wait`
  for i in range(index.shape[1]):
    check()
    if cluster.first() and time.monotonic() - shown > 10:
      shown = time.monotonic()
      print(f"teacher's logits: epoch {epoch}, {i / index.shape[1]:.0%}", flush=True)
    parts.append(logits_of(teacher, data, index, np.int32(epoch), key, np.int32(i)))
    if one_by_one:
      jax.block_until_ready(parts[-1])
  return np.concatenate(jax.device_get(parts))[:size].astype(np.float32)


def _announce(folder: pathlib.Path, shape, epochs: int, missing: int):
  """Says how large it will be, and that there is room for it."""
  size = 4 * shape[0] * shape[1]
  print(
    f"teacher's logits: {epochs} epochs x {shape[0]:,} images x {shape[1]:,} classes, "
    f"{_bytes(epochs * size)} on every device and in {folder}; "
    f"{epochs - missing} epochs of them are there",
    flush=True,
  )
  # Now, not after hours of work.
  try:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
  except OSError as error:
    raise _unwritable(folder, error) from None
  if free < missing * size:
    raise ConfigError(
      f"the teacher's logits take {_bytes(missing * size)}, and {folder} has {_bytes(free)} free: "
      "make room, set APPRENTICE_CACHE to another folder, or set config.data.augmentation_epochs."
    )


def _write(folder: pathlib.Path, epoch: int, logits: np.ndarray):
  path = folder / f"{epoch:05d}-{zlib.crc32(logits.tobytes()):08x}.npy"
  try:
    write_whole(path, lambda file: np.save(file, logits))
  except OSError as error:
    raise _unwritable(folder, error) from None


def _read(folder: pathlib.Path, epoch: int, shape) -> np.ndarray | None:
  """The logits of an epoch, or None where they are not kept, or are damaged."""
  for path in folder.glob(f"{epoch:05d}-*.npy"):
    try:
      logits = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
      continue
    # The checksum in the name tells a file that was damaged since.
    if logits.shape == shape and path.stem.endswith(f"{zlib.crc32(logits.tobytes()):08x}"):
      return logits
  return None


def _unwritable(folder, error) -> ConfigError:
  return ConfigError(
    f"cannot keep the teacher's logits in {folder}: {error.strerror or error}; set "
    "APPRENTICE_CACHE to another folder, or config.teacher_input.cached to False."
  )


def _bytes(count: int) -> str:
  return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
