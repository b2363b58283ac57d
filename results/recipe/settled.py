"""What runs that ended without `recipe.*.settle_steps` would have scored with batch norm's
statistics of their last weights.

    python results/recipe/settled.py OUT.csv WORKDIR...      workdirs of training runs

For each run, on the split that it was scored on: its accuracy as it ended; with running statistics
that have seen 50 batches of training images more; and with the mean of the moments of 64 batches in
their place. No weight moves.
"""

import csv
import pathlib
import sys

import jax
import jax.numpy as jnp

from apprentice_jax.data.augment import augmented
from apprentice_jax.data.splits import open_splits
from apprentice_jax.models.norm import MOMENTUM
from apprentice_jax.training import networks, parallel
from apprentice_jax.training.evaluate import score
from apprentice_jax.training.program import normalise
from apprentice_jax.training.workdir import workdir_config

SETTLE, MEAN, BATCH = 50, 64, 128


def scores(workdir: str) -> list[float]:
  config = workdir_config(workdir)
  splits = open_splits(config.data)
  data = splits["train"]
  built = networks.settings(config, len(data.class_names))
  model, images = built.student.clone(norm_axis=None), data.on_devices.images
  network = networks.load(workdir, model, data.image_shape, complete=True)

  @jax.jit
  def seen(stats, batch):
    """Running statistics after one more batch, of an epoch of its own."""
    index = batch * BATCH + jnp.arange(BATCH)
    crops = augmented(images, index, jnp.full(BATCH, batch), jax.random.key(0), built.augmentation)
    variables = {"params": network.params, "batch_stats": stats}
    return model.apply(
      variables, normalise(crops, built.mean, built.std, jnp.float32), True, mutable=["batch_stats"]
    )[1]["batch_stats"]

  settled, zeros = network.batch_stats, jax.tree.map(jnp.zeros_like, network.batch_stats)
  mean = zeros
  for batch in range(SETTLE):
    settled = seen(settled, batch)
  for batch in range(MEAN):
    mean = jax.tree.map(lambda m, new: m + new / (1 - MOMENTUM) / MEAN, mean, seen(zeros, batch))
  return [
    score(
      config,
      model,
      parallel.replicate(network._replace(batch_stats=jax.device_get(stats))),
      splits[config.eval.final],
    )["accuracy"]
    for stats in (network.batch_stats, settled, mean)
  ]


def main(out: str, *workdirs: str):
  with open(out, "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["run", "as it ended", f"{SETTLE} batches more", f"mean of {MEAN} batches"])
    for workdir in workdirs:
      row = [pathlib.Path(workdir).name, *(round(s, 4) for s in scores(workdir))]
      writer.writerow(row)
      file.flush()
      print(row, flush=True)


if __name__ == "__main__":
  main(*sys.argv[1:])
